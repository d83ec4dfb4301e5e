"""The engine's one question and its answer: windows of distance, and the nearest in each.

A window asks for the `depth` nearest negatives of an anchor that are farther than a floor and
nearer than a ceiling, and how many lie at or below the floor. With the floor at d_ap that is the
semi-hard question and its rank; with no floor it is the hardest negatives.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from remine.data.types import Float32, Int64
from remine.mining.problem import Rows


@dataclass(frozen=True, kw_only=True)
class Windows:
    """w windows: those of anchor i are starts[i] to stops[i].

    floor, ceiling: (w,) float32; a window holds the negatives with floor < d < ceiling.
    """

    starts: Int64
    stops: Int64
    floor: Float32
    ceiling: Float32
    depth: int

    def block(self, anchors: slice | Rows) -> Self:
        """The windows of some anchors, numbered as before."""
        return type(self)(
            starts=self.starts[anchors],
            stops=self.stops[anchors],
            floor=self.floor,
            ceiling=self.ceiling,
            depth=self.depth,
        )


def owners(windows: Windows) -> Rows:
    """The number of each window's anchor, (w,)."""
    return np.repeat(np.arange(len(windows.starts)), windows.stops - windows.starts)


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a scan found in each window, updated in place tile by tile.

    rows: (w, depth) int64 gallery rows, nearest first, the lower of equals first, -1 for none.
    distances: (w, depth) float32, the ceiling where rows are -1. closer: (w,) int64 negatives with
    d <= floor.
    """

    rows: Int64
    distances: Float32
    closer: Int64

    @classmethod
    def nothing(cls, windows: Windows) -> Self:
        """Before the first tile."""
        w = len(windows.floor)
        return cls(
            rows=np.full((w, windows.depth), -1, np.int64),
            distances=np.repeat(windows.ceiling[:, None], windows.depth, axis=1),
            closer=np.zeros(w, np.int64),
        )

    def merge(self, other: Self) -> Self:
        """What was found in two parts of a gallery together; exact."""
        rows = np.concatenate([self.rows, other.rows], axis=1)
        distances = np.concatenate([self.distances, other.distances], axis=1)
        # Equals by row, as one scan would have them; empty places, which lie at the ceiling, last.
        order = np.lexsort((np.where(rows < 0, np.iinfo(np.int64).max, rows), distances))
        order = order[:, : self.rows.shape[1]]
        return type(self)(
            rows=np.take_along_axis(rows, order, axis=1),
            distances=np.take_along_axis(distances, order, axis=1),
            closer=self.closer + other.closer,
        )
