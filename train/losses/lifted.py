"""The lifted structure loss."""

import torch
from torch import Tensor, nn

from remine.train.losses.batch import Batch, LossValue
from remine.train.losses.config import LiftedConfig
from remine.train.losses.distances import at_least_float32, distance_matrix


class LiftedStructureLoss(nn.Module):
    """1 / (2 |P|) * sum over positive pairs (i, j) of [J_ij]+^2 (Song et al. 2016, eq. 4).

        J_ij = log(sum_k exp(margin - D_ik) + sum_l exp(margin - D_jl)) + D_ij

    over the negatives k of i and l of j. D and the margin are unsquared distances on unit vectors,
    0 to 2. This is the original loss; the generalised form of Hermans et al. 2017, eq. 8, also sums
    over positives.

    Every pair of the batch counts, even where triplets are given.
    """

    def __init__(self, config: LiftedConfig) -> None:
        """With the margin of `config`."""
        super().__init__()
        self.margin = config.margin

    def forward(self, batch: Batch) -> LossValue:
        """Loss over all positive pairs of the batch whose items both have a negative."""
        embeddings = at_least_float32(batch.embeddings)
        distance = distance_matrix(embeddings, embeddings)
        positive, negative = batch.positive, batch.negative
        # The sums over each item's negatives are computed once; a pair then needs only two of them.
        push = log_push(distance, negative, self.margin)
        has_negative = negative.any(dim=1)
        pairs = torch.triu(positive & has_negative[:, None] & has_negative, diagonal=1)
        i, j = pairs.nonzero(as_tuple=True)
        # index_select rather than distance[i, j], whose gradient adds in a random order on several
        # threads.
        d_ij = distance.view(-1).index_select(0, i * len(distance) + j)
        pair_push = torch.logaddexp(push.index_select(0, i), push.index_select(0, j))
        return lifted_mean(pair_push + d_ij)


def log_push(distance: Tensor, negative: Tensor, margin: float) -> Tensor:
    """(q,) log of sum over negatives of exp(margin - D), from (q, c) distances and a bool mask.

    Rows without negatives get a finite number, which callers leave out: with -inf the gradient
    would be NaN.
    """
    pushes = torch.where(negative, margin - distance, -torch.inf)
    return torch.where(negative.any(dim=1)[:, None], pushes, 0).logsumexp(dim=1)


def lifted_mean(terms: Tensor) -> LossValue:
    """1 / (2 |P|) * sum of [J]+^2 over (|P|,) pairs; 0 for no pairs."""
    hinges = torch.relu(terms)
    count = max(1, len(terms))
    active = (hinges.detach() > 0).float().sum() / count
    return LossValue(hinges.square().sum() / (2 * count), active)
