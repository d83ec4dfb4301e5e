"""Adversarial synthesis of negatives (Duan et al. 2018)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from remine.train.losses.batch import Batch, LossValue
from remine.train.losses.config import DamlConfig
from remine.train.losses.distances import full, squared_distances
from remine.train.losses.triplet import TripletLoss
from remine.train.synthesis.networks import frozen, perceptron


class Daml(nn.Module):
    """J(a, p, n) + synthetic * J(a, p, G(a, p, n)) + J_gen (Duan et al. 2018, eqs. 4 to 6), where

        J_gen = |g - a|^2 + near_negative |g - n|^2 + adversarial [|g - a|^2 - |p - a|^2 - m]+

    of g = G(a, p, n): near the anchor, near the negative, and no farther than the margin m beyond
    the positive. Squared distances on unit vectors. J_gen trains G alone, the rest the encoder.
    """  # noqa: D400, D415 - the formula ends the sentence

    def __init__(self, inner: TripletLoss, config: DamlConfig, dimensions: int) -> None:
        """Around the triplet loss."""
        super().__init__()
        self.inner, self.config = inner, config
        self.generator = perceptron(3 * dimensions, config.hidden, dimensions)

    def forward(self, batch: Batch) -> LossValue:
        """Over the batch's triplets."""
        assert batch.triplets is not None
        a, p, n = (full(batch.pool.index_select(0, rows)) for rows in batch.triplets)
        metric = self.inner.on_points(a, p, n)
        if not len(a):
            return metric
        made = functional.normalize(frozen(self.generator, torch.cat([a, p, n], dim=1)))
        made_loss = self.inner.on_points(a, p, made).loss
        harder = squared_distances(made.detach(), a) < squared_distances(n, a)
        own = self.generator_loss(a.detach(), p.detach(), n.detach())
        loss = metric.loss + self.config.synthetic * made_loss + own
        return LossValue(loss, metric.active, harder.float().mean())

    def generator_loss(self, a: Tensor, p: Tensor, n: Tensor) -> Tensor:
        """J_gen () of (t, d) triplets."""
        made = functional.normalize(self.generator(torch.cat([a, p, n], dim=1)))
        d_made, d_ap = squared_distances(made, a), squared_distances(p, a)
        margin = (
            self.inner.margin**2
            if self.inner.config.distance == "unsquared"
            else (self.inner.margin)
        )
        adversarial = torch.relu(d_made - d_ap - margin)
        near = self.config.near_negative * squared_distances(made, n)
        return (d_made + near + self.config.adversarial * adversarial).mean()
