"""Choice of positives: the (anchor, positive) pairs for which negatives are mined."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from remine.data.types import Float32, Int64
from remine.mining.config import MiningConfig
from remine.mining.problem import Problem
from remine.mining.row_lists import Rows, places_within
from remine.mining.search.scan import run_in_threads
from remine.mining.search.scan_kernels import exact_distances
from remine.mining.strategies.random_kernels import (
    BY_HASH,
    FARTHEST,
    NEAREST,
    select_positives,
)

RULES = {"all": BY_HASH, "random": BY_HASH, "easiest": NEAREST, "hardest": FARTHEST}
PART = 1024  # anchors that one thread selects for at a time, at least


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
    limit = positives_limit(config)
    anchor, positive = _select(problem, config, seed, limit) if limit else _every(problem)
    d_ap = exact_distances(problem.anchors, anchor, problem.gallery, positive)
    order = np.lexsort((problem.gallery_ids[positive], d_ap, anchor))
    return Pairs(anchor=anchor[order], positive=positive[order], d_ap=d_ap[order])


def positives_limit(config: MiningConfig) -> int:
    """The largest number of positives per anchor; 0 if there is no limit."""
    if config.positives == "random":
        return 1
    return config.max_positives or (0 if config.positives == "all" else 1)


def pair_counts(problem: Problem, config: MiningConfig) -> Int64:
    """How many pairs each anchor has at most, (a,), without finding them."""
    sizes = np.maximum(problem.positives.sizes() - (problem.self_rows >= 0), 0)
    limit = positives_limit(config)
    return np.minimum(sizes, limit) if limit else sizes


def _every(problem: Problem) -> tuple[Rows, Rows]:
    """All pairs (anchor, gallery row), two arrays."""
    anchor, positive = problem.positives.flat()
    selection = positive != problem.self_rows[anchor]
    return anchor[selection], positive[selection]


def _select(problem: Problem, config: MiningConfig, seed: int, limit: int) -> tuple[Rows, Rows]:
    """At most `limit` pairs (anchor, gallery row) of each anchor, two arrays."""
    places = np.concatenate([[0], np.cumsum(np.minimum(problem.positives.sizes(), limit))])
    rows, counts = np.empty(places[-1], np.int64), np.zeros(len(problem), np.int64)

    def work(part: slice) -> None:
        select_positives(
            *problem.positives[part].arrays, problem.self_rows[part], problem.anchor_ids[part],
            problem.gallery_ids, problem.anchors[part], problem.gallery, np.uint64(seed),
            RULES[config.positives], places[part.start : part.stop + 1], rows, counts[part],
        )  # fmt: skip

    size = max(PART, -(-len(problem) // torch.get_num_threads()))
    starts = range(0, len(problem), size)
    run_in_threads(work, [slice(i, min(i + size, len(problem))) for i in starts])
    return np.repeat(np.arange(len(problem)), counts), rows[
        np.repeat(places[:-1], counts) + places_within(counts)
    ]


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
