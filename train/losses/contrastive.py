"""The contrastive loss on pairs."""

import torch
from torch import nn

from remine.train.losses.batch import Batch, LossValue
from remine.train.losses.config import ContrastiveConfig
from remine.train.losses.distances import distance_matrix, distances, mean_of


class ContrastiveLoss(nn.Module):
    """y D^2 + (1 - y) [margin - D]+^2, y = 1 for one class (Hadsell et al. 2006, eq. 4).

    D is the unsquared distance on unit vectors, in [0, 2], and so is the margin. The mean over
    positive pairs plus the mean over active negative pairs: of all pairs of a batch nearly every
    negative one lies past the margin, and a mean over all would weigh the rest by how many.

    On given triplets each gives one pair of either sort; on a whole batch all its pairs do.
    """

    def __init__(self, config: ContrastiveConfig) -> None:
        """With the margin of `config`."""
        super().__init__()
        self.margin = config.margin

    def forward(self, batch: Batch) -> LossValue:
        """Over the pairs of the batch's triplets, or all there are."""
        if batch.triplets is None:
            near = far = distance_matrix(batch.pool[: len(batch.embeddings)], batch.pool)
            positive, negative = batch.positive, batch.negative
        else:
            a, p, n = (batch.pool.index_select(0, rows) for rows in batch.triplets)
            near, far = distances(a, p), distances(a, n)
            positive = negative = torch.ones_like(near, dtype=torch.bool)
        pull, push = near.square(), torch.relu(self.margin - far).square()
        active = negative & (push.detach() > 0)
        loss = mean_of(pull, positive) + mean_of(push, active)
        at_work = (positive & (pull.detach() > 0)).sum() + active.sum()
        return LossValue(loss, at_work / (positive.sum() + negative.sum()).clamp_min(1))
