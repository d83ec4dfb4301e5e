"""Measures of embeddings and triplets that mining, training and evaluation share."""

import numpy as np

from remine.data.types import EASY, HARD, SEMI_HARD, Float32, Int8, Int64


def triplet_kinds(d_ap: np.ndarray, d_an: np.ndarray, margin: float) -> Int8:
    """The kind of each triplet, (t,) int8 codes into KINDS.

    hard: d_an <= d_ap. semi_hard: d_ap < d_an < d_ap + margin (FaceNet, Schroff et al. 2015,
    section 3.2). easy: the rest.

    Args:
        d_ap: (t,) squared distances to the positives, in float32 or float64.
        d_an: (t,) squared distances to the negatives, in the same dtype.
        margin: Squared distance, added in that dtype.
    """
    not_hard = np.where(d_an < d_ap + d_ap.dtype.type(margin), SEMI_HARD, EASY)
    return np.where(d_an <= d_ap, HARD, not_hard).astype(np.int8)


def row_distances(a: Float32, b: Float32) -> Float32:
    """(t,) squared distances of the rows of a (t, d) to those of b, to the bit as mining has them.

    Summed in float64 in order of the components and rounded once: another order, or no rounding,
    would split distances that mining found equal.
    """
    total = np.zeros(len(a))
    for x, y in zip(a.T, b.T, strict=True):
        difference = x.astype(np.float64) - y
        total += difference * difference
    return total.astype(np.float32)


def spread(vectors: Float32) -> float:
    """Mean squared distance of two different rows of (n, d) unit vectors, 0 to 4.

    0 is a collapsed embedding. Computed from the mean vector alone: the squared distances of all
    ordered pairs sum to 2 n^2 (1 - |mean|^2).
    """
    n = len(vectors)
    mean = vectors.mean(axis=0, dtype=np.float64)
    return float(2 * (1 - np.square(mean).sum()) * n / max(1, n - 1))


def mean_overlap(before: Int64, after: Int64) -> float:
    """The mean share of the entries of each row of `after` that are in its row of `before`.

    Args:
        before: (q, k) neighbours of q queries, distinct within a row.
        after: (q, k) neighbours of the same queries, likewise.
    """
    return float((before[:, :, None] == after[:, None, :]).any(axis=1).mean())
