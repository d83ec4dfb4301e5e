"""The triplet loss with a hinge or a soft margin, on squared or unsquared distances."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from remine.train.losses.batch import Batch, LossValue
from remine.train.losses.batch_all import batch_all_loss
from remine.train.losses.config import TripletConfig
from remine.train.losses.distances import (
    at_least_float32,
    distance_matrix,
    distances,
    safe_sqrt,
    squared_distance_matrix,
    squared_distances,
)


def triplet_loss(
    anchor: Tensor, positive: Tensor, negative: Tensor, margin: float
) -> tuple[Tensor, Tensor]:
    """[d_ap - d_an + margin]+ on squared distances (Schroff et al. 2015, eq. 3).

    Args:
        anchor: (t, d) unit vectors, as positive and negative.
        positive: of the anchor's class.
        negative: of another class.
        margin: a squared distance, 0 to 4.

    Returns:
        The mean () over all triplets, and the share () of triplets above zero.

    """
    a, p, n = at_least_float32(anchor), at_least_float32(positive), at_least_float32(negative)
    terms = torch.relu(squared_distances(a, p) - squared_distances(a, n) + margin)
    return terms.mean(), (terms.detach() > 0).float().mean()


class TripletLoss(nn.Module):
    """[d_ap - d_an + margin]+ (Schroff et al. 2015, eq. 3), or its soft margin.

    Soft: softplus(scale * (d_ap - d_an)) (Hermans et al. 2017, section 3.2). The scale is ours: on
    the unit sphere a difference of distances is at most 2, where softplus is nearly linear.
    d is squared, 0 to 4, or unsquared, 0 to 2, and the margin has the same unit. Squared distances
    have no gradient at hard negatives (d_an near 0); unsquared ones have.

    For given triplets the mean over all of them; for a whole batch the mean over the active ones
    (Batch-All, Hermans et al. 2017, eq. 6).
    """

    def __init__(self, config: TripletConfig, margin: float) -> None:
        """`margin` in the unit of config.distance."""
        super().__init__()
        self.config, self.margin = config, margin
        self.scale = config.scale if config.form == "soft" else 0.0

    def forward(self, batch: Batch) -> LossValue:
        """Loss over the batch's triplets, or over all valid ones."""
        if batch.triplets is not None:
            points = [batch.pool.index_select(0, rows) for rows in batch.triplets]
            return LossValue(*self.on_points(*points))
        between = squared_distance_matrix if self.config.distance == "squared" else distance_matrix
        matrix = between(at_least_float32(batch.embeddings), batch.pool)
        positive, negative = batch.positive, batch.negative
        return LossValue(*batch_all_loss(matrix, positive, negative, self.margin, self.scale))

    def on_points(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> LossValue:
        """Mean over (t, d) anchors, positives and negatives."""
        a, p, n = at_least_float32(anchor), at_least_float32(positive), at_least_float32(negative)
        between = squared_distances if self.config.distance == "squared" else distances
        return self.on_distances(between(a, p), between(a, n))

    def on_squared(self, d_ap: Tensor, d_an: Tensor) -> LossValue:
        """Mean over triplets with (t,) squared distances."""
        if self.config.distance == "squared":
            return self.on_distances(d_ap, d_an)
        return self.on_distances(safe_sqrt(d_ap), safe_sqrt(d_an))

    def on_distances(self, d_ap: Tensor, d_an: Tensor) -> LossValue:
        """Mean over triplets with (t,) distances in the unit of the config; 0 for no triplets."""
        terms = self.terms(d_ap - d_an)
        if not len(terms):
            return LossValue(terms.sum(), terms.new_zeros(()))
        return LossValue(terms.mean(), (terms.detach() > 0).float().mean())

    def terms(self, gap: Tensor) -> Tensor:
        """Loss of each triplet from its d_ap - d_an, of any shape."""
        if self.scale:
            return functional.softplus(self.scale * gap)
        return torch.relu(gap + self.margin)
