"""remine from Python: what `import remine` offers.

In reading order:

    store_version   `remine.open`: one version of a store; search, triplets, embeddings, history
    ready_encoder   the encoder of a version with its transform, ready for new data
    actions         `remine.run`, `remine.compare`
    source_check    what a source holds: `remine check`
    mine_file       mining on files of vectors, and its forecast: `remine mine`, `remine plan`
"""
