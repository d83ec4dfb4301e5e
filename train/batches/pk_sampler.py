"""PK batches: K items of each of P classes, so that every item meets some of its class.

Beside the triplet loader, since both are streams of batches that a round reads; neither looks at an
embedding. Batch number b depends on the labels, the seed and b alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from remine.data.errors import InputError
from remine.data.types import Int64


@dataclass(frozen=True, kw_only=True)
class PKSampler:
    """Batches of P = batch // per_class classes and K = per_class items of each, for ever.

    labels: (n,) int64 class numbers, -1 for items to leave out. An epoch walks through a shuffle
    of the classes, P at a time; the last that do not fill a batch wait for the next shuffle. A
    class with fewer than K items gives each of them at least once and repeats some; for K >= 2
    classes of one item are left out, since they have no pair.
    """

    labels: Int64
    batch: int
    per_class: int
    seed: int

    def batches(self, start: int = 0) -> Iterator[Int64]:
        """(P * K,) int64 rows, by class, from batch number `start` on."""
        wanted = self.wanted()
        epoch_length = len(self.classes) // wanted
        number = start
        while True:
            epoch, place = divmod(number, epoch_length)
            order = np.random.default_rng([self.seed, epoch]).permutation(len(self.classes))
            rng = np.random.default_rng([self.seed, epoch, place])
            taken = self.classes[order[place * wanted : (place + 1) * wanted]]
            yield np.concatenate([self.items_of(c, rng) for c in taken])
            number += 1

    def wanted(self) -> int:
        """P, the classes of a batch; refuses classes that are too few."""
        wanted = self.batch // self.per_class
        if len(self.classes) < max(2, wanted):
            raise InputError(
                f"{len(self.classes)} training classes have {min(2, self.per_class)} or more"
                f" items, and train.batch = {self.batch} with train.per_class ="
                f" {self.per_class} needs {wanted} in a batch; a smaller batch would help"
            )
        return wanted

    @property
    def singletons(self) -> int:
        """How many classes of one item are left out."""
        return int((self._sizes == 1).sum()) if self.per_class > 1 else 0

    @cached_property
    def classes(self) -> Int64:
        """The classes that can fill their place."""
        return np.flatnonzero(self._sizes >= min(2, self.per_class))

    def items_of(self, label: int, rng: np.random.Generator) -> Int64:
        """(K,) rows of a class, drawn."""
        own = self._by_class[self._starts[label] : self._starts[label + 1]]
        rounds = -(-self.per_class // len(own))
        shuffled = np.concatenate([rng.permutation(own) for _ in range(rounds)])
        return shuffled[: self.per_class]

    @cached_property
    def _sizes(self) -> NDArray[np.intp]:
        return np.bincount(self.labels[self.labels >= 0], minlength=1)

    @cached_property
    def _starts(self) -> NDArray[np.intp]:
        return np.concatenate([[0], np.cumsum(self._sizes)])

    @cached_property
    def _by_class(self) -> Int64:
        order = np.argsort(self.labels, kind="stable")
        return order[(self.labels < 0).sum() :].astype(np.int64)
