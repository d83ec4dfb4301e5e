"""The stages of a cycle as plain functions: artifacts in, artifacts out.

Each names its work by a hash of all that its result depends on (inputs, settings, the code that it
runs) and asks the store first. What is done is not done again, and a killed cycle goes on where it
stopped. No Prefect here; Beam only behind `run.execute`.

In the order of a cycle:

    prepare             from the source to items and inputs in the store
    encoder             the first encoder, and those of checkpoints
    features            what a frozen backbone computes of every item, once
    embed               the vector of every item
    index               the FAISS index, brought up to date or built
    evaluate            retrieval among the test items
    training_data       what a round trains on: mined triplets, confusable classes, or labels alone
    mine                the first, as Parquet
    confusable_classes  the second
    train               a checkpoint and that in, the next checkpoint out
    parallel_round      the same with the other processes of torchrun
    health              what is measured while a round trains, and between two rounds

    reuse               rows of an earlier version that are used again
    split, shard        the embeddings of one split; a stage's output shard by shard
    embedding_recipe    what decides an item's vector, known without loading torch
"""
