"""How often one item may serve as a negative: a cap, by hash, over any number of shards."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from remine.data.types import Int64, Triplets
from remine.mining.strategies.positives import hashes

Limits = tuple[Int64, NDArray[np.uint64]]
"""Negatives that would serve too often, ascending, and the largest hash of those that stay."""


def hub_limits(shards: Iterable[Triplets], cap: int, seed: int) -> Limits:
    """What keeps each negative at `cap` triplets: those with the smallest hashes.

    Holds at most `cap` hashes an item, not the shards. A triplet that two strategies found counts
    once.
    """
    negatives, keys = np.empty(0, np.int64), np.empty(0, np.uint64)
    over = np.empty(0, np.int64)
    for shard in shards:
        ids = np.concatenate([negatives, shard.negative_id])
        hashed = np.concatenate([keys, _keys(shard, seed)])
        order = np.lexsort((hashed, ids))
        ids, hashed = ids[order], hashed[order]
        new = np.ones(len(ids), bool)
        new[1:] = (ids[1:] != ids[:-1]) | (hashed[1:] != hashed[:-1])
        ids, hashed = ids[new], hashed[new]
        place = np.arange(len(ids)) - np.searchsorted(ids, ids)
        over = np.union1d(over, ids[place >= cap])
        negatives, keys = ids[place < cap], hashed[place < cap]
    return over, keys[np.searchsorted(negatives, over, side="right") - 1]


def under_limits(triplets: Triplets, limits: Limits, seed: int) -> Triplets:
    """The triplets that stay."""
    over, largest = limits
    if not len(over):
        return triplets
    place = np.minimum(np.searchsorted(over, triplets.negative_id), len(over) - 1)
    limited = over[place] == triplets.negative_id
    return triplets.take(~limited | (_keys(triplets, seed) <= largest[place]))


def _keys(triplets: Triplets, seed: int) -> NDArray[np.uint64]:
    return hashes(seed, triplets.anchor_id, triplets.positive_id, triplets.negative_id)
