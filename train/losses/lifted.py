"""The lifted structure loss."""

import torch
from torch import Tensor, nn

from remine.train.losses.batch import Batch, LossValue
from remine.train.losses.config import LiftedConfig
from remine.train.losses.distances import distance_matrix, full


class LiftedStructureLoss(nn.Module):
    """1 / (2 |P|) sum over positive pairs of [J_ij]+^2 (Song et al. 2016, eq. 4), where

        J_ij = log(sum_k exp(margin - D_ik) + sum_l exp(margin - D_jl)) + D_ij

    over the negatives k of i and l of j. D is unsquared, in [0, 2], and so is the margin. This is
    the original; the generalised form of Hermans et al. 2017, eq. 8, sums positives too.

    Every pair of the batch counts, whatever triplets were given: the structure is the point.
    """  # noqa: D400, D415 - the formula ends the sentence

    def __init__(self, config: LiftedConfig) -> None:
        """With the margin of `config`."""
        super().__init__()
        self.margin = config.margin

    def forward(self, batch: Batch) -> LossValue:
        """Over all positive pairs of the batch that have a negative."""
        embeddings = full(batch.embeddings)
        distance = distance_matrix(embeddings, embeddings)
        positive, negative = batch.positive, batch.negative
        # Each item's own negatives once; a pair then needs only the two sums.
        pushes = torch.where(negative, self.margin - distance, -torch.inf)
        has = negative.any(dim=1)
        rows = torch.where(has[:, None], pushes, 0).logsumexp(dim=1)
        i, j = torch.triu(positive & has[:, None] & has, diagonal=1).nonzero(as_tuple=True)
        d_ij = distance.view(-1).index_select(0, i * len(distance) + j)
        pushed = torch.logaddexp(rows.index_select(0, i), rows.index_select(0, j))
        return lifted_mean(pushed + d_ij)


def lifted_mean(each: Tensor) -> LossValue:
    """1 / (2 |P|) sum [J]+^2 over (|P|,) pairs; 0 for none."""
    lifted = torch.relu(each)
    active = (lifted.detach() > 0).float().sum() / max(1, len(each))
    return LossValue(lifted.square().sum() / (2 * max(1, len(each))), active)
