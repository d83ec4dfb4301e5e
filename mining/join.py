"""Nearest negatives in windows for large galleries: the list-join.

The gallery is cut into about sqrt(n) lists by spherical k-means (FAISS's), and laid out list by
list. An anchor votes for the `visits` lists whose centroids are nearest. Anchors of one home list
vote much alike, so they share matrix products: one block of theirs against the union of the lists
that many of them vote for, then what is left, grouped by list. Windows, masks of positives and the
second look in float32 are those of the exact scan, in the same compiled loops; all that is
approximate is which lists are visited.

How far to trust it is measured (mining.engines): a sample of anchors is searched exactly and by
lists, with 4, 8, 16, ... visits. Windows with many closer negatives (a positive far out) have their
floor beyond the visited lists; from where the sample misses too many they are searched exactly.
"""

import faiss  # isort: skip

from dataclasses import dataclass, replace
from itertools import pairwise
from math import isqrt
from typing import Self

import numpy as np
import torch  # before faiss: the other order crashes in the OpenMP runtime
from numpy.typing import NDArray

from data.types import Float32, Int32, Int64
from mining.problem import Problem, Rows
from mining.scan import Found, Operand, Windows, fast_half, in_threads, take

ITERATIONS, POINTS = 10, 64  # of k-means, and points that train a centroid
SHARE = 0.25  # of a home list's anchors that must vote for a list to have all of them visit it
MEMBERS, COLUMNS = 1024, 16_384  # of one product: 32 MB of scores
ASSIGN = 8192


@dataclass(frozen=True, kw_only=True)
class Lists:
    """A gallery laid out list by list, and anchors sorted by the list they are nearest to.

    problem: in that order. centroids: (c, d) unit vectors. edges: (c + 1,) where each list starts.
    home: (a,) each anchor's nearest centroid, ascending. gallery, queries: the vectors of both
    sides as they are multiplied.
    """

    problem: Problem
    centroids: Float32
    edges: Int64
    home: Int32
    gallery: Operand
    queries: Operand

    @classmethod
    def of(cls, problem: Problem, centroids: Float32) -> Self:
        """Lay out `problem` by the nearest of the centroids."""
        home = nearest(problem.gallery, centroids, 1)[:, 0]
        order = np.argsort(home, kind="stable")
        same = problem.anchors is problem.gallery
        anchor_home = home if same else nearest(problem.anchors, centroids, 1)[:, 0]
        anchor_order = order if same else np.argsort(anchor_home, kind="stable")
        laid = problem.reordered(order).block(anchor_order)
        if same:  # one array for both sides
            laid = replace(laid, anchors=laid.gallery)
        half = fast_half()
        gallery = Operand.of(laid.gallery, half=half)
        return cls(
            problem=laid,
            centroids=centroids,
            edges=np.searchsorted(home[order], np.arange(len(centroids) + 1)),
            home=anchor_home[anchor_order],
            gallery=gallery,
            queries=gallery if same else Operand.of(laid.anchors, half=half),
        )

    def visit(self, anchors: Rows, windows: Windows, found: Found, visits: int) -> None:
        """Take for each of `anchors` (b,), ascending, its nearest `visits` lists into account."""
        threads = torch.get_num_threads()
        parts = np.array_split(np.arange(len(anchors)), max(1, min(threads, len(anchors) // 64)))

        def work(part: Rows) -> None:
            self._visit_part(anchors[part], windows.block(part), found, visits)

        in_threads(work, parts)

    def _visit_part(self, anchors: Rows, windows: Windows, found: Found, visits: int) -> None:
        problem = self.problem.block(anchors)
        queries = self.queries.take(anchors)
        home = self.home[anchors]
        votes = nearest(problem.anchors, self.centroids, visits)
        left = np.ones(votes.shape, bool)  # the votes that are not yet followed
        for start, stop in _runs(home):
            for i in range(start, stop, MEMBERS):
                members = slice(i, min(i + MEMBERS, stop))
                counts = np.bincount(votes[members].ravel(), minlength=len(self.centroids))
                shared = counts >= max(2, SHARE * (members.stop - i))
                left[members] = ~shared[votes[members]]
                for columns in self._packs(np.flatnonzero(shared)):
                    tile = self.gallery.take(columns)
                    take(problem, windows, found, members, queries, tile, columns)
        rows, places = np.nonzero(left)
        lists = votes[rows, places]
        order = np.argsort(lists, kind="stable")
        rows, lists = rows[order], lists[order]
        for start, stop in _runs(lists):
            for columns in self._packs(lists[start : start + 1]):
                tile = self.gallery.take(slice(columns[0], columns[-1] + 1))
                for i in range(start, stop, MEMBERS):
                    some = rows[i : min(i + MEMBERS, stop)]
                    take(problem, windows, found, some, queries, tile, columns)

    def _packs(self, lists: Int32 | Rows) -> list[Int64]:
        """The gallery positions of `lists`, ascending, in parts of about COLUMNS."""
        sizes = self.edges[lists + 1] - self.edges[lists]
        within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        columns = np.repeat(self.edges[lists], sizes) + within
        return [columns[i : i + COLUMNS] for i in range(0, len(columns), COLUMNS)]


def _runs(values: NDArray[np.integer]) -> list[tuple[int, int]]:
    """(start, stop) of each run of equal values."""
    edges = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    return [(i, j) for i, j in pairwise(edges) if i < j]


def train_centroids(problem: Problem, seed: int) -> Float32:
    """About sqrt(n) unit centroids (c, d) of the gallery: spherical k-means on a sample."""
    n, d = problem.gallery.shape
    lists = max(1, isqrt(n))
    rows = np.random.default_rng(seed).choice(n, min(n, lists * POINTS), replace=False)
    kmeans = faiss.Kmeans(
        d, lists, niter=ITERATIONS, spherical=True, seed=seed, min_points_per_centroid=1
    )
    kmeans.train(problem.gallery[np.sort(rows)])
    return np.ascontiguousarray(kmeans.centroids)


def nearest(vectors: Float32, centroids: Float32, count: int) -> Int32:
    """The `count` nearest centroids (n, count) of each vector, by bfloat16 where that is fast."""
    side = Operand.of(centroids, half=fast_half()).vectors.T.contiguous()
    found = np.empty((len(vectors), min(count, len(centroids))), np.int32)

    def work(start: int) -> None:
        block = torch.from_numpy(vectors[start : start + ASSIGN]).to(side.dtype)
        scores = block @ side
        one = count == 1  # several times faster than topk
        top = scores.argmax(dim=1, keepdim=True) if one else scores.topk(found.shape[1]).indices
        found[start : start + ASSIGN] = top.numpy()

    in_threads(work, range(0, len(vectors), ASSIGN))
    return found
