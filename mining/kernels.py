"""The compiled inner loops of mining. mining.exact says what buckets are and why this is exact."""

import numba
import numpy as np
from numpy.typing import NDArray

from data.types import Float32, Int32, Int64


@numba.njit(cache=True, nogil=True)
def distance(a: Float32, b: Float32) -> np.float32:
    """Squared distance, summed in float64 and rounded once."""
    total = 0.0
    for i in range(len(a)):
        difference = np.float64(a[i]) - np.float64(b[i])
        total += difference * difference
    return np.float32(total)


@numba.njit(cache=True, nogil=True)
def exact_distances(vectors: Float32, a: NDArray[np.intp], b: NDArray[np.intp]) -> Float32:
    """Distances of rows a (p,) to rows b (p,), all summed alike: a tie is a tie everywhere."""
    out = np.empty(len(a), np.float32)
    for i in range(len(a)):
        out[i] = distance(vectors[a[i]], vectors[b[i]])
    return out


@numba.njit(cache=True, parallel=True, nogil=True)
def fill_buckets(
    scores: Float32,
    offset: int,
    slack: float,
    vectors: Float32,
    codes: Int32,
    ids: Int64,
    anchors: NDArray[np.intp],
    starts: Int64,
    d_ap: Float32,
    sizes: Int64,
    nearest: Int64,
    best: Float32,
) -> None:
    """Drop each negative of one tile of products into its bucket.

    scores: (b, m) products of the anchors with the gallery rows from `offset` on; 2 - 2 * score is
    within `slack` of the exact distance. sizes, nearest, best: see mining.exact.scan; changed.
    """
    for i in numba.prange(len(anchors)):
        anchor = anchors[i]
        t0, t1 = starts[i], starts[i + 1]
        b0 = t0 + i
        count = t1 - t0
        if count == 0:
            continue
        far = b0 + count
        # No product below this can matter: past the last threshold and the last bucket's best.
        floor = np.float32(1.0 - 0.5 * (best[far] + slack))
        for j in range(scores.shape[1]):
            if scores[i, j] < floor:
                continue
            row = offset + j
            if codes[row] == codes[anchor]:
                continue
            low = np.float32(2.0 - 2.0 * scores[i, j])
            known = False
            # How many thresholds lie below the distance; the exact one where it is a close call.
            left, right = 0, count
            while left < right:
                middle = (left + right) // 2
                t = d_ap[t0 + middle]
                if not known and abs(low - t) <= slack:
                    low = distance(vectors[anchor], vectors[row])
                    known = True
                if t < low:
                    left = middle + 1
                else:
                    right = middle
            bucket = b0 + left
            if left < count:
                sizes[bucket] += 1
            if low > best[bucket] + slack:
                continue
            exact = low if known else distance(vectors[anchor], vectors[row])
            held = nearest[bucket]
            if exact < best[bucket] or (exact == best[bucket] and ids[row] < ids[held]):
                best[bucket] = exact
                nearest[bucket] = row
                if bucket == far:
                    floor = np.float32(1.0 - 0.5 * (best[far] + slack))


@numba.njit(cache=True)
def choose(starts: Int64, sizes: Int64, nearest: Int64) -> tuple[Int64, Int64]:
    """Each pair's hard [0] and semi-hard [1] negative: (2, p) rows, -1 for none; (2, p) ranks."""
    pairs = starts[-1]
    negative = np.full((2, pairs), -1, np.int64)
    rank = np.zeros((2, pairs), np.int64)
    for i in range(len(starts) - 1):
        p0, count = starts[i], starts[i + 1] - starts[i]
        b0 = p0 + i
        first = -1
        for k in range(count):
            if first < 0:
                first = nearest[b0 + k]
            negative[0, p0 + k] = first
        # From the last threshold back: the first filled bucket after it, and what lies before.
        closer = sizes[b0 : b0 + count].sum()
        following, before = -1, closer
        for k in range(count - 1, -1, -1):
            if nearest[b0 + k + 1] >= 0:
                following, before = nearest[b0 + k + 1], closer
            negative[1, p0 + k] = following
            rank[1, p0 + k] = before
            closer -= sizes[b0 + k]
    return negative, rank
