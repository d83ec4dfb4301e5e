"""Distances whose values and gradients stay finite where points coincide."""

import torch
from torch import Tensor

SMALLEST = 1e-12
"""Smallest squared distance before the root: the gradient of sqrt at 0 is infinite."""


def at_least_float32(x: Tensor) -> Tensor:
    """Cast half precision to float32: bfloat16 has 8 bits, too few for distance differences."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Row-wise squared distances: (m, d), (m, d) to (m,)."""
    return (a - b).square().sum(dim=1)


def distances(a: Tensor, b: Tensor) -> Tensor:
    """Row-wise unsquared distances: (m, d), (m, d) to (m,); gradient 0 where points coincide."""
    return safe_sqrt(squared_distances(a, b))


def safe_sqrt(squared_distance: Tensor) -> Tensor:
    """Square root of squared distances, clamped first so that the gradient at 0 is 0."""
    return squared_distance.clamp_min(SMALLEST).sqrt()


def squared_distance_matrix(a: Tensor, b: Tensor) -> Tensor:
    """All squared distances: (m, d), (n, d) to (m, n).

    One matrix product of the points; float32 errs by up to 1e-6.
    """
    lengths = a.square().sum(dim=1)[:, None] + b.square().sum(dim=1)
    return (lengths - 2 * (a @ b.T)).clamp_min(0)


def distance_matrix(a: Tensor, b: Tensor) -> Tensor:
    """All unsquared distances: (m, d), (n, d) to (m, n).

    Computed from differences: the root would turn a matrix product's error of 1e-7 into 3e-4.
    """
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean () of `values` where `mask` (same shape) is true; 0 with gradient 0 for an empty mask.

    torch.where rather than a product: the gradient of a masked infinity would be NaN.
    """
    selection = torch.where(mask, values, values.new_zeros(()))
    return selection.sum() / mask.sum().clamp_min(1)
