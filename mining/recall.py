"""How much of the exact answer an engine finds, on a sample of anchors."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from data.types import Int64
from mining.config import MiningConfig
from mining.found import Found, Windows
from mining.problem import Problem, Rows
from mining.scan import scan
from mining.windows import ask

SAMPLE = 2000
NEIGHBOURS = 10
RESAMPLES = 200
ANY_DEPTH = 2**62


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

    Two questions: the 10 nearest negatives, and the windows of the strategies. final: (w,) which of
    the latter are answered for good, got: (w,) with how many right negatives.
    """

    anchors: Rows
    asked: tuple[Windows, Windows]
    truth: tuple[Found, Found]
    found: tuple[Found, Found]
    final: NDArray[np.bool_]
    got: Int64

    @classmethod
    def of(cls, problem: Problem, config: MiningConfig, seed: int) -> Self:
        """Draw the anchors and search exactly."""
        rng = np.random.default_rng(seed)
        anchors = np.sort(rng.choice(len(problem), min(SAMPLE, len(problem)), replace=False))
        block = problem.block(anchors)
        asked = (_nearest_windows(len(anchors)), ask(block, config, seed)[1].windows)
        truth = nothing(asked)
        search_both(asked, truth, lambda windows, found: scan(block, windows, found))
        w = len(asked[1].floor)
        return cls(
            anchors=anchors,
            asked=asked,
            truth=truth,
            found=nothing(asked),
            final=np.zeros(w, bool),
            got=np.zeros(w, np.int64),
        )

    def restart(self) -> None:
        """Forget what was found and taken as final."""
        self.found = nothing(self.asked)
        self.final, self.got = np.zeros_like(self.final), np.zeros_like(self.got)

    def neighbours(self) -> float:
        """The share of the 10 nearest negatives that was found."""
        got, all_ = _hits(self.found[0], self.truth[0])
        return float(got.sum() / max(1, all_.sum()))

    def trust(self, wished: float) -> int:
        """Take as final what was found in windows with few closer negatives; up to how many.

        As many windows as leave the share of right answers among all final ones at `wished`.
        """
        got, all_ = _hits(self.found[1], self.truth[1])
        got = np.where(self.final, self.got, got)
        depths, place = np.unique(np.where(self.final, -1, self.closer), return_inverse=True)
        some, every = (np.bincount(place, values).cumsum() for values in (got, all_))
        good = np.flatnonzero(some >= wished * every)
        if not len(good):
            return -1
        deepest = ANY_DEPTH if good[-1] == len(depths) - 1 else int(depths[good[-1]])
        self.got = np.where(self.closer <= deepest, got, self.got)
        self.final |= self.closer <= deepest
        return deepest

    @property
    def closer(self) -> Int64:
        """How many closer negatives were found in each window."""
        return self.found[1].closer

    def open_share(self) -> float:
        """The share of anchors with a window that is not final."""
        owner = _owners(self.asked[1])
        return len(np.unique(owner[~self.final])) / max(1, len(self.anchors))

    def recall(self, seed: int) -> Recall:
        """The recall where windows that are not final are searched exactly."""
        near = _share(self.asked[0], *_hits(self.found[0], self.truth[0]), seed)
        all_ = _hits(self.truth[1], self.truth[1])[1]
        negatives = _share(self.asked[1], np.where(self.final, self.got, all_), all_, seed)
        return Recall(
            sampled=len(self.anchors),
            neighbours=near[0],
            neighbours_low=near[1],
            negatives=negatives[0],
            negatives_low=negatives[1],
        )


def nothing(asked: tuple[Windows, Windows]) -> tuple[Found, Found]:
    """Empty answers to both."""
    return Found.nothing(asked[0]), Found.nothing(asked[1])


def search_both(
    asked: tuple[Windows, Windows],
    found: tuple[Found, Found],
    search: Callable[[Windows, Found], None],
) -> None:
    """Answer both questions by one search: what costs most does not depend on how much is asked."""
    owners = np.concatenate([_owners(windows) for windows in asked])
    order = np.argsort(owners, kind="stable")
    place = np.argsort(order)
    places = place[: len(asked[0].floor)], place[len(asked[0].floor) :]
    edges = np.searchsorted(owners[order], np.arange(len(asked[0].starts) + 1))
    both = Windows(
        starts=edges[:-1],
        stops=edges[1:],
        floor=np.concatenate([windows.floor for windows in asked])[order],
        ceiling=np.concatenate([windows.ceiling for windows in asked])[order],
        depth=max(windows.depth for windows in asked),
    )
    answers = Found.nothing(both)
    for one, rows in zip(found, places, strict=True):
        depth = one.rows.shape[1]
        answers.rows[rows, :depth], answers.distances[rows, :depth] = one.rows, one.distances
        answers.closer[rows] = one.closer
    search(both, answers)
    for one, rows in zip(found, places, strict=True):
        depth = one.rows.shape[1]
        one.rows[:], one.distances[:] = answers.rows[rows, :depth], answers.distances[rows, :depth]
        one.closer[:] = answers.closer[rows]


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
    found_distances = np.where(found.rows >= 0, found.distances, np.nan)
    same = np.zeros(there.shape, bool)
    for column in found_distances.T:
        same |= truth.distances == column[:, None]
    return (there & same).sum(axis=1), there.sum(axis=1)


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
