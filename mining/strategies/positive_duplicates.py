"""Copies of a positive among the negatives: counted always, barred by mining.positive_duplicate.

A corpus that holds an answer twice, under two ids or two labels, makes the second copy the hardest
negative of every query. Its distance to the anchor is that of the positive, so `near_duplicate`,
which measures from the anchor, does not catch it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from remine.data.errors import InputError
from remine.data.types import Float32, Int64
from remine.mining.config import MiningConfig
from remine.mining.problem import Problem
from remine.mining.row_lists import RowLists, Rows, RowUnions, places_within
from remine.mining.search.scan import scan
from remine.mining.search.windows import WindowMatches, Windows

BLOCK = 65_536  # rows that are searched at a time
FIRST_DEPTH, MAX_DEPTH = 8, 4096  # neighbours that are listed for a row


class CrowdedItemError(InputError):
    """A positive has too many items within mining.positive_duplicate.

    Attributes:
        item: Its number.
        limit: The setting.
    """

    def __init__(self, item: int, limit: float, name: object = None) -> None:
        """name: Of the item for people, if that is not its number."""
        super().__init__(
            f"mining.positive_duplicate is {limit:g}, but item {item if name is None else name} has"
            f" {MAX_DEPTH:,} items or more within that distance: lower it"
        )
        self.item, self.limit = item, limit


@contextmanager
def items_named(name: Callable[[int], object]) -> Iterator[None]:
    """Let errors about an item call it by the user's id, which `name` gives for its number."""
    try:
        yield
    except CrowdedItemError as error:
        raise CrowdedItemError(error.item, error.limit, repr(name(error.item))) from None


def count_copies(
    gallery: Float32, positive: Rows, negative: Rows, d_ap: Float32, d_an: Float32
) -> int:
    """How many triplets have a negative with exactly the positive's vector.

    Args:
        gallery: (n, d) vectors; read only where both distances are equal.
        positive: (t,) gallery rows.
        negative: (t,) gallery rows.
        d_ap: (t,) distances of the positives to the anchor.
        d_an: (t,) distances of the negatives to it.
    """
    tie = np.flatnonzero(d_ap == d_an)
    copies = 0
    for start in range(0, len(tie), BLOCK):
        part = tie[start : start + BLOCK]
        copies += int((gallery[positive[part]] == gallery[negative[part]]).all(axis=1).sum())
    return copies


def bar_duplicates(problem: Problem, config: MiningConfig) -> Problem:
    """The problem in which nothing within positive_duplicate of a positive is a negative.

    All rows that may be an anchor's positives count, whether they are selected or not; of items
    with labels that includes the anchor itself.

    Raises:
        InputError: A positive has too many items that near.
    """
    if not config.positive_duplicate:
        return problem
    parts = problem.positives.parts
    spans, entry = np.unique(
        np.stack([parts.starts, parts.stops], axis=1), axis=0, return_inverse=True
    )
    part, row = RowLists(starts=spans[:, 0], stops=spans[:, 1], rows=parts.rows).flat()
    source, duplicate = near_rows(problem, np.unique(row), config.positive_duplicate)
    first = np.searchsorted(source, row, side="left")
    counts = np.searchsorted(source, row, side="right") - first
    duplicates = duplicate[np.repeat(first, counts) + places_within(counts)]
    lists = RowLists.of(np.repeat(part, counts), duplicates, len(spans))
    barred = RowUnions(
        starts=problem.positives.starts,
        stops=problem.positives.stops,
        parts=lists[entry.reshape(-1)],
    )
    return replace(problem, exclusions=problem.exclusions.joined(barred))


def near_rows(problem: Problem, rows: Rows, limit: float) -> tuple[Rows, Int64]:
    """The pairs of one of some gallery rows, ascending, and another row at most `limit` away.

    Args:
        problem: Its gallery is searched.
        rows: Gallery rows, ascending.
        limit: Squared distance.

    Returns:
        Both sides of the pairs, ordered by the first.
    """
    sources, duplicates = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for start in range(0, len(rows), BLOCK):
        open_rows, depth = rows[start : start + BLOCK], FIRST_DEPTH
        while len(open_rows):
            if depth > MAX_DEPTH:
                raise CrowdedItemError(int(problem.gallery_ids[open_rows[0]]), limit)
            matches = _nearest(problem, open_rows, limit, depth)
            is_full = matches[:, -1] >= 0
            anchor, place = np.nonzero((matches >= 0) & ~is_full[:, None])
            sources.append(open_rows[anchor])
            duplicates.append(matches[anchor, place])
            open_rows, depth = open_rows[is_full], depth * 8
    source, duplicate = np.concatenate(sources), np.concatenate(duplicates)
    order = np.argsort(source, kind="stable")
    return source[order], duplicate[order]


def _nearest(problem: Problem, rows: Rows, limit: float, depth: int) -> Int64:
    """The `depth` nearest other rows within `limit` of each of some gallery rows, -1 for none."""
    numbers = np.arange(len(rows))
    oneself = RowUnions.single(RowLists(starts=numbers, stops=numbers + 1, rows=rows))
    search = Problem(
        anchors=np.ascontiguousarray(problem.gallery[rows]),
        anchor_ids=problem.gallery_ids[rows],
        self_rows=rows,
        gallery=problem.gallery,
        gallery_ids=problem.gallery_ids,
        positives=oneself,
        exclusions=oneself,
    )
    windows = Windows(
        starts=numbers,
        stops=numbers + 1,
        floor=np.full(len(rows), -1, np.float32),
        ceiling=np.full(len(rows), np.nextafter(np.float32(limit), np.float32(5)), np.float32),
        depth=depth,
    )
    matches = WindowMatches.empty(windows)
    scan(search, windows, matches)
    return matches.rows
