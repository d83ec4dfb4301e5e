"""Whether an index still answers as its card says: measured again, on other items."""

import numpy as np

from remine.data.faiss_library import faiss
from remine.data.types import Embeddings
from remine.index.search import Searcher

SAMPLE = 1_000
DEPTH = 10


def recall_again(searcher: Searcher, embeddings: Embeddings, seed: int = 1) -> tuple[float, int]:
    """Recall@10 at the card's setting over random items, each left out of its own answer.

    Returns it and how many items were asked. Equals count as found.
    """
    n = len(embeddings)
    rows = np.sort(np.random.default_rng(seed).choice(n, min(SAMPLE, n), replace=False))
    queries = np.ascontiguousarray(embeddings.vectors[rows])
    depth = min(DEPTH + 1, n)
    exact = faiss.knn(queries, np.ascontiguousarray(embeddings.vectors), depth)[1]
    found, _ = searcher.search(queries, depth)
    places = np.where(found.ids >= 0, np.searchsorted(embeddings.ids, found.ids), -1)
    hits = total = 0
    for row, wanted, got in zip(rows, exact, places, strict=True):
        others = wanted[wanted != row][:DEPTH]
        reach = _squared(embeddings, row, others).max(initial=0) * (1 + 1e-6) + 1e-6
        near = got[(got >= 0) & (got != row)][: len(others)]
        hits += int((_squared(embeddings, row, near) <= reach).sum())
        total += len(others)
    return hits / max(1, total), len(rows)


def stored_as_given(searcher: Searcher, embeddings: Embeddings, seed: int = 1) -> float:
    """The largest squared distance of a stored vector to the embedding that it is of, sampled."""
    n = len(embeddings)
    rows = np.random.default_rng(seed).choice(n, min(SAMPLE, n), replace=False)
    gaps = searcher.vectors(embeddings.ids[rows]) - embeddings.vectors[rows]
    return float((gaps**2).sum(axis=1).max(initial=0))


def _squared(embeddings: Embeddings, row: int, others: np.ndarray) -> np.ndarray:
    gaps = embeddings.vectors[others] - embeddings.vectors[row]
    squared: np.ndarray = (gaps**2).sum(axis=1)
    return squared
