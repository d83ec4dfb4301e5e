"""Hardness-aware synthesis of negatives (Zheng et al. 2019)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from remine.train.losses.batch import Batch, LossValue
from remine.train.losses.config import HdmlConfig
from remine.train.losses.distances import full, squared_distances
from remine.train.losses.triplet import TripletLoss
from remine.train.synthesis.networks import frozen, perceptron, recent_mean


def pulled(a: Tensor, p: Tensor, n: Tensor, hardness: float, recent: Tensor) -> Tensor:
    """Negatives n (t, d) moved towards their anchors, at most to the positive's distance (eq. 4).

    n + = a + (n - a) [d_ap + (d_an - d_ap) e^(-hardness / J)] / d_an where d_an > d_ap, unsquared
    distances, J the recent metric loss (): the lower it is, the harder the negative.
    """
    d_ap = (a - p).norm(dim=1, keepdim=True)
    d_an = (a - n).norm(dim=1, keepdim=True).clamp_min(1e-6)
    keep = torch.exp(-hardness / recent.clamp_min(1e-6))
    length = d_ap + (d_an - d_ap) * keep
    return torch.where(d_an > d_ap, a + (n - a) * length / d_an, n)


class Hdml(nn.Module):
    """w J(a, p, n) + (1 - w) J(a, p, G(n+)) + J_gen, w = e^(-balance / J_gen) (eqs. 8 to 10).

    n+ is the pulled negative, G an autoencoder over embeddings that maps it back to where items of
    n's class may lie: J_gen = |G(n) - n|^2 + label_weight * cross-entropy of the class of G(n+).
    J_gen trains G alone, the rest the encoder alone. On the unit sphere, as everything here; the
    paper's constants belong to its unnormalised features.
    """

    recent: Tensor

    def __init__(
        self, inner: TripletLoss, config: HdmlConfig, dimensions: int, classes: int
    ) -> None:
        """Around the triplet loss."""
        super().__init__()
        self.inner, self.config = inner, config
        self.generator = perceptron(dimensions, config.hidden, dimensions)
        self.classifier = nn.Linear(dimensions, classes)
        self.register_buffer("recent", torch.zeros(()))

    def forward(self, batch: Batch) -> LossValue:
        """Over the batch's triplets."""
        assert batch.triplets is not None
        a, p, n = (batch.pool.index_select(0, rows) for rows in batch.triplets)
        metric = self.inner.on_points(a, p, n)
        if not len(a):
            return metric
        recent_mean(self.recent, metric.loss)
        moved = pulled(full(a), full(p), full(n), self.config.hardness, self.recent)
        made = functional.normalize(frozen(self.generator, moved))
        made_loss = self.inner.on_points(a, p, made).loss
        own = self.generator_loss(n.detach(), moved.detach(), batch.pool_labels[batch.triplets[2]])
        weight = torch.exp(-self.config.balance / own.detach().clamp_min(1e-6))
        harder = squared_distances(made.detach(), a) < squared_distances(n.detach(), a)
        loss = weight * metric.loss + (1 - weight) * made_loss + own
        return LossValue(loss, metric.active, harder.float().mean())

    def generator_loss(self, n: Tensor, moved: Tensor, labels: Tensor) -> Tensor:
        """J_gen () of negatives (t, d) and pulled negatives (t, d) with their classes (t,)."""
        again = functional.normalize(self.generator(n))
        logits = self.classifier(functional.normalize(self.generator(moved)))
        label_loss = functional.cross_entropy(logits, labels)
        return squared_distances(again, n).mean() + self.config.label_weight * label_loss
