"""The margin loss with learned boundaries."""

import torch
from torch import Tensor, nn

from remine.train.losses.batch import Batch, LossValue, pair_distances
from remine.train.losses.config import MarginConfig


class MarginLoss(nn.Module):
    """[alpha + y (D - beta)]+, y = 1 within a class, else -1 (Wu et al. 2017, eqs. 5 to 7).

    beta = beta0 + beta_class + beta_item of the anchor, all learned; the last two are optional and
    start at 0. nu * sum of the anchors' beta is added, and the sum is divided by the number of
    active pairs. D, alpha and beta are unsquared distances on unit vectors, 0 to 2.

    Each given triplet contributes one positive and one negative pair; a whole batch all its pairs.
    """

    def __init__(self, config: MarginConfig, classes: int, items: int) -> None:
        """For this many training classes and items."""
        super().__init__()
        self.alpha, self.nu = config.alpha, config.nu
        self.beta = nn.Parameter(torch.tensor(config.beta))
        self.beta_class = nn.Parameter(torch.zeros(classes)) if config.per_class else None
        self.beta_item = nn.Parameter(torch.zeros(items)) if config.per_item else None

    def betas(self, batch: Batch, rows: Tensor) -> Tensor:
        """(t,) boundaries of the anchors at `rows` (t,)."""
        boundaries = self.beta.expand(len(rows))
        if self.beta_class is not None:
            classes = batch.required_labels[rows]
            boundaries = boundaries + self.beta_class.index_select(0, classes)
        if self.beta_item is not None:
            boundaries = boundaries + self.beta_item.index_select(0, batch.items[rows])
        return boundaries

    def forward(self, batch: Batch) -> LossValue:
        """Loss over the pairs of the batch's triplets, or over all pairs."""
        if batch.triplets is None:
            rows = torch.arange(len(batch.embeddings), device=batch.items.device)
            anchor_betas = self.betas(batch, rows)
            beta = anchor_betas[:, None]
        else:
            anchor_betas = beta = self.betas(batch, batch.triplets[0])
        to_positive, to_negative, positive, negative = pair_distances(batch)
        # A pair is active on the wrong side of the boundary, or within alpha of it.
        pull = torch.where(positive, self.alpha + to_positive - beta, 0).relu()
        push = torch.where(negative, self.alpha + beta - to_negative, 0).relu()
        active = (pull.detach() > 0).sum() + (push.detach() > 0).sum()
        loss = (pull.sum() + push.sum() + self.nu * anchor_betas.sum()) / active.clamp_min(1)
        return LossValue(loss, active / (positive.sum() + negative.sum()).clamp_min(1))
