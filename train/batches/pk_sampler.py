"""PK batches: K items of each of P classes, so that most items meet others of their class."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from remine.data.errors import InputError
from remine.data.types import Int64


@dataclass(frozen=True, kw_only=True)
class PKSampler:
    """Endless batches of P = batch // per_class classes and K = per_class items of each.

    labels: (n,) int64 class numbers, -1 for items to leave out. An epoch is a pass through the
    shuffled classes, P at a time; the last ones that do not fill a batch are left out of it. Of a
    class with fewer than K items each is used at least once and some repeat. For K >= 2, classes of
    one item are left out, since they have no pair.
    """

    labels: Int64
    batch: int
    per_class: int
    seed: int

    def batches(self, start: int = 0) -> Iterator[Int64]:
        """Yield (P * K,) int64 rows, ordered by class, from batch number `start` on."""
        count = self.classes_per_batch()
        epoch_length = len(self.classes) // count
        number = start
        while True:
            epoch, place = divmod(number, epoch_length)
            order = np.random.default_rng([self.seed, epoch]).permutation(len(self.classes))
            rng = np.random.default_rng([self.seed, epoch, place])
            classes = self.classes[order[place * count : (place + 1) * count]]
            yield np.concatenate([self.items_of(c, rng) for c in classes])
            number += 1

    def classes_per_batch(self) -> int:
        """P.

        Raises:
            InputError: there are fewer than P classes, or fewer than two.

        """
        count = self.batch // self.per_class
        if len(self.classes) < max(2, count):
            raise InputError(
                f"{len(self.classes)} training classes have {min(2, self.per_class)} or more"
                f" items, and train.batch = {self.batch} with train.per_class ="
                f" {self.per_class} needs {count} in a batch; a smaller batch would help"
            )
        return count

    @property
    def singletons(self) -> int:
        """The number of classes of one item that are left out."""
        return int((self._sizes == 1).sum()) if self.per_class > 1 else 0

    @cached_property
    def classes(self) -> Int64:
        """The numbers of the classes with enough items."""
        return np.flatnonzero(self._sizes >= min(2, self.per_class))

    def items_of(self, label: int, rng: np.random.Generator) -> Int64:
        """(K,) rows drawn from a class."""
        class_rows = self._by_class[self._starts[label] : self._starts[label + 1]]
        repeats = -(-self.per_class // len(class_rows))
        permutations = np.concatenate([rng.permutation(class_rows) for _ in range(repeats)])
        return permutations[: self.per_class]

    @cached_property
    def _sizes(self) -> NDArray[np.intp]:
        """(c,) the number of items of each class."""
        return np.bincount(self.labels[self.labels >= 0], minlength=1)

    @cached_property
    def _starts(self) -> NDArray[np.intp]:
        """(c + 1,) where each class begins in `_by_class`."""
        return np.concatenate([[0], np.cumsum(self._sizes)])

    @cached_property
    def _by_class(self) -> Int64:
        """The rows ordered by class."""
        order = np.argsort(self.labels, kind="stable")
        return order[(self.labels < 0).sum() :].astype(np.int64)
