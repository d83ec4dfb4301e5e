"""Whether a stored index still answers as its card states: its recall, measured again."""

import numpy as np

from remine.data.faiss_library import faiss
from remine.data.types import Embeddings
from remine.index.search import Searcher

SAMPLE = 1_000
DEPTH = 10


def measure_recall(searcher: Searcher, embeddings: Embeddings, seed: int = 1) -> tuple[float, int]:
    """Recall@10 at the card's setting over random items, each excluded from its own answer.

    Ties with the exact 10th nearest count as found.

    Returns:
        The recall and the number of queries.
    """
    n = len(embeddings)
    rows = np.sort(np.random.default_rng(seed).choice(n, min(SAMPLE, n), replace=False))
    queries = np.ascontiguousarray(embeddings.vectors[rows])
    depth = min(DEPTH + 1, n)
    exact = faiss.knn(queries, np.ascontiguousarray(embeddings.vectors), depth)[1]
    neighbours, _ = searcher.search(queries, depth)
    places = np.where(neighbours.ids >= 0, np.searchsorted(embeddings.ids, neighbours.ids), -1)
    hits = total = 0
    for row, exact_rows, found_rows in zip(rows, exact, places, strict=True):
        true_neighbours = exact_rows[exact_rows != row][:DEPTH]
        reach = (
            _squared_distances(embeddings, row, true_neighbours).max(initial=0) * (1 + 1e-6) + 1e-6
        )
        answers = found_rows[(found_rows >= 0) & (found_rows != row)][: len(true_neighbours)]
        hits += int((_squared_distances(embeddings, row, answers) <= reach).sum())
        total += len(true_neighbours)
    return hits / max(1, total), len(rows)


def max_stored_error(searcher: Searcher, embeddings: Embeddings, seed: int = 1) -> float:
    """The largest squared distance of a stored vector to its embedding, over a sample."""
    n = len(embeddings)
    rows = np.random.default_rng(seed).choice(n, min(SAMPLE, n), replace=False)
    gaps = searcher.vectors(embeddings.ids[rows]) - embeddings.vectors[rows]
    return float((gaps**2).sum(axis=1).max(initial=0))


def _squared_distances(embeddings: Embeddings, row: int, rows: np.ndarray) -> np.ndarray:
    """Squared distances of some rows to one row."""
    gaps = embeddings.vectors[rows] - embeddings.vectors[row]
    distances: np.ndarray = (gaps**2).sum(axis=1)
    return distances
