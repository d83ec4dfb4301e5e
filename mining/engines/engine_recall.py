"""Measuring how much of the exact answer an engine finds, on a sample of anchors."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from remine.data.types import Float32, Int64
from remine.mining.config import MiningConfig
from remine.mining.problem import Problem
from remine.mining.row_lists import Rows
from remine.mining.search.list_join import ListIndex, distance_beyond
from remine.mining.search.scan import scan
from remine.mining.search.windows import WindowMatches, Windows, owners
from remine.mining.strategies.negatives import plan_search

MIN_SAMPLE, MAX_SAMPLE, SAMPLE_EVERY = 2000, 10_000, 25  # one anchor in 25, within bounds
NEIGHBOURS = 10
RESAMPLES = 200
NO_WINDOWS, ALL_WINDOWS = -3.0, 3.0  # thresholds; differences between distances are at most 2


@dataclass(frozen=True, kw_only=True)
class Recall:
    """Shares of the exact answer that an engine finds, measured on a sample.

    Attributes:
        sampled: Anchors of the sample.
        neighbours: Of the 10 nearest negatives of each anchor.
        negatives: Of the negatives in the windows that the strategies need.
        neighbours_low, negatives_low: 2.5th percentiles of a bootstrap over anchors.
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
    """A sample of anchors with the exact answers and the latest answers of an engine.

    There are two sets of windows: for the 10 nearest negatives of each anchor, and those of the
    strategies ("strategy windows").

    Attributes:
        anchors: (s,) rows of the problem's anchors, ascending.
        window_sets: Both sets of windows.
        truth: The exact matches.
        matches: The engine's matches so far.
        reach: (s,) distance to the last visited centroid, see `ListIndex.visit`.
        is_final: (w,) bool, which strategy windows are answered.
        hits: (w,) how many right negatives each answered window has.
    """

    anchors: Rows
    window_sets: tuple[Windows, Windows]
    truth: tuple[WindowMatches, WindowMatches]
    matches: tuple[WindowMatches, WindowMatches]
    reach: Float32
    is_final: NDArray[np.bool_]
    hits: Int64

    @classmethod
    def of(cls, problem: Problem, config: MiningConfig, seed: int) -> Self:
        """Draw the anchors and search both sets of windows exactly."""
        n = len(problem)
        count = min(n, max(MIN_SAMPLE, min(MAX_SAMPLE, n // SAMPLE_EVERY)))
        anchors = np.sort(np.random.default_rng(seed).choice(n, count, replace=False))
        block = problem.block(anchors)
        window_sets = (_nearest_windows(len(anchors)), plan_search(block, config, seed)[1].windows)
        truth = empty_matches(window_sets)
        search_both(window_sets, truth, lambda windows, matches: scan(block, windows, matches))
        w = len(window_sets[1].floor)
        return cls(
            anchors=anchors,
            window_sets=window_sets,
            truth=truth,
            matches=empty_matches(window_sets),
            reach=np.zeros(count, np.float32),
            is_final=np.zeros(w, bool),
            hits=np.zeros(w, np.int64),
        )

    def restart(self) -> None:
        """Reset the engine's answers."""
        self.matches = empty_matches(self.window_sets)
        self.is_final, self.hits = np.zeros_like(self.is_final), np.zeros_like(self.hits)

    def visit(self, lists: ListIndex, first: int, visits: int) -> None:
        """Visit the next lists of the anchors that have an unanswered strategy window."""
        if not self.is_final.any():
            search_both(
                self.window_sets,
                self.matches,
                lambda windows, matches: self._visit(lists, windows, matches, first, visits),
            )
        else:
            self._visit(lists, self.window_sets[1], self.matches[1], first, visits)

    def _visit(
        self, lists: ListIndex, windows: Windows, matches: WindowMatches, first: int, visits: int
    ) -> None:
        open_anchors = np.arange(len(self.anchors)) if not self.is_final.any() else self._open()
        self.reach[open_anchors] = lists.visit(
            self.anchors[open_anchors], windows.block(open_anchors), matches, first, visits
        )

    def neighbours(self) -> float:
        """The share of the 10 nearest negatives that was found."""
        hits, totals = _hits(self.matches[0], self.truth[0])
        return float(hits.sum() / max(1, totals.sum()))

    def accept(self, recall: float, *, at_least: float = 0.0) -> float:
        """Accept the answers of the windows that lie least beyond the visited lists.

        As many as keep the share of right negatives among all accepted ones at `recall`, with a
        margin of two standard errors of the number of wrong ones, because a threshold chosen on a
        sample looks better on it than it is.

        Args:
            recall: Target share.
            at_least: Share of the anchors that must be completed for the level to pay.

        Returns:
            The threshold, see `distance_beyond`; NO_WINDOWS if nothing was accepted.
        """
        hits, totals = _hits(self.matches[1], self.truth[1])
        hits = np.where(self.is_final, self.hits, hits)
        excess = np.where(self.is_final, NO_WINDOWS, self.distance_beyond())
        order = np.argsort(excess, kind="stable")
        misses = np.cumsum(totals[order] - hits[order])
        is_acceptable = misses + 2 * np.sqrt(misses) <= (1 - recall) * np.cumsum(totals[order])
        # A threshold cannot divide equal values.
        is_acceptable[:-1] &= excess[order[1:]] > excess[order[:-1]]
        last = int(np.flatnonzero(is_acceptable)[-1]) if is_acceptable.any() else -1
        if last < 0 or self.is_final[order[last]]:
            return NO_WINDOWS
        threshold = ALL_WINDOWS if last == len(order) - 1 else float(excess[order[last]])
        if self.open_share() - self._open_share(excess > threshold) < at_least:
            return NO_WINDOWS
        self._settle(excess <= threshold, hits)
        return threshold

    def accept_all(self) -> None:
        """Accept the answers of all windows."""
        self._settle(np.ones_like(self.is_final), _hits(self.matches[1], self.truth[1])[0])

    def _settle(self, windows: NDArray[np.bool_], hits: Int64) -> None:
        self.hits = np.where(windows & ~self.is_final, hits, self.hits)
        self.is_final |= windows

    def distance_beyond(self) -> Float32:
        """How far beyond the visited lists each strategy window lies, (w,)."""
        return distance_beyond(self.window_sets[1], self.matches[1], self.reach)

    def open_share(self) -> float:
        """The share of anchors with an unanswered strategy window."""
        return self._open_share(~self.is_final)

    def _open_share(self, windows: NDArray[np.bool_]) -> float:
        return len(np.unique(owners(self.window_sets[1])[windows])) / max(1, len(self.anchors))

    def _open(self) -> Rows:
        return np.unique(owners(self.window_sets[1])[~self.is_final])

    def recall(self, seed: int) -> Recall:
        """The recall if unanswered windows are searched exactly.

        Matches that later levels add to a window after it was answered do not count.
        """
        neighbours = _recall_with_bound(
            self.window_sets[0], *_hits(self.matches[0], self.truth[0]), seed
        )
        totals = _hits(self.truth[1], self.truth[1])[1]
        hits = np.where(self.is_final, self.hits, totals)
        negatives = _recall_with_bound(self.window_sets[1], hits, totals, seed)
        return Recall(
            sampled=len(self.anchors),
            neighbours=neighbours[0],
            neighbours_low=neighbours[1],
            negatives=negatives[0],
            negatives_low=negatives[1],
        )


def empty_matches(window_sets: tuple[Windows, Windows]) -> tuple[WindowMatches, WindowMatches]:
    """Empty matches for both sets of windows."""
    return WindowMatches.empty(window_sets[0]), WindowMatches.empty(window_sets[1])


def search_both(
    window_sets: tuple[Windows, Windows],
    matches: tuple[WindowMatches, WindowMatches],
    search: Callable[[Windows, WindowMatches], None],
) -> None:
    """Search two sets of windows at once; most of the cost does not depend on their number.

    Args:
        window_sets: Two sets of windows over the same anchors.
        matches: Their matches; updated.
        search: Updates the matches of one set of windows.
    """
    window_owners = np.concatenate([owners(windows) for windows in window_sets])
    order = np.argsort(window_owners, kind="stable")
    place = np.argsort(order)
    places = place[: len(window_sets[0].floor)], place[len(window_sets[0].floor) :]
    edges = np.searchsorted(window_owners[order], np.arange(len(window_sets[0].starts) + 1))
    joint = Windows(
        starts=edges[:-1],
        stops=edges[1:],
        floor=np.concatenate([windows.floor for windows in window_sets])[order],
        ceiling=np.concatenate([windows.ceiling for windows in window_sets])[order],
        depth=max(windows.depth for windows in window_sets),
    )
    joint_matches = WindowMatches.empty(joint)
    for part, rows in zip(matches, places, strict=True):
        depth = part.rows.shape[1]
        joint_matches.rows[rows, :depth] = part.rows
        joint_matches.distances[rows, :depth] = part.distances
        joint_matches.closer[rows] = part.closer
    search(joint, joint_matches)
    for part, rows in zip(matches, places, strict=True):
        depth = part.rows.shape[1]
        part.rows[:] = joint_matches.rows[rows, :depth]
        part.distances[:] = joint_matches.distances[rows, :depth]
        part.closer[:] = joint_matches.closer[rows]


def _nearest_windows(anchors: int) -> Windows:
    """One window per anchor, for its 10 nearest negatives."""
    return Windows(
        starts=np.arange(anchors),
        stops=np.arange(anchors) + 1,
        floor=np.full(anchors, -1, np.float32),
        ceiling=np.full(anchors, 5, np.float32),
        depth=NEIGHBOURS,
    )


def _hits(matches: WindowMatches, truth: WindowMatches) -> tuple[Int64, Int64]:
    """Per window how many of the exact negatives were found, and how many there are; (w,) each.

    Compared by distance, so any of several equally near negatives counts.
    """
    exists = truth.rows >= 0
    found_distances = np.where(matches.rows >= 0, matches.distances, np.nan)
    is_found = np.zeros(exists.shape, bool)
    for column in found_distances.T:
        is_found |= truth.distances == column[:, None]
    return (exists & is_found).sum(axis=1), exists.sum(axis=1)


def _recall_with_bound(
    windows: Windows, hits: Int64, totals: Int64, seed: int
) -> tuple[float, float]:
    """The share of the exact negatives that was found, and its lower bound over anchors."""
    anchors = len(windows.starts)
    found_counts = np.bincount(owners(windows), hits, anchors)
    total_counts = np.bincount(owners(windows), totals, anchors)
    if not total_counts.sum():
        return 1.0, 1.0
    resamples = np.random.default_rng(seed).integers(0, anchors, (RESAMPLES, anchors))
    shares = found_counts[resamples].sum(axis=1) / np.maximum(
        total_counts[resamples].sum(axis=1), 1
    )
    share = float(found_counts.sum() / total_counts.sum())
    return round(share, 6), round(float(np.percentile(shares, 2.5)), 6)
