"""From strategies to windows of distance, and from what a scan found in them to negatives.

Per anchor there is one window for each different floor that its pairs and strategies need, so the
scan visits a distance once however many strategies ask for it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remine.data.types import Float32, Int64
from remine.mining.config import MiningConfig
from remine.mining.problem import Problem, Rows
from remine.mining.search.windows import Found, Windows
from remine.mining.strategies.positives import Pairs, find_pairs, hashes

EVERYTHING = np.float32(5)  # beyond the largest distance, 4
SCANNED = ("semi_hard", "hard", "hardest", "random_semi_hard", "rank_band")
LISTED = 64


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The windows of all pairs, and which window answers each pair.

    windows: see Windows. of: per strategy the window (p,) of each pair. floor, ceiling: per
    strategy each pair's own bounds (p,); a window's ceiling is the farthest of its users'.
    """

    windows: Windows
    of: dict[str, Rows]
    ceiling: dict[str, Float32]


def ask(problem: Problem, config: MiningConfig, seed: int) -> tuple[Pairs, Plan]:
    """The pairs, and the windows to search for them."""
    pairs = find_pairs(problem, config, seed)
    return pairs, plan_windows(pairs, len(problem), config)


def plan_windows(pairs: Pairs, anchors: int, config: MiningConfig) -> Plan:
    """The windows that the scanned strategies of `config` need for `pairs`."""
    asked = [name for name in config.negatives if name in SCANNED]
    shape = (len(asked), len(pairs))
    floors, ceilings = np.empty(shape, np.float32), np.empty(shape, np.float32)
    guarded = guard(pairs.d_ap, config)
    for i, name in enumerate(asked):
        floors[i] = np.maximum(guarded, _base(name, pairs.d_ap))
        ceilings[i] = _ceiling(name, pairs.d_ap, config)
    # One integer a (anchor, floor) that sorts as the two do and differs where they differ: the bits
    # of a float that is not negative sort as it does, and no floor is negative but -1.
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
    return Plan(
        windows=windows,
        of={name: window[i] for i, name in enumerate(asked)},
        ceiling={name: ceilings[i] for i, name in enumerate(asked)},
    )


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a strategy found for each pair, m negatives in the order of preference.

    rows: (p, m) gallery rows, -1 for none. distances: (p, m) float32. ranks: (p, m) int64, how many
    negatives are closer, -1 where nobody counted. cut_short: (p,) whether the search was cut short,
    so that a missing negative may exist all the same.
    """

    rows: Int64
    distances: Float32
    ranks: Int64
    cut_short: NDArray[np.bool_]


def answer(
    name: str,
    plan: Plan,
    found: Found,
    cut: NDArray[np.bool_],
    pair_keys: NDArray[np.uint64],
    ids: Int64,
    config: MiningConfig,
) -> Answer:
    """The negatives of the searched strategy `name` for all pairs.

    cut: (w,) whether the search of a window was cut short. pair_keys: (p,) hashes that decide where
    chance does. ids: (n,) of the gallery.
    """
    window = plan.of[name]
    rows, distances = found.rows[window], found.distances[window]
    ranks = found.closer[window][:, None] + _strictly_closer(distances)
    # Places, not ranks: of equally near ones each has a place of its own, so that a list as long as
    # the places asked for is long enough.
    places = found.closer[window][:, None] + np.arange(rows.shape[1])
    fits = (rows >= 0) & (distances < plan.ceiling[name][:, None]) & (places >= config.skip_ranks)
    if name == "rank_band":
        fits &= (places >= config.band[0]) & (places < config.band[1])
    order = np.broadcast_to(np.arange(rows.shape[1], dtype=np.uint64), rows.shape)
    if name in ("rank_band", "random_semi_hard"):
        order = hashes(0, pair_keys.view(np.int64)[:, None], ids[rows]) >> np.uint64(1)
    order = np.where(fits, order, np.uint64(2**64 - 1))
    chosen = np.argsort(order, axis=1, kind="stable")[:, : config.per_pair]
    taken = np.take_along_axis(fits, chosen, axis=1)
    return Answer(
        rows=np.where(taken, np.take_along_axis(rows, chosen, axis=1), -1),
        distances=np.take_along_axis(distances, chosen, axis=1),
        ranks=np.take_along_axis(ranks, chosen, axis=1),
        cut_short=cut[window],
    )


def _strictly_closer(distances: Float32) -> Int64:
    """Per entry of ascending rows (w, depth), how many entries before it are strictly less."""
    places = np.broadcast_to(np.arange(distances.shape[1]), distances.shape)
    new = np.ones(distances.shape, bool)
    new[:, 1:] = distances[:, 1:] > distances[:, :-1]
    return np.maximum.accumulate(np.where(new, places, 0), axis=1)


def guard(d_ap: Float32, config: MiningConfig) -> Float32:
    """The floor (p,) that the guards set for negatives of any strategy; -1 for none."""
    floor = np.full(len(d_ap), -1, np.float32)
    if config.near_duplicate:
        floor = np.maximum(floor, np.float32(config.near_duplicate))
    if config.absolute_margin:
        floor = np.maximum(floor, d_ap + np.float32(config.absolute_margin))
    if config.relative_margin:
        floor = np.maximum(floor, 2 - np.float32(config.relative_margin) * (2 - d_ap))
    return floor.astype(np.float32)


def _base(name: str, d_ap: Float32) -> Float32:
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
    """How many of the nearest a window must hold."""
    depth = config.per_pair + config.skip_ranks
    if "rank_band" in config.negatives:
        depth = max(depth, config.band[1])
    if "random_semi_hard" in config.negatives:
        depth = max(depth, LISTED + config.skip_ranks)
    return depth
