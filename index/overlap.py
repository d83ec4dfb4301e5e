"""How far the neighbourhoods of two versions of an index agree."""

import numpy as np

from remine.data.faiss_library import faiss
from remine.data.types import Embeddings, Int64

DEPTH = 10


def neighbour_overlap(
    before: Embeddings, after: Embeddings, *, depth: int = DEPTH, sample: int = 1000, seed: int = 0
) -> tuple[float, int]:
    """The mean share of the `depth` nearest items that both versions name, and of how many items.

    Exact, over all items, for a sample of them, the same in both; the item itself does not count.
    """
    n = len(before)
    rows = np.sort(np.random.default_rng(seed).choice(n, min(sample, n), replace=False))
    old, new = (_nearest(one, rows, min(depth, n - 1)) for one in (before, after))
    return float((old[:, :, None] == new[:, None, :]).any(axis=1).mean()), len(rows)


def _nearest(embeddings: Embeddings, rows: Int64, depth: int) -> Int64:
    """(q, depth) rows nearest to `rows`, themselves left out."""
    queries = np.ascontiguousarray(embeddings.vectors[rows])
    _, found = faiss.knn(queries, embeddings.vectors, depth + 1)
    own = found == rows[:, None]
    own[~own.any(axis=1), -1] = True  # behind depth + 1 duplicates: the last one goes
    others: Int64 = found[~own].reshape(len(rows), depth)
    return others
