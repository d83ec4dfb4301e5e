"""The contrastive loss on pairs."""

import torch
from torch import nn

from remine.train.losses.batch import Batch, LossValue, pair_distances
from remine.train.losses.config import ContrastiveConfig
from remine.train.losses.distances import masked_mean


class ContrastiveLoss(nn.Module):
    """y D^2 + (1 - y) [margin - D]+^2, y = 1 within a class (Hadsell et al. 2006, eq. 4).

    D is the unsquared distance on unit vectors, 0 to 2, and the margin has the same unit. The mean
    over positive pairs plus the mean over active negative pairs: nearly every negative pair of a
    batch lies past the margin, and a mean over all of them would weigh the active ones by their
    number.

    Each given triplet contributes one positive and one negative pair; a whole batch all its pairs.
    """

    def __init__(self, config: ContrastiveConfig) -> None:
        """With the margin of `config`."""
        super().__init__()
        self.margin = config.margin

    def forward(self, batch: Batch) -> LossValue:
        """Loss over the pairs of the batch's triplets, or over all pairs."""
        to_positive, to_negative, positive, negative = pair_distances(batch)
        pull, push = to_positive.square(), torch.relu(self.margin - to_negative).square()
        active_push = negative & (push.detach() > 0)
        loss = masked_mean(pull, positive) + masked_mean(push, active_push)
        # A positive pair is active unless its points coincide.
        active = (positive & (pull.detach() > 0)).sum() + active_push.sum()
        return LossValue(loss, active / (positive.sum() + negative.sum()).clamp_min(1))
