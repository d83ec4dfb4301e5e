"""What every loss reads and returns."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from remine.data.errors import InputError
from remine.train.losses.distances import full


class LossValue(NamedTuple):
    """A loss () to minimise, and what is told of it.

    active: (), the share of its terms that are above zero. synthetic: (), where points are
    synthesised, the share of negatives that were synthetic.
    """

    loss: Tensor
    active: Tensor
    synthetic: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Batch:
    """The m items of one step.

    features: (m, d) what the encoder's body gives, of any length. embeddings: (m, d) the same on
    the unit sphere. labels: (m,) int64 class numbers; empty where unknown. items: (m,) int64 item
    numbers; the same item may stand in several rows. older, older_labels, older_items: (o, ...)
    of earlier steps, without gradients. triplets: (3, t) int64 anchor, positive, negative: rows of
    the batch, positives and negatives also of the older ones (m and up). None: all that there are.
    partners: (t,) rows, another item of each negative's class, for synthesis.
    """

    features: Tensor
    embeddings: Tensor
    labels: Tensor
    items: Tensor
    triplets: Tensor | None = None
    partners: Tensor | None = None
    older: Tensor | None = None
    older_labels: Tensor | None = None
    older_items: Tensor | None = None

    @cached_property
    def pool(self) -> Tensor:
        """(m + o, d) the embeddings of the batch and the older ones, in float32 or more."""
        own = full(self.embeddings)
        return own if self.older is None else torch.cat([own, full(self.older)])

    @cached_property
    def pool_labels(self) -> Tensor:
        """(m + o,) int64."""
        older = self.older_labels
        return self.labels if older is None else torch.cat([self.labels, older])

    @cached_property
    def pool_items(self) -> Tensor:
        """(m + o,) int64."""
        return self.items if self.older_items is None else torch.cat([self.items, self.older_items])

    @property
    def positive(self) -> Tensor:
        """(m, m + o) bool: of one class and not the same item, by number, never by distance."""
        same = self.known_labels[:, None] == self.pool_labels
        return same & (self.items[:, None] != self.pool_items)

    @property
    def negative(self) -> Tensor:
        """(m, m + o) bool: of another class."""
        return self.known_labels[:, None] != self.pool_labels

    @property
    def known_labels(self) -> Tensor:
        """(m,) int64 class numbers; refuses a batch without."""
        if len(self.labels) != len(self.embeddings):
            raise InputError("this loss needs the class of every item, and the batch has none")
        return self.labels

    def pairs(self) -> Tensor:
        """(2, q) rows of anchors and positives: of the triplets, or two by two within a class."""
        return (
            class_pairs(self.known_labels, self.items)
            if self.triplets is None
            else (self.triplets[:2])
        )


def class_pairs(labels: Tensor, items: Tensor) -> Tensor:
    """(2, q) rows: in each class the first with the second, the third with the fourth, and so on.

    An odd one is left over; a row is not paired with the same item.
    """
    order = torch.argsort(labels, stable=True)
    ordered = labels[order]
    place = torch.arange(len(labels), device=labels.device)
    place = place - torch.searchsorted(ordered, ordered)
    first = (place[:-1] % 2 == 0) & (ordered[:-1] == ordered[1:])
    rows = torch.stack([order[:-1][first], order[1:][first]])
    return rows[:, items[rows[0]] != items[rows[1]]]
