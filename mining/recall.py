"""How much of the exact answer an engine finds, on a sample of anchors."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from data.types import Int64
from mining.config import MiningConfig
from mining.problem import Problem, Rows
from mining.scan import Found, Windows, scan
from mining.windows import ask

SAMPLE = 2000
NEIGHBOURS = 10
RESAMPLES = 200


@dataclass(frozen=True, kw_only=True)
class Recall:
    """Shares of the exact answer, measured on `sampled` anchors.

    neighbours: of the 10 nearest negatives of each anchor. negatives: of the negatives in the
    windows that the strategies ask for. *_low: the bootstrap's 2.5th percentile, over anchors.
    """

    sampled: int
    neighbours: float
    neighbours_low: float
    negatives: float
    negatives_low: float

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


@dataclass(kw_only=True)
class Sample:
    """Some anchors, what is asked for them, the exact answer, and the latest answer of an engine.

    Two questions: the 10 nearest negatives, and the windows of the strategies.
    """

    anchors: Rows
    asked: tuple[Windows, Windows]
    truth: tuple[Found, Found]
    found: tuple[Found, Found]

    @classmethod
    def of(cls, problem: Problem, config: MiningConfig, seed: int) -> Self:
        """Draw the anchors and search exactly."""
        rng = np.random.default_rng(seed)
        anchors = np.sort(rng.choice(len(problem), min(SAMPLE, len(problem)), replace=False))
        block = problem.block(anchors)
        asked = (_nearest_windows(len(anchors)), ask(block, config, seed)[1].windows)
        truth = _nothing(asked)
        for windows, found in zip(asked, truth, strict=True):
            scan(block, windows, found)
        return cls(anchors=anchors, asked=asked, truth=truth, found=truth)

    def searches(self) -> Iterator[tuple[Windows, Found]]:
        """Windows and empty answers for an engine to fill."""
        self.found = _nothing(self.asked)
        return zip(self.asked, self.found, strict=True)

    def neighbours(self) -> float:
        """The share of the 10 nearest negatives that was found."""
        got, all_ = _hits(self.found[0], self.truth[0])
        return float(got.sum() / max(1, all_.sum()))

    def deepest(self, wished: float) -> int:
        """Up to how many closer negatives a window may have for the wished share to be found."""
        got, all_ = _hits(self.found[1], self.truth[1])
        order = np.argsort(self.found[1].closer, kind="stable")
        shares = got[order].cumsum() / np.maximum(all_[order].cumsum(), 1)
        good = np.flatnonzero((shares >= wished) | (all_[order].cumsum() == 0))
        if len(good) == len(order):
            return 2**62
        return int(self.found[1].closer[order[good[-1]]]) - 1 if len(good) else -1

    def deeper(self, deepest: int) -> float:
        """The share of anchors with a window deeper than that."""
        owner = _owners(self.asked[1])
        deep = np.unique(owner[self.found[1].closer > deepest])
        return len(deep) / max(1, len(self.anchors))

    def recall(self, deepest: int, seed: int) -> Recall:
        """The recall where windows deeper than that are searched exactly."""
        near = _share(self.asked[0], *_hits(self.found[0], self.truth[0]), seed)
        got, all_ = _hits(self.found[1], self.truth[1])
        got = np.where(self.found[1].closer > deepest, all_, got)
        negatives = _share(self.asked[1], got, all_, seed)
        return Recall(
            sampled=len(self.anchors),
            neighbours=near[0],
            neighbours_low=near[1],
            negatives=negatives[0],
            negatives_low=negatives[1],
        )


def _nothing(asked: tuple[Windows, Windows]) -> tuple[Found, Found]:
    return Found.nothing(asked[0]), Found.nothing(asked[1])


def _nearest_windows(anchors: int) -> Windows:
    """One window an anchor, for its 10 nearest negatives."""
    return Windows(
        starts=np.arange(anchors),
        stops=np.arange(anchors) + 1,
        floor=np.full(anchors, -1, np.float32),
        ceiling=np.full(anchors, 5, np.float32),
        depth=NEIGHBOURS,
    )


def _hits(found: Found, truth: Found) -> tuple[Int64, Int64]:
    """Per window how many of the exact answers were found, and how many there are; (w,) each.

    By distance, so that of several equally near ones any will do.
    """
    there = truth.rows >= 0
    same = there & (found.rows >= 0) & (found.distances == truth.distances)
    return same.sum(axis=1), there.sum(axis=1)


def _owners(windows: Windows) -> Int64:
    """The anchor of each window."""
    return np.repeat(np.arange(len(windows.starts)), windows.stops - windows.starts)


def _share(windows: Windows, got: Int64, all_: Int64, seed: int) -> tuple[float, float]:
    """The share of the exact answers that was found, and its lower bound over anchors."""
    anchors = len(windows.starts)
    some, every = (np.bincount(_owners(windows), values, anchors) for values in (got, all_))
    if not every.sum():
        return 1.0, 1.0
    drawn = np.random.default_rng(seed).integers(0, anchors, (RESAMPLES, anchors))
    shares = some[drawn].sum(axis=1) / np.maximum(every[drawn].sum(axis=1), 1)
    return round(float(some.sum() / every.sum()), 6), round(float(np.percentile(shares, 2.5)), 6)
