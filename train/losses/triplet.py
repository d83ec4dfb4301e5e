"""The triplet loss, with a hinge or a soft margin, on squared or unsquared distances."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from remine.train.losses.batch import Batch, LossValue
from remine.train.losses.batch_all import batch_all_loss
from remine.train.losses.config import TripletConfig
from remine.train.losses.distances import (
    distance_matrix,
    distances,
    full,
    root,
    squared_distances,
    squared_matrix,
)


def triplet_loss(
    anchor: Tensor, positive: Tensor, negative: Tensor, margin: float
) -> tuple[Tensor, Tensor]:
    """[d_ap - d_an + margin]+, mean over all triplets (Schroff et al. 2015, eq. 3).

    (m, d) each to the loss () and the active fraction (), the share of triplets above zero.
    """
    a, p, n = full(anchor), full(positive), full(negative)
    each = torch.relu(squared_distances(a, p) - squared_distances(a, n) + margin)
    return each.mean(), (each.detach() > 0).float().mean()


class TripletLoss(nn.Module):
    """[d_ap - d_an + margin]+ (Schroff et al. 2015, eq. 3), or its soft margin.

    Soft: softplus(scale * (d_ap - d_an)) (Hermans et al. 2017, section 3.2; the scale because on
    the unit sphere a difference of distances is at most 2, where softplus is nearly a line).
    d is squared, in [0, 4], or unsquared, in [0, 2], and the margin is in the same unit. Squared
    distances have no gradient at hard negatives (d_an near 0); unsquared ones have.

    On given triplets the mean over all of them. On a whole batch the mean over the active ones
    (Batch-All, Hermans et al. 2017, eq. 6).
    """

    def __init__(self, config: TripletConfig, margin: float) -> None:
        """`margin` in the unit of config.distance."""
        super().__init__()
        self.config, self.margin = config, margin
        self.scale = config.scale if config.form == "soft" else 0.0

    def forward(self, batch: Batch) -> LossValue:
        """Over the batch's triplets, or all there are."""
        if batch.triplets is not None:
            points = [batch.pool.index_select(0, rows) for rows in batch.triplets]
            return LossValue(*self.on_points(*points))
        between = squared_matrix if self.config.distance == "squared" else distance_matrix
        matrix = between(full(batch.embeddings), batch.pool)
        positive, negative = batch.positive, batch.negative
        return LossValue(*batch_all_loss(matrix, positive, negative, self.margin, self.scale))

    def on_points(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> LossValue:
        """The mean over (t, d) anchors, positives and negatives."""
        a, p, n = full(anchor), full(positive), full(negative)
        between = squared_distances if self.config.distance == "squared" else distances
        return self.on_distances(between(a, p), between(a, n))

    def on_squared(self, d_ap: Tensor, d_an: Tensor) -> LossValue:
        """The mean over (t,) squared distances."""
        if self.config.distance == "squared":
            return self.on_distances(d_ap, d_an)
        return self.on_distances(root(d_ap), root(d_an))

    def on_distances(self, d_ap: Tensor, d_an: Tensor) -> LossValue:
        """The mean over (t,) distances in the unit of the config; 0 for none."""
        gap = d_ap - d_an
        if self.scale:
            each = functional.softplus(self.scale * gap)
        else:
            each = torch.relu(gap + self.margin)
        if not len(each):
            return LossValue(each.sum(), each.new_zeros(()))
        return LossValue(each.mean(), (each.detach() > 0).float().mean())
