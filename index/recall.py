"""Recall of an index against exact search, for every setting of its knob."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from remine.data.faiss_library import faiss
from remine.data.types import Float32, Int64
from remine.index.search_report import LIMIT_QUANTILE
from remine.index.search_setting import Knob, lists_of, parameters

KS = (1, 10, 100)
FULL_RECALL = 0.9999
BLOCK = 64


@dataclass(frozen=True, kw_only=True)
class RecallPoint:
    """What one setting of the knob finds; the field names are the keys of its JSON.

    Attributes:
        setting: Value of the knob.
        recall_1, recall_10, recall_100: Share of the exact k nearest that are found (of all items
            if there are fewer).
        visited: Share of the stored vectors that were compared, None if FAISS does not report it.
    """

    setting: int
    recall_1: float
    recall_10: float
    recall_100: float
    visited: float | None

    def recall(self, k: int) -> float:
        """The recall at the next larger measured k, or at the largest."""
        return self.recall_1 if k <= 1 else self.recall_10 if k <= 10 else self.recall_100

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class ExactNeighbours:
    """The answer of exact search.

    Attributes:
        queries: (q, d) float32.
        vectors: (n, d) float32, the vectors searched.
        reach: (q, len(KS)) float32 squared distance of each query's exact k-th nearest.
    """

    queries: Float32
    vectors: Float32
    reach: Float32


def exact_neighbours(queries: Float32, vectors: Float32) -> ExactNeighbours:
    """The exact k nearest of each query (q, d) among the vectors (n, d)."""
    depth = min(max(KS), len(vectors))
    _, nearest = faiss.knn(queries, vectors, depth)
    distances = _distances(queries, vectors, nearest)
    reach = [distances[:, : min(k, depth)].max(axis=1) for k in KS]
    return ExactNeighbours(queries=queries, vectors=vectors, reach=np.stack(reach, axis=1))


def recall_curve(index: Any, knob: Knob, truth: ExactNeighbours) -> list[RecallPoint]:
    """A point for every setting, until the recall is full.

    Args:
        index: Answers with rows of truth.vectors.
        knob: Of the index.
        truth: The exact answer.
    """
    points: list[RecallPoint] = []
    depth = min(max(KS), len(truth.vectors))
    for setting in knob.settings:
        _, rows = index.search(truth.queries, depth, params=parameters(index, setting))
        shares = recalls(truth, rows)
        points.append(
            RecallPoint(
                setting=setting,
                recall_1=shares[0],
                recall_10=shares[1],
                recall_100=shares[2],
                visited=_rounded(visited_share(index, truth.queries, setting)),
            )
        )
        if min(shares) >= FULL_RECALL:
            break
    return points


def recalls(truth: ExactNeighbours, rows: Int64) -> list[float]:
    """The recall of found rows (q, depth) at each k of KS.

    An item as near as the exact k-th counts as found, so that ties cannot lower the recall.
    """
    distances = _distances(truth.queries, truth.vectors, rows)
    shares = []
    for place, k in enumerate(KS):
        length = min(k, rows.shape[1])
        limit = truth.reach[:, place] * (1 + 1e-6) + 1e-6
        shares.append(round(float((distances[:, :length] <= limit[:, None]).mean()), 6))
    return shares


def visited_share(index: Any, queries: Float32, setting: int) -> float | None:
    """The mean share of the stored vectors in the lists that `queries` (q, d) visit.

    1 for an index that compares everything, None if FAISS does not report it.
    """
    if not (lists := lists_of(index)):
        return 1.0 if isinstance(index, faiss.IndexFlatCodes) else None
    queries = _transformed(index, queries)
    _, lists_visited = lists.quantizer.search(queries, max(1, min(setting, lists.nlist)))
    inverted_lists = lists.invlists
    sizes = np.array([inverted_lists.list_size(number) for number in range(lists.nlist)])
    return float(sizes[lists_visited].sum(axis=1).mean() / max(1, lists.ntotal))


def query_distances(index: Any, queries: Float32, nearest: Float32) -> Float32:
    """(q,) squared distance of each query (q, d) from the index.

    To the centre of the nearest list. An index without lists has no centres: to its nearest item,
    `nearest` (q,).
    """
    if not (lists := lists_of(index)):
        return nearest
    distances: Float32 = lists.quantizer.search(_transformed(index, queries), 1)[0][:, 0]
    return distances


def distance_limit(index: Any, knob: Knob, truth: ExactNeighbours) -> float | None:
    """The squared distance from the index within which 99 % of the queries of `truth` lie.

    A query beyond it is unlike those on which the recall was measured. None if the index has no
    knob: its recall hardly depends on where a query lies.
    """
    if knob.name == "none":
        return None
    distances = query_distances(index, truth.queries, truth.reach[:, 0])
    return float(np.quantile(distances, LIMIT_QUANTILE))


def _transformed(index: Any, queries: Float32) -> Float32:
    """The queries (q, d) as the lists below a transform see them."""
    if isinstance(index, faiss.IndexPreTransform):
        chain: Any = index.chain
        for place in range(chain.size()):
            queries = faiss.downcast_VectorTransform(chain.at(place)).apply(queries)
    return queries


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 6)


def _distances(queries: Float32, vectors: Float32, rows: Int64) -> Float32:
    """(q, k) squared distances to rows (q, k) of the vectors, inf where a row is -1."""
    out = np.empty(rows.shape, np.float32)
    for start in range(0, len(rows), BLOCK):
        part = slice(start, start + BLOCK)
        gaps = vectors[rows[part]] - queries[part, None]
        out[part] = np.einsum("qkd,qkd->qk", gaps, gaps)
    out[rows < 0] = np.inf
    return out
