"""Random negatives: uniform over all, uniform within a window, weighted by distance.

Every draw follows from a hash of (seed, anchor id, positive id, attempt), so it is the same in any
block, on any thread and for any division into shards.
"""

from typing import Any

import numpy as np

from remine.data.types import Float32, Int64
from remine.mining.config import MiningConfig
from remine.mining.problem import Problem
from remine.mining.search.scan import run_in_threads
from remine.mining.search.windows import WindowMatches
from remine.mining.strategies.negatives import Negatives, SearchPlan
from remine.mining.strategies.positives import Pairs
from remine.mining.strategies.random_kernels import uniform, weighted

PART = 1024


def draw_uniform(
    problem: Problem, pairs: Pairs, floor: Float32, ceiling: Float32, m: int, seed: int
) -> Negatives:
    """Draw m distinct negatives per pair, uniformly among those with floor < d < ceiling.

    By rejection: rows are drawn from the whole gallery until m of them fit. After n / 4 + 64
    attempts the whole gallery is searched, so a missing negative does not exist.

    Args:
        problem: The anchors and the whole gallery.
        pairs: The p pairs.
        floor: (p,) float32 squared distances, exclusive.
        ceiling: (p,) float32 squared distances, exclusive.
        m: Negatives per pair.
        seed: Of the hashes.
    """
    attempts = len(problem.gallery) // 4 + 64
    rows, distances = _no_rows(len(pairs), m)

    def work(part: slice) -> None:
        limits = floor[part], ceiling[part], np.uint64(seed), attempts
        uniform(*_arrays(problem, pairs, part), rows[part], distances[part], *limits)  # type: ignore[call-arg]

    run_in_threads(work, _parts(len(pairs)))
    return Negatives(
        rows=rows, distances=distances, ranks=_no_ranks(rows), cut_short=np.zeros(len(rows), bool)
    )


def draw_weighted(
    problem: Problem, pairs: Pairs, floor: Float32, config: MiningConfig, seed: int
) -> Negatives:
    """Draw config.per_pair distinct negatives per pair with P(n) ~ 1 / q(d_an).

    q is the density of distances between random points of the unit sphere in d dimensions (Wu et
    al. 2017, "Sampling matters in deep embedding learning", section 3.2). Each anchor's negatives
    are drawn from a pool of config.pool random rows, as Wu draws from a batch. Weights stay
    logarithms to which Gumbel noise is added, so none overflows and none has to be normalised.

    Args:
        problem: The anchors and the whole gallery.
        pairs: The p pairs.
        floor: (p,) float32 squared distances, exclusive.
        config: The numbers of negatives and of pool rows.
        seed: Of the hashes.
    """
    rows, distances = _no_rows(len(pairs), config.per_pair)

    def work(part: slice) -> None:
        limits = floor[part], np.uint64(seed), config.pool
        weighted(*_arrays(problem, pairs, part), rows[part], distances[part], *limits)  # type: ignore[call-arg]

    run_in_threads(work, _parts(len(pairs)))
    return Negatives(
        rows=rows, distances=distances, ranks=_no_ranks(rows), cut_short=np.ones(len(rows), bool)
    )


def draw_from_window(
    problem: Problem,
    pairs: Pairs,
    plan: SearchPlan,
    matches: WindowMatches,
    list_draws: Negatives,
    config: MiningConfig,
    seed: int,
) -> Negatives:
    """The negatives of random_semi_hard, drawn from the whole window if its list is full.

    Args:
        problem: The anchors and the whole gallery.
        pairs: The p pairs.
        plan: Their windows.
        matches: What the search found in the windows.
        list_draws: The negatives drawn from the lists, which remain where a list is not full.
        config: The numbers of negatives and of skipped ranks.
        seed: Of the hashes.
    """
    window = plan.window_of["random_semi_hard"]
    skip = np.maximum(config.skip_ranks - matches.closer[window], 0)
    nearest = matches.distances[window, np.maximum(skip - 1, 0)]
    # The skipped ranks can be cut off by a floor unless the last skipped match and the first one
    # that remains are equally far; such a pair keeps the negatives from its list.
    is_separable = (skip == 0) | (matches.distances[window, skip] > nearest)
    full = np.flatnonzero(is_separable & (matches.rows[window, -1] >= 0))
    full_pairs = Pairs(
        anchor=pairs.anchor[full], positive=pairs.positive[full], d_ap=pairs.d_ap[full]
    )
    floor = np.where(skip > 0, nearest, plan.windows.floor[window])[full]
    ceiling = plan.ceilings["random_semi_hard"][full]
    draws = draw_uniform(problem, full_pairs, floor, ceiling, config.per_pair, seed)
    rows, distances, ranks = (
        list_draws.rows.copy(),
        list_draws.distances.copy(),
        list_draws.ranks.copy(),
    )
    rows[full], distances[full], ranks[full] = draws.rows, draws.distances, draws.ranks
    return Negatives(rows=rows, distances=distances, ranks=ranks, cut_short=list_draws.cut_short)


def _no_ranks(rows: Int64) -> Int64:
    """Ranks (p, m) of negatives for which nothing was counted."""
    return np.full(rows.shape, -1, np.int64)


def _no_rows(pairs: int, m: int) -> tuple[Int64, Float32]:
    """Rows (p, m) and distances (p, m) before anything is drawn."""
    return np.full((pairs, m), -1, np.int64), np.zeros((pairs, m), np.float32)


def _parts(pairs: int) -> list[slice]:
    """Ranges of pairs that one thread draws for at a time."""
    return [slice(i, i + PART) for i in range(0, pairs, PART)]


def _arrays(problem: Problem, pairs: Pairs, part: slice) -> Any:
    """The arguments that both compiled loops share, in their order."""
    return (
        pairs.anchor[part],
        problem.gallery_ids[pairs.positive[part]],
        problem.anchors,
        problem.anchor_ids,
        problem.self_rows,
        problem.gallery,
        *problem.exclusions.arrays,
    )
