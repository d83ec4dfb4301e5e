"""Embeddings to a FAISS index, by a policy with its reasons."""

from dataclasses import asdict, dataclass
from math import isqrt
from typing import Any

import numpy as np
import torch  # noqa: F401 - before faiss: the other order crashes in the OpenMP runtime

import faiss  # isort: skip

from data.errors import InputError
from data.types import Embeddings

FLAT_LIMIT = 200_000
SAMPLE = 1_000
DEPTH = 10
WISHED_RECALL = 0.98


@dataclass(frozen=True, kw_only=True)
class IndexCard:
    """What an index is and how exact it answers.

    recall: share of the exact 10 nearest that it finds, over `sampled` random items, with nprobe.
    """

    factory: str
    items: int
    dimensions: int
    nprobe: int
    recall: float
    sampled: int

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


def choose_factory(n: int) -> str:
    """The FAISS factory string for n vectors.

    Up to 200,000 exact search answers in milliseconds and needs no tuning. Above, an inverted
    file of about sqrt(n) lists visits few of them; vectors stay whole, so distances stay exact.
    """
    return "Flat" if n <= FLAT_LIMIT else f"IVF{isqrt(n)},Flat"


def build_index(
    embeddings: Embeddings, factory: str, seed: int = 0
) -> tuple[faiss.Index, IndexCard]:
    """An index that answers with item ids and squared distances, and its measured card."""
    n, d = embeddings.vectors.shape
    name = choose_factory(n) if factory == "auto" else factory
    inner = _made(name, d)
    vectors = np.ascontiguousarray(embeddings.vectors)
    index = faiss.IndexIDMap2(inner)
    try:
        inner.train(vectors)
        index.add_with_ids(vectors, embeddings.ids)
    except RuntimeError:
        raise InputError(
            f"index.factory {name!r} does not fit {n} vectors of {d} dimensions"
        ) from None
    if lists := _lists(index):
        lists.make_direct_map()  # from an id to its vector: items are queries too
    inner.this.disown()  # type: ignore[attr-defined]  # the index owns it now
    index.own_fields = True
    nprobe, recall, sampled = _tune(index, embeddings, seed)
    card = IndexCard(
        factory=name, items=n, dimensions=d, nprobe=nprobe, recall=recall, sampled=sampled
    )
    return index, card


def check_factory(factory: str, n: int, d: int) -> None:
    """Refuse a factory string that cannot be built over n vectors of d dimensions."""
    name = choose_factory(n) if factory == "auto" else factory
    index = _made(name, d)
    lists = faiss.try_extract_index_ivf(index)
    codes = getattr(faiss.downcast_index(lists) if lists else index, "pq", None)
    needed = max(lists.nlist if lists else 0, codes.ksub if codes else 0)
    if needed > n:
        raise InputError(f"index.factory {name!r} needs {needed} vectors or more; there are {n}")


def _made(name: str, d: int) -> faiss.Index:
    try:
        return faiss.index_factory(d, name, faiss.METRIC_L2)
    except RuntimeError:
        raise InputError(
            f"index.factory {name!r} is not one that FAISS knows for {d} dimensions"
        ) from None


def set_nprobe(index: faiss.Index, nprobe: int) -> None:
    """Visit `nprobe` lists a query, where the index has lists."""
    if lists := _lists(index):
        lists.nprobe = nprobe


def _lists(index: faiss.Index) -> Any:
    """The inverted lists under the map of ids, and under a transform; None where it has none."""
    return faiss.try_extract_index_ivf(index)


def _tune(index: faiss.Index, embeddings: Embeddings, seed: int) -> tuple[int, float, int]:
    """The smallest nprobe (a power of two) that reaches the wished recall, and the recall there."""
    n = len(embeddings)
    rows = np.random.default_rng(seed).choice(n, min(SAMPLE, n), replace=False)
    queries = np.ascontiguousarray(embeddings.vectors[rows])
    k = min(DEPTH, n)
    _, exact = faiss.knn(queries, embeddings.vectors, k)
    wanted = embeddings.ids[exact]
    lists = _lists(index)
    most = lists.nlist if lists else 1
    nprobe = 1
    while True:
        set_nprobe(index, nprobe)
        _, found = index.search(queries, k)
        hits = (found[:, :, None] == wanted[:, None, :]).any(axis=2)
        recall = float(hits.mean())
        if recall >= WISHED_RECALL or nprobe >= most:
            return nprobe, round(recall, 6), len(rows)
        nprobe = min(2 * nprobe, most)
