"""Adversarial synthesis of negatives (Duan et al. 2018)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from remine.train.losses.batch import Batch, LossValue
from remine.train.losses.config import DamlConfig
from remine.train.losses.distances import squared_distances
from remine.train.losses.triplet import TripletLoss
from remine.train.synthesis.networks import apply_frozen, harder_share, perceptron


class Daml(nn.Module):
    """J(a, p, n) + synthetic * J(a, p, G(a, p, n)) + J_gen (Duan et al. 2018, eqs. 4 to 6).

        J_gen = |g - a|^2 + near_negative |g - n|^2 + adversarial [|g - a|^2 - |p - a|^2 - m]+

    for g = G(a, p, n): near the anchor, near the negative, and at most the margin m farther than
    the positive. Squared distances on unit vectors. J_gen trains G only, the other terms train the
    encoder only.
    """

    def __init__(self, inner: TripletLoss, config: DamlConfig, dimensions: int) -> None:
        """`inner` is J; embeddings have `dimensions`."""
        super().__init__()
        self.inner, self.config = inner, config
        self.generator = perceptron(3 * dimensions, config.hidden, dimensions)

    def forward(self, batch: Batch) -> LossValue:
        """Loss over the batch's triplets."""
        assert batch.triplets is not None
        a, p, n = (batch.pool.index_select(0, rows) for rows in batch.triplets)
        metric = self.inner.on_points(a, p, n)
        if not len(a):
            return metric
        output = apply_frozen(self.generator, torch.cat([a, p, n], dim=1))
        synthetic = functional.normalize(output)
        synthetic_loss = self.inner.on_points(a, p, synthetic).loss
        generator_loss = self.generator_loss(a.detach(), p.detach(), n.detach())
        loss = metric.loss + self.config.synthetic * synthetic_loss + generator_loss
        return LossValue(loss, metric.active, harder_share(synthetic, n, a))

    def generator_loss(self, a: Tensor, p: Tensor, n: Tensor) -> Tensor:
        """J_gen () of (t, d) anchors, positives and negatives."""
        synthetic = functional.normalize(self.generator(torch.cat([a, p, n], dim=1)))
        d_synthetic, d_ap = squared_distances(synthetic, a), squared_distances(p, a)
        # J_gen uses squared distances, so the margin must be squared too.
        is_unsquared = self.inner.config.distance == "unsquared"
        margin = self.inner.margin**2 if is_unsquared else self.inner.margin
        adversarial = torch.relu(d_synthetic - d_ap - margin)
        to_negative = self.config.near_negative * squared_distances(synthetic, n)
        return (d_synthetic + to_negative + self.config.adversarial * adversarial).mean()
