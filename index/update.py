"""An index that follows its items: some leave, some come, and nothing is trained again.

Kinds that store one code an item, in a row or in lists (Flat, SQ8, SQfp16, PQ, and IVF over them),
can give up single items; what was trained (centroids, ranges) stays as it was. FAISS removes
nothing from a graph (HNSW), and below transforms and refinements it is not tried: those are built
anew. FAISS's own removal from an IVF keeps the places of the items that stay, so that the map of
ids above it would name others; here the lists are written again, with the new places.
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
from remine.index.factory_choice import choose
from remine.index.knob import inner_of, knob_of, swig
from remine.index.recall import Point, curve, exact

SHARE_LIMIT = 0.6
"""How many items may come and go, of all, before the lists are trained again.

An item that is replaced comes and goes, so it counts twice. Measured with benchmarks/growing.py at
20,000 x 128: 30 % replaced by their like cost 0.003 of recall@10, 80 % the same 0.003; so the limit
is for drift that the held-out items show too late. Strangers cost 0.016 at 5 % already, which
RECALL_LIMIT sees.
"""

RECALL_LIMIT = 0.005
"""How far the recall at the setting of the last whole build may fall below what it was then.

The measurement's own noise, 1,000 queries of 10 neighbours at a recall of 0.98, is 0.0014.
"""

FLAT_HELD = 20
"""Items that measure an index that looks at every whole vector, and can only be exact."""


def can_follow(index: faiss.Index) -> bool:
    """Whether single items can be taken out of an index that `build_index` or this made."""
    inner = inner_of(index)
    return isinstance(inner, swig.IndexIVF | swig.IndexFlatCodes) and not isinstance(
        inner, swig.IndexIVFPQR
    )


def same_kind(factory: str, n: int, d: int, config: IndexConfig) -> bool:
    """Whether the settings still ask for such an index, up to the number of lists."""
    if config.factory != "auto":
        return config.factory == factory
    return _kind(choose(n, d, config.memory).factory) == _kind(factory)


def differences(
    before: Iterable[Embeddings], after: Embeddings, moved: NDArray[np.bool_] | None = None
) -> tuple[Int64, Int64]:
    """Ids that leave the index and ids that come into it; an item whose vector changed does both.

    before: shard by shard, so that one is held at a time. moved: (n,) the rows of `after` that may
    not be as before, all where None. Vectors are compared bit by bit.
    """
    come = np.ones(len(after), bool) if moved is None else moved.copy()
    leave = []
    for shard in before:
        rows = np.searchsorted(after.ids, shard.ids).clip(max=len(after) - 1)
        same = after.ids[rows] == shard.ids
        bits = [v.view(np.uint32) for v in (after.vectors[rows[same]], shard.vectors[same])]
        same[same] = (bits[0] == bits[1]).all(axis=1)
        come[rows[same]] = False
        leave.append(shard.ids[~same])
    return np.concatenate(leave or [np.zeros(0, np.int64)]), after.ids[come]


def update_index(
    index: Any, card: IndexCard, embeddings: Embeddings, leave: Int64, come: Int64, seed: int = 0
) -> IndexCard:
    """`index` (an IDMap2 that `can_follow`) made to hold `embeddings`; its card, measured anew.

    Random items measure the recall before they are stored themselves, as in a whole build.
    """
    n = len(embeddings)
    asked, rest = held_out(n, seed)
    if isinstance(inner_of(index), swig.IndexFlat):
        asked = asked[:: -(-len(asked) // FLAT_HELD)]
    stays = np.isin(index_ids(index), np.union1d(leave, embeddings.ids[asked]), invert=True)
    _keep(index, stays)
    coming = np.isin(embeddings.ids, come)
    if len(rest) < n:
        coming[asked] = False
        _add(index, embeddings, np.flatnonzero(coming))
    else:  # too few to hold any out
        missing = np.isin(embeddings.ids, index_ids(index), invert=True)
        _add(index, embeddings, np.flatnonzero(missing))
    stored = _stored(index, embeddings)
    queries = np.ascontiguousarray(embeddings.vectors[asked])
    knob = knob_of(inner_of(index))
    points = curve(inner_of(index), knob, exact(queries, stored))
    if len(rest) < n:
        _add(index, embeddings, asked)
    if isinstance(inner := inner_of(index), swig.IndexIVF):
        inner.make_direct_map()
    best = setting_for(points, card.wished)
    return replace(
        card,
        items=n,
        curve=tuple(points),
        held_out=len(asked),
        setting=best.setting,
        recall=best.recall_10,
    )


def fallen(built: tuple[Point, ...], setting: int, now: tuple[Point, ...]) -> float:
    """How far recall@10 at `setting` fell since the whole build; a curve ends where it is full."""
    return _recall_at(built, setting) - _recall_at(now, setting)


def index_ids(index: Any) -> Int64:
    """The ids in the order of their places."""
    ids: Int64 = faiss.vector_to_array(index.id_map)
    return ids


def _recall_at(points: tuple[Point, ...], setting: int) -> float:
    return next((p for p in points if p.setting >= setting), points[-1]).recall_10


def _kind(factory: str) -> str:
    """IVF447,Flat and IVF450,Flat are of one kind."""
    first, comma, codec = factory.partition(",")
    return f"IVF,{codec}" if first.startswith("IVF") and comma else factory


def _stored(index: Any, embeddings: Embeddings) -> Float32:
    """(m, d) the vectors of the items in the index, in its order; read before it changes again."""
    inner = inner_of(index)
    if isinstance(inner, swig.IndexFlat):  # which holds just these
        own: Float32 = swig.rev_swig_ptr(inner.get_xb(), inner.ntotal * inner.d)
        return own.reshape(-1, inner.d)
    vectors: Float32 = embeddings.vectors[np.searchsorted(embeddings.ids, index_ids(index))]
    return vectors


def _add(index: Any, embeddings: Embeddings, rows: Int64) -> None:
    if len(rows):
        vectors = np.ascontiguousarray(embeddings.vectors[rows])
        index.add_with_ids(vectors, np.ascontiguousarray(embeddings.ids[rows]))


def _keep(index: Any, stays: np.ndarray) -> None:
    """Leave only the places (n,) where `stays`; those behind move up."""
    inner = swig.downcast_index(index.index)
    ids = index_ids(index)[stays]
    if isinstance(inner, swig.IndexIVF):
        _keep_in_lists(inner, stays)
    else:
        gone = np.flatnonzero(~stays)
        bits = np.packbits(~stays, bitorder="little")
        inner.remove_ids(swig.IDSelectorBitmap(bits)) if len(gone) else None
    faiss.copy_array_to_vector(ids, index.id_map)
    index.ntotal = len(ids)
    index.construct_rev_map()


def _keep_in_lists(ivf: Any, stays: np.ndarray) -> None:
    places = np.cumsum(stays) - 1
    old, size = ivf.invlists, ivf.invlists.code_size
    new = swig.ArrayInvertedLists(ivf.nlist, size)
    for number in range(ivf.nlist):
        count = old.list_size(number)
        if not count:
            continue
        at = swig.rev_swig_ptr(old.get_ids(number), count)
        mask = stays[at]
        kept = np.ascontiguousarray(places[at[mask]])
        codes = swig.rev_swig_ptr(old.get_codes(number), count * size).reshape(count, size)
        codes = np.ascontiguousarray(codes[mask])
        if len(kept):
            new.add_entries(number, len(kept), swig.swig_ptr(kept), swig.swig_ptr(codes))
    new.this.disown()
    ivf.set_direct_map_type(swig.DirectMap.NoMap)
    ivf.replace_invlists(new, True)
    ivf.ntotal = int(stays.sum())
