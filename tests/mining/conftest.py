"""Problems to mine, and the plain loop that says what is right."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from data.types import unit
from mining.config import MiningConfig
from mining.miner import make_problem
from mining.pairs import hashes
from mining.problem import Problem


@dataclass
class Oracle:
    """Everything by loops over rows, in float64, each distance rounded once to float32."""

    problem: Problem
    config: MiningConfig
    seed: int = 0
    known: dict[int, list[tuple[np.float32, int, int]]] = field(default_factory=dict)

    def distance(self, anchor: int, row: int) -> np.float32:
        a = self.problem.anchors[anchor].astype(np.float64)
        b = self.problem.gallery[row].astype(np.float64)
        total = 0.0
        for x, y in zip(a.tolist(), b.tolist(), strict=True):
            total += (x - y) * (x - y)
        return np.float32(total)

    def listed(self, lists, anchor: int) -> set[int]:
        return set(lists.rows[lists.starts[anchor] : lists.stops[anchor]].tolist())

    def pairs(self, anchor: int) -> list[tuple[np.float32, int]]:
        """(d_ap, row) of the anchor's chosen positives, by distance, then by row."""
        rows = self.listed(self.problem.positives, anchor) - {int(self.problem.own[anchor])}
        pairs = sorted((self.distance(anchor, row), row) for row in rows)
        how, limit = self.config.positives, self.config.max_positives
        if how == "random":
            limit = 1
        elif how != "all":
            limit = limit or 1
        if how in ("all", "random") and limit:
            ids = self.problem.gallery_ids
            key = {
                row: int(hashes(self.seed, self.problem.anchor_ids[[anchor]], ids[[row]])[0])
                for _, row in pairs
            }
            kept = set(sorted(key, key=key.__getitem__)[:limit])
            return [pair for pair in pairs if pair[1] in kept]
        if limit:
            return pairs[:limit] if how == "easiest" else pairs[-limit:]
        return pairs

    def negatives(self, anchor: int) -> list[tuple[np.float32, int, int]]:
        """(d_an, row, how many are strictly closer) of all negatives, nearest first."""
        if anchor in self.known:
            return self.known[anchor]
        rows = set(range(len(self.problem.gallery))) - self.listed(self.problem.barred, anchor)
        rows -= {int(self.problem.own[anchor])}
        found = sorted((self.distance(anchor, row), row) for row in rows)
        closer = [sum(d < e for d, _ in found) for e, _ in found]
        self.known[anchor] = [(*pair, rank) for pair, rank in zip(found, closer, strict=True)]
        return self.known[anchor]

    def admissible(self, strategy: str, anchor: int, d_ap: np.float32) -> list[tuple]:
        """What `strategy` may answer for a pair, nearest first."""
        config, one = self.config, np.float32(1)
        fits = []
        for d, row, rank in self.negatives(anchor):
            guarded = (
                (not config.near_duplicate or d > np.float32(config.near_duplicate))
                and (not config.absolute_margin or d > d_ap + np.float32(config.absolute_margin))
                and (
                    not config.relative_margin
                    or d > 2 * one - np.float32(config.relative_margin) * (2 * one - d_ap)
                )
            )
            ranked = rank >= config.skip_ranks or strategy in ("uniform", "distance_weighted")
            inside = {
                "semi_hard": d_ap < d < d_ap + np.float32(config.margin),
                "random_semi_hard": d_ap < d < d_ap + np.float32(config.margin),
                "hard": d <= d_ap,
                "hardest": True,
                "rank_band": config.band[0] <= rank < config.band[1],
                "uniform": True,
                "distance_weighted": np.sqrt(np.float64(d)) < 1.4,
            }[strategy]
            if guarded and ranked and inside:
                fits.append((d, row, rank))
        return fits


@pytest.fixture(scope="session")
def oracle_of():
    """Oracle(problem, config): a fixture, so that all test files share it."""
    return Oracle


@pytest.fixture(scope="session")
def clustered():
    """n vectors in classes that interleave, as (vectors, labels)."""

    def make(n: int, d: int = 32, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        classes = max(2, n // 10)
        labels = rng.integers(0, classes, n)
        groups = rng.normal(size=(max(1, classes // 8), d))
        centres = groups[rng.integers(0, len(groups), classes)] + rng.normal(size=(classes, d))
        vectors = centres[labels] + rng.normal(size=(n, d))
        return unit(vectors.astype(np.float32)), labels

    return make


@pytest.fixture(scope="session")
def problem_of():
    """(vectors, labels) to a problem."""
    return lambda vectors, labels: make_problem(vectors, labels, None, None, None)
