"""The margin loss with learned boundaries."""

import torch
from torch import Tensor, nn

from remine.train.losses.batch import Batch, LossValue
from remine.train.losses.config import MarginConfig
from remine.train.losses.distances import distance_matrix, distances


class MarginLoss(nn.Module):
    """[alpha + y (D - beta)]+, y = 1 for one class and -1 otherwise (Wu et al. 2017, eqs. 5 to 7).

    beta = beta0 + beta_class + beta_item of the anchor, all learned, the last two where asked for,
    starting at 0. nu * sum of the anchors' beta is added, and the whole divided by the number of
    active pairs. D is unsquared, in [0, 2], and so are alpha and beta.

    On given triplets each gives one pair of either sort; on a whole batch all its pairs do.
    """

    def __init__(self, config: MarginConfig, classes: int, items: int) -> None:
        """For so many classes and items."""
        super().__init__()
        self.alpha, self.nu = config.alpha, config.nu
        self.beta = nn.Parameter(torch.tensor(config.beta))
        self.beta_class = nn.Parameter(torch.zeros(classes)) if config.per_class else None
        self.beta_item = nn.Parameter(torch.zeros(items)) if config.per_item else None

    def betas(self, batch: Batch, rows: Tensor) -> Tensor:
        """(t,) the boundaries of the anchors at `rows` (t,)."""
        found = self.beta.expand(len(rows))
        if self.beta_class is not None:
            found = found + self.beta_class.index_select(0, batch.known_labels[rows])
        if self.beta_item is not None:
            found = found + self.beta_item.index_select(0, batch.items[rows])
        return found

    def forward(self, batch: Batch) -> LossValue:
        """Over the pairs of the batch's triplets, or all there are."""
        if batch.triplets is None:
            m = len(batch.embeddings)
            own = self.betas(batch, torch.arange(m, device=batch.items.device))
            near = far = distance_matrix(batch.pool[:m], batch.pool)
            positive, negative, beta = batch.positive, batch.negative, own[:, None]
        else:
            a, p, n = (batch.pool.index_select(0, rows) for rows in batch.triplets)
            near, far = distances(a, p), distances(a, n)
            own = beta = self.betas(batch, batch.triplets[0])
            positive = negative = torch.ones_like(near, dtype=torch.bool)
        pull = torch.where(positive, self.alpha + near - beta, 0).relu()
        push = torch.where(negative, self.alpha + beta - far, 0).relu()
        active = (pull.detach() > 0).sum() + (push.detach() > 0).sum()
        loss = (pull.sum() + push.sum() + self.nu * own.sum()) / active.clamp_min(1)
        return LossValue(loss, active / (positive.sum() + negative.sum()).clamp_min(1))
