"""What every engine answers: windows of distance, and the nearest negatives in each.

A window asks for the `depth` nearest negatives of an anchor that are farther than a floor and
nearer than a ceiling, and for the number of negatives at or below the floor. With the floor at
d_ap that is the semi-hard negative of FaceNet and its rank; without a floor it is the hardest
negative.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from remine.data.types import Float32, Int64
from remine.mining.row_lists import Rows


@dataclass(frozen=True, kw_only=True)
class Windows:
    """w windows; those of anchor i are starts[i] to stops[i].

    Attributes:
        starts, stops: (a,) int64, one range of windows per anchor.
        floor, ceiling: (w,) float32 squared distances. A window holds the negatives with
            floor < d < ceiling.
        depth: How many of the nearest negatives each window asks for.
    """

    starts: Int64
    stops: Int64
    floor: Float32
    ceiling: Float32
    depth: int

    def block(self, anchors: slice | Rows) -> Self:
        """The windows of the given anchors; window numbers do not change."""
        return type(self)(
            starts=self.starts[anchors],
            stops=self.stops[anchors],
            floor=self.floor,
            ceiling=self.ceiling,
            depth=self.depth,
        )


def owners(windows: Windows) -> Rows:
    """The anchor number of each window, (w,)."""
    return np.repeat(np.arange(len(windows.starts)), windows.stops - windows.starts)


@dataclass(frozen=True, kw_only=True)
class WindowMatches:
    """The negatives in each of w windows; a search updates the arrays in place.

    Attributes:
        rows: (w, depth) int64 gallery rows, nearest first, the lower row first among equals, -1
            where there is no further negative.
        distances: (w, depth) float32 squared distances, the window's ceiling where the row is -1.
        closer: (w,) int64, how many negatives have d <= floor.
    """

    rows: Int64
    distances: Float32
    closer: Int64

    @classmethod
    def empty(cls, windows: Windows) -> Self:
        """The state before anything is searched."""
        w = len(windows.floor)
        return cls(
            rows=np.full((w, windows.depth), -1, np.int64),
            distances=np.repeat(windows.ceiling[:, None], windows.depth, axis=1),
            closer=np.zeros(w, np.int64),
        )

    def merge(self, part: Self) -> Self:
        """The matches over two disjoint parts of a gallery together; exact."""
        rows = np.concatenate([self.rows, part.rows], axis=1)
        distances = np.concatenate([self.distances, part.distances], axis=1)
        # Equal distances by row, as a single scan orders them. Empty places have the distance of
        # the ceiling, which no match reaches, so they sort last.
        order = np.lexsort((np.where(rows < 0, np.iinfo(np.int64).max, rows), distances))
        order = order[:, : self.rows.shape[1]]
        return type(self)(
            rows=np.take_along_axis(rows, order, axis=1),
            distances=np.take_along_axis(distances, order, axis=1),
            closer=self.closer + part.closer,
        )
