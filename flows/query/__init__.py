"""Queries against one published version: its index, its items and its mined triplets.

In reading order:

    snapshot         a version opened for searches: its index, encoder and items
    questions        the queries of a command line: one item, vector, picture or text, or a file
    item_ids         ids in files of queries
    item_contents    texts and paths of items, for people
    rejection        queries that are marked as unknown: the limit, and what is said of it
    answers          neighbours as a table, JSON, Parquet or a page of pictures
    start_vectors    the items' embeddings before any training
    label_judge      which embeddings judge labels: those, or the version's
    suspects         items that are probably mislabelled, found in a version and reported
    index_check      the published versions, one version's index, and the check of an index

    triplets         mined triplets through DuckDB: filtered, sorted, paged
    triplet_stats    counts, distances, hubs and confused classes of a round; two rounds compared
    triplet_export   mined triplets written for other programs
    terminal         mined triplets printed as tables
"""
