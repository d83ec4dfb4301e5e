"""Distances whose values and gradients stay finite where points coincide."""

import torch
from torch import Tensor

SMALLEST = 1e-12
"""Below this a squared distance has no root: the gradient of sqrt at 0 is not finite."""


def full(x: Tensor) -> Tensor:
    """`x` in at least float32: bf16 has 8 bits, too few for differences of distances."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Row by row: (m, d), (m, d) to (m,)."""
    return (a - b).square().sum(dim=1)


def distances(a: Tensor, b: Tensor) -> Tensor:
    """Row by row, unsquared: (m, d), (m, d) to (m,); gradient 0 where the points coincide."""
    return root(squared_distances(a, b))


def root(squared: Tensor) -> Tensor:
    """Unsquared distances; clamped first, so that the gradient at 0 is 0."""
    return squared.clamp_min(SMALLEST).sqrt()


def squared_matrix(a: Tensor, b: Tensor) -> Tensor:
    """(m, d), (n, d) to (m, n), through one matrix product; float32 errs by up to 1e-6."""
    lengths = a.square().sum(dim=1)[:, None] + b.square().sum(dim=1)
    return (lengths - 2 * (a @ b.T)).clamp_min(0)


def distance_matrix(a: Tensor, b: Tensor) -> Tensor:
    """(m, d), (n, d) to (m, n), unsquared.

    From differences, not from products: the root would turn a product's 1e-7 into 3e-4.
    """
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def mean_of(each: Tensor, among: Tensor) -> Tensor:
    """The mean of `each` where `among` (a mask of its shape); 0, with a gradient of 0, where none.

    torch.where, not a product: the gradient of a masked infinity would be NaN.
    """
    kept = torch.where(among, each, each.new_zeros(()))
    return kept.sum() / among.sum().clamp_min(1)
