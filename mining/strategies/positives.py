"""The (anchor, positive) pairs that mining asks negatives for."""

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
    """p pairs, by anchor, then by distance, then by the positive's id.

    anchor: (p,) rows into the problem's anchors. positive: (p,) rows into the gallery. d_ap: (p,)
    float32 squared distances.
    """

    anchor: Rows
    positive: Rows
    d_ap: Float32

    def __len__(self) -> int:
        return len(self.anchor)


def find_pairs(problem: Problem, config: MiningConfig, seed: int) -> Pairs:
    """The pairs of every anchor that config.positives asks for.

    Where not all are taken, "all" and "random" take those with the smallest hash of (seed, anchor
    id, positive id), so the choice depends on nothing else; of equally far ones "hardest" and
    "easiest" take those of lower id.
    """
    lists, ids = problem.positives, problem.gallery_ids
    anchor, positive = lists.flat()
    limit = config.max_positives or (0 if config.positives == "all" else 1)
    if config.positives == "random":
        limit = 1
    if config.positives in ("all", "random") and limit:
        kept = smallest_hashes(
            lists.starts, lists.stops, lists.rows, problem.own, problem.anchor_ids, ids,
            np.uint64(seed), limit,
        )  # fmt: skip
    else:
        kept = positive != problem.own[anchor]
    anchor, positive = anchor[kept], positive[kept]
    d_ap = exact_distances(problem.anchors, anchor, problem.gallery, positive)
    order = np.lexsort((ids[positive], d_ap, anchor))
    anchor, positive, d_ap = anchor[order], positive[order], d_ap[order]
    if config.positives in ("hardest", "easiest") and limit:
        wanted = -d_ap if config.positives == "hardest" else d_ap
        keys = np.empty(len(anchor), np.uint64)
        keys[np.lexsort((ids[positive], wanted))] = np.arange(len(anchor))
        kept = np.flatnonzero(_rank_in_group(anchor, keys) < limit)
        anchor, positive, d_ap = anchor[kept], positive[kept], d_ap[kept]
    return Pairs(anchor=anchor, positive=positive, d_ap=d_ap)


def hashes(seed: int, *values: Int64) -> NDArray[np.uint64]:
    """A well-mixed 64-bit hash of (seed, a, b, ...), elementwise: splitmix64, chained."""
    state = np.full(np.broadcast_shapes(*(v.shape for v in values)), seed, np.uint64)
    for value in values:
        state = (state ^ value.astype(np.int64).view(np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state ^= state >> np.uint64(31)
    return state


def _rank_in_group(group: Rows, keys: NDArray[np.uint64]) -> Rows:
    """The place of each element among those of its group (ascending, contiguous), by key."""
    order = np.lexsort((keys, group))
    starts = np.searchsorted(group, group)  # groups are contiguous, so the first place is theirs
    ranks = np.empty(len(group), np.intp)
    ranks[order] = np.arange(len(group)) - starts[order]
    return ranks
