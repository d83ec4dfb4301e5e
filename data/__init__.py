"""Items, embeddings and triplets: their types, where they come from and where they are stored.

In reading order:

    types         embeddings, neighbours and triplets as checked arrays; sizes and units
    schemas       the same as Parquet tables
    measures      kinds of triplets, spread, overlap of neighbours: what several layers measure
    errors        the exceptions of remine, and advice for faults of the machine
    config_table  what the tables of settings have in common: limits, docs, one-line errors
    config        settings of the data
    faiss_library FAISS, imported in the right order

    store/        the artifact store: files by content hash, versions, locks, garbage collection
    sources/      readers of users' data: tables, folders of images, arrays, the built-in glyphs
    items/        from a source to checked items and decoded inputs in the store
"""
