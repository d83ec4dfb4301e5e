"""How much the neighbourhoods in two versions of the embeddings agree."""

import numpy as np

from remine.data.faiss_library import faiss
from remine.data.measures import mean_overlap
from remine.data.types import Embeddings, Int64

DEPTH = 10


def neighbour_overlap(
    before: Embeddings, after: Embeddings, *, depth: int = DEPTH, sample: int = 1000, seed: int = 0
) -> tuple[float, int]:
    """The mean share of the `depth` nearest items that are the same in both versions.

    Args:
        before: Embeddings of all items.
        after: Other embeddings of the same items.
        depth: Neighbours of each item, by exact search over all items; the item itself is excluded.
        sample: Items that are compared.
        seed: Of the sample.

    Returns:
        The share and the number of items that were compared.
    """
    n = len(before)
    rows = np.sort(np.random.default_rng(seed).choice(n, min(sample, n), replace=False))
    old, new = (_nearest(one, rows, min(depth, n - 1)) for one in (before, after))
    return mean_overlap(old, new), len(rows)


def _nearest(embeddings: Embeddings, rows: Int64, depth: int) -> Int64:
    """(q, depth) rows nearest to `rows` (q,), themselves excluded."""
    queries = np.ascontiguousarray(embeddings.vectors[rows])
    _, nearest = faiss.knn(queries, embeddings.vectors, depth + 1)
    is_self = nearest == rows[:, None]
    is_self[~is_self.any(axis=1), -1] = True  # not among depth + 1 duplicates: drop the last
    neighbours: Int64 = nearest[~is_self].reshape(len(rows), depth)
    return neighbours
