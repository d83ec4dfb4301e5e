"""Negatives by chance: uniform over all, uniform in a window, weighted by distance.

Chance is a hash of (seed, anchor id, positive id, attempt), so a draw is the same in any block, on
any thread and in any shard layout.
"""

from typing import Any

import numpy as np

from data.types import Float32, Int64
from mining.config import MiningConfig
from mining.draw_kernels import uniform, weighted
from mining.pairs import Pairs
from mining.problem import Problem
from mining.windows import Answer


def draw_uniform(
    problem: Problem, pairs: Pairs, floor: Float32, ceiling: Float32, m: int, seed: int
) -> Answer:
    """Draw m different negatives per pair, uniform among those with floor < d < ceiling, (p,) each.

    By rejection: attempts are drawn from the whole gallery until they fit. After n / 4 attempts in
    vain all negatives are looked through, so what is missing does not exist.
    """
    rows, distances = uniform(  # type: ignore[call-arg]
        *_arrays(problem, pairs), floor, ceiling, m, np.uint64(seed), len(problem.gallery) // 4 + 64
    )
    return Answer(
        rows=rows, distances=distances, ranks=_uncounted(rows), cut_short=np.zeros(len(rows), bool)
    )


def draw_weighted(
    problem: Problem, pairs: Pairs, floor: Float32, config: MiningConfig, seed: int
) -> Answer:
    """Draw m different negatives per pair with P(n) ~ 1 / q(d_an) (Wu et al. 2017, section 3.2).

    q is the density of distances between random points of the sphere in d dimensions. Each anchor's
    negatives are drawn from a pool of config.pool random ones, as Wu draws from a batch; the
    logarithms of the weights meet Gumbel noise, so none overflows and no row is normalised.
    """
    rows, distances = weighted(  # type: ignore[call-arg]
        *_arrays(problem, pairs), floor, config.per_pair, np.uint64(seed), config.pool
    )
    return Answer(
        rows=rows, distances=distances, ranks=_uncounted(rows), cut_short=np.ones(len(rows), bool)
    )


def _uncounted(rows: Int64) -> Int64:
    """Nobody counted how many are closer."""
    return np.full(rows.shape, -1, np.int64)


def _arrays(problem: Problem, pairs: Pairs) -> Any:
    """What the compiled loops need, in their order."""
    return (
        pairs.anchor,
        problem.gallery_ids[pairs.positive],
        problem.anchors,
        problem.anchor_ids,
        problem.own,
        problem.gallery,
        problem.barred.starts,
        problem.barred.stops,
        problem.barred.rows,
    )
