"""Choice of positives: the (anchor, positive) pairs for which negatives are mined."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remine.data.types import Float32, Int64
from remine.mining.config import MiningConfig
from remine.mining.problem import Problem, Rows
from remine.mining.search.scan_kernels import exact_distances
from remine.mining.strategies.random_kernels import smallest_hashes


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """p (anchor, positive) pairs, ordered by anchor, then by distance, then by the positive's id.

    Attributes:
        anchor: (p,) rows of the problem's anchors.
        positive: (p,) gallery rows.
        d_ap: (p,) float32 squared distances.
    """

    anchor: Rows
    positive: Rows
    d_ap: Float32

    def __len__(self) -> int:
        return len(self.anchor)


def find_pairs(problem: Problem, config: MiningConfig, seed: int) -> Pairs:
    """The pairs that config.positives and config.max_positives ask for.

    Where an anchor has more positives than the limit, "all" and "random" use those with the
    smallest hash of (seed, anchor id, positive id), so that the choice depends on nothing else;
    "hardest" and "easiest" use the farthest and the nearest, of equally far ones the lowest ids.
    """
    lists, ids = problem.positives, problem.gallery_ids
    anchor, positive = lists.flat()
    limit = config.max_positives or (0 if config.positives == "all" else 1)
    if config.positives == "random":
        limit = 1
    if config.positives in ("all", "random") and limit:
        selection = smallest_hashes(
            lists.starts, lists.stops, lists.rows, problem.self_rows, problem.anchor_ids, ids,
            np.uint64(seed), limit,
        )  # fmt: skip
    else:
        selection = positive != problem.self_rows[anchor]
    anchor, positive = anchor[selection], positive[selection]
    d_ap = exact_distances(problem.anchors, anchor, problem.gallery, positive)
    order = np.lexsort((ids[positive], d_ap, anchor))
    anchor, positive, d_ap = anchor[order], positive[order], d_ap[order]
    if config.positives in ("hardest", "easiest") and limit:
        preference = -d_ap if config.positives == "hardest" else d_ap
        keys = np.empty(len(anchor), np.uint64)
        keys[np.lexsort((ids[positive], preference))] = np.arange(len(anchor))
        selection = np.flatnonzero(_rank_in_group(anchor, keys) < limit)
        anchor, positive, d_ap = anchor[selection], positive[selection], d_ap[selection]
    return Pairs(anchor=anchor, positive=positive, d_ap=d_ap)


def hashes(seed: int, *values: Int64) -> NDArray[np.uint64]:
    """Well-mixed 64-bit hashes of (seed, a, b, ...), elementwise.

    splitmix64 (Steele et al. 2014) chained over the values, which are broadcast together.
    """
    state = np.full(np.broadcast_shapes(*(v.shape for v in values)), seed, np.uint64)
    for value in values:
        state = (state ^ value.astype(np.int64).view(np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state ^= state >> np.uint64(31)
    return state


def _rank_in_group(group: Rows, keys: NDArray[np.uint64]) -> Rows:
    """The rank of each element within its group, by ascending key.

    Args:
        group: (p,) group numbers, ascending.
        keys: (p,) sort keys.
    """
    order = np.lexsort((keys, group))
    starts = np.searchsorted(group, group)  # groups are contiguous: the first place of each
    ranks = np.empty(len(group), np.intp)
    ranks[order] = np.arange(len(group)) - starts[order]
    return ranks
