"""The angular loss, alone and added to N-pair."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from remine.train.losses.batch import Batch, LossValue, zero_loss
from remine.train.losses.config import AngularConfig, NPairConfig
from remine.train.losses.distances import at_least_float32
from remine.train.losses.n_pair import NPairLoss, n_pair_terms


class AngularLoss(nn.Module):
    """log(1 + sum_n exp(4 t (a + p) . n - 2 (1 + t) a . p)), t = tan^2 of the angle.

    Mean over pairs (Wang et al. 2017, eqs. 6 and 8). All vectors are unit vectors, negatives
    included: without normalisation the angle is meaningless. The n are the positives of other
    classes in the batch and the negatives of given triplets. With `n_pair` the loss is
    N-pair + weight * angular (section 3.3; weight 2).
    """

    def __init__(self, config: AngularConfig, n_pair: NPairConfig) -> None:
        """`n_pair`: settings of the N-pair loss, used if config.n_pair is set."""
        super().__init__()
        self.tan2 = math.tan(math.radians(config.degrees)) ** 2
        self.weight = config.weight
        self.n_pair = NPairLoss(n_pair) if config.n_pair else None

    def forward(self, batch: Batch) -> LossValue:
        """Loss over the pairs of the batch."""
        units = functional.normalize(at_least_float32(batch.embeddings))
        anchors, positives = batch.pairs()
        if not anchors.numel():
            return zero_loss(units)
        a, p = units.index_select(0, anchors), units.index_select(0, positives)
        candidates, negative = batch.pair_candidates(anchors, positives)
        sums = (a + p) @ units.index_select(0, candidates).T
        loss = self.terms(sums, a, p, negative).mean()
        if self.n_pair:
            loss = self.n_pair(batch).loss + self.weight * loss
        return LossValue(loss, torch.ones_like(loss.detach()))

    def terms(self, sums: Tensor, a: Tensor, p: Tensor, negative: Tensor) -> Tensor:
        """(q,) losses of pairs (q, d), (q, d) from sums (q, c) = (a + p) . n."""
        pair_similarity = 2 * (1 + self.tan2) * (a * p).sum(dim=1)
        return n_pair_terms(4 * self.tan2 * sums, pair_similarity, negative)
