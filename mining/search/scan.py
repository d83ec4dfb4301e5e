"""Exact nearest negatives in windows of distance, over the whole gallery, in one blocked pass.

Why it is exact: a matrix product gives every score with a known error bound (`slack`). Only pairs
that this error leaves undecided, and those that enter an answer, are summed again in float64 in a
fixed order and rounded once. Results therefore do not depend on block sizes, threads, shards, the
precision of the product or the device.

Why it is fast: nothing of size n x n is stored. Products are computed in bfloat16 where the
hardware multiplies it fast, and are scanned while they are in cache by compiled loops
(`scan_kernels`) that skip 256 scores at a time. If torch sees a GPU, `gpu_scan` runs instead.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from remine.data.types import Float32, Int64
from remine.mining.problem import Problem
from remine.mining.row_lists import Rows
from remine.mining.search.gpu_scan import scan_on
from remine.mining.search.processor import accelerator, fast_half
from remine.mining.search.scan_kernels import scan_tile
from remine.mining.search.slack import Operand, product_slack, slack_of, undecided_share
from remine.mining.search.windows import WindowMatches, Windows

# A tile of scores takes 4 MB in bfloat16. Smaller and larger tiles were up to 10 % slower.
ANCHORS, GALLERY = 512, 4096
# Above this share of undecided bfloat16 products, float32 products (1.1 to 1.5 times the bare
# product with 4 floors per anchor) are faster than bfloat16 plus recomputation (at d = 128).
MAX_UNDECIDED = 0.03
Part = TypeVar("Part")


def scan(problem: Problem, windows: Windows, matches: WindowMatches, *, first: int = 0) -> None:
    """Search the whole gallery and update `matches` in place.

    Args:
        problem: a anchors and the gallery, or one shard of it.
        windows: The windows of the a anchors.
        matches: The state so far, of all windows.
        first: The row of the whole gallery that this shard starts at; the problem's lists and
            `matches` number rows of the whole gallery.

    Raises:
        ValueError: The windows do not belong to the problem's anchors.
    """
    if not len(windows.starts) == len(windows.stops) == len(problem):
        raise ValueError(f"{len(problem)} anchors need as many starts and stops of windows")
    if not len(problem.gallery):
        return
    device = accelerator()
    # bfloat16 pays only if few products fall so close to a floor that they must be recomputed.
    half = fast_half(device) and undecided_share(problem, windows) < MAX_UNDECIDED
    if device:
        scan_on(device, problem, windows, matches, first, half=half)
        return
    size = max(ANCHORS, -(-len(problem) // torch.get_num_threads()))
    parts = [slice(i, min(i + size, len(problem))) for i in range(0, len(problem), size)]

    def work(part: slice) -> None:
        _scan_part(problem.block(part), windows.block(part), matches, first, half=half)

    run_in_threads(work, parts)


def _scan_part(
    problem: Problem, windows: Windows, matches: WindowMatches, first: int, *, half: bool
) -> None:
    """The scan for a block of anchors, on one thread."""
    queries, d = Operand.of(problem.anchors, half=half), problem.anchors.shape[1]
    # Reused for every tile: with fresh memory a third of the time goes into page faults.
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
            scan_scores(problem, windows, matches, numbers[rows], scores, columns, slack, first)


def scan_scores(
    problem: Problem,
    windows: Windows,
    matches: WindowMatches,
    anchors: Rows,
    scores: Tensor,
    columns: Int64,
    slack: Float32,
    first: int = 0,
) -> None:
    """Update `matches` with the scores of some anchors against some gallery rows.

    Args:
        problem: All anchors, and the gallery or a shard of it.
        windows: Their windows.
        matches: The state of all windows.
        anchors: (b,) rows of the problem's anchors.
        scores: (at least b, at least m) bfloat16 or float32 products; overwritten.
        columns: (m,) gallery rows, ascending.
        slack: (a,) for every anchor, how far 1 - distance / 2 may be from a score.
        first: See `scan`.
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
        *problem.exclusions.arrays,
        matches.rows,
        matches.distances,
        matches.closer,
    )


def run_in_threads(work: Callable[[Part], None], parts: Sequence[Part]) -> None:
    """Call `work` for every part, on as many threads as torch has, each with one torch thread.

    The products of a thread stay in its own cache, and threads do not wait for one another after
    every tile, as they would inside a parallel product or loop.
    """
    threads = min(torch.get_num_threads(), len(parts))
    with ThreadPoolExecutor(threads or 1, initializer=lambda: torch.set_num_threads(1)) as pool:
        list(pool.map(work, parts))
