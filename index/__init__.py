"""Items to embeddings, embeddings to a FAISS index, queries to neighbours, and measures of both.

In reading order:

    config           settings of embedding and indexing
    embed            inputs through an encoder to embeddings
    factory_choice   which kind of FAISS index, by size and memory
    search_setting   the parameter that trades recall for time, of every kind of index
    recall           recall against exact search, for every setting of the knob
    build            embeddings to an index and its card
    search_report    what a search looked at, and how far its recall is known
    search           queries to neighbours, at a requested recall, with filters
    update           an index that follows added, removed and changed items
    recall_check     the recall of a stored index, measured again

    metrics          retrieval: recall@k, R-precision, MAP@R
    clustering       k-means against the classes: NMI, AMI, F1
    roc              verification: ROC, EER, true accepts at false accepts
    overlap          how many neighbours two embeddings of the same items share
    unknown/         queries of no class of the index, told apart by their nearest distance
"""
