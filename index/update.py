"""An index that follows its items: some are removed, some are added, nothing is trained again.

Kinds that store one code per item, in a row or in lists (Flat, SQ8, SQfp16, PQ, and IVF over
them), allow items to be removed; what was trained (centroids, ranges) stays. FAISS cannot remove
items from a graph (HNSW), and indexes with transforms or refinements are not attempted: those are
rebuilt. FAISS's own removal from an IVF keeps the places of the remaining items, so the map of ids
above it would refer to others; here the lists are rewritten with the new places.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from remine.data.faiss_library import faiss
from remine.data.types import Embeddings, Float32, Int64
from remine.index.build import IndexCard, held_out, setting_for
from remine.index.config import IndexConfig
from remine.index.factory_choice import choose_factory
from remine.index.recall import RecallPoint, distance_limit, exact_neighbours, recall_curve
from remine.index.search_setting import inner_of, knob_of, swig

SHARE_LIMIT = 0.6
"""Largest share of added and removed items, of all, before the lists are trained again.

A replaced item counts twice. Measured with benchmarks/growing.py at 20,000 x 128: replacing 30 % of
the items with similar ones costs 0.003 of recall@10, replacing 80 % as much, so this limit is for
drift that the held-out items show too late. Items from another distribution cost 0.016 at 5 %
already, which RECALL_LIMIT detects.
"""

RECALL_LIMIT = 0.005
"""Largest drop of the recall since the index was built, at the setting chosen then.

The standard error of the measurement (1,000 queries of 10 neighbours, recall 0.98) is 0.0014.
"""

FLAT_QUERIES = 20
"""Queries that measure an index that compares full vectors exhaustively and can only be exact."""


def can_follow(index: faiss.Index) -> bool:
    """Whether items can be removed from an index that `build_index` or `update_index` made."""
    inner = inner_of(index)
    return isinstance(inner, swig.IndexIVF | swig.IndexFlatCodes) and not isinstance(
        inner, swig.IndexIVFPQR
    )


def same_kind(factory: str, n: int, d: int, config: IndexConfig) -> bool:
    """Whether the configuration still asks for such an index, whatever the number of lists."""
    if config.factory != "auto":
        return config.factory == factory
    return _kind(choose_factory(n, d, config.memory).factory) == _kind(factory)


def differences(
    before: Iterable[Embeddings], after: Embeddings, may_differ: NDArray[np.bool_] | None = None
) -> tuple[Int64, Int64]:
    """The ids to remove from the index and the ids to add; an item whose vector changed is in both.

    Vectors are compared bit by bit.

    Args:
        before: The embeddings in the index, shard by shard, so that one is in memory at a time.
        after: All embeddings it should hold.
        may_differ: (n,) bool, the rows of `after` that may not be as before; all if None.
    """
    is_added = np.ones(len(after), bool) if may_differ is None else may_differ.copy()
    removed_ids = []
    for shard in before:
        rows = np.searchsorted(after.ids, shard.ids).clip(max=len(after) - 1)
        is_same = after.ids[rows] == shard.ids
        bits = [v.view(np.uint32) for v in (after.vectors[rows[is_same]], shard.vectors[is_same])]
        is_same[is_same] = (bits[0] == bits[1]).all(axis=1)
        is_added[rows[is_same]] = False
        removed_ids.append(shard.ids[~is_same])
    return np.concatenate(removed_ids or [np.zeros(0, np.int64)]), after.ids[is_added]


def update_index(
    index: Any,
    card: IndexCard,
    embeddings: Embeddings,
    removed_ids: Int64,
    added_ids: Int64,
    seed: int = 0,
) -> IndexCard:
    """Update `index` to hold `embeddings`, and measure its recall again.

    Random items serve as queries before they are stored themselves, as when an index is built.

    Args:
        index: An IDMap2 that `can_follow`; updated in place.
        card: Its card.
        embeddings: All items that it should hold.
        removed_ids: See `differences`.
        added_ids: See `differences`.
        seed: Of the choice of queries.

    Returns:
        The new card.
    """
    n = len(embeddings)
    query_rows, stored_rows = held_out(n, seed)
    if isinstance(inner_of(index), swig.IndexFlat):
        query_rows = query_rows[:: -(-len(query_rows) // FLAT_QUERIES)]
    stays = np.isin(
        index_ids(index), np.union1d(removed_ids, embeddings.ids[query_rows]), invert=True
    )
    _keep(index, stays)
    is_added = np.isin(embeddings.ids, added_ids)
    if len(stored_rows) < n:
        is_added[query_rows] = False
        _add(index, embeddings, np.flatnonzero(is_added))
    else:  # too few items to hold any out
        is_missing = np.isin(embeddings.ids, index_ids(index), invert=True)
        _add(index, embeddings, np.flatnonzero(is_missing))
    vectors = _stored(index, embeddings)
    queries = np.ascontiguousarray(embeddings.vectors[query_rows])
    knob = knob_of(inner_of(index))
    truth = exact_neighbours(queries, vectors)
    points = recall_curve(inner_of(index), knob, truth)
    limit = distance_limit(inner_of(index), knob, truth) if len(stored_rows) < n else None
    if len(stored_rows) < n:
        _add(index, embeddings, query_rows)
    if isinstance(inner := inner_of(index), swig.IndexIVF):
        inner.make_direct_map()
    best = setting_for(points, card.wished)
    return replace(
        card,
        items=n,
        curve=tuple(points),
        held_out=len(query_rows),
        setting=best.setting,
        recall=best.recall_10,
        distance_limit=limit,
    )


def recall_drop(
    first_curve: tuple[RecallPoint, ...], setting: int, last_curve: tuple[RecallPoint, ...]
) -> float:
    """How far recall@10 at `setting` fell since the index was built.

    A curve ends where the recall is full, so a setting beyond its end has the recall of the last
    point.
    """
    return _recall_at(first_curve, setting) - _recall_at(last_curve, setting)


def index_ids(index: Any) -> Int64:
    """The ids in the order of their places."""
    ids: Int64 = faiss.vector_to_array(index.id_map)
    return ids


def _recall_at(points: tuple[RecallPoint, ...], setting: int) -> float:
    return next((p for p in points if p.setting >= setting), points[-1]).recall_10


def _kind(factory: str) -> str:
    """The factory without the number of lists: IVF447,Flat and IVF450,Flat are of one kind."""
    first, comma, codec = factory.partition(",")
    return f"IVF,{codec}" if first.startswith("IVF") and comma else factory


def _stored(index: Any, embeddings: Embeddings) -> Float32:
    """(m, d) the vectors of the items in the index, in its order; valid until it changes."""
    inner = inner_of(index)
    if isinstance(inner, swig.IndexFlat):  # stores the vectors themselves
        contents: Float32 = swig.rev_swig_ptr(inner.get_xb(), inner.ntotal * inner.d)
        return contents.reshape(-1, inner.d)
    vectors: Float32 = embeddings.vectors[np.searchsorted(embeddings.ids, index_ids(index))]
    return vectors


def _add(index: Any, embeddings: Embeddings, rows: Int64) -> None:
    if len(rows):
        vectors = np.ascontiguousarray(embeddings.vectors[rows])
        index.add_with_ids(vectors, np.ascontiguousarray(embeddings.ids[rows]))


def _keep(index: Any, stays: np.ndarray) -> None:
    """Keep only the places (n,) where `stays`; later ones move up."""
    inner = swig.downcast_index(index.index)
    ids = index_ids(index)[stays]
    if isinstance(inner, swig.IndexIVF):
        _keep_in_lists(inner, stays)
    else:
        removed_places = np.flatnonzero(~stays)
        bits = np.packbits(~stays, bitorder="little")
        inner.remove_ids(swig.IDSelectorBitmap(bits)) if len(removed_places) else None
    faiss.copy_array_to_vector(ids, index.id_map)
    index.ntotal = len(ids)
    index.construct_rev_map()


def _keep_in_lists(ivf: Any, stays: np.ndarray) -> None:
    """Rewrite the lists of an IVF with the codes that stay and their new places."""
    places = np.cumsum(stays) - 1
    old, size = ivf.invlists, ivf.invlists.code_size
    new = swig.ArrayInvertedLists(ivf.nlist, size)
    for number in range(ivf.nlist):
        count = old.list_size(number)
        if not count:
            continue
        at = swig.rev_swig_ptr(old.get_ids(number), count)
        mask = stays[at]
        new_places = np.ascontiguousarray(places[at[mask]])
        codes = swig.rev_swig_ptr(old.get_codes(number), count * size).reshape(count, size)
        codes = np.ascontiguousarray(codes[mask])
        if len(new_places):
            new.add_entries(
                number, len(new_places), swig.swig_ptr(new_places), swig.swig_ptr(codes)
            )
    new.this.disown()  # the index frees it
    ivf.set_direct_map_type(swig.DirectMap.NoMap)
    ivf.replace_invlists(new, True)
    ivf.ntotal = int(stays.sum())
