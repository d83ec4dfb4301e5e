"""Searching a stored index: queries to neighbours."""

from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from remine.data.errors import InputError, StoreError
from remine.data.faiss_library import faiss
from remine.data.types import Float32, Int64, Neighbours
from remine.index.build import IndexCard, setting_for
from remine.index.recall import visited_share
from remine.index.search_setting import inner_of, lists_of, parameters, swig, takes_selector

MAX_K = 10_000
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


@dataclass(frozen=True, kw_only=True)
class SearchReport:
    """What a search looked at; the field names are the keys of its JSON.

    Attributes:
        factory, knob, setting: The index and the setting of its knob.
        wished: Requested recall of the k nearest.
        measured: Recall at this setting on the card's curve; None under a filter, for which there
            is no curve.
        visited: Share of the stored vectors in the visited lists, None if FAISS does not report it.
        kept: How many of `items` pass the filter.
        items: In the index.
        widened: Queries that found fewer than k and were searched again over all items.
    """

    factory: str
    knob: str
    setting: int
    wished: float
    measured: float | None
    visited: float | None
    kept: int
    items: int
    widened: int

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)

    def lines(self) -> list[str]:
        """For people."""
        setting_text = f", {self.knob} {self.setting}" if self.knob != "none" else ""
        share = "" if self.visited is None else f", {self.visited:.2%} of the vectors visited"
        recall_text = "not measured under a filter"
        if self.measured is not None:
            recall_text = f"{self.measured:.4f} as measured"
        lines = [
            f"index {self.factory}{setting_text}{share}",
            f"recall {self.wished:g} requested, {recall_text}",
        ]
        if self.kept < self.items:
            lines.append(f"{self.kept:,} of {self.items:,} items match the filter")
        if self.widened:
            lines.append(
                f"{self.widened:,} queries found too few neighbours and searched all items"
            )
        return lines


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
        distances, places = self._find(queries, k, setting, members)
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
            visited=visited_share(self.inner, queries, setting) if explain else None,
            kept=count,
            items=self.card.items,
            widened=len(short),
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
        bits = None if members is None else np.packbits(members, bitorder="little")
        selector = None if bits is None else swig.IDSelectorBitmap(bits)
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
