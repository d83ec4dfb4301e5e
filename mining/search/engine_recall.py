"""How much of the exact answer an engine finds, on a sample of anchors."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from remine.data.types import Float32, Int64
from remine.mining.config import MiningConfig
from remine.mining.problem import Problem, Rows
from remine.mining.search.list_join import Lists, beyond
from remine.mining.search.scan import scan
from remine.mining.search.windows import Found, Windows, owners
from remine.mining.strategies.negatives import ask

LEAST, MOST, SHARE = 2000, 10_000, 25  # anchors of a sample: one in SHARE, within bounds
NEIGHBOURS = 10
RESAMPLES = 200
NOWHERE, ANYWHERE = -3.0, 3.0  # distances between unit vectors differ by less


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

    Two questions: the 10 nearest negatives, and the windows of the strategies. reach: (s,) how far
    the lists that were visited reach, see `list_join`. final: (w,) which of the windows are
    answered for good, got: (w,) with how many right negatives.
    """

    anchors: Rows
    asked: tuple[Windows, Windows]
    truth: tuple[Found, Found]
    found: tuple[Found, Found]
    reach: Float32
    final: NDArray[np.bool_]
    got: Int64

    @classmethod
    def of(cls, problem: Problem, config: MiningConfig, seed: int) -> Self:
        """Draw the anchors and search exactly."""
        n = len(problem)
        count = min(n, max(LEAST, min(MOST, n // SHARE)))
        anchors = np.sort(np.random.default_rng(seed).choice(n, count, replace=False))
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
            reach=np.zeros(count, np.float32),
            final=np.zeros(w, bool),
            got=np.zeros(w, np.int64),
        )

    def restart(self) -> None:
        """Forget what was found and taken as final."""
        self.found = nothing(self.asked)
        self.final, self.got = np.zeros_like(self.final), np.zeros_like(self.got)

    def visit(self, lists: Lists, first: int, visits: int) -> None:
        """Visit the next lists of the anchors that have a window which is not final."""
        if not self.final.any():
            search_both(
                self.asked,
                self.found,
                lambda windows, found: self._visit(lists, windows, found, first, visits),
            )
        else:
            self._visit(lists, self.asked[1], self.found[1], first, visits)

    def _visit(self, lists: Lists, windows: Windows, found: Found, first: int, visits: int) -> None:
        still = np.arange(len(self.anchors)) if not self.final.any() else self._open()
        self.reach[still] = lists.visit(
            self.anchors[still], windows.block(still), found, first, visits
        )

    def neighbours(self) -> float:
        """The share of the 10 nearest negatives that was found."""
        got, all_ = _hits(self.found[0], self.truth[0])
        return float(got.sum() / max(1, all_.sum()))

    def trust(self, wished: float, *, at_least: float = 0.0) -> float:
        """Take as final the windows that lie least beyond the visited lists; up to how far.

        As many windows as leave the share of right answers among all final ones at `wished`, by
        two standard errors of the number of wrong ones: what is chosen on a sample looks better on
        it than it is. Takes none and returns NOWHERE where that would settle less than the share
        `at_least` of the anchors.
        """
        got, all_ = _hits(self.found[1], self.truth[1])
        got = np.where(self.final, self.got, got)
        far = np.where(self.final, NOWHERE, self.beyond())
        order = np.argsort(far, kind="stable")
        missed = np.cumsum(all_[order] - got[order])
        good = missed + 2 * np.sqrt(missed) <= (1 - wished) * np.cumsum(all_[order])
        good[:-1] &= far[order[1:]] > far[order[:-1]]  # equals stay together
        last = int(np.flatnonzero(good)[-1]) if good.any() else -1
        if last < 0 or self.final[order[last]]:
            return NOWHERE
        farthest = ANYWHERE if last == len(order) - 1 else float(far[order[last]])
        if self.open_share() - self._open_share(far > farthest) < at_least:
            return NOWHERE
        self._settle(far <= farthest, got)
        return farthest

    def trust_all(self) -> None:
        """Take all windows as final."""
        self._settle(np.ones_like(self.final), _hits(self.found[1], self.truth[1])[0])

    def _settle(self, windows: NDArray[np.bool_], got: Int64) -> None:
        self.got = np.where(windows & ~self.final, got, self.got)
        self.final |= windows

    def beyond(self) -> Float32:
        """How far beyond the visited lists each window lies, (w,); see `list_join`."""
        return beyond(self.asked[1], self.found[1], self.reach)

    def open_share(self) -> float:
        """The share of anchors with a window that is not final."""
        return self._open_share(~self.final)

    def _open_share(self, windows: NDArray[np.bool_]) -> float:
        return len(np.unique(owners(self.asked[1])[windows])) / max(1, len(self.anchors))

    def _open(self) -> Rows:
        return np.unique(owners(self.asked[1])[~self.final])

    def recall(self, seed: int) -> Recall:
        """The recall where windows that are not final are searched exactly.

        What later levels find for a window that an earlier one has settled is not counted.
        """
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
    of = np.concatenate([owners(windows) for windows in asked])
    order = np.argsort(of, kind="stable")
    place = np.argsort(order)
    places = place[: len(asked[0].floor)], place[len(asked[0].floor) :]
    edges = np.searchsorted(of[order], np.arange(len(asked[0].starts) + 1))
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


def _share(windows: Windows, got: Int64, all_: Int64, seed: int) -> tuple[float, float]:
    """The share of the exact answers that was found, and its lower bound over anchors."""
    anchors = len(windows.starts)
    some, every = (np.bincount(owners(windows), values, anchors) for values in (got, all_))
    if not every.sum():
        return 1.0, 1.0
    drawn = np.random.default_rng(seed).integers(0, anchors, (RESAMPLES, anchors))
    shares = some[drawn].sum(axis=1) / np.maximum(every[drawn].sum(axis=1), 1)
    return round(float(some.sum() / every.sum()), 6), round(float(np.percentile(shares, 2.5)), 6)
