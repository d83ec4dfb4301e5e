"""Three engines that search windows. Each holds a problem and answers for any of its anchors.

exact        compares every anchor with the whole gallery (`scan`)
approximate  the list join (`list_join`); windows that lists do not answer are searched exactly
faiss        the k nearest by a FAISS index; windows that reach beyond them are searched exactly
"""

from dataclasses import dataclass, fields, replace
from math import isqrt
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from remine.data.errors import InputError
from remine.data.faiss_library import faiss
from remine.data.types import Float32
from remine.mining.config import MiningConfig
from remine.mining.engines.engine_choice import choose_engine
from remine.mining.engines.engine_recall import NO_WINDOWS, Recall, Sample
from remine.mining.problem import Problem
from remine.mining.row_lists import Rows
from remine.mining.search.list_join import VOTES, ListIndex, distance_beyond, train_centroids
from remine.mining.search.scan import run_in_threads, scan
from remine.mining.search.scan_kernels import scan_candidates
from remine.mining.search.windows import WindowMatches, Windows, owners
from remine.mining.strategies.positive_duplicates import bar_duplicates

Mask = NDArray[np.bool_]
Levels = tuple[tuple[int, float], ...]
VISITS = (VOTES, 16, 32, 64, 128, 256)
MAX_COST = 0.5  # largest cost of a list join, of the exact search's
PART = 1024  # anchors that one thread reranks at a time
NO_MORE = np.finfo(np.float32).max  # FAISS's score of id -1 if it found fewer than requested
# Costs relative to the exact search: of a row in a visited list, against a row in the exact scan,
# and of a level by itself, since a product with few anchors takes as long as one with about 60.
ROW_COST, LEVEL_COST = 8.0, 0.015


class Engine(Protocol):
    """Searches windows. `problem` may be in another order than the problem it was opened with."""

    @property
    def problem(self) -> Problem:
        """The problem, in the engine's own order of anchors and gallery rows."""

    def search(self, anchors: slice | Rows, windows: Windows, matches: WindowMatches) -> Mask:
        """Update `matches` with the negatives of some anchors, ascending.

        Returns:
            (w,) bool, whether the answer of a window is approximate.
        """


@dataclass(frozen=True, kw_only=True)
class ExactEngine:
    """Compares every anchor with the whole gallery."""

    problem: Problem

    def search(self, anchors: slice | Rows, windows: Windows, matches: WindowMatches) -> Mask:
        """Exact for every window."""
        scan(self.problem.block(anchors), windows, matches)
        return np.zeros(len(windows.floor), bool)


@dataclass(frozen=True, kw_only=True)
class ListJoinEngine:
    """Visits the lists nearest to an anchor, level by level, and searches the rest exactly.

    Attributes:
        lists: The gallery in lists.
        levels: (visits, threshold) pairs with growing visits. After each level a window whose last
            match is at most `threshold` beyond the visited lists is answered; anchors with other
            windows go on to the next level.
    """

    lists: ListIndex
    levels: Levels

    @property
    def problem(self) -> Problem:
        """The problem in the order of the lists."""
        return self.lists.problem

    def search(self, anchors: slice | Rows, windows: Windows, matches: WindowMatches) -> Mask:
        """Approximate for the windows that were answered by lists."""
        rows = np.arange(len(self.problem))[anchors]
        open_anchors, reach = np.arange(len(rows)), np.zeros(len(rows), np.float32)
        is_answered = np.zeros(len(windows.floor), bool)
        first = 0
        for visits, threshold in self.levels:
            open_windows = windows.block(open_anchors)
            reach[open_anchors] = self.lists.visit(
                rows[open_anchors], open_windows, matches, first, visits
            )
            is_answered |= distance_beyond(windows, matches, reach) <= threshold
            open_anchors, first = np.unique(owners(windows)[~is_answered]), visits
        _search_exactly(self.problem.block(rows), windows, matches, ~is_answered)
        return is_answered


@dataclass(frozen=True, kw_only=True)
class FaissEngine:
    """Reranks the nearest items that a FAISS index returns.

    Attributes:
        problem: The problem; gallery_ids ascending.
        index: Returns ids of the gallery.
        candidates: How many items are requested per anchor.
        is_exact: Whether the index is exact, so that a match within the candidates is certain.
    """

    problem: Problem
    index: faiss.Index
    candidates: int
    is_exact: bool

    def search(self, anchors: slice | Rows, windows: Windows, matches: WindowMatches) -> Mask:
        """Windows that reach beyond an anchor's candidates are searched exactly."""
        block = self.problem.block(anchors)
        reaches_beyond = self.search_index(block, windows, matches)
        _search_exactly(block, windows, matches, reaches_beyond)
        return ~reaches_beyond & (not self.is_exact)

    def search_index(self, block: Problem, windows: Windows, matches: WindowMatches) -> Mask:
        """Update the matches with the candidates of the index.

        Returns:
            (w,) bool, which windows reach beyond the candidates of their anchor.
        """
        k = min(self.candidates, len(block.gallery))
        scores, ids = self.index.search(np.ascontiguousarray(block.anchors), k)
        rows = np.searchsorted(block.gallery_ids, ids).clip(0, len(block.gallery) - 1)
        rows[block.gallery_ids[rows] != ids] = -2  # not in the gallery
        rows[(ids == -1) & (np.abs(scores) >= NO_MORE)] = -1
        reach = np.empty(len(block), np.float32)

        def work(part: slice) -> None:
            reach[part] = scan_candidates(
                block.anchors[part], block.gallery, rows[part],
                windows.starts[part], windows.stops[part], windows.floor,
                *block.exclusions[part].arrays,
                matches.rows, matches.distances, matches.closer,
            )  # fmt: skip

        run_in_threads(work, [slice(i, i + PART) for i in range(0, len(block), PART)])
        window_reach = np.repeat(reach, windows.stops - windows.starts)
        return (matches.distances[:, -1] > window_reach) & (k < len(block.gallery))


@dataclass(frozen=True, kw_only=True)
class EngineSetup:
    """What is decided once for a problem, so that every worker opens the same engine.

    Attributes:
        engine: "exact", "approximate" or "faiss".
        reason: Why this engine, for people.
        levels, centroids: Of ListJoinEngine; centroids are (c, d) float32.
        candidates, factory, nprobe: Of FaissEngine.
        recall: As measured, None if the engine is exact.
    """

    engine: str
    reason: str
    levels: Levels = ()
    centroids: Float32 | None = None
    candidates: int = 0
    factory: str = ""
    nprobe: int = 1
    recall: Recall | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, without the centroids."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        del values["centroids"]
        values["levels"] = [list(level) for level in self.levels]
        return {**values, "recall": self.recall and self.recall.to_json()}


def prepare(
    problem: Problem, config: MiningConfig, seed: int, index: faiss.Index | None = None
) -> tuple[EngineSetup, Engine]:
    """Choose the engine for `problem`, and measure its recall if it is not exact.

    Args:
        problem: All anchors and the whole gallery.
        config: Strategies, engine and target recall.
        seed: Of k-means and of the sample that measures the recall.
        index: A FAISS index that returns ids of the gallery; None to build one if needed.

    Raises:
        InputError: The configuration does not fit the problem, or the recall cannot be reached.
    """
    if config.second_negative and problem.partners is None:
        raise InputError("mining.second_negative needs items with one label each")
    n, d = problem.gallery.shape
    choice = choose_engine(n, d, config)
    problem = bar_duplicates(problem, config)
    if index is not None or choice.engine == "faiss":
        return _prepare_faiss(problem, config, seed, index)
    if choice.engine == "exact":
        return EngineSetup(engine="exact", reason=choice.reason), ExactEngine(problem=problem)
    return _prepare_join(problem, config, seed, choice.reason)


def open_engine(problem: Problem, setup: EngineSetup, index: faiss.Index | None = None) -> Engine:
    """The engine that `setup` describes."""
    if setup.engine == "exact":
        return ExactEngine(problem=problem)
    if setup.engine == "approximate":
        assert setup.centroids is not None
        lists = ListIndex.of(problem, setup.centroids)
        return ListJoinEngine(lists=lists, levels=setup.levels)
    return _faiss_engine(
        problem, setup, index or build_faiss_index(problem, setup.factory, setup.nprobe)
    )


def _faiss_engine(problem: Problem, setup: EngineSetup, index: faiss.Index) -> FaissEngine:
    exact = setup.factory == "Flat"
    return FaissEngine(problem=problem, index=index, candidates=setup.candidates, is_exact=exact)


def build_faiss_index(problem: Problem, factory: str, nprobe: int) -> faiss.Index:
    """A FAISS index over the gallery that returns its ids."""
    try:
        index = faiss.index_factory(problem.gallery.shape[1], f"IDMap2,{factory}", faiss.METRIC_L2)
        index.train(problem.gallery)
        index.add_with_ids(problem.gallery, problem.gallery_ids)
    except RuntimeError as error:
        message = str(error).strip().splitlines()[-1]
        raise InputError(f"mining.engine 'faiss:{factory}': FAISS reports: {message}") from None
    if lists := faiss.try_extract_index_ivf(index):
        lists.nprobe = nprobe
    return index


def _prepare_join(
    problem: Problem, config: MiningConfig, seed: int, reason: str
) -> tuple[EngineSetup, Engine]:
    """The levels that reach the recall of `config`, or the exact engine if lists do not pay.

    Costs are in units of an exact search. A level is used only if it answers a larger share of the
    anchors than it costs.
    """
    lists = ListIndex.of(problem, train_centroids(problem, seed))
    sample = Sample.of(lists.problem, config, seed)
    levels: list[tuple[int, float]] = []
    first, last_visits, total_cost, c = 0, 0, 0.0, len(lists.centroids)
    for visits in VISITS:
        open_share = sample.open_share()
        cost = LEVEL_COST + ROW_COST * (visits - last_visits) / c * open_share
        # Stop where searching what is still open exactly costs no more than another level.
        if visits >= c or total_cost + cost >= min(MAX_COST, total_cost + open_share):
            break
        sample.visit(lists, first, visits)
        first = visits
        # The first level must also find enough of the plain nearest neighbours.
        if not levels and sample.neighbours() < config.recall_neighbours:
            continue
        threshold = sample.accept(config.recall, at_least=cost)
        if threshold > NO_WINDOWS:
            levels.append((visits, threshold))
            last_visits, total_cost = visits, total_cost + cost
    if not levels or total_cost + sample.open_share() > MAX_COST:
        exact_reason = f"{reason}; but lists that reach mining.recall would cost as much as exact"
        return EngineSetup(engine="exact", reason=exact_reason), ExactEngine(problem=problem)
    setup = EngineSetup(
        engine="approximate",
        reason=reason,
        levels=tuple(levels),
        centroids=lists.centroids,
        recall=sample.recall(seed),
    )
    return setup, ListJoinEngine(lists=lists, levels=setup.levels)


def _prepare_faiss(
    problem: Problem, config: MiningConfig, seed: int, index: faiss.Index | None
) -> tuple[EngineSetup, Engine]:
    """The smallest power of two for nprobe that reaches the recall of `config`."""
    factory = config.engine.partition(":")[2] or f"IVF{isqrt(len(problem.gallery))},Flat"
    faiss_index = index or build_faiss_index(problem, factory, 1)
    if faiss_index.d != problem.gallery.shape[1]:
        raise InputError(
            f"the index has {faiss_index.d} dimensions, the vectors {problem.gallery.shape[1]}"
        )
    check_index(faiss_index)
    lists = faiss.try_extract_index_ivf(faiss_index)
    sample = Sample.of(problem, config, seed)
    nprobe, max_nprobe = 1, lists.nlist if lists else 1
    while True:
        if lists:
            lists.nprobe = nprobe
        setup = EngineSetup(
            engine="faiss",
            reason="the index was given" if index else f"mining.engine asks for {factory}",
            candidates=config.candidates,
            factory="" if index else factory,
            nprobe=nprobe,
        )
        engine = _faiss_engine(problem, setup, faiss_index)
        sample.restart()
        # Neighbours as the index alone returns them; windows as mining will answer them.
        engine.search_index(problem.block(sample.anchors), sample.window_sets[0], sample.matches[0])
        engine.search(sample.anchors, sample.window_sets[1], sample.matches[1])
        sample.accept_all()
        recall = sample.recall(seed)
        lists_suffice = engine.is_exact or recall.neighbours >= config.recall_neighbours
        if lists_suffice and recall.negatives >= config.recall:
            return replace(setup, recall=recall), engine
        if nprobe >= max_nprobe:
            raise InputError(_shortfall(recall, config, faiss_index.ntotal, len(problem.gallery)))
        nprobe = min(2 * nprobe, max_nprobe)


def check_index(index: faiss.Index) -> None:
    """Refuse an index that cannot answer: one that is not trained, or empty."""
    if not index.is_trained:
        raise InputError("the index is not trained: train it, and add the vectors with their ids")
    if not index.ntotal:
        raise InputError("the index is empty: add the vectors with their ids")


def _shortfall(recall: Recall, config: MiningConfig, stored: int, n: int) -> str:
    """Which required recall a FAISS index missed, and by how much."""
    limits = {
        "mining.recall_neighbours": (
            config.recall_neighbours,
            recall.neighbours,
            "the 10 nearest negatives",
        ),
        "mining.recall": (config.recall, recall.negatives, "the negatives of the strategies"),
    }
    shares = [
        f"{name} is {limit:g}, but the index finds {share:.4f} of {negatives}"
        for name, (limit, share, negatives) in limits.items()
        if share < limit
    ]
    size = "" if stored == n else f" (it holds {stored:,} vectors, the gallery {n:,})"
    remedy = "lower the limit, raise mining.candidates, or use another engine"
    return f"{'; '.join(shares)}{size}: {remedy}"


def _search_exactly(problem: Problem, windows: Windows, matches: WindowMatches, mask: Mask) -> None:
    """Search the windows where `mask` is set again, exactly."""
    if not mask.any():
        return
    w = np.flatnonzero(mask)
    owner = owners(windows)[w]
    anchors, starts = np.unique(owner, return_index=True)
    open_windows = Windows(
        starts=starts,
        stops=np.append(starts[1:], len(w)),
        floor=windows.floor[w],
        ceiling=windows.ceiling[w],
        depth=windows.depth,
    )
    exact = WindowMatches.empty(open_windows)
    scan(problem.block(anchors), open_windows, exact)
    matches.rows[w], matches.distances[w] = exact.rows, exact.distances
    matches.closer[w] = exact.closer
