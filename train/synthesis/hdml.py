"""Hardness-aware synthesis of negatives (Zheng et al. 2019)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from remine.train.losses.batch import Batch, LossValue
from remine.train.losses.config import HdmlConfig
from remine.train.losses.distances import squared_distances
from remine.train.losses.triplet import TripletLoss
from remine.train.synthesis.networks import (
    apply_frozen,
    harder_share,
    perceptron,
    update_running_mean,
)


def harden(a: Tensor, p: Tensor, n: Tensor, hardness: float, recent: Tensor) -> Tensor:
    """Move negatives towards their anchors, at most to the positive's distance (eq. 4).

        n+ = a + (n - a) [d_ap + (d_an - d_ap) e^(-hardness / J)] / d_an   where d_an > d_ap,

    else n. The lower the recent loss J, the harder the negatives.

    Args:
        a: (t, d) anchors, as positives and negatives.
        p: their positives.
        n: their negatives.
        hardness: alpha of the paper, in the unit of J.
        recent: () J, the running mean of the metric loss.

    Returns:
        (t, d) points n+. Distances are unsquared.

    """
    d_ap = (a - p).norm(dim=1, keepdim=True)
    d_an = (a - n).norm(dim=1, keepdim=True).clamp_min(1e-6)
    kept_share = torch.exp(-hardness / recent.clamp_min(1e-6))
    length = d_ap + (d_an - d_ap) * kept_share
    return torch.where(d_an > d_ap, a + (n - a) * length / d_an, n)


class Hdml(nn.Module):
    """w J(a, p, n) + (1 - w) J(a, p, G(n+)) + J_gen, w = e^(-balance / J_gen) (eqs. 8 to 10).

    n+ is the hardened negative. G is an autoencoder over embeddings that maps n+ back to where
    items of n's class may lie:

        J_gen = |G(n) - n|^2 + label_weight * cross-entropy of the class of G(n+)

    J_gen trains G only, the other terms train the encoder only. All points are on the unit sphere,
    whereas the paper uses unnormalised features: its constants do not apply.
    """

    recent: Tensor

    def __init__(
        self, inner: TripletLoss, config: HdmlConfig, dimensions: int, classes: int
    ) -> None:
        """`inner` is J; embeddings have `dimensions`, training items one of `classes`."""
        super().__init__()
        self.inner, self.config = inner, config
        self.generator = perceptron(dimensions, config.hidden, dimensions)
        self.classifier = nn.Linear(dimensions, classes)
        self.register_buffer("recent", torch.zeros(()))

    def forward(self, batch: Batch) -> LossValue:
        """Loss over the batch's triplets."""
        assert batch.triplets is not None
        a, p, n = (batch.pool.index_select(0, rows) for rows in batch.triplets)
        metric = self.inner.on_points(a, p, n)
        if not len(a):
            return metric
        update_running_mean(self.recent, metric.loss)
        hard_negatives = harden(a, p, n, self.config.hardness, self.recent)
        synthetic = functional.normalize(apply_frozen(self.generator, hard_negatives))
        synthetic_loss = self.inner.on_points(a, p, synthetic).loss
        labels = batch.pool_labels[batch.triplets[2]]
        generator_loss = self.generator_loss(n.detach(), hard_negatives.detach(), labels)
        # The worse the generator still is, the less its output counts.
        weight = torch.exp(-self.config.balance / generator_loss.detach().clamp_min(1e-6))
        loss = weight * metric.loss + (1 - weight) * synthetic_loss + generator_loss
        return LossValue(loss, metric.active, harder_share(synthetic, n, a))

    def generator_loss(self, n: Tensor, hard_negatives: Tensor, labels: Tensor) -> Tensor:
        """J_gen () of negatives (t, d), hardened negatives (t, d) and their classes (t,)."""
        reconstruction = functional.normalize(self.generator(n))
        logits = self.classifier(functional.normalize(self.generator(hard_negatives)))
        label_loss = functional.cross_entropy(logits, labels)
        return squared_distances(reconstruction, n).mean() + self.config.label_weight * label_loss
