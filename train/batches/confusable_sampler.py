"""PK batches of confusable classes: the whole dataset says which classes meet, the batch mines."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from remine.data.types import Int64
from remine.train.batches.pk_sampler import PKSampler


@dataclass(frozen=True, kw_only=True)
class ConfusableSampler(PKSampler):
    """Batches of P classes: one, those it is most easily taken for, and some at random.

    neighbours: (c, m) int64, for each class number the most confusable classes, nearest first.
    random_share: of the other P - 1 classes so many (rounded) are drawn from all, so that a batch
    also keeps what is already apart where it is.

    An epoch starts a batch at every class once, in a shuffled order, so each class is in one batch
    or more; a class that many are taken for is in many. A list that is too short goes on with the
    lists of its classes, nearest first, and at last with random classes.
    """

    neighbours: Int64
    random_share: float = 0.5

    def batches(self, start: int = 0) -> Iterator[Int64]:
        """(P * K,) int64 rows, by class, from batch number `start` on."""
        wanted, number = self.wanted(), start
        while True:
            epoch, place = divmod(number, len(self.classes))
            order = np.random.default_rng([self.seed, epoch]).permutation(len(self.classes))
            rng = np.random.default_rng([self.seed, epoch, place])
            taken = self.neighbourhood(int(self.classes[order[place]]), wanted, rng)
            yield np.concatenate([self.items_of(c, rng) for c in taken])
            number += 1

    def neighbourhood(self, first: int, wanted: int, rng: np.random.Generator) -> list[int]:
        """`wanted` class numbers around the class `first`, which leads them."""
        near = wanted - round(self.random_share * (wanted - 1))
        taken = {first: None}  # in the order in which they came
        queue = [first]
        for one in queue:
            for other in self.neighbours[one].tolist():
                if len(taken) == near:
                    break
                if self._usable[other] and other not in taken:
                    taken[other] = None
                    queue.append(other)
        rest = self._usable.copy()
        rest[list(taken)] = False
        drawn = rng.choice(np.flatnonzero(rest), wanted - len(taken), replace=False)
        return [*taken, *drawn.tolist()]

    @cached_property
    def _usable(self) -> NDArray[np.bool_]:
        usable = np.zeros(len(self._sizes), np.bool_)
        usable[self.classes] = True
        return usable
