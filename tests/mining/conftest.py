"""Problems to mine, and the plain loop that says what is right."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from remine.data.types import EASY, HARD, SEMI_HARD, unit
from remine.mining.arguments import make_problem
from remine.mining.config import MiningConfig
from remine.mining.problem import Problem

BY_CHANCE = ("random_semi_hard", "rank_band", "uniform", "distance_weighted")
UNCOUNTED = ("uniform", "distance_weighted")


def loop_hash(seed: int, *values: int) -> int:
    """splitmix64, chained, in whole numbers."""
    state, mask = seed, 2**64 - 1
    for value in values:
        state = ((state ^ (value & mask)) + 0x9E3779B97F4A7C15) & mask
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & mask
        state ^= state >> 31
    return state


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
        parts, rows = lists.parts, set()
        for part in range(lists.starts[anchor], lists.stops[anchor]):
            rows |= set(parts.rows[parts.starts[part] : parts.stops[part]].tolist())
        return rows

    def pairs(self, anchor: int) -> list[tuple[np.float32, int]]:
        """(d_ap, row) of the anchor's chosen positives, by distance, then by row."""
        rows = self.listed(self.problem.positives, anchor) - {int(self.problem.self_rows[anchor])}
        pairs = sorted((self.distance(anchor, row), row) for row in rows)
        mode, limit = self.config.positives, self.config.max_positives
        if mode == "random":
            limit = 1
        elif mode != "all":
            limit = limit or 1
        if mode in ("all", "random") and limit:
            ids = self.problem.gallery_ids.tolist()
            custom = int(self.problem.anchor_ids[anchor])
            key = {row: loop_hash(self.seed, custom, ids[row]) for _, row in pairs}
            remainder = set(sorted(key, key=key.__getitem__)[:limit])
            return [pair for pair in pairs if pair[1] in remainder]
        if limit:
            rates = sorted(pairs, key=lambda pair: (-pair[0], pair[1]))
            return pairs[:limit] if mode == "easiest" else sorted(rates[:limit])
        return pairs

    def negatives(self, anchor: int) -> list[tuple[np.float32, int, int]]:
        """(d_an, row, how many are strictly closer) of all negatives, nearest first."""
        if anchor in self.known:
            return self.known[anchor]
        rows = set(range(len(self.problem.gallery))) - self.listed(self.problem.exclusions, anchor)
        rows -= {int(self.problem.self_rows[anchor])}
        result = sorted((self.distance(anchor, row), row) for row in rows)
        closer = [sum(d < e for d, _ in result) for e, _ in result]
        self.known[anchor] = [(*pair, rank) for pair, rank in zip(result, closer, strict=True)]
        return self.known[anchor]

    def admissible(self, strategy: str, anchor: int, d_ap: np.float32) -> list[tuple]:
        """What `strategy` may answer for a pair, nearest first."""
        config, two = self.config, np.float32(2)
        fits = []
        for place, (d, row, rank) in enumerate(self.negatives(anchor)):
            guarded = (
                (not config.near_duplicate or d > np.float32(config.near_duplicate))
                and (not config.absolute_margin or d > d_ap + np.float32(config.absolute_margin))
                and (
                    not config.relative_margin
                    or d > two - np.float32(config.relative_margin) * (two - d_ap)
                )
            )
            ranked = place >= config.skip_ranks or strategy in UNCOUNTED
            inside = {
                "semi_hard": d_ap < d < d_ap + np.float32(config.margin),
                "random_semi_hard": d_ap < d < d_ap + np.float32(config.margin),
                "hard": d <= d_ap,
                "hardest": True,
                "rank_band": config.band[0] <= place < config.band[1],
                "uniform": True,
                "distance_weighted": np.sqrt(np.float64(d)) < 1.4,
            }[strategy]
            if guarded and ranked and inside:
                fits.append((d, row, rank))
        return fits

    def kind(self, d_ap: np.float32, d_an: np.float32) -> int:
        if d_an <= d_ap:
            return HARD
        return SEMI_HARD if d_an < d_ap + np.float32(self.config.margin) else EASY

    def check(self, triplets, stats, *, certain: bool = True) -> None:
        """The triplets of one strategy are what the loops say: all of it, or a fair part of it.

        certain: whether it is known that what is missing does not exist.
        """
        (strategy,) = self.config.negatives
        rows = {item: row for row, item in enumerate(self.problem.gallery_ids.tolist())}
        mining_result: dict[tuple[int, int], list[tuple]] = {}
        for t in range(len(triplets)):
            pair = int(triplets.anchor_id[t]), rows[int(triplets.positive_id[t])]
            d_ap, d_an = triplets.d_ap[t], triplets.d_an[t]
            assert triplets.kind[t] == self.kind(d_ap, d_an)
            result = d_an, rows[int(triplets.negative_id[t])], int(triplets.negative_rank[t])
            mining_result.setdefault((*pair, d_ap), []).append(result)
        queries = []
        answered = 0
        for anchor in range(len(self.problem)):
            for d_ap, positive in self.pairs(anchor):
                queries.append((int(self.problem.anchor_ids[anchor]), positive, d_ap))
                result = mining_result.get(queries[-1], [])
                fits = self.admissible(strategy, anchor, d_ap)
                answered += len(result)
                assert len(result) == min(self.config.per_pair, len(fits))
                if strategy not in BY_CHANCE:
                    assert result == fits[: self.config.per_pair]
                elif strategy in UNCOUNTED:
                    fits = [(d, row, -1) for d, row, _ in fits]
                assert len(set(result)) == len(result)
                assert set(result) <= set(fits)
        assert list(mining_result) == [
            pair for pair in queries if pair in mining_result
        ]  # no others, and in order
        assert (stats.anchors, stats.pairs) == (len(self.problem), len(queries))
        assert stats.singletons == len(self.problem) - len({anchor for anchor, *_ in queries})
        assert stats.answered == {strategy: answered}
        missing = len(queries) * self.config.per_pair - answered
        assert stats.none_exists[strategy] + stats.not_found[strategy] == missing
        if certain and strategy != "distance_weighted":
            assert stats.not_found == {strategy: 0}
        assert sum(stats.kinds.values()) == stats.triplets == len(triplets) + stats.capped


@pytest.fixture(scope="session")
def oracle_of():
    """Oracle(problem, config): a fixture, so that all test files share it."""
    return Oracle


@pytest.fixture(scope="session", name="loop_hash")
def _loop_hash() -> Callable[..., int]:
    return loop_hash


@pytest.fixture(scope="session")
def clusters():
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
