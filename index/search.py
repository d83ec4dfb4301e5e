"""Searching a stored index: queries to neighbours."""

from collections.abc import Iterator
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from remine.data.errors import InputError, StoreError
from remine.data.faiss_library import faiss
from remine.data.types import Float32, Int64, Neighbours
from remine.index.build import IndexCard, setting_for
from remine.index.recall import query_distances, visited_share
from remine.index.search_report import UNLIKE_SHARE, RecallCheck, SearchReport
from remine.index.search_setting import (
    inner_of,
    knob_of,
    lists_of,
    parameters,
    swig,
    takes_selector,
)

MAX_K = 10_000
SAMPLE = 64
"""Queries of a call that are searched exactly, to measure the recall of the others."""
MIN_SAMPLE = 16
UNFILLED = np.finfo(np.float32).max
"""Squared distance that FAISS writes where there is no neighbour, or less than infinity."""
COST_SHARE = 0.1
"""Largest cost of measuring queries like the items, as a share of the cost of their search."""
Mask = NDArray[np.bool_]


def load_index(path: Path, d: int) -> faiss.Index:
    """The FAISS index at `path`, which must have d dimensions."""
    try:
        index = faiss.read_index(str(path))
    except RuntimeError as error:
        message = str(error).strip().splitlines()[-1]
        raise InputError(f"{path} is not a FAISS index: {message}") from None
    if index.d != d:
        raise InputError(f"{path} holds vectors of {index.d} dimensions, not {d}")
    return index


def multiply_from(queries: int, d: int) -> None:
    """Compare queries with full vectors by matrix products from `queries` queries on; process-wide.

    FAISS 1.15 compares one by one below 128,000 numbers in the queries (1,000 queries at d = 128).
    Measured at 100,000 x 128: 32 queries together take 0.36 instead of 1.5 ms of processor time
    each, 256 together 0.26. A single query is faster without (1.6 ms against 4.4), four with.
    """
    swig.cvar.distance_compute_blas_threshold = queries * d


class Searcher:
    """A loaded index with the checks that FAISS lacks; threads may share it."""

    def __init__(self, path: Path, card: IndexCard) -> None:
        """Map the file at `path`, whose hash the caller has verified (FAISS checks nothing)."""
        index: Any = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
        self.inner = inner_of(index)
        self.card = card
        self._ids: Int64 = faiss.vector_to_array(index.id_map)
        if len(self._ids) != card.items or self.inner.d != card.dimensions:
            raise StoreError(f"{path} holds {len(self._ids)} items, its card says {card.items}")
        self._places = np.argsort(self._ids)
        self.ids = self._ids[self._places]

    def search(
        self,
        queries: Float32,
        k: int,
        *,
        recall: float | None = None,
        mask: Mask | None = None,
        explain: bool = False,
    ) -> tuple[Neighbours, SearchReport]:
        """The k nearest items of each query.

        Args:
            queries: (q, d) float32 unit vectors.
            k: Neighbours, 1 to MAX_K.
            recall: Requested share of the exact k nearest; that of the index's card if None.
            mask: (n,) bool, which items may be found, in order of id; None for all.
            explain: Whether to count what was visited.

        Raises:
            InputError: A query or setting is out of range.
        """
        self._check(queries, k)
        target = self.card.wished if recall is None else recall
        if not 0 < target <= 1:
            raise InputError(f"recall is {target}; it must be above 0 and at most 1")
        queries = np.ascontiguousarray(queries, np.float32)
        members = None if mask is None else self._members(mask)
        count = self.card.items if members is None else int(members.sum())
        setting, measured_recall = self._setting(k, target, count)
        distances, places, unlike = self._find_with_limit(queries, k, setting, members)
        settings, checks = np.full(len(queries), setting), []
        for rows, sample in self._samples(unlike, target, setting) if count else ():
            is_unlike = bool(unlike[rows[0]])
            recalls = self._sample_recalls(
                queries[sample], k, setting, target, members, is_strict=is_unlike
            )
            checks.append(
                _check_of(recalls, unlike=is_unlike, queries=len(rows), sampled=len(sample))
            )
            if (wider := checks[-1].setting) > setting:
                settings[rows] = wider
                distances[rows], places[rows] = self._find(queries[rows], k, wider, members)
        short = np.flatnonzero((places >= 0).sum(axis=1) < min(k, count))
        if len(short) and self.card.knob != "none":
            distances[short], places[short] = self._find_anywhere(queries[short], k, members)
        ids = np.where(places >= 0, self._ids[places], -1)
        distances = np.where(places >= 0, np.maximum(distances, 0), np.inf).astype(np.float32)
        report = SearchReport(
            factory=self.card.factory,
            knob=self.card.knob,
            setting=setting,
            wished=target,
            measured=measured_recall,
            visited=self._visited(queries, settings) if explain else None,
            kept=count,
            items=self.card.items,
            widened=len(short),
            queries=len(queries),
            unlike=None if self.card.distance_limit is None else int(unlike.sum()),
            checks=tuple(checks),
        )
        return Neighbours(ids=ids, distances=distances), report

    def rows(self, ids: Int64) -> Int64:
        """The place of each id in the order of ids, (q,); refuses an unknown id."""
        rows = np.searchsorted(self.ids, ids).clip(max=len(self.ids) - 1)
        if (unknown := self.ids[rows] != ids).any():
            raise InputError(f"no item {ids[unknown][0]} in the index")
        return rows

    def vectors(self, ids: Int64) -> Float32:
        """The vectors (q, d) of items by id, as exact as the index stores them."""
        places = self._places[self.rows(ids)]
        out: Float32 = self.inner.reconstruct_batch(np.ascontiguousarray(places))
        return out

    def _check(self, queries: Float32, k: int) -> None:
        if queries.ndim != 2 or queries.shape[1] != self.inner.d:
            raise InputError(
                f"queries have shape {queries.shape}; the index holds vectors of {self.inner.d}"
            )
        if not np.isfinite(queries).all():
            raise InputError("a query has a number that is not finite")
        if not 1 <= k <= MAX_K:
            raise InputError(f"k is {k}; it must be 1 to {MAX_K}")

    def _setting(self, k: int, target: float, count: int) -> tuple[int, float | None]:
        """The setting of the knob, and the recall measured there.

        Under a filter the setting is raised so that as many matching items are compared as without.
        """
        point = setting_for(self.card.curve, target, k)
        if count == self.card.items or self.card.knob == "none":
            return point.setting, point.recall(k)
        max_setting = lists_of(self.inner).nlist if self.card.knob == "nprobe" else self.card.items
        return min(max_setting, ceil(point.setting * self.card.items / max(1, count))), None

    def _find_with_limit(
        self, queries: Float32, k: int, setting: int, members: Mask | None
    ) -> tuple[Float32, Int64, Mask]:
        """As `_find`, and (q,) bool, whether a query is farther from the index than the limit."""
        limit = self.card.distance_limit
        is_list_index = isinstance(self.inner, swig.IndexIVF)
        if limit is None or not is_list_index:
            distances, places = self._find(queries, k, setting, members)
            # Under a filter the nearest match says nothing about the query.
            if limit is None or (members is not None and not lists_of(self.inner)):
                return distances, places, np.zeros(len(queries), bool)
            gaps = query_distances(self.inner, queries, distances[:, 0])
            return distances, places, gaps > limit
        # The distances to the lists are computed once, for the search and for the comparison.
        nprobe = max(1, min(setting, self.inner.nlist))
        gaps, lists = self.inner.quantizer.search(queries, nprobe)
        answer = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
        selector = _selector(members)
        search_parameters = parameters(self.inner, nprobe, selector)
        pointers = [swig.swig_ptr(array) for array in (lists, gaps, *answer)]
        # The Python wrapper of FAISS takes no parameters here.
        self.inner.search_preassigned_c(
            len(queries), swig.swig_ptr(queries), k, *pointers, False, search_parameters
        )
        return *answer, gaps[:, 0] > limit

    def _samples(self, unlike: Mask, target: float, setting: int) -> Iterator[tuple[Int64, Int64]]:
        """The queries whose recall is to be measured, and a sample of them, as rows.

        Queries unlike the items are measured if there are many, or if all neighbours are
        requested; the others if they are so many that it costs little.
        """
        if self.card.knob == "none":
            return
        rows = np.flatnonzero(unlike)
        is_many = len(rows) >= SAMPLE and len(rows) > UNLIKE_SHARE * len(unlike)
        if is_many or (len(rows) and target >= 1):
            yield rows, _spread(rows, len(rows) if target >= 1 and not is_many else SAMPLE)
        rows = np.flatnonzero(~unlike)
        visited = next((p.visited for p in self.card.curve if p.setting >= setting), None)
        size = min(SAMPLE, int(COST_SHARE * (visited or 0) * len(rows)))
        if size >= MIN_SAMPLE and (visited or 0) < 1:
            yield rows, _spread(rows, size)

    def _sample_recalls(
        self,
        queries: Float32,
        k: int,
        setting: int,
        target: float,
        members: Mask | None,
        *,
        is_strict: bool,
    ) -> list[tuple[int, float]]:
        """Settings and the recall there of a sample (q, d), until one reaches the target.

        Recall is against exact search over the stored vectors. Compressed ones are taken to lose
        what they lost for held-out items where all lists were visited. If `is_strict`, the
        recall must lie two standard errors above the target, else at most two below.
        """
        exact = self._find_anywhere(queries, k, members)[0]
        depth = int((exact[0] < UNFILLED).sum())
        limits = exact[:, depth - 1, None] * (1 + 1e-6) + 1e-6
        ceiling = max(p.recall(k) for p in self.card.curve) if self.card.knob == "nprobe" else 1.0
        recalls: list[tuple[int, float]] = []
        for value in (setting, *(v for v in knob_of(self.inner).settings if v > setting)):
            distances = self._find(queries, k, value, members)[0][:, :depth]
            shares = (distances <= limits).mean(axis=1)
            recalls.append((value, round(float(shares.mean()) * ceiling, 6)))
            margin = 2 * float(shares.std()) / len(shares) ** 0.5
            if recalls[-1][1] + (-margin if is_strict else margin) >= min(target, ceiling):
                break
        return recalls

    def _visited(self, queries: Float32, settings: Int64) -> float | None:
        """The mean share of the stored vectors that queries (q, d) visit at settings (q,)."""
        total = 0.0
        for value in np.unique(settings):
            rows = np.flatnonzero(settings == value)
            share = visited_share(self.inner, queries[rows], int(value))
            if share is None:
                return None
            total += share * len(rows)
        return total / len(queries) if len(queries) else None

    def _members(self, mask: Mask) -> Mask:
        """The mask in the order of places instead of ids."""
        if mask.shape != self.ids.shape:
            raise ValueError(f"mask has shape {mask.shape}; the index holds {len(self.ids)} items")
        members = np.empty(len(mask), bool)
        members[self._places] = mask
        return members

    def _find(
        self, queries: Float32, k: int, setting: int, members: Mask | None
    ) -> tuple[Float32, Int64]:
        """Squared distances and places, (q, k) each; -1 where there are fewer."""
        if members is not None and not takes_selector(self.inner):
            return self._compare(queries, k, members)
        selector = _selector(members)
        search_parameters = parameters(self.inner, setting, selector)
        result: tuple[Float32, Int64] = self.inner.search(queries, k, params=search_parameters)
        return result

    def _find_anywhere(
        self, queries: Float32, k: int, members: Mask | None
    ) -> tuple[Float32, Int64]:
        """As `_find`, over all items: lists and graphs may lead to few that match."""
        if self.card.knob == "nprobe":
            return self._find(queries, k, lists_of(self.inner).nlist, members)
        return self._compare(queries, k, members)

    def _compare(self, queries: Float32, k: int, members: Mask | None) -> tuple[Float32, Int64]:
        """As `_find`, by comparing the stored vector of every matching item."""
        places = np.arange(self.card.items) if members is None else np.flatnonzero(members)
        depth = min(k, len(places))
        out = np.full((len(queries), k), np.inf, np.float32), np.full((len(queries), k), -1)
        vectors = self.inner.reconstruct_batch(np.ascontiguousarray(places))
        distances, rows = faiss.knn(queries, vectors, depth)
        out[0][:, :depth], out[1][:, :depth] = distances, places[rows]
        return out


def _selector(members: Mask | None) -> Any:
    """The FAISS selector of the members (n,); None for all."""
    if members is None:
        return None
    bits = np.packbits(members, bitorder="little")
    selector = swig.IDSelectorBitmap(bits)
    selector.referenced_objects = [bits]  # FAISS stores a bare pointer to it
    return selector


def _spread(rows: Int64, size: int) -> Int64:
    """At most `size` of the rows, evenly spread."""
    places = np.linspace(0, len(rows) - 1, min(size, len(rows)))
    return np.asarray(rows[places.astype(int)], np.int64)


def _check_of(
    recalls: list[tuple[int, float]], *, unlike: bool, queries: int, sampled: int
) -> RecallCheck:
    return RecallCheck(
        unlike=unlike,
        queries=queries,
        sampled=sampled,
        before=recalls[0][1],
        setting=recalls[-1][0],
        recall=recalls[-1][1],
    )
