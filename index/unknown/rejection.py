"""How well a limit on the nearest distance rejects items of no class.

Every query is searched as a later one will be: among all known items of the store, itself left out.
A val or test item counts as known if another known item has its class, as a query of a known class
has items to be found. Where test classes are not trained on, neither are val classes, so that both
are as far from their items as queries of new classes are; queries of training classes are nearer,
and fewer of them are rejected than the limit allows.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from remine.data.items.catalogue import TEST, UNKNOWN, VAL
from remine.data.types import Embeddings, Float32, Int8, Int64
from remine.index.unknown.distance_limits import DistanceLimits

SAMPLE = 4_000
"""Queries of each split that are searched: a rate of 5 % is then known to 0.35 points."""
BLOCK = 16_000_000
"""Products (queries x items) held at a time."""
SHOWN_RATES = (0.01, 0.05, 0.1)
"""Rates of false alarms whose outcome is measured."""


def measure_rejection(
    embeddings: Embeddings, splits: Int8, queries: int = 0, seed: int = 0
) -> dict[str, Any]:
    """Limits from val, and what they do to test items and unknown items.

    Args:
        embeddings: All n items.
        splits: (n,) their splits.
        queries: Most queries of each split; 0 for SAMPLE.
        seed: Of the samples.

    Returns:
        limits: `DistanceLimits` as JSON; missing if val has too few known items.
        test: Number of known test queries.
        unknown: Number of unknown queries; missing, as what depends on it, if there are none.
        auroc: Share of pairs of a test and an unknown query of which the unknown one is farther.
        rates: For each of SHOWN_RATES that has a limit: wished, limit, false_alarms (share of the
            test queries that are rejected) and rejected (share of the unknown queries).
    """
    count = min(queries or SAMPLE, SAMPLE)
    rng = np.random.default_rng(seed)
    known_rows = np.flatnonzero(splits != UNKNOWN)
    gallery = embeddings.take(known_rows)
    sizes = np.bincount(gallery.label_codes)
    has_mates = np.zeros(len(splits), bool)
    has_mates[known_rows] = sizes[gallery.label_codes] > 1

    def distances(mask: NDArray[np.bool_]) -> Float32:
        rows = np.flatnonzero(mask)
        if len(rows) > count:
            rows = np.sort(rng.choice(rows, count, replace=False))
        return nearest_distances(embeddings.take(rows), gallery)

    val, test = distances((splits == VAL) & has_mates), distances((splits == TEST) & has_mates)
    unknown = distances(splits == UNKNOWN)
    result: dict[str, Any] = {"test": len(test)}
    limits = DistanceLimits.measured(val)
    if limits:
        result["limits"] = limits.to_json()
        result["rates"] = [
            _outcome(rate, limits.at(rate), test, unknown)
            for rate in SHOWN_RATES
            if rate >= limits.rates[0]
        ]
    if len(unknown):
        result["unknown"] = len(unknown)
        if len(test):
            result["auroc"] = auroc(test, unknown)
    return result


def nearest_distances(queries: Embeddings, gallery: Embeddings) -> Float32:
    """The squared distance (q,) of each query to its nearest other item of the gallery.

    The item with the query's own id is left out. inf if there is no other.
    """
    vectors = torch.from_numpy(gallery.vectors)
    places = np.searchsorted(gallery.ids, queries.ids).clip(max=max(0, len(gallery) - 1))
    result = np.full(len(queries), np.inf, np.float32)
    if not len(gallery):
        return result
    step = max(1, BLOCK // len(gallery))
    for start in range(0, len(queries), step):
        part = slice(start, min(start + step, len(queries)))
        products = torch.from_numpy(queries.vectors[part]) @ vectors.T
        rows: Int64 = np.flatnonzero(gallery.ids[places[part]] == queries.ids[part])
        products[torch.from_numpy(rows), torch.from_numpy(places[part][rows])] = -torch.inf
        result[part] = (2 - 2 * products.amax(dim=1)).clamp_min(0).numpy()
    return result


def auroc(known: Float32, unknown: Float32) -> float:
    """The area under the ROC curve of distances (k,) and (u,), ties counted as half."""
    ascending = np.sort(known)
    nearer, not_farther = (ascending.searchsorted(unknown, side) for side in ("left", "right"))
    return float((nearer + not_farther).mean() / (2 * len(known)))


def _outcome(rate: float, limit: float, test: Float32, unknown: Float32) -> dict[str, float]:
    outcome = {"wished": rate, "limit": limit}
    for name, distances in (("false_alarms", test), ("rejected", unknown)):
        if len(distances):
            outcome[name] = float((distances > limit).mean())
    return outcome
