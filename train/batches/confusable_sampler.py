"""PK batches of confusable classes, chosen over the whole dataset."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from remine.data.types import Int64
from remine.train.batches.pk_sampler import PKSampler


@dataclass(frozen=True, kw_only=True)
class ConfusableSampler(PKSampler):
    """Batches of P classes: one class, those it is most easily confused with, and random ones.

    neighbours: (c, m) int64, for each class number the most confusable classes, nearest first.
    random_share: the share (rounded) of the other P - 1 classes that are drawn from all classes, so
    that training does not undo what is already well separated.

    An epoch starts one batch at every class, in a shuffled order. So each class is in at least one
    batch, and a class that many are confused with is in many. Where a list is too short, the lists
    of its classes follow, nearest first, and then random classes.
    """

    neighbours: Int64
    random_share: float = 0.5

    def batches_per_epoch(self) -> int:
        """One batch for every class."""
        return len(self.classes)

    def batch_classes(
        self, classes: Int64, place: int, class_count: int, rng: np.random.Generator
    ) -> list[int]:
        """The neighbourhood of class number `place` of the shuffled `classes`."""
        return self.neighbourhood(int(classes[place]), class_count, rng)

    def neighbourhood(self, first: int, count: int, rng: np.random.Generator) -> list[int]:
        """`count` class numbers around the class `first`, which comes first."""
        neighbour_count = count - round(self.random_share * (count - 1))
        selection = {first: None}  # a dict keeps the order of insertion
        queue = [first]
        for label in queue:  # grows as we go: a breadth-first search
            for neighbour in self.neighbours[label].tolist():
                if len(selection) == neighbour_count:
                    break
                if self._is_usable[neighbour] and neighbour not in selection:
                    selection[neighbour] = None
                    queue.append(neighbour)
        is_free = self._is_usable.copy()
        is_free[list(selection)] = False
        random_classes = rng.choice(np.flatnonzero(is_free), count - len(selection), replace=False)
        return [*selection, *random_classes.tolist()]

    @cached_property
    def _is_usable(self) -> NDArray[np.bool_]:
        """(c,) whether each class has enough items."""
        is_usable = np.zeros(len(self._sizes), np.bool_)
        is_usable[self.classes] = True
        return is_usable
