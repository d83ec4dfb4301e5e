"""The input and output of every loss, and the pairs that a batch contains."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from remine.data.errors import InputError
from remine.train.losses.distances import at_least_float32, distance_matrix, distances


class LossValue(NamedTuple):
    """A loss () to minimise, and statistics of its terms.

    active: (), the share of terms above zero. synthetic: (), the share of negatives that are
    synthetic; None without synthesis.
    """

    loss: Tensor
    active: Tensor
    synthetic: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Batch:
    """The m items of one step.

    features: (m, d) output of the encoder's body, of any length.
    embeddings: (m, d) the features on the unit sphere.
    labels: (m,) int64 class numbers; empty if unknown.
    items: (m,) int64 item numbers; one item may fill several rows.
    triplets: (3, t) rows of anchors, positives and negatives. Positives and negatives may be rows
        of the memory, m and up. None means all triplets of the batch.
    partners: (t,) rows, another item of each negative's class, for synthesis.
    memory_embeddings, memory_labels, memory_items: (o, ...) of earlier steps, without gradients.
    """

    features: Tensor
    embeddings: Tensor
    labels: Tensor
    items: Tensor
    triplets: Tensor | None = None
    partners: Tensor | None = None
    memory_embeddings: Tensor | None = None
    memory_labels: Tensor | None = None
    memory_items: Tensor | None = None

    @cached_property
    def pool(self) -> Tensor:
        """(m + o, d) embeddings of the batch and the memory, in float32 or more."""
        current = at_least_float32(self.embeddings)
        if self.memory_embeddings is None:
            return current
        return torch.cat([current, at_least_float32(self.memory_embeddings)])

    @cached_property
    def pool_labels(self) -> Tensor:
        """(m + o,) int64 class numbers of the pool."""
        memory = self.memory_labels
        return self.labels if memory is None else torch.cat([self.labels, memory])

    @cached_property
    def pool_items(self) -> Tensor:
        """(m + o,) int64 item numbers of the pool."""
        memory = self.memory_items
        return self.items if memory is None else torch.cat([self.items, memory])

    @property
    def positive(self) -> Tensor:
        """(m, m + o) bool: same class and a different item, by number and never by distance."""
        same_class = self.required_labels[:, None] == self.pool_labels
        return same_class & (self.items[:, None] != self.pool_items)

    @property
    def negative(self) -> Tensor:
        """(m, m + o) bool: of another class."""
        return self.required_labels[:, None] != self.pool_labels

    @property
    def required_labels(self) -> Tensor:
        """(m,) int64 class numbers.

        Raises:
            InputError: the batch has no labels.

        """
        if len(self.labels) != len(self.embeddings):
            raise InputError("this loss needs the class of every item, and the batch has none")
        return self.labels

    def pairs(self) -> Tensor:
        """(2, q) rows of anchors and positives: of the triplets, else consecutive in a class."""
        if self.triplets is not None:
            return self.triplets[:2]
        return class_pairs(self.required_labels, self.items)

    def pair_candidates(self, anchors: Tensor, positives: Tensor) -> tuple[Tensor, Tensor]:
        """Candidate negatives of (q,) pairs: the positives, and the triplets' negatives.

        Returns:
            (c,) rows of the candidates, and a (q, c) bool mask of those of another class than the
            pair. Negatives that were mined for one anchor thereby serve all the others, too.

        """
        candidates = positives if self.triplets is None else self.triplets[1:].reshape(-1)
        labels = self.required_labels
        return candidates, labels[anchors][:, None] != labels[candidates]


class PairDistances(NamedTuple):
    """Unsquared distances of pairs and the masks of positive and negative ones, all of one shape.

    For triplets (t,): each gives a positive and a negative pair. For a batch without triplets
    (m, m + o): both distances are the same matrix.
    """

    to_positive: Tensor
    to_negative: Tensor
    positive: Tensor
    negative: Tensor


def pair_distances(batch: Batch) -> PairDistances:
    """The pairs of the batch's triplets, or all pairs of the batch with the pool."""
    if batch.triplets is None:
        matrix = distance_matrix(batch.pool[: len(batch.embeddings)], batch.pool)
        return PairDistances(matrix, matrix, batch.positive, batch.negative)
    a, p, n = (batch.pool.index_select(0, rows) for rows in batch.triplets)
    to_positive = distances(a, p)
    everywhere = torch.ones_like(to_positive, dtype=torch.bool)
    return PairDistances(to_positive, distances(a, n), everywhere, everywhere)


def class_pairs(labels: Tensor, items: Tensor) -> Tensor:
    """(2, q) rows: in each class the first with the second, the third with the fourth, and so on.

    The last row of a class of odd size has no pair. Two rows of the same item are not a pair.
    """
    order = torch.argsort(labels, stable=True)
    sorted_labels = labels[order]
    place = torch.arange(len(labels), device=labels.device)
    # searchsorted gives the start of each row's class, so this is the place within the class.
    place = place - torch.searchsorted(sorted_labels, sorted_labels)
    starts_pair = (place[:-1] % 2 == 0) & (sorted_labels[:-1] == sorted_labels[1:])
    rows = torch.stack([order[:-1][starts_pair], order[1:][starts_pair]])
    return rows[:, items[rows[0]] != items[rows[1]]]


def zero_loss(embeddings: Tensor) -> LossValue:
    """A loss of 0 with a gradient of 0 in `embeddings`, for a batch without terms."""
    return LossValue(0 * embeddings.sum(), embeddings.new_zeros(()))
