"""Exact nearest negatives in windows of distance, over the whole gallery, in one blocked pass.

A window asks for the `depth` nearest negatives of an anchor that are farther than a floor and
nearer than a ceiling, and how many lie at or below the floor. With the floor at d_ap that is the
semi-hard question and its rank; with no floor it is the hardest negatives.

Why it is exact: a matrix product gives every score with a known error (`product_slack`,
`half_slack`). Only what that error cannot decide, and what gets into an answer, is summed again in
float64 and rounded once, always by the same loop. So answers do not depend on block sizes, threads,
shards or the kind of product. Why it is fast: nothing of size n x n is kept; products are taken in
bfloat16 where the hardware multiplies it fast, and looked through while they are in cache by
compiled loops (mining.kernels) that skip 256 of them at a time.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from data.types import Float32, Int64
from mining.kernels import scan_tile
from mining.policy import fast_half
from mining.problem import Problem, Rows

# A tile of scores is 4 MB in bfloat16; smaller and larger ones were slower, none by over 10 %.
ANCHORS, GALLERY = 512, 4096
SAMPLE = 512
# Above this share of undecided products, float32 ones (1.1 to 1.5 times the bare product with
# 4 floors an anchor) are faster than bfloat16 ones and a second look (measured at d = 128).
UNDECIDED = 0.03
Part = TypeVar("Part")


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


@dataclass(frozen=True, kw_only=True)
class Operand:
    """Vectors (n, d) as one side of a product, and how far their rounding may move a score.

    error: (n,) float32 the length of what rounding took from each row, 0 in float32.
    """

    vectors: Tensor
    error: Float32

    @classmethod
    def of(cls, vectors: Float32, *, half: bool) -> Self:
        """The operand in bfloat16 or float32."""
        whole = torch.from_numpy(vectors)
        if not half:
            return cls(vectors=whole, error=np.zeros(len(vectors), np.float32))
        rounded = whole.bfloat16()
        return cls(vectors=rounded, error=(whole - rounded.float()).norm(dim=1).numpy())

    def take(self, rows: slice | Rows) -> Self:
        """Some of the rows."""
        where = rows if isinstance(rows, slice) else torch.from_numpy(rows)
        return type(self)(vectors=self.vectors[where], error=self.error[rows])


def scan(problem: Problem, windows: Windows, found: Found, *, first: int = 0) -> None:
    """Take the whole gallery into account.

    `first`: the row that the problem's lists call this gallery's first, where the gallery is one
    shard of several; rows in `found` count likewise.
    """
    if not len(windows.starts) == len(windows.stops) == len(problem):
        raise ValueError(f"{len(problem)} anchors need as many starts and stops of windows")
    if not len(problem.gallery):
        return
    half = fast_half() and undecided(problem, windows) < UNDECIDED
    share = max(ANCHORS, -(-len(problem) // torch.get_num_threads()))
    parts = [slice(i, min(i + share, len(problem))) for i in range(0, len(problem), share)]

    def work(part: slice) -> None:
        _scan_part(problem.block(part), windows.block(part), found, first, half=half)

    in_threads(work, parts)


def _scan_part(problem: Problem, windows: Windows, found: Found, first: int, *, half: bool) -> None:
    """The scan for some anchors, on one thread."""
    queries, d = Operand.of(problem.anchors, half=half), problem.anchors.shape[1]
    # A thread that asks for fresh memory each time spends a third of its time on page faults.
    scratch = torch.empty(ANCHORS * GALLERY, dtype=queries.vectors.dtype)
    numbers = np.arange(len(problem))
    for start in range(0, len(problem.gallery), GALLERY):
        tile = Operand.of(problem.gallery[start : start + GALLERY], half=half)
        slack = slack_of(queries.error, tile.error.max(), d, half=half)
        columns = np.arange(start, start + len(tile.vectors)) + first
        for i in range(0, len(problem), ANCHORS):
            rows = slice(i, min(i + ANCHORS, len(problem)))
            scores = scratch[: (rows.stop - i) * len(columns)].view(-1, len(columns))
            torch.mm(queries.vectors[rows], tile.vectors.T, out=scores)
            look(problem, windows, found, numbers[rows], scores, columns, slack, first)


def look(
    problem: Problem,
    windows: Windows,
    found: Found,
    anchors: Rows,
    scores: Tensor,
    columns: Int64,
    slack: Float32,
    first: int = 0,
) -> None:
    """Take the products of `anchors` (b,) with the gallery rows `columns` (m,) into account.

    scores: (at least b, at least m) bfloat16 or float32; overwritten. columns: ascending. slack:
    of all anchors, how far 1 - distance / 2 may lie from a score. first: see `scan`.
    """
    half = scores.dtype == torch.bfloat16
    scan_tile(
        scores.view(torch.int16 if half else torch.int32).numpy(),
        anchors,
        columns,
        first,
        slack,
        product_slack(problem.anchors.shape[1]),
        problem.anchors,
        problem.gallery,
        windows.starts,
        windows.stops,
        windows.floor,
        problem.barred.starts,
        problem.barred.stops,
        problem.barred.rows,
        found.rows,
        found.distances,
        found.closer,
    )


def slack_of(error: Float32, other: float, d: int, *, half: bool) -> Float32:
    """How far 1 - distance / 2 may lie from products, (q,); see half_slack."""
    if half:
        return half_slack(error, other, d)
    return np.full(len(error), product_slack(d), np.float32)


def in_threads(work: Callable[[Part], None], parts: Sequence[Part]) -> None:
    """Call `work` for all parts, on as many threads as torch has, each of them torch's only one.

    A thread's products stay in its own cache, and no pool of threads waits for another after every
    tile, as those of torch and a parallel loop would.
    """
    threads = min(torch.get_num_threads(), len(parts))
    with ThreadPoolExecutor(threads or 1, initializer=lambda: torch.set_num_threads(1)) as pool:
        list(pool.map(work, parts))


def product_slack(d: int) -> float:
    """How far 1 - distance / 2 may lie from a float32 product of d terms.

    In any order of summation the product errs by at most d * 2^-24 * sum |a_i b_i|, which is at
    most 1, and float32 unit vectors have squared lengths within (d + 2) * 2^-24 of 1. Twice the sum
    of both leaves room for the rounding of limits.
    """
    return float(4 * (d + 4) * 2.0**-24)


def half_slack(error: Float32, other: float, d: int) -> Float32:
    """How far 1 - distance / 2 may lie from bfloat16 products, (q,).

    error (q,), other: how long the rounding errors of the one side's rows are, and of the other's
    at most. With a = a' + e, b = b' + f the product errs by at most |e| + |f| + |e||f|
    (Cauchy-Schwarz, unit vectors), summation in float32 adds what product_slack covers, and
    rounding the sum to bfloat16 adds 2^-9 below 1. Above 1 it may add 2^-8, but only to sums that
    err by 2^-8 already: nearer ones are rounded to 1.
    """
    product = (error + other + error * other) * (1 + 2**-8)
    slack = product + np.where(product < 2**-8, 2**-9, 2**-8) + product_slack(d)
    return slack.astype(np.float32)


def undecided(problem: Problem, windows: Windows) -> float:
    """How many products, per product, bfloat16 leaves undecided about the windows' floors.

    Estimated from a sample of pairs: a pair counts once for each floor within the slack around it.
    """
    rng = np.random.default_rng(0)
    asked = np.flatnonzero(windows.stops > windows.starts)
    if not len(asked):
        return 0.0
    a = rng.choice(asked, min(SAMPLE, len(asked)), replace=False)
    b = rng.integers(0, len(problem.gallery), min(SAMPLE, len(problem.gallery)))
    anchors, gallery = problem.anchors[a], problem.gallery[b]
    distances = (2 - 2 * torch.from_numpy(anchors) @ torch.from_numpy(gallery).T).numpy()
    error, other = (Operand.of(side, half=True).error for side in (anchors, gallery))
    slack = 2 * half_slack(error, other.max(), anchors.shape[1])
    close = 0
    for row, near, anchor in zip(distances, slack, a, strict=True):
        floors = windows.floor[windows.starts[anchor] : windows.stops[anchor], None]
        close += int((np.abs(row - floors) <= near).sum())
    return float(close / distances.size)
