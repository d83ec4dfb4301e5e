"""How far a cheap product may lie from the truth, proven: what lets bfloat16 decide for float64."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from remine.data.types import Float32
from remine.mining.problem import Problem, Rows
from remine.mining.search.windows import Windows

SAMPLE = 512


@dataclass(frozen=True, kw_only=True)
class Operand:
    """Vectors (n, d) as one side of a product, and how far their rounding may move a score.

    error: (n,) float32 the length of what rounding took from each row, 0 in float32.
    """

    vectors: Tensor
    error: Float32

    @classmethod
    def of(cls, vectors: Float32, *, half: bool) -> Self:
        """The operand in bfloat16 or float32."""
        whole = torch.from_numpy(vectors)
        if not half:
            return cls(vectors=whole, error=np.zeros(len(vectors), np.float32))
        rounded = whole.bfloat16()
        return cls(vectors=rounded, error=(whole - rounded.float()).norm(dim=1).numpy())

    def take(self, rows: slice | Rows) -> Self:
        """Some of the rows."""
        where = rows if isinstance(rows, slice) else torch.from_numpy(rows)
        return type(self)(vectors=self.vectors[where], error=self.error[rows])


def slack_of(error: Float32, other: float, d: int, *, half: bool) -> Float32:
    """How far 1 - distance / 2 may lie from products, (q,); see half_slack."""
    if half:
        return half_slack(error, other, d)
    return np.full(len(error), product_slack(d), np.float32)


def product_slack(d: int) -> float:
    """How far 1 - distance / 2 may lie from a float32 product of d terms.

    In any order of summation the product errs by at most d * 2^-24 * sum |a_i b_i|, which is at
    most 1, and float32 unit vectors have squared lengths within (d + 2) * 2^-24 of 1. Twice the sum
    of both leaves room for the rounding of limits.
    """
    return float(4 * (d + 4) * 2.0**-24)


def half_slack(error: Float32, other: float, d: int) -> Float32:
    """How far 1 - distance / 2 may lie from bfloat16 products, (q,).

    error (q,), other: how long the rounding errors of the one side's rows are, and of the other's
    at most. With a = a' + e, b = b' + f the product errs by at most |e| + |f| + |e||f|
    (Cauchy-Schwarz, unit vectors), summation in float32 adds what product_slack covers, and
    rounding the sum to bfloat16 adds 2^-9 below 1. Above 1 it may add 2^-8, but only to sums that
    err by 2^-8 already: nearer ones are rounded to 1.
    """
    product = (error + other + error * other) * (1 + 2**-8)
    slack = product + np.where(product < 2**-8, 2**-9, 2**-8) + product_slack(d)
    return slack.astype(np.float32)


def undecided(problem: Problem, windows: Windows) -> float:
    """How many products, per product, bfloat16 leaves undecided about the windows' floors.

    Estimated from a sample of pairs: a pair counts once for each floor within the slack around it.
    """
    rng = np.random.default_rng(0)
    asked = np.flatnonzero(windows.stops > windows.starts)
    if not len(asked):
        return 0.0
    a = rng.choice(asked, min(SAMPLE, len(asked)), replace=False)
    b = rng.integers(0, len(problem.gallery), min(SAMPLE, len(problem.gallery)))
    anchors, gallery = problem.anchors[a], problem.gallery[b]
    distances = (2 - 2 * torch.from_numpy(anchors) @ torch.from_numpy(gallery).T).numpy()
    error, other = (Operand.of(side, half=True).error for side in (anchors, gallery))
    slack = 2 * half_slack(error, other.max(), anchors.shape[1])
    close = 0
    for row, near, anchor in zip(distances, slack, a, strict=True):
        floors = windows.floor[windows.starts[anchor] : windows.stops[anchor], None]
        close += int((np.abs(row - floors) <= near).sum())
    return float(close / distances.size)
