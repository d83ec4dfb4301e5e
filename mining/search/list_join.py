"""Approximate nearest negatives in windows for large galleries: the list join.

The gallery is divided into up to 4 sqrt(n) lists by spherical k-means and stored list by list. An
anchor visits the lists with the nearest centroids; anchors that visit the same list share a matrix
product with it. Windows, exclusions and the exact recomputation are those of the exact scan, in the
same compiled loops; only the choice of lists is approximate.

How much an answer can be trusted follows from how far it lies beyond the visited lists: the
distance from the anchor to the last match of the window, less the distance to the last visited
centroid. By the triangle inequality an item of an unvisited list is nearer than its centroid by at
most the radius of the list. So far below 0 nothing can have been missed, and the larger the value
the likelier something was. That holds for any window, near (hard) or far (semi-hard, with a floor
at a far positive). The threshold is measured (`engines`): a sample of anchors is searched exactly
and by lists, windows above the threshold visit more lists, and the remaining ones are searched
exactly. Compare learned early termination (Li et al., SIGMOD 2020).
"""

from dataclasses import dataclass, replace
from itertools import pairwise
from math import isqrt
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from remine.data.types import Float32, Int32, Int64
from remine.mining.problem import Problem
from remine.mining.row_lists import Rows, places_within
from remine.mining.search.processor import fast_half
from remine.mining.search.scan import run_in_threads, scan_scores
from remine.mining.search.scan_kernels import exact_distances, top_columns
from remine.mining.search.slack import Operand, slack_of
from remine.mining.search.windows import WindowMatches, Windows, owners

VOTES = 8  # lists that every anchor visits
LISTS = 4  # times sqrt(n); with 1, the same recall takes 4 to 15 times as many rows
LEAST = 160  # items per list at least: with fewer, training costs more than it saves
ITERATIONS, POINTS = 6, 32  # of k-means, and training points per centroid
MEMBERS, COLUMNS = 512, 8192  # anchors and rows of one product: 8 MB of scores in bfloat16
ASSIGN = 2048  # vectors compared with all centroids at a time


@dataclass(frozen=True, kw_only=True)
class ListIndex:
    """A gallery stored list by list, and anchors sorted by the list that they are nearest to.

    Attributes:
        problem: The problem in that order.
        centroids: (c, d) float32 unit vectors.
        edges: (c + 1,) int64, where each list starts.
        votes: (a, VOTES) int32, the nearest centroids of each anchor, nearest first. The first
            column is ascending.
        gallery, queries: The vectors of both sides as they are multiplied.
    """

    problem: Problem
    centroids: Float32
    edges: Int64
    votes: Int32
    gallery: Operand
    queries: Operand

    @classmethod
    def of(cls, problem: Problem, centroids: Float32) -> Self:
        """The index of `problem` with one list per centroid."""
        is_self_join = problem.anchors is problem.gallery
        votes = nearest(problem.anchors, centroids, VOTES)
        home = votes[:, 0] if is_self_join else nearest(problem.gallery, centroids, 1)[:, 0]
        order = np.argsort(home, kind="stable")
        anchor_order = order if is_self_join else np.argsort(votes[:, 0], kind="stable")
        sorted_problem = problem.reordered(order)
        if is_self_join:
            # The anchors become the reordered gallery itself. `block` would copy the vectors, so it
            # is called with vectors of no columns.
            no_vectors = sorted_problem.gallery[:, :0]
            relations = replace(sorted_problem, anchors=no_vectors).block(order)
            sorted_problem = replace(relations, anchors=sorted_problem.gallery)
        else:
            sorted_problem = sorted_problem.block(anchor_order)
        half = fast_half()
        gallery = Operand.of(sorted_problem.gallery, half=half)
        return cls(
            problem=sorted_problem,
            centroids=centroids,
            edges=np.searchsorted(home[order], np.arange(len(centroids) + 1)),
            votes=votes[anchor_order],
            gallery=gallery,
            queries=gallery if is_self_join else Operand.of(sorted_problem.anchors, half=half),
        )

    def visit(
        self, anchors: Rows, windows: Windows, matches: WindowMatches, first: int, visits: int
    ) -> Float32:
        """Search each anchor's lists from number `first` up to `visits`, exclusive, nearest first.

        Args:
            anchors: (b,) rows of the index's anchors, ascending.
            windows: The windows of these anchors.
            matches: The state of all windows; updated.
            first: Lists of each anchor that were visited before.
            visits: Lists of each anchor that are visited afterwards.

        Returns:
            (b,) float32 distance (not squared) of each anchor to the centroid of its last list.
        """
        threads = torch.get_num_threads()
        parts = np.array_split(np.arange(len(anchors)), max(1, min(threads, len(anchors) // 64)))
        reach = np.zeros(len(anchors), np.float32)

        def work(part: Rows) -> None:
            part_windows = windows.block(part)
            reach[part] = self._visit_part(anchors[part], part_windows, matches, first, visits)

        run_in_threads(work, parts)
        return reach

    def _visit_part(
        self, anchors: Rows, windows: Windows, matches: WindowMatches, first: int, visits: int
    ) -> Float32:
        """`visit` for a part of the anchors, on one thread."""
        workspace = ProductWorkspace(self, anchors, windows, matches)
        votes = self.votes[anchors, :visits]
        if votes.shape[1] < visits:
            votes = nearest(workspace.problem.anchors, self.centroids, visits)
        numbers, last = np.arange(len(anchors)), votes[:, -1].astype(np.intp)
        reach = exact_distances(workspace.problem.anchors, numbers, self.centroids, last)
        votes = votes[:, first:]
        # Every anchor's nearest list first: its matches set limits that most later scores fail.
        turns = (votes + len(self.centroids) * (np.arange(first, visits) > 0)).ravel()
        order = np.argsort(turns, kind="stable")
        rows, turns = order // votes.shape[1], turns[order]
        for start, stop in _runs(turns):
            for columns in self._packs(turns[start : start + 1] % len(self.centroids)):
                for i in range(start, stop, MEMBERS):
                    workspace.search(rows[i : min(i + MEMBERS, stop)], columns)
        return np.sqrt(reach)

    def _packs(self, lists: Int32 | Rows) -> list[Int64]:
        """The gallery rows of `lists`, ascending, in parts of COLUMNS."""
        sizes = self.edges[lists + 1] - self.edges[lists]
        columns = np.repeat(self.edges[lists], sizes) + places_within(sizes)
        return [columns[i : i + COLUMNS] for i in range(0, len(columns), COLUMNS)]


def distance_beyond(windows: Windows, matches: WindowMatches, reach: Float32) -> Float32:
    """How far the last match of each window lies beyond the visited lists, (w,).

    A difference of distances (not squared). If a window is not full, its ceiling stands for the
    missing match.

    Args:
        windows: The w windows.
        matches: What was found in them so far.
        reach: (a,) per anchor, see `ListIndex.visit`.
    """
    lengths: Float32 = np.sqrt(matches.distances[:, -1]) - reach[owners(windows)]
    return lengths


class ProductWorkspace:
    """One thread's buffers for products of blocks of its anchors with blocks of the gallery.

    The sides are padded to a few different lengths: for each new shape the library behind torch's
    product compiles a kernel, which costs as much as a small product. The memory is reused, since
    fresh memory costs page faults.
    """

    def __init__(
        self, lists: ListIndex, anchors: Rows, windows: Windows, matches: WindowMatches
    ) -> None:
        self.problem, self.windows, self.matches = lists.problem.block(anchors), windows, matches
        self.gallery, self.queries = lists.gallery, lists.queries.take(anchors)
        dtype, d = self.gallery.vectors.dtype, self.problem.anchors.shape[1]
        self.rows = torch.zeros((MEMBERS, d), dtype=dtype)
        self.keys = torch.zeros((COLUMNS, d), dtype=dtype)
        self.scores = torch.empty(MEMBERS * COLUMNS, dtype=dtype)
        half = dtype == torch.bfloat16
        gallery_error = float(self.gallery.error.max())
        self.slack = slack_of(self.queries.error, gallery_error, d, half=half)

    def search(self, rows: Rows, columns: Int64) -> None:
        """Update the matches of anchors `rows` (b,) with the gallery rows `columns` (m,)."""
        b, m = _padded(len(rows), 16), _padded(len(columns), 32)
        for source, places, side in (
            (self.queries, rows, self.rows),
            (self.gallery, columns, self.keys),
        ):
            index = torch.from_numpy(places)
            torch.index_select(source.vectors, 0, index, out=side[: len(places)])
        scores = self.scores[: b * m].view(b, m)
        torch.mm(self.rows[:b], self.keys[:m].T, out=scores)
        scan_scores(self.problem, self.windows, self.matches, rows, scores, columns, self.slack)


def _padded(count: int, step: int) -> int:
    """`count` rounded up to a multiple of `step`, or of 4 * step above 8 * step."""
    step = step if count <= 8 * step else 4 * step
    return -(-count // step) * step


def _runs(values: NDArray[np.integer]) -> list[tuple[int, int]]:
    """(start, stop) of each run of equal values."""
    edges = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    return [(i, j) for i, j in pairwise(edges) if i < j]


def train_centroids(problem: Problem, seed: int) -> Float32:
    """LISTS * sqrt(n) unit centroids (c, d) of the gallery, by spherical k-means on a sample.

    They are ordered by a second k-means over the centroids, so that anchors of consecutive lists
    visit similar lists.
    """
    n = len(problem.gallery)
    lists = max(1, min(LISTS * isqrt(n), n // LEAST))
    rows = np.random.default_rng(seed).choice(n, min(n, lists * POINTS), replace=False)
    centroids = _kmeans(problem.gallery[np.sort(rows)], lists, seed)
    groups = nearest(centroids, _kmeans(centroids, max(1, isqrt(lists)), seed), 1)[:, 0]
    return np.ascontiguousarray(centroids[np.argsort(groups, kind="stable")])


def _kmeans(vectors: Float32, count: int, seed: int) -> Float32:
    """`count` unit centroids by spherical k-means, initialised with randomly chosen vectors.

    A centroid without members stays in place. Not FAISS's k-means, whose products are float32: with
    twice the points this one takes half the time, and at 300,000 items 24 visits reach the recall
    that takes 32 with FAISS's centroids.
    """
    initial_rows = np.random.default_rng(seed).choice(len(vectors), count, replace=False)
    centroids = vectors[np.sort(initial_rows)]
    for _ in range(ITERATIONS):
        home = nearest(vectors, centroids, 1)[:, 0]
        order = np.argsort(home, kind="stable")
        non_empty, starts = np.unique(home[order], return_index=True)
        sums = np.add.reduceat(vectors[order], starts, axis=0)
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        has_direction = lengths[:, 0] > 0
        centroids[non_empty[has_direction]] = sums[has_direction] / lengths[has_direction]
    return centroids


def nearest(vectors: Float32, centroids: Float32, count: int) -> Int32:
    """The `count` nearest centroids (n, count) of each vector, in bfloat16 where that is fast."""
    half = fast_half()
    side = Operand.of(centroids, half=half).vectors.T.contiguous()
    result = np.empty((len(vectors), min(count, len(centroids))), np.int32)

    def work(start: int) -> None:
        block = torch.from_numpy(vectors[start : start + ASSIGN])
        # Always the same number of rows, so that the bits of a row's scores, and with them its
        # order of lists, do not depend on the other rows of the block.
        padded_block = torch.zeros((ASSIGN, vectors.shape[1]), dtype=side.dtype)
        padded_block[: len(block)] = block
        scores = (padded_block @ side)[: len(block)]
        bits = scores.view(torch.int16 if half else torch.int32).numpy()
        result[start : start + ASSIGN] = top_columns(bits, result.shape[1])

    run_in_threads(work, range(0, len(vectors), ASSIGN))
    return result
