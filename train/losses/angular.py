"""The angular loss, alone and with N-pair."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from remine.train.losses.batch import Batch, LossValue
from remine.train.losses.config import AngularConfig, NPairConfig
from remine.train.losses.distances import full
from remine.train.losses.n_pair import NPairLoss, n_pair_terms


class AngularLoss(nn.Module):
    """log(1 + sum_n exp(4 t (a + p) . n - 2 (1 + t) a . p)), t = tan^2 of the angle.

    The mean over pairs. Wang et al. 2017, eqs. 6 and 8, on unit vectors, negatives included:
    unnormalised ones make the angle meaningless. With `n_pair` the sum N-pair + weight * angular
    (section 3.3; weight 2). The n are the positives of other classes in the batch, and the
    negatives of given triplets.
    """

    def __init__(self, config: AngularConfig, n_pair: NPairConfig) -> None:
        """With the settings of N-pair where the two are added."""
        super().__init__()
        self.tan2 = math.tan(math.radians(config.degrees)) ** 2
        self.weight = config.weight
        self.n_pair = NPairLoss(n_pair) if config.n_pair else None

    def forward(self, batch: Batch) -> LossValue:
        """Over the pairs of the batch."""
        units = functional.normalize(full(batch.embeddings))
        anchors, positives = batch.pairs()
        if not anchors.numel():
            return LossValue(0 * units.sum(), units.new_zeros(()))
        a, p = units.index_select(0, anchors), units.index_select(0, positives)
        candidates = positives if batch.triplets is None else batch.triplets[1:].reshape(-1)
        labels = batch.known_labels
        negative = labels[anchors][:, None] != labels[candidates]
        others = units.index_select(0, candidates)
        loss = self.terms((a + p) @ others.T, a, p, negative).mean()
        if self.n_pair:
            loss = self.n_pair(batch).loss + self.weight * loss
        return LossValue(loss, torch.ones_like(loss.detach()))

    def terms(self, sums: Tensor, a: Tensor, p: Tensor, negative: Tensor) -> Tensor:
        """Each pair's loss (q,) from sums (q, c) = (a + p) . n."""
        own = 2 * (1 + self.tan2) * (a * p).sum(dim=1)
        return n_pair_terms(4 * self.tan2 * sums, own, negative)
