"""Proven bounds on the error of cheap products, which let bfloat16 scores decide for float64.

Everything is in terms of scores, 1 - distance / 2, which for unit vectors is the inner product. If
a computed score differs from a limit by more than the slack, the exact distance lies on the same
side of the limit; everything closer is recomputed.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from remine.data.types import Float32
from remine.mining.problem import Problem
from remine.mining.row_lists import Rows
from remine.mining.search.windows import Windows

SAMPLE = 512


@dataclass(frozen=True, kw_only=True)
class Operand:
    """Vectors as one side of a matrix product, and how far their rounding may move a score.

    Attributes:
        vectors: (n, d) bfloat16 or float32.
        error: (n,) float32 length of the difference between each row and its rounded row; 0 in
            float32.
    """

    vectors: Tensor
    error: Float32

    @classmethod
    def of(cls, vectors: Float32, *, half: bool) -> Self:
        """The operand of (n, d) float32 unit vectors, rounded to bfloat16 if `half`."""
        full = torch.from_numpy(vectors)
        if not half:
            return cls(vectors=full, error=np.zeros(len(vectors), np.float32))
        half_vectors = full.bfloat16()
        return cls(vectors=half_vectors, error=(full - half_vectors.float()).norm(dim=1).numpy())

    def take(self, rows: slice | Rows) -> Self:
        """The operand of the given rows."""
        index = rows if isinstance(rows, slice) else torch.from_numpy(rows)
        return type(self)(vectors=self.vectors[index], error=self.error[rows])


def slack_of(error: Float32, other_error: float, d: int, *, half: bool) -> Float32:
    """How far 1 - distance / 2 may be from the products of q rows, (q,); see `half_slack`."""
    if half:
        return half_slack(error, other_error, d)
    return np.full(len(error), product_slack(d), np.float32)


def product_slack(d: int) -> float:
    """How far 1 - distance / 2 may be from a float32 product of d terms.

    In any order of summation the product errs by at most d * 2^-24 * sum |a_i b_i|, and the sum is
    at most 1 for unit vectors (Higham 2002, section 3.1). Float32 unit vectors have squared lengths
    within (d + 2) * 2^-24 of 1, which moves 1 - distance / 2 by as much. Twice the sum of both
    leaves room for the rounding of the limits that scores are compared with.
    """
    return float(4 * (d + 4) * 2.0**-24)


def half_slack(error: Float32, other_error: float, d: int) -> Float32:
    """How far 1 - distance / 2 may be from bfloat16 products of q rows with others, (q,) float32.

    Let a = a' + e and b = b' + f with a', b' the rounded vectors. The product of the rounded
    vectors errs by at most |e| + |f| + |e||f| (Cauchy-Schwarz, unit vectors). Summation in float32
    adds what `product_slack` covers. Rounding the sum to bfloat16, which has 8 significant bits,
    adds 2^-9 for sums below 1. Above 1 it may add 2^-8, but an exact score is at most 1, so such a
    sum errs by 2^-8 already unless it rounds to 1: that is why the larger term applies only where
    the product may err that much.

    Args:
        error: (q,) lengths of e, one per row.
        other_error: The largest length of f.
        d: Dimensions.
    """
    product = (error + other_error + error * other_error) * (1 + 2**-8)
    slack = product + np.where(product < 2**-8, 2**-9, 2**-8) + product_slack(d)
    return slack.astype(np.float32)


def undecided_share(problem: Problem, windows: Windows) -> float:
    """The share of products that bfloat16 leaves undecided about the floors of the windows.

    Estimated from a fixed sample of (anchor, gallery row) pairs. A pair counts once for each floor
    within the slack around it, so the result may exceed 1.
    """
    rng = np.random.default_rng(0)
    with_windows = np.flatnonzero(windows.stops > windows.starts)
    if not len(with_windows):
        return 0.0
    a = rng.choice(with_windows, min(SAMPLE, len(with_windows)), replace=False)
    b = rng.integers(0, len(problem.gallery), min(SAMPLE, len(problem.gallery)))
    anchors, gallery = problem.anchors[a], problem.gallery[b]
    distances = (2 - 2 * torch.from_numpy(anchors) @ torch.from_numpy(gallery).T).numpy()
    error, gallery_error = (Operand.of(side, half=True).error for side in (anchors, gallery))
    # Twice, since the slack is of scores and a distance is 2 - 2 * score.
    slack = 2 * half_slack(error, gallery_error.max(), anchors.shape[1])
    count = 0
    for row, tolerance, anchor in zip(distances, slack, a, strict=True):
        floors = windows.floor[windows.starts[anchor] : windows.stops[anchor], None]
        count += int((np.abs(row - floors) <= tolerance).sum())
    return float(count / distances.size)
