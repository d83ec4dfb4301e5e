"""The hub cap: a limit on how often one item serves as a negative, over any number of shards.

Hubs are items that are near to disproportionately many others (Radovanovic et al. 2010, "Hubs in
space"); without a cap a few of them can dominate the mined negatives. Which triplets of a hub stay
is decided by a hash of the triplet, so it does not depend on how the triplets are divided into
shards.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from remine.data.types import Int64, Triplets
from remine.mining.strategies.positives import hashes

HubLimits = tuple[Int64, NDArray[np.uint64]]
"""Ids of the negatives over the cap, ascending, and for each the largest hash that remains."""


def cap_hubs(shards: Callable[[], Iterable[Triplets]], cap: int, seed: int) -> Iterator[Triplets]:
    """Every shard without the triplets over the cap.

    Makes two passes and holds one shard at a time, so a shard may be replaced in its place once it
    was yielded.

    Args:
        shards: Reads all shards, in the same order on every call.
        cap: Triplets per negative, at least 1.
        seed: Seed of the hashes that decide which triplets remain.
    """
    limits = hub_limits(shards(), cap, seed)
    for shard in shards():
        yield apply_limits(shard, limits, seed)


def hub_limits(shards: Iterable[Triplets], cap: int, seed: int) -> HubLimits:
    """The limits that leave each negative in `cap` triplets at most, those of the smallest hashes.

    Holds at most `cap` hashes per item and one shard in memory. A triplet that two strategies mined
    counts once.

    Args:
        shards: All triplets, in any division and order.
        cap: Triplets per negative, at least 1.
        seed: Seed of the hashes.
    """
    # `negatives` and `smallest` hold the `cap` smallest hashes of every negative so far.
    negatives, smallest = np.empty(0, np.int64), np.empty(0, np.uint64)
    hubs = np.empty(0, np.int64)
    for shard in shards:
        ids = np.concatenate([negatives, shard.negative_id])
        keys = np.concatenate([smallest, _triplet_hashes(shard, seed)])
        order = np.lexsort((keys, ids))
        ids, keys = ids[order], keys[order]
        is_first = np.ones(len(ids), bool)
        is_first[1:] = (ids[1:] != ids[:-1]) | (keys[1:] != keys[:-1])
        ids, keys = ids[is_first], keys[is_first]
        rank = np.arange(len(ids)) - np.searchsorted(ids, ids)
        hubs = np.union1d(hubs, ids[rank >= cap])
        negatives, smallest = ids[rank < cap], keys[rank < cap]
    return hubs, smallest[np.searchsorted(negatives, hubs, side="right") - 1]


def apply_limits(triplets: Triplets, limits: HubLimits, seed: int) -> Triplets:
    """The triplets that remain under the limits, in their order."""
    hubs, largest = limits
    if not len(hubs):
        return triplets
    place = np.minimum(np.searchsorted(hubs, triplets.negative_id), len(hubs) - 1)
    is_hub = hubs[place] == triplets.negative_id
    return triplets.take(~is_hub | (_triplet_hashes(triplets, seed) <= largest[place]))


def _triplet_hashes(triplets: Triplets, seed: int) -> NDArray[np.uint64]:
    """(t,) hashes of (seed, anchor id, positive id, negative id)."""
    return hashes(seed, triplets.anchor_id, triplets.positive_id, triplets.negative_id)
