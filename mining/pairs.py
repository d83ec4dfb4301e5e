"""The (anchor, positive) pairs that mining asks a negative for."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.types import Embeddings, Float32, Int64
from mining.kernels import exact_distances

Rows = NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """p pairs, by anchor, then by distance.

    anchor: (p,) rows into the block of anchors. positive: (p,) rows into the gallery. d_ap: (p,)
    float32 squared distances. starts: (b + 1,) where each anchor's pairs begin.
    """

    anchor: Rows
    positive: Rows
    d_ap: Float32
    starts: Int64


def find_pairs(gallery: Embeddings, anchors: Rows, max_positives: int, seed: int) -> Pairs:
    """Every pair of each of `anchors` (b,) with another item of its class.

    With `max_positives` > 0 at most that many per anchor, those with the smallest hash of (seed,
    anchor, positive), so that the choice depends on nothing else.
    """
    by_class = np.argsort(gallery.label_codes, kind="stable")
    sorted_codes = gallery.label_codes[by_class]
    codes = gallery.label_codes[anchors]
    first = np.searchsorted(sorted_codes, codes, side="left")
    sizes = np.searchsorted(sorted_codes, codes, side="right") - first
    anchor = np.repeat(np.arange(len(anchors)), sizes)
    within = np.arange(len(anchor)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    positive = by_class[np.repeat(first, sizes) + within]
    other = positive != anchors[anchor]
    anchor, positive = anchor[other], positive[other]
    if max_positives:
        keys = _pair_hash(seed, gallery.ids[anchors[anchor]], gallery.ids[positive])
        kept = np.flatnonzero(_rank_in_group(anchor, keys) < max_positives)
        anchor, positive = anchor[kept], positive[kept]
    d_ap = exact_distances(gallery.vectors, anchors[anchor], positive)
    order = np.lexsort((gallery.ids[positive], d_ap, anchor))
    anchor, positive, d_ap = anchor[order], positive[order], d_ap[order]
    starts = np.searchsorted(anchor, np.arange(len(anchors) + 1))
    return Pairs(anchor=anchor, positive=positive, d_ap=d_ap, starts=starts)


def _rank_in_group(group: Rows, keys: NDArray[np.uint64]) -> Rows:
    """The place of each element among those of its group (ascending, contiguous), by key."""
    order = np.lexsort((keys, group))
    starts = np.searchsorted(group, group)  # groups are contiguous, so the first place is theirs
    ranks = np.empty(len(group), np.intp)
    ranks[order] = np.arange(len(group)) - starts[order]
    return ranks


def _pair_hash(seed: int, a: Int64, b: Int64) -> NDArray[np.uint64]:
    """A well-mixed 64-bit hash of (seed, a, b): splitmix64, chained."""
    state = np.full(len(a), seed, np.uint64)
    for value in (a.view(np.uint64), b.view(np.uint64)):
        state = (state ^ value) + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state ^= state >> np.uint64(31)
    return state
