"""Strategies to windows of distance, and matches in the windows to negatives.

Each anchor has one window for each distinct floor that its pairs and strategies need, so that a
search visits every distance once however many strategies use it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remine.data.types import Float32, Int64
from remine.mining.config import MiningConfig
from remine.mining.problem import Problem
from remine.mining.row_lists import Rows
from remine.mining.search.windows import WindowMatches, Windows
from remine.mining.strategies.positives import Pairs, find_pairs, hashes

EVERYTHING = np.float32(5)  # a ceiling beyond the largest squared distance, 4
WINDOW_STRATEGIES = ("semi_hard", "hard", "hardest", "random_semi_hard", "rank_band")
RANDOM_LIST = 64  # nearest matches from which random_semi_hard draws, before it samples the window


@dataclass(frozen=True, kw_only=True)
class SearchPlan:
    """The windows of all pairs, and the window that serves each pair.

    Attributes:
        windows: The w windows to search. The ceiling of a window is the largest that any of its
            users needs.
        window_of: By strategy, (p,) the window of each pair.
        ceilings: By strategy, (p,) float32 the pair's own ceiling.
    """

    windows: Windows
    window_of: dict[str, Rows]
    ceilings: dict[str, Float32]


def plan_search(problem: Problem, config: MiningConfig, seed: int) -> tuple[Pairs, SearchPlan]:
    """The pairs to mine and the windows to search for them."""
    pairs = find_pairs(problem, config, seed)
    return pairs, plan_windows(pairs, len(problem), config)


def plan_windows(pairs: Pairs, anchors: int, config: MiningConfig) -> SearchPlan:
    """The windows that the searched strategies of `config` need for `pairs`."""
    strategies = [name for name in config.negatives if name in WINDOW_STRATEGIES]
    shape = (len(strategies), len(pairs))
    floors, ceilings = np.empty(shape, np.float32), np.empty(shape, np.float32)
    guard_floors = guard_floor(pairs.d_ap, config)
    for i, name in enumerate(strategies):
        floors[i] = np.maximum(guard_floors, _base_floor(name, pairs.d_ap))
        ceilings[i] = _ceiling(name, pairs.d_ap, config)
    # One integer per (anchor, floor) that sorts as the two do and is equal only if both are: the
    # bits of a non-negative float sort as the float does, and -1 is the only negative floor.
    bits = np.where(floors < 0, np.int32(-1), floors.view(np.int32))
    keys = (pairs.anchor << 32) + bits + 1
    unique, first, window = np.unique(keys.ravel(), return_index=True, return_inverse=True)
    ceiling = np.full(len(unique), -1, np.float32)
    np.maximum.at(ceiling, window, ceilings.ravel())
    edges = np.searchsorted(unique >> 32, np.arange(anchors + 1))
    windows = Windows(
        starts=edges[:-1],
        stops=edges[1:],
        floor=floors.ravel()[first],
        ceiling=ceiling,
        depth=_depth(config),
    )
    window = window.reshape(shape)
    return SearchPlan(
        windows=windows,
        window_of={name: window[i] for i, name in enumerate(strategies)},
        ceilings={name: ceilings[i] for i, name in enumerate(strategies)},
    )


@dataclass(frozen=True, kw_only=True)
class Negatives:
    """The negatives of p pairs by one strategy, m for each, most preferred first.

    Attributes:
        rows: (p, m) int64 gallery rows, -1 if there is none.
        distances: (p, m) float32 squared distances to the anchor; undefined where the row is -1.
        ranks: (p, m) int64, how many negatives are closer to the anchor, -1 if not counted.
        cut_short: (p,) bool, whether the search was approximate, so a missing negative may exist.
    """

    rows: Int64
    distances: Float32
    ranks: Int64
    cut_short: NDArray[np.bool_]


def select_negatives(
    name: str,
    plan: SearchPlan,
    matches: WindowMatches,
    cut_short: NDArray[np.bool_],
    pair_keys: NDArray[np.uint64],
    ids: Int64,
    config: MiningConfig,
) -> Negatives:
    """The negatives of a searched strategy for all pairs.

    Args:
        name: The strategy, one of WINDOW_STRATEGIES.
        plan: The windows.
        matches: What the search found in them.
        cut_short: (w,) bool, whether a window was searched approximately.
        pair_keys: (p,) uint64 hashes that decide random choices.
        ids: (n,) int64 ids of the gallery.
        config: The number of negatives, the skipped ranks and the rank band.
    """
    window = plan.window_of[name]
    rows, distances = matches.rows[window], matches.distances[window]
    ranks = matches.closer[window][:, None] + _strictly_closer(distances)
    # Places differ from ranks where distances are equal: each entry has a place of its own, so a
    # list as long as the number of places that are needed is always long enough.
    places = matches.closer[window][:, None] + np.arange(rows.shape[1])
    fits = (rows >= 0) & (distances < plan.ceilings[name][:, None]) & (places >= config.skip_ranks)
    if name == "rank_band":
        fits &= (places >= config.band[0]) & (places < config.band[1])
    order = np.broadcast_to(np.arange(rows.shape[1], dtype=np.uint64), rows.shape)
    if name in ("rank_band", "random_semi_hard"):
        order = hashes(0, pair_keys.view(np.int64)[:, None], ids[rows]) >> np.uint64(1)
    order = np.where(fits, order, np.uint64(2**64 - 1))
    columns = np.argsort(order, axis=1, kind="stable")[:, : config.per_pair]
    is_match = np.take_along_axis(fits, columns, axis=1)
    return Negatives(
        rows=np.where(is_match, np.take_along_axis(rows, columns, axis=1), -1),
        distances=np.take_along_axis(distances, columns, axis=1),
        ranks=np.take_along_axis(ranks, columns, axis=1),
        cut_short=cut_short[window],
    )


def _strictly_closer(distances: Float32) -> Int64:
    """Per entry of ascending rows (w, depth), how many entries before it are strictly less."""
    places = np.broadcast_to(np.arange(distances.shape[1]), distances.shape)
    new = np.ones(distances.shape, bool)
    new[:, 1:] = distances[:, 1:] > distances[:, :-1]
    return np.maximum.accumulate(np.where(new, places, 0), axis=1)


def guard_floor(d_ap: Float32, config: MiningConfig) -> Float32:
    """The floor (p,) that the guards set for negatives of any strategy, -1 for none.

    near_duplicate is an absolute distance; absolute_margin is added to d_ap. relative_margin bounds
    the negative's cosine by a share of the positive's ("positive-aware" mining, NV-Retriever,
    Moreira et al. 2024). With cosine = 1 - d / 2 that is d > 2 - share * (2 - d_ap).
    """
    floor = np.full(len(d_ap), -1, np.float32)
    if config.near_duplicate:
        floor = np.maximum(floor, np.float32(config.near_duplicate))
    if config.absolute_margin:
        floor = np.maximum(floor, d_ap + np.float32(config.absolute_margin))
    if config.relative_margin:
        floor = np.maximum(floor, 2 - np.float32(config.relative_margin) * (2 - d_ap))
    return floor.astype(np.float32)


def _base_floor(name: str, d_ap: Float32) -> Float32:
    """The floor (p,) of a strategy without guards."""
    return d_ap if "semi_hard" in name else np.full(len(d_ap), -1, np.float32)


def _ceiling(name: str, d_ap: Float32, config: MiningConfig) -> Float32:
    """The ceiling (p,) of a strategy; exclusive."""
    if "semi_hard" in name:
        return d_ap + np.float32(config.margin)
    if name == "hard":
        return np.nextafter(d_ap, EVERYTHING)
    return np.full(len(d_ap), EVERYTHING, np.float32)


def _depth(config: MiningConfig) -> int:
    """How many of its nearest negatives a window must list."""
    depth = config.per_pair + config.skip_ranks
    if "rank_band" in config.negatives:
        depth = max(depth, config.band[1])
    if "random_semi_hard" in config.negatives:
        depth = max(depth, RANDOM_LIST + config.skip_ranks)
    return depth
