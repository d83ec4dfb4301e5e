"""Symmetrical Synthesis (Gu & Ko 2020): pairs reflected about themselves, hardest negatives of 16.

For a pair (A, P) of one class and the axis u = A / |A|,

    P' = beta (alpha (P . u) u - P),  alpha = 2, beta = 1  (eqs. 1 to 3)

is P reflected about A, and A' is A reflected about P. |P'| = |P| and P' . A = P . A, so the
positive side of a loss does not change. Between pairs of two classes there are 16 distances from
{A, P, A', P'} to {N, N2, N', N2'}, and the hardest of them replaces the negative (section 3.2).
Gradients flow through the synthetic points.
"""

import torch
from torch import Tensor, nn

from remine.train.losses.angular import AngularLoss
from remine.train.losses.batch import Batch, LossValue, zero_loss
from remine.train.losses.batch_all import ACTIVE
from remine.train.losses.config import SymmetricalConfig
from remine.train.losses.distances import (
    at_least_float32,
    distances,
    masked_mean,
    safe_sqrt,
    squared_distance_matrix,
    squared_distances,
)
from remine.train.losses.lifted import LiftedStructureLoss, lifted_mean, log_push
from remine.train.losses.n_pair import NPairLoss, n_pair_terms, regulariser
from remine.train.losses.triplet import TripletLoss

TOLERANCE = 1e-6
"""A synthetic point counts as the negative if harder than every original by more than this."""


def reflect(point: Tensor, axis: Tensor, config: SymmetricalConfig | None = None) -> Tensor:
    """Reflect (q, d) points about their axes (q, d); a zero axis reflects through the origin."""
    settings = config or SymmetricalConfig()
    length = axis.square().sum(dim=-1, keepdim=True).clamp_min(1e-12)
    along = (point * axis).sum(dim=-1, keepdim=True) / length * axis
    return settings.beta * (settings.alpha * along - point)


def with_reflections(a: Tensor, p: Tensor, config: SymmetricalConfig) -> Tensor:
    """(4, q, d): pairs (q, d) and (q, d), then A reflected about P, and P about A."""
    return torch.stack([a, p, reflect(a, p, config), reflect(p, a, config)])


def least_distances(pairs: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
    """Least of the 16 squared distances between each pair and each candidate pair.

    Args:
        pairs: (4, q, d) of `with_reflections`.
        candidates: (4, c, d) of `with_reflections`.

    Returns:
        (q, c) least distances, and (q, c) least distances of original points, without gradients.

    """
    q, c = pairs.shape[1], candidates.shape[1]
    matrix = squared_distance_matrix(pairs.reshape(4 * q, -1), candidates.reshape(4 * c, -1))
    # The first two of each four points are the originals, the others their reflections.
    blocks = matrix.view(4, q, 4, c)
    return blocks.amin(dim=(0, 2)), blocks.detach()[:2, :, :2].amin(dim=(0, 2))


def least_row_distances(pairs: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
    """As `least_distances`, row by row: (4, t, d), (4, t, d) to (t,) and (t,)."""
    blocks = (pairs[:, None] - candidates[None]).square().sum(dim=-1)
    return blocks.amin(dim=(0, 1)), blocks.detach()[:2, :2].amin(dim=(0, 1))


def inner_products(pairs: Tensor, candidates: Tensor) -> Tensor:
    """(4, q, d), (4, c, d) to all 16 inner products (4, q, 4, c)."""
    q, c = pairs.shape[1], candidates.shape[1]
    return (pairs.reshape(4 * q, -1) @ candidates.reshape(4 * c, -1).T).view(4, q, 4, c)


class SymmetricalLoss(nn.Module):
    """A triplet, N-pair, lifted structure or angular loss whose negatives are the hardest of 16.

    Pairs are the triplets' (anchor, positive), else consecutive items of a class. Candidates are
    those pairs and, for triplets, (negative, partner); without a partner the negative
    takes its place.
    Triplet and lifted structure use the least distance (our reading of the paper: the official code
    lacks them), N-pair and angular the largest similarity (the official code uses 12 of the 16).
    """

    def __init__(self, inner: nn.Module, config: SymmetricalConfig) -> None:
        """`inner` is one of the four losses."""
        super().__init__()
        self.inner, self.config = inner, config

    def forward(self, batch: Batch) -> LossValue:
        """Loss over the pairs of the batch."""
        uses_features = isinstance(self.inner, NPairLoss)
        points = at_least_float32(batch.features if uses_features else batch.embeddings)
        rows = batch.pairs()
        if not rows.numel():
            return zero_loss(points)._replace(synthetic=points.new_zeros(()))
        pairs = self._reflected(points, rows)
        if isinstance(self.inner, TripletLoss) and batch.triplets is not None:
            return self._on_triplets(pairs, self._reflected(points, self._negatives(batch)))
        # Both points of a pair have one class, so the row of the first is enough.
        candidates, candidate_rows = pairs, rows[0]
        if batch.triplets is not None:
            negatives = self._negatives(batch)
            candidates = torch.cat([pairs, self._reflected(points, negatives)], dim=1)
            candidate_rows = torch.cat([candidate_rows, negatives[0]])
        labels = batch.required_labels
        negative = labels[rows[0]][:, None] != labels[candidate_rows]
        if isinstance(self.inner, NPairLoss | AngularLoss):
            return self._on_similarities(batch, pairs, candidates, negative)
        return self._on_distances(pairs, candidates, negative)

    def _reflected(self, points: Tensor, rows: Tensor) -> Tensor:
        """(4, q, d) of the pairs at `rows` (2, q)."""
        first, second = points.index_select(0, rows[0]), points.index_select(0, rows[1])
        return with_reflections(first, second, self.config)

    @staticmethod
    def _negatives(batch: Batch) -> Tensor:
        """(2, t) rows of the negatives and their partners."""
        assert batch.triplets is not None
        negative = batch.triplets[2]
        return torch.stack([negative, negative if batch.partners is None else batch.partners])

    def _on_triplets(self, pairs: Tensor, negatives: Tensor) -> LossValue:
        """Triplet loss row by row: each pair (4, t, d) has its own negative pair (4, t, d)."""
        assert isinstance(self.inner, TripletLoss)
        least, original = least_row_distances(pairs, negatives)
        value = self.inner.on_squared(squared_distances(pairs[0], pairs[1]), least)
        share = (least.detach() < original - TOLERANCE).float().mean()
        return value._replace(synthetic=share)

    def _on_distances(self, pairs: Tensor, candidates: Tensor, negative: Tensor) -> LossValue:
        """Triplet (mean over active, as Batch-All) or lifted structure, all pairs with all."""
        least, original = least_distances(pairs, candidates)
        share = masked_mean((least.detach() < original - TOLERANCE).float(), negative)
        if isinstance(self.inner, TripletLoss):
            terms = self._triplet_terms(pairs, least)
            is_active = negative & (terms.detach() > ACTIVE)
            active = is_active.sum() / negative.sum().clamp_min(1)
            return LossValue(masked_mean(terms, is_active), active, share)
        assert isinstance(self.inner, LiftedStructureLoss)
        push = log_push(safe_sqrt(least), negative, self.inner.margin)
        terms = push + distances(pairs[0], pairs[1])
        return lifted_mean(terms[negative.any(dim=1)])._replace(synthetic=share)

    def _triplet_terms(self, pairs: Tensor, least: Tensor) -> Tensor:
        """(q, c) loss of each pair against the least distance to each candidate pair."""
        assert isinstance(self.inner, TripletLoss)
        d_ap = squared_distances(pairs[0], pairs[1])
        if self.inner.config.distance == "unsquared":
            d_ap, least = safe_sqrt(d_ap), safe_sqrt(least)
        return self.inner.terms(d_ap[:, None] - least)

    def _on_similarities(
        self, batch: Batch, pairs: Tensor, candidates: Tensor, negative: Tensor
    ) -> LossValue:
        """N-pair: the largest of 16 products; angular: of (x + y) . n, x and y two of the four."""
        products = inner_products(pairs, candidates)
        original_products = products.detach()[:2, :, :2]
        if isinstance(self.inner, NPairLoss):
            hardest, original = products.amax(dim=(0, 2)), original_products.amax(dim=(0, 2))
            pair_product = (pairs[0] * pairs[1]).sum(dim=1)
            loss = n_pair_terms(hardest, pair_product, negative).mean()
            loss = loss + regulariser(pairs[0], pairs[1], self.inner.l2)
        else:
            assert isinstance(self.inner, AngularLoss)
            # The best sum x . n + y . n is that of the two largest of the four products.
            hardest = products.topk(2, dim=0).values.sum(dim=0).amax(dim=1)
            original = original_products.sum(dim=0).amax(dim=1)
            loss = self.inner.terms(hardest, pairs[0], pairs[1], negative).mean()
            if self.inner.n_pair:
                n_pair = SymmetricalLoss(self.inner.n_pair, self.config)(batch).loss
                loss = n_pair + self.inner.weight * loss
        share = masked_mean((hardest.detach() > original + TOLERANCE).float(), negative)
        return LossValue(loss, torch.ones_like(share), share)
