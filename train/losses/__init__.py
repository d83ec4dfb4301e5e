"""Losses on embeddings: each a torch module from a `Batch` to a `LossValue`.

Every module gives its formula, source, shapes and units. Distances are squared Euclidean on unit
vectors, 0 to 4, unless a loss states that it uses unsquared ones, 0 to 2.

In reading order:

    config              settings of the losses and of the synthesis of negatives
    distances           distances with finite gradients where points coincide
    batch               the input and the output of every loss; pairs and masks of a batch
    cross_batch_memory  embeddings of earlier steps as further candidates

    contrastive         pairs: squared distance of positives, hinge on negatives
    triplet             anchor, positive, negative: hinge or soft margin
    batch_all           the triplet loss over all valid triplets of a batch, block by block
    n_pair              a pair against negatives of other classes, by inner product
    lifted              a positive pair against all negatives of both ends
    angular             the angle at the negative
    margin              pairs on either side of a learned boundary
    softmax             classification, plain and L2-constrained
    external            any loss of pytorch-metric-learning by name
"""
