"""How many of the exact nearest an index finds, over every setting of its knob."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from remine.data.faiss_library import faiss
from remine.data.types import Float32, Int64
from remine.index.knob import Knob, lists_of, parameters

KS = (1, 10, 100)
ENOUGH = 0.9999
BLOCK = 64


@dataclass(frozen=True, kw_only=True)
class Point:
    """One setting of the knob and what it finds.

    recall_1, recall_10, recall_100: share of the exact k nearest that are found (of all items
    where there are fewer). visited: share of the stored vectors that were compared, None where
    FAISS does not tell.
    """

    setting: int
    recall_1: float
    recall_10: float
    recall_100: float
    visited: float | None

    def recall(self, k: int) -> float:
        """The recall measured at the next larger k, at the largest beyond it."""
        return self.recall_1 if k <= 1 else self.recall_10 if k <= 10 else self.recall_100

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Truth:
    """The exact answer.

    queries: (q, d). stored: (n, d) the vectors to find. reach: (q, len(KS)) float32, the squared
    distance of each query's exact k-th nearest.
    """

    queries: Float32
    stored: Float32
    reach: Float32


def exact(queries: Float32, stored: Float32) -> Truth:
    """The exact k nearest of each query among the stored vectors."""
    depth = min(max(KS), len(stored))
    _, nearest = faiss.knn(queries, stored, depth)
    distances = _distances(queries, stored, nearest)
    reach = [distances[:, : min(k, depth)].max(axis=1) for k in KS]
    return Truth(queries=queries, stored=stored, reach=np.stack(reach, axis=1))


def curve(index: Any, knob: Knob, truth: Truth) -> list[Point]:
    """A point a setting, until nothing is left to find.

    index answers with rows of truth.stored.
    """
    points: list[Point] = []
    depth = min(max(KS), len(truth.stored))
    for setting in knob.settings:
        _, found = index.search(truth.queries, depth, params=parameters(index, setting))
        shares = recalls(truth, found)
        points.append(
            Point(
                setting=setting,
                recall_1=shares[0],
                recall_10=shares[1],
                recall_100=shares[2],
                visited=_rounded(visited(index, truth.queries, setting)),
            )
        )
        if min(shares) >= ENOUGH:
            break
    return points


def recalls(truth: Truth, found: Int64) -> list[float]:
    """The share of the exact k nearest among the first k found (q, depth), for each k of KS.

    An item as near as the exact k-th counts as found, so that equals cannot lower the recall.
    """
    distances = _distances(truth.queries, truth.stored, found)
    shares = []
    for place, k in enumerate(KS):
        within = min(k, found.shape[1])
        limit = truth.reach[:, place] * (1 + 1e-6) + 1e-6
        shares.append(round(float((distances[:, :within] <= limit[:, None]).mean()), 6))
    return shares


def visited(index: Any, queries: Float32, setting: int) -> float | None:
    """The share of the stored vectors in the lists that `queries` (q, d) visit, in the mean."""
    if not (lists := lists_of(index)):
        return 1.0 if isinstance(index, faiss.IndexFlatCodes) else None
    if isinstance(index, faiss.IndexPreTransform):
        chain: Any = index.chain
        for place in range(chain.size()):
            queries = faiss.downcast_VectorTransform(chain.at(place)).apply(queries)
    _, near = lists.quantizer.search(queries, max(1, min(setting, lists.nlist)))
    inverted = lists.invlists
    sizes = np.array([inverted.list_size(number) for number in range(lists.nlist)])
    return float(sizes[near].sum(axis=1).mean() / max(1, lists.ntotal))


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 6)


def _distances(queries: Float32, stored: Float32, rows: Int64) -> Float32:
    """(q, k) squared distances to the stored `rows` (q, k), inf where a row is -1."""
    out = np.empty(rows.shape, np.float32)
    for start in range(0, len(rows), BLOCK):
        part = slice(start, start + BLOCK)
        gaps = stored[rows[part]] - queries[part, None]
        out[part] = np.einsum("qkd,qkd->qk", gaps, gaps)
    out[rows < 0] = np.inf
    return out
