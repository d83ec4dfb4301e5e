"""Nearest negatives in windows for large galleries: the list-join.

The gallery is cut into up to 4 sqrt(n) lists by spherical k-means, laid out list by list. An anchor
visits the lists whose centroids are nearest; those who visit the same list share a matrix product
with it. Windows, masks of positives and the second look in float32 are those of the exact scan, in
the same compiled loops; all that is approximate is which lists are visited.

How far to trust an answer follows from how far it lies beyond the visited lists: the distance from
the anchor to the farthest negative that was found, less that to the last visited centroid. An item
of a list not visited is nearer than that centroid by at most its list's radius (triangle
inequality), so far below 0 nothing can have been missed, and the more above it the likelier it was.
That is so for any window, near (hard) or far out (semi-hard, with a floor at a far positive). Where
to draw the line is measured (mining.engines): a sample of anchors is searched exactly and by lists;
anchors above the line visit more lists, and at last are searched exactly. (Compare learned early
termination: Li et al., SIGMOD 2020.)
"""

from dataclasses import dataclass, replace
from itertools import pairwise
from math import isqrt
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from remine.data.types import Float32, Int32, Int64
from remine.mining.problem import Problem, Rows
from remine.mining.search.engine_choice import fast_half
from remine.mining.search.scan import in_threads, look
from remine.mining.search.scan_kernels import exact_distances, top_columns
from remine.mining.search.slack import Operand, slack_of
from remine.mining.search.windows import Found, Windows, owners

VOTES = 8  # lists that every anchor visits
LISTS = 4  # times sqrt(n); with 1, the same recall takes looking at 4 to 15 times as many rows
LEAST = 160  # items a list, where that makes fewer lists: below, training costs more than it saves
ITERATIONS, POINTS = 6, 32  # of k-means, and points that train a centroid
MEMBERS, COLUMNS = 512, 8192  # of one product: 8 MB of scores in bfloat16
ASSIGN = 2048


@dataclass(frozen=True, kw_only=True)
class Lists:
    """A gallery laid out list by list, and anchors sorted by the list they are nearest to.

    problem: in that order. centroids: (c, d) unit vectors. edges: (c + 1,) where each list starts.
    votes: (a, VOTES) each anchor's nearest centroids, the nearest ascending down the anchors.
    gallery, queries: the vectors of both sides as they are multiplied.
    """

    problem: Problem
    centroids: Float32
    edges: Int64
    votes: Int32
    gallery: Operand
    queries: Operand

    @classmethod
    def of(cls, problem: Problem, centroids: Float32) -> Self:
        """Lay out `problem` by the nearest of the centroids."""
        same = problem.anchors is problem.gallery
        votes = nearest(problem.anchors, centroids, VOTES)
        home = votes[:, 0] if same else nearest(problem.gallery, centroids, 1)[:, 0]
        order = np.argsort(home, kind="stable")
        anchor_order = order if same else np.argsort(votes[:, 0], kind="stable")
        laid = problem.reordered(order)
        if same:  # one array for both sides, and never a second copy of it
            nothing = laid.gallery[:, :0]
            laid = replace(replace(laid, anchors=nothing).block(order), anchors=laid.gallery)
        else:
            laid = laid.block(anchor_order)
        half = fast_half()
        gallery = Operand.of(laid.gallery, half=half)
        return cls(
            problem=laid,
            centroids=centroids,
            edges=np.searchsorted(home[order], np.arange(len(centroids) + 1)),
            votes=votes[anchor_order],
            gallery=gallery,
            queries=gallery if same else Operand.of(laid.anchors, half=half),
        )

    def visit(
        self, anchors: Rows, windows: Windows, found: Found, first: int, visits: int
    ) -> Float32:
        """Take each anchor's nearest lists, from number `first` to `visits`, into account.

        anchors: (b,), ascending, with their windows. Returns (b,) how far that reaches: the
        distance to the last list's centroid.
        """
        threads = torch.get_num_threads()
        parts = np.array_split(np.arange(len(anchors)), max(1, min(threads, len(anchors) // 64)))
        reach = np.zeros(len(anchors), np.float32)

        def work(part: Rows) -> None:
            some = windows.block(part)
            reach[part] = self._visit_part(anchors[part], some, found, first, visits)

        in_threads(work, parts)
        return reach

    def _visit_part(
        self, anchors: Rows, windows: Windows, found: Found, first: int, visits: int
    ) -> Float32:
        """The visits of some anchors, on one thread."""
        desk = Desk(self, anchors, windows, found)
        votes = self.votes[anchors, :visits]
        if votes.shape[1] < visits:
            votes = nearest(desk.problem.anchors, self.centroids, visits)
        each, last = np.arange(len(anchors)), votes[:, -1].astype(np.intp)
        reach = exact_distances(desk.problem.anchors, each, self.centroids, last)
        votes = votes[:, first:]
        # Each anchor's own list comes first: what it holds sets limits that most others fail.
        turns = (votes + len(self.centroids) * (np.arange(first, visits) > 0)).ravel()
        order = np.argsort(turns, kind="stable")
        rows, turns = order // votes.shape[1], turns[order]
        for start, stop in _runs(turns):
            for columns in self._packs(turns[start : start + 1] % len(self.centroids)):
                for i in range(start, stop, MEMBERS):
                    desk.take(rows[i : min(i + MEMBERS, stop)], columns)
        return np.sqrt(reach)

    def _packs(self, lists: Int32 | Rows) -> list[Int64]:
        """The gallery positions of `lists`, ascending, in parts of about COLUMNS."""
        sizes = self.edges[lists + 1] - self.edges[lists]
        within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        columns = np.repeat(self.edges[lists], sizes) + within
        return [columns[i : i + COLUMNS] for i in range(0, len(columns), COLUMNS)]


def beyond(windows: Windows, found: Found, reach: Float32) -> Float32:
    """How much farther than the visited lists reach each window's last negative lies, (w,).

    reach: of each anchor, see Lists.visit. In a window that is not full the ceiling stands for what
    is missing.
    """
    lengths: Float32 = np.sqrt(found.distances[:, -1]) - reach[owners(windows)]
    return lengths


class Desk:
    """Where one thread multiplies blocks of its anchors with blocks of the gallery.

    Sides are padded to few different lengths: for each new shape the library behind torch's product
    compiles a kernel, which costs as much as the product of a small block. Memory is kept, since
    fresh memory costs page faults.
    """

    def __init__(self, lists: Lists, anchors: Rows, windows: Windows, found: Found) -> None:
        self.problem, self.windows, self.found = lists.problem.block(anchors), windows, found
        self.gallery, self.queries = lists.gallery, lists.queries.take(anchors)
        dtype, d = self.gallery.vectors.dtype, self.problem.anchors.shape[1]
        self.rows = torch.zeros((MEMBERS, d), dtype=dtype)
        self.keys = torch.zeros((COLUMNS, d), dtype=dtype)
        self.scores = torch.empty(MEMBERS * COLUMNS, dtype=dtype)
        half = dtype == torch.bfloat16
        other = float(self.gallery.error.max())
        self.slack = slack_of(self.queries.error, other, d, half=half)

    def take(self, rows: Rows, columns: Int64) -> None:
        """Take the products of anchors `rows` (b,) with gallery positions `columns` (m,)."""
        b, m = _padded(len(rows), 16), _padded(len(columns), 32)
        for source, places, side in (
            (self.queries, rows, self.rows),
            (self.gallery, columns, self.keys),
        ):
            where = torch.from_numpy(places)
            torch.index_select(source.vectors, 0, where, out=side[: len(places)])
        scores = self.scores[: b * m].view(b, m)
        torch.mm(self.rows[:b], self.keys[:m].T, out=scores)
        look(self.problem, self.windows, self.found, rows, scores, columns, self.slack)


def _padded(count: int, step: int) -> int:
    """`count` rounded up to a multiple of `step`, of 4 * step above 8 * step."""
    step = step if count <= 8 * step else 4 * step
    return -(-count // step) * step


def _runs(values: NDArray[np.integer]) -> list[tuple[int, int]]:
    """(start, stop) of each run of equal values."""
    edges = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    return [(i, j) for i, j in pairwise(edges) if i < j]


def train_centroids(problem: Problem, seed: int) -> Float32:
    """Unit centroids (c, d) of the gallery, LISTS * sqrt(n) of them, by spherical k-means.

    Neighbouring centroids stand side by side, so that neighbouring lists' anchors vote alike.
    """
    n = len(problem.gallery)
    lists = max(1, min(LISTS * isqrt(n), n // LEAST))
    rows = np.random.default_rng(seed).choice(n, min(n, lists * POINTS), replace=False)
    centroids = _kmeans(problem.gallery[np.sort(rows)], lists, seed)
    groups = nearest(centroids, _kmeans(centroids, max(1, isqrt(lists)), seed), 1)[:, 0]
    return np.ascontiguousarray(centroids[np.argsort(groups, kind="stable")])


def _kmeans(vectors: Float32, count: int, seed: int) -> Float32:
    """`count` unit centroids by spherical k-means, from `count` of the vectors drawn by chance.

    A centroid that is nearest to nothing stays where it is. Ours and not FAISS's, whose products
    are float32: with twice its points half its time, and at 300,000 items 24 visits find what takes
    32 with its centroids.
    """
    drawn = np.random.default_rng(seed).choice(len(vectors), count, replace=False)
    centroids = vectors[np.sort(drawn)]
    for _ in range(ITERATIONS):
        home = nearest(vectors, centroids, 1)[:, 0]
        order = np.argsort(home, kind="stable")
        held, starts = np.unique(home[order], return_index=True)
        sums = np.add.reduceat(vectors[order], starts, axis=0)
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        moved = lengths[:, 0] > 0
        centroids[held[moved]] = sums[moved] / lengths[moved]
    return centroids


def nearest(vectors: Float32, centroids: Float32, count: int) -> Int32:
    """The `count` nearest centroids (n, count) of each vector, by bfloat16 where that is fast."""
    half = fast_half()
    side = Operand.of(centroids, half=half).vectors.T.contiguous()
    found = np.empty((len(vectors), min(count, len(centroids))), np.int32)

    def work(start: int) -> None:
        block = torch.from_numpy(vectors[start : start + ASSIGN])
        # Always as many rows: an anchor's order of lists must not depend on who is asked beside it.
        padded = torch.zeros((ASSIGN, vectors.shape[1]), dtype=side.dtype)
        padded[: len(block)] = block
        scores = (padded @ side)[: len(block)]
        bits = scores.view(torch.int16 if half else torch.int32).numpy()
        found[start : start + ASSIGN] = top_columns(bits, found.shape[1])

    in_threads(work, range(0, len(vectors), ASSIGN))
    return found
