"""Symmetrical Synthesis (Gu & Ko 2020): pairs reflected about themselves, hardest negatives of 16.

For a pair (A, P) of one class and the axis u = A / |A|,

    P' = beta (alpha (P . u) u - P),  alpha = 2, beta = 1  (eqs. 1 to 3)

is P reflected about A, and A' is A reflected about P. |P'| = |P| and P' . A = P . A, so the
positive side of a loss stays as it is; between pairs of two classes there are 16 distances among
{A, P, A', P'} and {N, N2, N', N2'}, and the negative is the hardest of them (section 3.2).
Synthetic points are part of the graph.
"""

import torch
from torch import Tensor, nn

from remine.train.losses.angular import AngularLoss
from remine.train.losses.batch import Batch, LossValue
from remine.train.losses.batch_all import ACTIVE
from remine.train.losses.config import SymmetricalConfig
from remine.train.losses.distances import (
    distances,
    full,
    mean_of,
    root,
    squared_distances,
    squared_matrix,
)
from remine.train.losses.lifted import LiftedStructureLoss, lifted_mean
from remine.train.losses.n_pair import NPairLoss, n_pair_terms, regulariser
from remine.train.losses.triplet import TripletLoss

BEATEN = 1e-6
"""By this a synthetic point must be harder than any original to count as the negative."""


def reflect(point: Tensor, axis: Tensor, config: SymmetricalConfig | None = None) -> Tensor:
    """Each of (q, d) points about its axis (q, d); a zero axis reflects through the origin."""
    settings = config or SymmetricalConfig()
    length = axis.square().sum(dim=-1, keepdim=True).clamp_min(1e-12)
    along = (point * axis).sum(dim=-1, keepdim=True) / length * axis
    return settings.beta * (settings.alpha * along - point)


def four(a: Tensor, p: Tensor, config: SymmetricalConfig) -> Tensor:
    """(4, q, d): the pairs (q, d) and (q, d), then A about P, and P about A."""
    return torch.stack([a, p, reflect(a, p, config), reflect(p, a, config)])


def least_distances(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """(4, q, d), (4, c, d) to the least of 16 squared distances (q, c), and that of the originals.

    The second carries no gradient.
    """
    q, c = one.shape[1], other.shape[1]
    every = squared_matrix(one.reshape(4 * q, -1), other.reshape(4 * c, -1)).view(4, q, 4, c)
    return every.amin(dim=(0, 2)), every.detach()[:2, :, :2].amin(dim=(0, 2))


def least_row_distances(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """(4, t, d), (4, t, d) to the least squared distances row by row (t,), as least_distances."""
    every = (one[:, None] - other[None]).square().sum(dim=-1)
    return every.amin(dim=(0, 1)), every.detach()[:2, :2].amin(dim=(0, 1))


def products(one: Tensor, other: Tensor) -> Tensor:
    """(4, q, d), (4, c, d) to all 16 products (4, q, 4, c)."""
    q, c = one.shape[1], other.shape[1]
    return (one.reshape(4 * q, -1) @ other.reshape(4 * c, -1).T).view(4, q, 4, c)


class SymmetricalLoss(nn.Module):
    """A triplet, N-pair, lifted structure or angular loss whose negatives are the hardest of 16.

    Pairs: the triplets' (anchor, positive), or two by two within a class. Candidates: those pairs
    and, of triplets, (negative, its partner); a negative without a partner stands for itself.
    Triplet and lifted structure take the least distance (our reading: no official code has them),
    N-pair and angular the largest similarity (the official code takes 12 of the 16).
    """

    def __init__(self, inner: nn.Module, config: SymmetricalConfig) -> None:
        """Around `inner`, one of the four losses."""
        super().__init__()
        self.inner, self.config = inner, config

    def forward(self, batch: Batch) -> LossValue:
        """Over the pairs of the batch."""
        raw = full(batch.features if isinstance(self.inner, NPairLoss) else batch.embeddings)
        rows = batch.pairs()
        if not rows.numel():
            return LossValue(0 * raw.sum(), raw.new_zeros(()), raw.new_zeros(()))
        own = self._four(raw, rows)
        if isinstance(self.inner, TripletLoss) and batch.triplets is not None:
            return self._given_triplets(own, self._four(raw, self._negatives(batch)))
        others, columns = own, rows[0]
        if batch.triplets is not None:
            negatives = self._negatives(batch)
            others = torch.cat([own, self._four(raw, negatives)], dim=1)
            columns = torch.cat([columns, negatives[0]])
        labels = batch.known_labels
        negative = labels[rows[0]][:, None] != labels[columns]
        if isinstance(self.inner, NPairLoss | AngularLoss):
            return self._similarity(batch, own, others, negative)
        return self._distance(own, others, negative)

    def _four(self, raw: Tensor, rows: Tensor) -> Tensor:
        return four(raw.index_select(0, rows[0]), raw.index_select(0, rows[1]), self.config)

    @staticmethod
    def _negatives(batch: Batch) -> Tensor:
        """(2, t) rows of the negatives and their partners."""
        assert batch.triplets is not None
        negative = batch.triplets[2]
        return torch.stack([negative, negative if batch.partners is None else batch.partners])

    def _given_triplets(self, own: Tensor, others: Tensor) -> LossValue:
        """Row by row: each pair has its own negative pair."""
        assert isinstance(self.inner, TripletLoss)
        least, original = least_row_distances(own, others)
        value = self.inner.on_squared(squared_distances(own[0], own[1]), least)
        share = (least.detach() < original - BEATEN).float().mean()
        return value._replace(synthetic=share)

    def _distance(self, own: Tensor, others: Tensor, negative: Tensor) -> LossValue:
        """Triplet (mean over active, as Batch-All) or lifted structure, all pairs with all."""
        least, original = least_distances(own, others)
        share = mean_of((least.detach() < original - BEATEN).float(), negative)
        if isinstance(self.inner, TripletLoss):
            each = self._hinges(own, least)
            on = negative & (each.detach() > ACTIVE)
            active = on.sum() / negative.sum().clamp_min(1)
            return LossValue(mean_of(each, on), active, share)
        assert isinstance(self.inner, LiftedStructureLoss)
        has = negative.any(dim=1)
        pushes = torch.where(negative, self.inner.margin - root(least), -torch.inf)
        pushed = torch.where(has[:, None], pushes, 0).logsumexp(dim=1)
        value = lifted_mean((pushed + distances(own[0], own[1]))[has])
        return value._replace(synthetic=share)

    def _hinges(self, own: Tensor, least: Tensor) -> Tensor:
        """Each pair's loss against every other pair, (q, c)."""
        assert isinstance(self.inner, TripletLoss)
        d_ap = squared_distances(own[0], own[1])
        if self.inner.config.distance == "unsquared":
            d_ap, least = root(d_ap), root(least)
        gap = d_ap[:, None] - least
        if self.inner.scale:
            return nn.functional.softplus(self.inner.scale * gap)
        return (gap + self.inner.margin).relu()

    def _similarity(self, batch: Batch, own: Tensor, others: Tensor, negative: Tensor) -> LossValue:
        """N-pair: the largest of 16 products; angular: of (x + y) . n, x and y two of the four."""
        every = products(own, others)
        plain = every.detach()[:2, :, :2]
        if isinstance(self.inner, NPairLoss):
            hardest, original = every.amax(dim=(0, 2)), plain.amax(dim=(0, 2))
            own_product = (own[0] * own[1]).sum(dim=1)
            loss = n_pair_terms(hardest, own_product, negative).mean()
            loss = loss + regulariser(own[0], own[1], self.inner.l2)
        else:
            assert isinstance(self.inner, AngularLoss)
            hardest = every.topk(2, dim=0).values.sum(dim=0).amax(dim=1)
            original = plain.sum(dim=0).amax(dim=1)
            loss = self.inner.terms(hardest, own[0], own[1], negative).mean()
            if self.inner.n_pair:
                n_pair = SymmetricalLoss(self.inner.n_pair, self.config)(batch).loss
                loss = n_pair + self.inner.weight * loss
        share = mean_of((hardest.detach() > original + BEATEN).float(), negative)
        return LossValue(loss, torch.ones_like(share), share)
