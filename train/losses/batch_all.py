"""All valid triplets of a batch without ever holding them: Batch-All, block by block."""

from typing import Any

import torch
from torch import Tensor

BLOCK = 1 << 18
"""Triplets looked at together: a few megabytes, and what a core's cache still holds."""
ACTIVE = 1e-16
"""Above this a triplet is active (Hermans et al. 2017)."""


def batch_all_loss(
    distances: Tensor, positive: Tensor, negative: Tensor, margin: float, scale: float = 0.0
) -> tuple[Tensor, Tensor]:
    """[d_ap - d_an + margin]+, or softplus(scale * (d_ap - d_an)), mean over active triplets.

    Hermans et al. 2017, eq. 6 and section 3.2. distances: (m, n) of m anchors to n candidates;
    positive, negative: (m, n) bool, which candidates are what. scale: 0 is the hinge. Returns the
    loss () and active / valid (). No triplet, or none active: both 0.

    index_add, not index_put: the latter adds in a random order on several threads.
    A batch of B items has about B^2 K triplets, a cubic tensor B^3. Both the sum and its gradient
    are sums over blocks, so the memory is a block and one (m, n) gradient.
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
        total = distances.new_zeros((), dtype=torch.float64)
        active = torch.zeros((), dtype=torch.int64, device=distances.device)
        rows = max(1, BLOCK // max(1, distances.shape[1]))
        for a, p in zip(torch.split(anchors, rows), torch.split(positives, rows), strict=True):
            gap = distances[a, p][:, None] - distances[a]
            each, slope = _term(gap, margin, scale)
            on = negative[a] & (each > ACTIVE)
            total += torch.where(on, each, 0).sum(dtype=torch.float64)
            active += on.sum()
            slope = torch.where(on, slope, 0)
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


def _term(gap: Tensor, margin: float, scale: float) -> tuple[Tensor, Tensor]:
    """Each triplet's loss and its slope in d_ap - d_an."""
    if scale:
        return torch.nn.functional.softplus(scale * gap), scale * torch.sigmoid(scale * gap)
    return (gap + margin).relu(), torch.ones_like(gap)
