"""Queries to neighbours."""

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
from remine.index.knob import inner_of, lists_of, parameters, swig, takes_selector
from remine.index.recall import visited

MAX_K = 10_000
Mask = NDArray[np.bool_]


def load_index(path: Path, d: int) -> faiss.Index:
    """The FAISS index at `path`, of d dimensions."""
    try:
        index = faiss.read_index(str(path))
    except RuntimeError as error:
        said = str(error).strip().splitlines()[-1]
        raise InputError(f"{path} is no FAISS index: {said}") from None
    if index.d != d:
        raise InputError(f"{path} holds vectors of {index.d} dimensions, not {d}")
    return index


def multiply_from(queries: int, d: int) -> None:
    """From so many queries on, compare whole vectors by matrix products; for the whole process.

    FAISS 1.15 compares one by one below 128,000 numbers of queries (1,000 at d = 128). Measured at
    100,000 x 128: 32 together 0.36 instead of 1.5 ms of processor a query, 256 together 0.26; one
    alone is faster without (1.6 ms against 4.4), four with.
    """
    swig.cvar.distance_compute_blas_threshold = queries * d


@dataclass(frozen=True, kw_only=True)
class Searched:
    """What a search looked at.

    factory, knob, setting: the index and how far it was turned. wished: recall of the k nearest
    that was asked for. measured: recall on the card's curve at this setting, None under a filter
    (the curve knows none). visited: share of the stored vectors in the visited lists, None where
    FAISS does not tell. kept of items: what the filter left. widened: queries that found fewer
    than k at the first setting and looked at everything.
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
        """For a person."""
        turned = f", {self.knob} {self.setting}" if self.knob != "none" else ""
        share = "" if self.visited is None else f", {self.visited:.2%} of the vectors visited"
        measured = "not measured under a filter"
        if self.measured is not None:
            measured = f"{self.measured:.4f} as measured"
        said = [
            f"index {self.factory}{turned}{share}",
            f"recall wished {self.wished:g}, {measured}",
        ]
        if self.kept < self.items:
            said.append(f"the filter kept {self.kept:,} of {self.items:,} items")
        if self.widened:
            said.append(f"{self.widened:,} queries found too few there and looked at everything")
        return said


class Searcher:
    """A loaded index that checks what FAISS does not; safe to share between threads."""

    def __init__(self, path: Path, card: IndexCard) -> None:
        """Map the file at `path`, which the caller has verified (FAISS itself checks nothing)."""
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
        kept: Mask | None = None,
        explain: bool = False,
    ) -> tuple[Neighbours, Searched]:
        """The k nearest items of each of the (q, d) float32 unit vectors, and what was looked at.

        recall: wished share of the exact k nearest; None for what the index was built for. kept:
        (n,) which items, in order of id, may be found. explain: count what was visited.
        """
        self._check(queries, k)
        wished = self.card.wished if recall is None else recall
        if not 0 < wished <= 1:
            raise InputError(f"recall is {wished}; it must be above 0 and at most 1")
        queries = np.ascontiguousarray(queries, np.float32)
        members = None if kept is None else self._by_place(kept)
        count = self.card.items if members is None else int(members.sum())
        setting, measured = self._setting(k, wished, count)
        distances, places = self._find(queries, k, setting, members)
        short = np.flatnonzero((places >= 0).sum(axis=1) < min(k, count))
        if len(short) and self.card.knob != "none":
            distances[short], places[short] = self._everything(queries[short], k, members)
        ids = np.where(places >= 0, self._ids[places], -1)
        distances = np.where(places >= 0, np.maximum(distances, 0), np.inf).astype(np.float32)
        told = Searched(
            factory=self.card.factory,
            knob=self.card.knob,
            setting=setting,
            wished=wished,
            measured=measured,
            visited=visited(self.inner, queries, setting) if explain else None,
            kept=count,
            items=self.card.items,
            widened=len(short),
        )
        return Neighbours(ids=ids, distances=distances), told

    def rows(self, ids: Int64) -> Int64:
        """The place of each id in the order of ids (q,); refuses an unknown one."""
        rows = np.searchsorted(self.ids, ids).clip(max=len(self.ids) - 1)
        if (unknown := self.ids[rows] != ids).any():
            raise InputError(f"no item {ids[unknown][0]} in the index")
        return rows

    def vectors(self, ids: Int64) -> Float32:
        """The stored vectors (q, d) of items by id, as exact as the index keeps them."""
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

    def _setting(self, k: int, wished: float, count: int) -> tuple[int, float | None]:
        """Where to turn the knob, and the recall measured there.

        Under a filter so much further that as many items are compared as without one.
        """
        point = setting_for(self.card.curve, wished, k)
        if count == self.card.items or self.card.knob == "none":
            return point.setting, point.recall(k)
        most = lists_of(self.inner).nlist if self.card.knob == "nprobe" else self.card.items
        return min(most, ceil(point.setting * self.card.items / max(1, count))), None

    def _by_place(self, kept: Mask) -> Mask:
        if kept.shape != self.ids.shape:
            raise ValueError(f"kept has shape {kept.shape}; the index holds {len(self.ids)} items")
        members = np.empty(len(kept), bool)
        members[self._places] = kept
        return members

    def _find(
        self, queries: Float32, k: int, setting: int, members: Mask | None
    ) -> tuple[Float32, Int64]:
        """Squared distances and places, (q, k) each; -1 for what is not there."""
        if members is not None and not takes_selector(self.inner):
            return self._compare(queries, k, members)
        bits = None if members is None else np.packbits(members, bitorder="little")
        selector = None if bits is None else swig.IDSelectorBitmap(bits)
        wanted = parameters(self.inner, setting, selector)
        found: tuple[Float32, Int64] = self.inner.search(queries, k, params=wanted)
        return found

    def _everything(self, queries: Float32, k: int, members: Mask | None) -> tuple[Float32, Int64]:
        """As `_find`, over every item: lists and graphs may lead to few that are kept."""
        if self.card.knob == "nprobe":
            return self._find(queries, k, lists_of(self.inner).nlist, members)
        return self._compare(queries, k, members)

    def _compare(self, queries: Float32, k: int, members: Mask | None) -> tuple[Float32, Int64]:
        """As `_find`, with every member's stored vector taken out and compared."""
        places = np.arange(self.card.items) if members is None else np.flatnonzero(members)
        within = min(k, len(places))
        out = np.full((len(queries), k), np.inf, np.float32), np.full((len(queries), k), -1)
        stored = self.inner.reconstruct_batch(np.ascontiguousarray(places))
        distances, rows = faiss.knn(queries, stored, within)
        out[0][:, :within], out[1][:, :within] = distances, places[rows]
        return out
