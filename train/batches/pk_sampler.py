"""PK batches: K items of each of P classes, so that most items meet others of their class."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count

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
        class_count = self.classes_per_batch()
        epoch_length = self.batches_per_epoch()
        for number in count(start):
            epoch, place = divmod(number, epoch_length)
            # One generator for the epoch's order and one for the batch's draws, so that a batch
            # does not depend on those before it.
            order = np.random.default_rng([self.seed, epoch]).permutation(len(self.classes))
            rng = np.random.default_rng([self.seed, epoch, place])
            classes = self.batch_classes(self.classes[order], place, class_count, rng)
            yield np.concatenate([self.items_of(c, rng) for c in classes])

    def batches_per_epoch(self) -> int:
        """How many batches one pass through the classes gives."""
        return len(self.classes) // self.classes_per_batch()

    def batch_classes(
        self, classes: Int64, place: int, class_count: int, rng: np.random.Generator
    ) -> Sequence[int] | Int64:
        """The class numbers of batch number `place` of an epoch with shuffled `classes`."""
        del rng  # a subclass may draw
        return classes[place * class_count : (place + 1) * class_count]

    def classes_per_batch(self) -> int:
        """P.

        Raises:
            InputError: there are fewer than P classes, or fewer than two.

        """
        class_count = self.batch // self.per_class
        if len(self.classes) < max(2, class_count):
            raise InputError(
                f"{len(self.classes)} training classes have {min(2, self.per_class)} or more"
                f" items, and train.batch = {self.batch} with train.per_class ="
                f" {self.per_class} needs {class_count} in a batch; a smaller batch would help"
            )
        return class_count

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
