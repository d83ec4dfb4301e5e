"""Items that are probably mislabelled, and items that are probably the same under two labels.

From neighbours alone, which the caller has searched: an item of class A that was filed under B lies
among items of A, since training pulls it to few of B and the picture says A.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.errors import InputError
from data.types import Float32, Int32, Int64


@dataclass(frozen=True, kw_only=True)
class SuspectConfig:
    """When to suspect.

    neighbours: how many nearest items vote. agree: share of them that must carry one other label.
    own: at most so large a share of the votes that its own class could give it may carry its own.
    """

    neighbours: int = 10
    agree: float = 0.4
    own: float = 0.1

    def __post_init__(self) -> None:
        if not 1 <= self.neighbours <= 1000:
            raise InputError(f"neighbours is {self.neighbours}; it must be 1 to 1000")
        for name in ("agree", "own"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}; it is a share, 0 to 1")


@dataclass(frozen=True, kw_only=True)
class Votes:
    """What the neighbours of n items say.

    own: (n,) float32, share of the votes that the item's class could give which it gives. other:
    (n,) int32 code of the most frequent other label, -1 where there is none; agree: (n,) float32,
    its share of all votes. score: (n,) float32, agree - own, -1 to 1.
    """

    own: Float32
    other: Int32
    agree: Float32

    @property
    def score(self) -> Float32:
        """How much more the neighbours speak for another label than for the item's own."""
        return self.agree - self.own

    def mislabelled(self, config: SuspectConfig) -> NDArray[np.intp]:
        """Rows to suspect, the worst first, equals in order of rows."""
        rows = np.flatnonzero((self.agree >= config.agree) & (self.own <= config.own))
        return rows[np.argsort(-self.score[rows], kind="stable")]


def votes(near: Int32, codes: Int32, sizes: Int64) -> Votes:
    """Count them.

    near: (n, k) int32 label codes of each item's nearest others, -1 where there are fewer. codes:
    (n,) the items' own. sizes: (n,) how many items each one's class has.
    """
    n, k = near.shape
    asked = np.maximum(1, (near >= 0).sum(axis=1))
    mine = (near == codes[:, None]) & (near >= 0)
    possible = np.clip(sizes - 1, 1, k)
    other, count = _most_frequent(np.where(mine, -1, near))
    return Votes(
        own=(mine.sum(axis=1) / possible).astype(np.float32),
        other=other,
        agree=(count / asked).astype(np.float32),
    )


def twins(
    near: Int64, distances: Float32, codes: Int32, same: NDArray[np.bool_], limit: float
) -> Int64:
    """(2, t) rows of pairs of unlike labels that are as good as one item, the nearest first.

    near: (n, k) rows of each item's nearest others, -1 where there are fewer. distances: (n, k)
    squared. same: (n, k) whether the content is equal, byte for byte. limit: pairs that are each
    other's neighbours and nearer than this count too; 0 for equal content alone.
    """
    rows, places = np.nonzero((near >= 0) & (same | (distances < limit)))
    others = near[rows, places]
    unlike = codes[rows] != codes[others]
    pairs = np.stack([np.minimum(rows, others), np.maximum(rows, others)])[:, unlike]
    apart, equal = distances[rows, places][unlike], same[rows, places][unlike]
    found, first, seen = np.unique(pairs, axis=1, return_index=True, return_counts=True)
    kept = (seen > 1) | equal[first]
    order = np.argsort(apart[first][kept], kind="stable")
    result: Int64 = found[:, kept][:, order].astype(np.int64)
    return result


def near_limit(distances: Float32, mine: NDArray[np.bool_], share: float = 0.01) -> float:
    """The squared distance below which only `share` of the items find one of their own class.

    distances: (n, k) ascending. mine: (n, k) whether the neighbour has the item's label.
    """
    nearest = np.where(mine, distances, np.inf).min(axis=1, initial=np.inf)
    known = nearest[np.isfinite(nearest)]
    return float(np.quantile(known, share)) if len(known) else 0.0


def _most_frequent(codes: Int32) -> tuple[Int32, Int64]:
    """(n,) the code >= 0 that is in each row most often, the nearest of equals, and how often."""
    n, k = codes.shape
    counts = np.zeros((n, k), np.int64)
    for place in range(k):
        counts += codes == codes[:, place, None]
    counts[codes < 0] = 0
    best = counts.argmax(axis=1)
    count = counts[np.arange(n), best]
    return np.where(count > 0, codes[np.arange(n), best], -1).astype(np.int32), count
