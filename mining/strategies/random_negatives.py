"""Negatives by chance: uniform over all, uniform in a window, weighted by distance.

Chance is a hash of (seed, anchor id, positive id, attempt), so a draw is the same in any block, on
any thread and in any shard layout.
"""

from typing import Any

import numpy as np

from remine.data.types import Float32, Int64
from remine.mining.config import MiningConfig
from remine.mining.problem import Problem
from remine.mining.search.scan import in_threads
from remine.mining.strategies.negatives import Answer
from remine.mining.strategies.positives import Pairs
from remine.mining.strategies.random_kernels import uniform, weighted

PART = 1024


def draw_uniform(
    problem: Problem, pairs: Pairs, floor: Float32, ceiling: Float32, m: int, seed: int
) -> Answer:
    """Draw m different negatives per pair, uniform among those with floor < d < ceiling, (p,) each.

    By rejection: attempts are drawn from the whole gallery until they fit. After n / 4 attempts in
    vain all negatives are looked through, so what is missing does not exist.
    """
    attempts = len(problem.gallery) // 4 + 64
    rows, distances = _nothing(len(pairs), m)

    def work(part: slice) -> None:
        limits = floor[part], ceiling[part], np.uint64(seed), attempts
        uniform(*_arrays(problem, pairs, part), rows[part], distances[part], *limits)  # type: ignore[call-arg]

    in_threads(work, _parts(len(pairs)))
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
    rows, distances = _nothing(len(pairs), config.per_pair)

    def work(part: slice) -> None:
        limits = floor[part], np.uint64(seed), config.pool
        weighted(*_arrays(problem, pairs, part), rows[part], distances[part], *limits)  # type: ignore[call-arg]

    in_threads(work, _parts(len(pairs)))
    return Answer(
        rows=rows, distances=distances, ranks=_uncounted(rows), cut_short=np.ones(len(rows), bool)
    )


def _uncounted(rows: Int64) -> Int64:
    """Nobody counted how many are closer."""
    return np.full(rows.shape, -1, np.int64)


def _nothing(pairs: int, m: int) -> tuple[Int64, Float32]:
    """Rows and distances before anything is drawn."""
    return np.full((pairs, m), -1, np.int64), np.zeros((pairs, m), np.float32)


def _parts(pairs: int) -> list[slice]:
    """Pairs that one thread draws for at a time."""
    return [slice(i, i + PART) for i in range(0, pairs, PART)]


def _arrays(problem: Problem, pairs: Pairs, part: slice) -> Any:
    """What the compiled loops need, in their order."""
    return (
        pairs.anchor[part],
        problem.gallery_ids[pairs.positive[part]],
        problem.anchors,
        problem.anchor_ids,
        problem.own,
        problem.gallery,
        problem.barred.starts,
        problem.barred.stops,
        problem.barred.rows,
    )
