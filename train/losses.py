"""Losses on embeddings. All distances are squared Euclidean on unit vectors, in [0, 4]."""

import torch
from torch import Tensor


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Row by row: (m, d), (m, d) to (m,)."""
    return (a - b).square().sum(dim=1)


def triplet_loss(
    anchor: Tensor, positive: Tensor, negative: Tensor, margin: float
) -> tuple[Tensor, Tensor]:
    """[d_ap - d_an + margin]+, mean over all triplets (Schroff et al. 2015, eq. 3).

    (m, d) each to the loss () and the active fraction (), the share of triplets above zero.
    """
    d_ap, d_an = squared_distances(anchor, positive), squared_distances(anchor, negative)
    each = torch.relu(d_ap - d_an + margin)
    return each.mean(), (each.detach() > 0).float().mean()
