"""The streams of batches that a round is trained on.

Batch number b of a stream depends on its data, its seed and b only, so that a resumed round
continues with the same batches.

In reading order:

    triplet_loader      mined triplets from Parquet shards, shuffled
    pk_sampler          K items of each of P classes
    confusable_sampler  PK batches of classes that are easily confused
    row_batch           ids of a batch to the rows that the encoder embeds
"""
