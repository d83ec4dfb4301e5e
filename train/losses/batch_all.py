"""Batch-All: the loss over all valid triplets of a batch, block by block."""

from typing import Any

import torch
from torch import Tensor

BLOCK = 1 << 18
"""Triplets per block: a few megabytes, which fit a core's cache."""
ACTIVE = 1e-16
"""A triplet is active if its loss is above this (Hermans et al. 2017)."""


def batch_all_loss(
    distances: Tensor, positive: Tensor, negative: Tensor, margin: float, scale: float = 0.0
) -> tuple[Tensor, Tensor]:
    """[d_ap - d_an + margin]+ or softplus(scale * (d_ap - d_an)), mean over active triplets.

    Hermans et al. 2017, eq. 6 and section 3.2. A batch of B items with K per class has about
    B^2 K triplets, and a cubic tensor of them B^3 entries. Both the loss and its gradient are sums
    over triplets, so they are computed in blocks: memory is one block and one (m, n) gradient.

    Args:
        distances: (m, n) of m anchors to n candidates, in the unit of the margin.
        positive: (m, n) bool, which candidates are positives of the anchor.
        negative: (m, n) bool, which candidates are its negatives.
        margin: of the hinge.
        scale: of the soft margin; 0 for the hinge.

    Returns:
        The loss () and the share () of valid triplets that are active; both 0 if there are none.

    """
    loss, active = _BatchAll.apply(  # type: ignore[no-untyped-call]
        distances, positive, negative, margin, scale
    )
    return loss, active


class _BatchAll(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, distances: Tensor, positive: Tensor, negative: Tensor, margin: float, scale: float
    ) -> tuple[Tensor, Tensor]:
        anchors, positives = positive.nonzero(as_tuple=True)
        gradient = torch.zeros_like(distances)
        # float64: a large batch has hundreds of millions of terms.
        total = distances.new_zeros((), dtype=torch.float64)
        active = torch.zeros((), dtype=torch.int64, device=distances.device)
        rows = max(1, BLOCK // max(1, distances.shape[1]))
        for a, p in zip(torch.split(anchors, rows), torch.split(positives, rows), strict=True):
            # Each anchor-positive pair against all candidates. Masking those that are not negatives
            # is cheaper than gathering the negatives.
            gap = distances[a, p][:, None] - distances[a]
            terms, slope = _terms(gap, margin, scale)
            is_active = negative[a] & (terms > ACTIVE)
            total += torch.where(is_active, terms, 0).sum(dtype=torch.float64)
            active += is_active.sum()
            slope = torch.where(is_active, slope, 0)
            # The derivative is slope in d_ap and -slope in d_an. index_add rather than index_put,
            # which adds in a random order on several threads.
            gradient.index_add_(0, a, slope, alpha=-1)
            gradient.view(-1).index_add_(0, a * distances.shape[1] + p, slope.sum(dim=1))
        ctx.save_for_backward(gradient.div_(active.clamp_min(1)))
        valid = (positive.sum(dim=1) * negative.sum(dim=1)).sum()
        loss = (total / active.clamp_min(1)).to(distances.dtype)
        share = (active / valid.clamp_min(1)).float()
        ctx.mark_non_differentiable(share)
        return loss, share

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return outer[0] * gradient, None, None, None, None


def _terms(gap: Tensor, margin: float, scale: float) -> tuple[Tensor, Tensor]:
    """Loss of each triplet and its derivative, from d_ap - d_an."""
    if scale:
        return torch.nn.functional.softplus(scale * gap), scale * torch.sigmoid(scale * gap)
    return (gap + margin).relu(), torch.ones_like(gap)
