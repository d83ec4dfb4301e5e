"""Sets of gallery rows, one per anchor: what may be its positive, what is never its negative.

Items that share a class or a tag share one list of rows, and an anchor refers to the lists of its
tags. A tag of m items therefore takes memory for m rows, not for m * m pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from remine.data.types import Int32, Int64

Rows = NDArray[np.intp]


def places_within(sizes: Int64) -> Rows:
    """0 to size - 1 for each of the groups, one group after the other."""
    return np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)


def bounded_slices(sizes: Int64, longest: int, total: int) -> list[slice]:
    """Consecutive ranges of at most `longest` elements whose sizes add up to at most `total`.

    An element larger than `total` is a range of its own.
    """
    totals = np.concatenate([[0], np.cumsum(sizes)])
    slices, start = [], 0
    while start < len(sizes):
        last = int(np.searchsorted(totals, totals[start] + total, side="right")) - 1
        slices.append(slice(start, min(start + longest, len(sizes), max(start + 1, last))))
        start = slices[-1].stop
    return slices


@dataclass(frozen=True, kw_only=True)
class RowLists:
    """One ascending list of gallery rows per anchor: rows[starts[i]:stops[i]].

    Two lists are either the same part of `rows`, as those of one class are, or do not overlap.
    """

    starts: Int64
    stops: Int64
    rows: Int64

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, anchors: slice | Rows) -> Self:
        """The lists of the given anchors."""
        return type(self)(starts=self.starts[anchors], stops=self.stops[anchors], rows=self.rows)

    def flat(self) -> tuple[Rows, Rows]:
        """(anchor, row) of every entry, two arrays, ordered by anchor."""
        sizes = self.stops - self.starts
        anchor = np.repeat(np.arange(len(sizes)), sizes)
        return anchor, self.rows[np.repeat(self.starts, sizes) + places_within(sizes)]

    def renumbered(self, numbers: Int64) -> Self:
        """The lists with numbers[row] in place of each row, sorted again.

        Relies on lists being identical or disjoint: each part between two edges is sorted once.
        """
        edges = np.unique(np.concatenate([self.starts, self.stops]))
        segment = np.searchsorted(edges, np.arange(len(self.rows)), side="right")
        rows = numbers[self.rows]
        return type(self)(
            starts=self.starts, stops=self.stops, rows=rows[np.lexsort((rows, segment))]
        )

    @classmethod
    def of(cls, anchors: Rows, rows: Rows, count: int) -> Self:
        """The lists of `count` anchors from unordered entries (anchors[i], rows[i]).

        Duplicate entries are dropped.
        """
        entries = np.unique(np.stack([anchors, rows], axis=1).astype(np.int64), axis=0)
        edges = np.searchsorted(entries[:, 0], np.arange(count + 1))
        return cls(starts=edges[:-1], stops=edges[1:], rows=np.ascontiguousarray(entries[:, 1]))


@dataclass(frozen=True, kw_only=True)
class RowUnions:
    """One set of gallery rows per anchor: the union of parts starts[i] to stops[i].

    Parts are never copied for an anchor, so the memory is that of the parts however many anchors
    share them.
    """

    starts: Int64
    stops: Int64
    parts: RowLists

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, anchors: slice | Rows) -> Self:
        """The sets of the given anchors."""
        return type(self)(starts=self.starts[anchors], stops=self.stops[anchors], parts=self.parts)

    @property
    def arrays(self) -> tuple[Int64, Int64, Int64, Int64, Int64]:
        """What compiled loops take: starts, stops, starts and stops of the parts, their rows."""
        return self.starts, self.stops, self.parts.starts, self.parts.stops, self.parts.rows

    def sizes(self) -> Int64:
        """The sizes of the sets, (a,), counting a row once for each part that holds it."""
        edges = np.concatenate([[0], np.cumsum(self.parts.stops - self.parts.starts)])
        sizes: Int64 = edges[self.stops] - edges[self.starts]
        return sizes

    def flat(self) -> tuple[Rows, Rows]:
        """(anchor, row) of every entry, two arrays, ordered by anchor, then by row."""
        counts = self.stops - self.starts
        part = np.repeat(self.starts, counts) + places_within(counts)
        entry, row = self.parts[part].flat()
        anchor = np.repeat(np.arange(len(self)), counts)[entry]
        if not len(row) or counts.max() <= 1:
            return anchor, row
        span = int(row.max()) + 1
        key = np.unique(anchor * span + row)
        return key // span, key % span

    def joined(self, more: Self) -> Self:
        """The unions of these sets with those of `more`, which has as many."""
        offset, sides = len(self.parts.rows), (self, more)
        counts = [side.stops - side.starts for side in sides]
        part = [
            np.repeat(side.starts, c) + places_within(c)
            for side, c in zip(sides, counts, strict=True)
        ]
        owner = np.concatenate([np.repeat(np.arange(len(self)), c) for c in counts])
        order = np.argsort(owner, kind="stable")
        starts = [self.parts.starts[part[0]], more.parts.starts[part[1]] + offset]
        stops = [self.parts.stops[part[0]], more.parts.stops[part[1]] + offset]
        parts = RowLists(
            starts=np.concatenate(starts)[order],
            stops=np.concatenate(stops)[order],
            rows=np.concatenate([self.parts.rows, more.parts.rows]),
        )
        edges = np.concatenate([[0], np.cumsum(counts[0] + counts[1])])
        return type(self)(starts=edges[:-1], stops=edges[1:], parts=parts)

    def extended(self, anchors: Rows, rows: Rows) -> Self:
        """The sets with the entries (anchors[i], rows[i]) added."""
        return self.joined(self.single(RowLists.of(anchors, rows, len(self))))

    def renumbered(self, numbers: Int64) -> Self:
        """The sets with numbers[row] in place of each row."""
        return type(self)(
            starts=self.starts, stops=self.stops, parts=self.parts.renumbered(numbers)
        )

    @classmethod
    def single(cls, lists: RowLists) -> Self:
        """Sets of one list each."""
        edges = np.arange(len(lists) + 1)
        return cls(starts=edges[:-1], stops=edges[1:], parts=lists)


def label_unions(codes: Sequence[Int32]) -> RowUnions:
    """Per item the rows that share one of its labels, and always itself.

    Args:
        codes: n arrays of label codes.
    """
    sizes = np.array([len(item_codes) for item_codes in codes], np.int64)
    items = np.repeat(np.arange(len(codes)), sizes)
    bare = np.flatnonzero(sizes == 0)
    all_codes = np.concatenate([np.empty(0, np.int32), *codes])
    # An item may repeat a label: each label lists a row once.
    entries = np.unique(np.stack([items, all_codes.astype(np.int64)], axis=1), axis=0)
    by_code = lists_by_class(entries[:, 1])
    alone = np.arange(len(bare)) + len(entries)
    owner = np.concatenate([entries[:, 0], bare])
    order = np.argsort(owner, kind="stable")
    parts = RowLists(
        starts=np.concatenate([by_code.starts, alone])[order],
        stops=np.concatenate([by_code.stops, alone + 1])[order],
        rows=np.concatenate([entries[by_code.rows, 0], bare]),
    )
    edges = np.searchsorted(owner[order], np.arange(len(codes) + 1))
    return RowUnions(starts=edges[:-1], stops=edges[1:], parts=parts)


def lists_by_class(codes: Int32 | Int64) -> RowLists:
    """Per item the rows of its class, itself included; the lists share one array of n rows."""
    order = np.argsort(codes, kind="stable").astype(np.int64)
    sorted_codes = codes[order]
    starts = np.searchsorted(sorted_codes, codes, side="left")
    return RowLists(
        starts=starts, stops=np.searchsorted(sorted_codes, codes, side="right"), rows=order
    )
