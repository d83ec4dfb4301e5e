"""From a source to two artifacts in the store: items and inputs.

In reading order:

    source_catalogue  ids, labels and splits of the items of a source, checked
    unknown_items     items of no class, which are kept apart to measure rejection
    catalogue         ids, labels, splits and content hashes of stored items
    pictures          decoding of one picture to 8 bits, grey or RGB
    fitting           pictures of any shape fitted to one size
    colour            which pictures have colour, from their headers
    inputs            decoding of pictures and vectors; memory-mapped access to stored inputs
    bad_items         items that cannot be read: listed, or set aside
    shards            checks every row and writes items and inputs, shard by shard
    staging           the temporary folder that holds the shards until every row has been checked

    changes           which items are new, changed or deleted since they were last stored
    growth            a new version of the items that decodes only what changed

    lookup            texts and content codes of single items of a published version
"""
