"""Exact nearest negatives in windows of distance, over the whole gallery, in one blocked pass.

Why it is exact: a matrix product gives every score with a known error (`slack`). Only what
that error cannot decide, and what gets into an answer, is summed again in float64 and rounded once,
always in the same order. So answers do not depend on block sizes, threads, shards, the kind of
product or the device. Why it is fast: nothing of size n x n is kept; products are taken in bfloat16
where the hardware multiplies it fast, and looked through while they are in cache by compiled loops
(`scan_kernels`) that skip 256 of them at a time. Where torch sees a GPU, `gpu_scan` does it.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from remine.data.types import Float32, Int64
from remine.mining.problem import Problem, Rows
from remine.mining.search.engine_choice import accelerator, fast_half
from remine.mining.search.gpu_scan import scan_on
from remine.mining.search.scan_kernels import scan_tile
from remine.mining.search.slack import Operand, product_slack, slack_of, undecided
from remine.mining.search.windows import Found, Windows

# A tile of scores is 4 MB in bfloat16; smaller and larger ones were slower, none by over 10 %.
ANCHORS, GALLERY = 512, 4096
# Above this share of undecided products, float32 ones (1.1 to 1.5 times the bare product with
# 4 floors an anchor) are faster than bfloat16 ones and a second look (measured at d = 128).
UNDECIDED = 0.03
Part = TypeVar("Part")


def scan(problem: Problem, windows: Windows, found: Found, *, first: int = 0) -> None:
    """Take the whole gallery into account.

    `first`: the row that the problem's lists call this gallery's first, where the gallery is one
    shard of several; rows in `found` count likewise.
    """
    if not len(windows.starts) == len(windows.stops) == len(problem):
        raise ValueError(f"{len(problem)} anchors need as many starts and stops of windows")
    if not len(problem.gallery):
        return
    device = accelerator()
    half = fast_half(device) and undecided(problem, windows) < UNDECIDED
    if device:
        scan_on(device, problem, windows, found, first, half=half)
        return
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


def in_threads(work: Callable[[Part], None], parts: Sequence[Part]) -> None:
    """Call `work` for all parts, on as many threads as torch has, each of them torch's only one.

    A thread's products stay in its own cache, and no pool of threads waits for another after every
    tile, as those of torch and a parallel loop would.
    """
    threads = min(torch.get_num_threads(), len(parts))
    with ThreadPoolExecutor(threads or 1, initializer=lambda: torch.set_num_threads(1)) as pool:
        list(pool.map(work, parts))
