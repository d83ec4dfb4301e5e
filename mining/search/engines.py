"""Three ways to search windows. Each holds a problem and answers for any of its anchors.

exact        every anchor against the whole gallery (`scan`)
approximate  the list-join (`list_join`), its deep windows exactly
faiss        the k nearest by a FAISS index, and what lies in that list
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
from remine.mining.problem import Problem, Rows
from remine.mining.search.engine_choice import choose
from remine.mining.search.engine_recall import NOWHERE, Recall, Sample
from remine.mining.search.list_join import VOTES, Lists, beyond, train_centroids
from remine.mining.search.scan import in_threads, scan
from remine.mining.search.scan_kernels import look_at
from remine.mining.search.windows import Found, Windows, owners

Cut = NDArray[np.bool_]
Levels = tuple[tuple[int, float], ...]
VISITS = (VOTES, 16, 32, 64, 128, 256)
TOO_DEAR = 0.5  # of the exact search's cost
PART = 1024  # anchors that one thread looks up at a time
NO_MORE = np.finfo(np.float32).max  # FAISS's score of id -1 where it found less than asked for
# Of the exact search's cost: a row in a visited list costs this many times one in the exact scan;
# and a level by itself, since products with few anchors take as long as with about 60.
DEARER, LEVEL = 8.0, 0.015


class Engine(Protocol):
    """Answers windows. `problem` may be laid out in another order than the one it was given."""

    @property
    def problem(self) -> Problem:
        """What is searched, in the engine's own order of rows."""

    def search(self, anchors: slice | Rows, windows: Windows, found: Found) -> Cut:
        """Fill `found` for some anchors, ascending; which windows were cut short, (w,)."""


@dataclass(frozen=True, kw_only=True)
class Exact:
    """The whole gallery for every anchor."""

    problem: Problem

    def search(self, anchors: slice | Rows, windows: Windows, found: Found) -> Cut:
        """Nothing is cut short."""
        scan(self.problem.block(anchors), windows, found)
        return np.zeros(len(windows.floor), bool)


@dataclass(frozen=True, kw_only=True)
class Join:
    """The lists nearest to an anchor, level by level; what stays open exactly.

    levels: (visits, farthest) with growing visits. After a level a window that lies at most
    `farthest` beyond the visited lists is answered; anchors with others go on to the next level.
    """

    lists: Lists
    levels: Levels

    @property
    def problem(self) -> Problem:
        """Laid out by lists."""
        return self.lists.problem

    def search(self, anchors: slice | Rows, windows: Windows, found: Found) -> Cut:
        """Cut short is what was answered by lists."""
        rows = np.arange(len(self.problem))[anchors]
        still, reach = np.arange(len(rows)), np.zeros(len(rows), np.float32)
        final = np.zeros(len(windows.floor), bool)
        visited = 0
        for visits, farthest in self.levels:
            some = windows.block(still)
            reach[still] = self.lists.visit(rows[still], some, found, visited, visits)
            final |= beyond(windows, found, reach) <= farthest
            still, visited = np.unique(owners(windows)[~final]), visits
        _search_again(self.problem.block(rows), windows, found, ~final)
        return final


@dataclass(frozen=True, kw_only=True)
class Listed:
    """The `candidates` nearest by a FAISS index that answers with the ids of the gallery.

    proven: whether the index is exact, so that what lies within its list is certain.
    """

    problem: Problem
    index: faiss.Index
    candidates: int
    proven: bool

    def search(self, anchors: slice | Rows, windows: Windows, found: Found) -> Cut:
        """Windows that reach beyond their anchor's list are searched exactly."""
        block = self.problem.block(anchors)
        beyond = self.consult(block, windows, found)
        _search_again(block, windows, found, beyond)
        return ~beyond & (not self.proven)

    def consult(self, block: Problem, windows: Windows, found: Found) -> Cut:
        """Take the index's lists into account; which windows reach beyond them, (w,)."""
        k = min(self.candidates, len(block.gallery))
        scores, ids = self.index.search(np.ascontiguousarray(block.anchors), k)
        rows = np.searchsorted(block.gallery_ids, ids).clip(0, len(block.gallery) - 1)
        rows[block.gallery_ids[rows] != ids] = -2  # not in the gallery
        rows[(ids == -1) & (np.abs(scores) >= NO_MORE)] = -1
        reach = np.empty(len(block), np.float32)

        def work(part: slice) -> None:
            reach[part] = look_at(
                block.anchors[part], block.gallery, rows[part],
                windows.starts[part], windows.stops[part], windows.floor,
                block.barred.starts[part], block.barred.stops[part], block.barred.rows,
                found.rows, found.distances, found.closer,
            )  # fmt: skip

        in_threads(work, [slice(i, i + PART) for i in range(0, len(block), PART)])
        reached = np.repeat(reach, windows.stops - windows.starts)
        return (found.distances[:, -1] > reached) & (k < len(block.gallery))


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What is decided once for a problem, so that every worker opens the same engine.

    engine: "exact", "approximate" or "faiss". levels, centroids (c, d): of Join.
    candidates, factory, nprobe: of Listed. recall: as measured, None where the engine is exact.
    reason: why this engine, in words.
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
) -> tuple[Setup, Engine]:
    """Decide how to mine `problem`, and measure what is not exact.

    `index`: one that is there already and answers with the gallery's ids.
    """
    if config.second_negative and problem.partners is None:
        raise InputError("mining.second_negative needs items with one label each")
    n, d = problem.gallery.shape
    choice = choose(n, d, config)
    if index is not None or choice.engine == "faiss":
        return _prepare_listed(problem, config, seed, index)
    if choice.engine == "exact":
        return Setup(engine="exact", reason=choice.reason), Exact(problem=problem)
    return _prepare_join(problem, config, seed, choice.reason)


def open_engine(problem: Problem, setup: Setup, index: faiss.Index | None = None) -> Engine:
    """The engine that `setup` describes."""
    if setup.engine == "exact":
        return Exact(problem=problem)
    if setup.engine == "approximate":
        assert setup.centroids is not None
        lists = Lists.of(problem, setup.centroids)
        return Join(lists=lists, levels=setup.levels)
    return _listed(problem, setup, index or open_index(problem, setup.factory, setup.nprobe))


def _listed(problem: Problem, setup: Setup, index: faiss.Index) -> Listed:
    exact = setup.factory == "Flat"
    return Listed(problem=problem, index=index, candidates=setup.candidates, proven=exact)


def open_index(problem: Problem, factory: str, nprobe: int) -> faiss.Index:
    """A FAISS index of the gallery's ids."""
    try:
        index = faiss.index_factory(problem.gallery.shape[1], f"IDMap2,{factory}", faiss.METRIC_L2)
        index.train(problem.gallery)
        index.add_with_ids(problem.gallery, problem.gallery_ids)
    except RuntimeError as error:
        said = str(error).strip().splitlines()[-1]
        raise InputError(f"mining.engine 'faiss:{factory}': FAISS says: {said}") from None
    if lists := faiss.try_extract_index_ivf(index):
        lists.nprobe = nprobe
    return index


def _prepare_join(
    problem: Problem, config: MiningConfig, seed: int, reason: str
) -> tuple[Setup, Engine]:
    """The levels that reach the wished recall for least; else the exact engine."""
    lists = Lists.of(problem, train_centroids(problem, seed))
    sample = Sample.of(lists.problem, config, seed)
    levels: list[tuple[int, float]] = []
    visited, before, spent, c = 0, 0, 0.0, len(lists.centroids)
    for visits in VISITS:
        open_ = sample.open_share()
        cost = LEVEL + DEARER * (visits - before) / c * open_
        if visits >= c or spent + cost >= min(TOO_DEAR, spent + open_):
            break
        sample.visit(lists, visited, visits)
        visited = visits
        if not levels and sample.neighbours() < config.recall_neighbours:
            continue
        farthest = sample.trust(config.recall, at_least=cost)
        if farthest > NOWHERE:
            levels.append((visits, farthest))
            before, spent = visits, spent + cost
    if not levels or spent + sample.open_share() > TOO_DEAR:
        why = f"{reason}; but to reach mining.recall by lists would cost as much as exact"
        return Setup(engine="exact", reason=why), Exact(problem=problem)
    setup = Setup(
        engine="approximate",
        reason=reason,
        levels=tuple(levels),
        centroids=lists.centroids,
        recall=sample.recall(seed),
    )
    return setup, Join(lists=lists, levels=setup.levels)


def _prepare_listed(
    problem: Problem, config: MiningConfig, seed: int, index: faiss.Index | None
) -> tuple[Setup, Engine]:
    """The smallest number of visited lists that reaches the wished recall."""
    factory = config.engine.partition(":")[2] or f"IVF{isqrt(len(problem.gallery))},Flat"
    built = index or open_index(problem, factory, 1)
    if built.d != problem.gallery.shape[1]:
        raise InputError(f"the index holds {built.d} dimensions, not {problem.gallery.shape[1]}")
    lists = faiss.try_extract_index_ivf(built)
    sample = Sample.of(problem, config, seed)
    nprobe, most = 1, lists.nlist if lists else 1
    while True:
        if lists:
            lists.nprobe = nprobe
        setup = Setup(
            engine="faiss",
            reason="the index was given" if index else f"mining.engine asks for {factory}",
            candidates=config.candidates,
            factory="" if index else factory,
            nprobe=nprobe,
        )
        engine = _listed(problem, setup, built)
        sample.restart()
        # Neighbours as the index itself lists them; windows as they will be answered.
        engine.consult(problem.block(sample.anchors), sample.asked[0], sample.found[0])
        engine.search(sample.anchors, sample.asked[1], sample.found[1])
        sample.trust_all()
        recall = sample.recall(seed)
        near = engine.proven or recall.neighbours >= config.recall_neighbours
        if near and recall.negatives >= config.recall:
            return replace(setup, recall=recall), engine
        if nprobe >= most:
            raise InputError(
                f"mining.recall_neighbours is {config.recall_neighbours:g} and mining.recall"
                f" {config.recall:g}, but the index finds {recall.neighbours:.4f} of the 10 nearest"
                f" negatives: wish for less, raise mining.candidates, or use another engine"
            )
        nprobe = min(2 * nprobe, most)


def _search_again(problem: Problem, windows: Windows, found: Found, chosen: Cut) -> None:
    """Search some windows of all anchors exactly."""
    if not chosen.any():
        return
    w = np.flatnonzero(chosen)
    owner = owners(windows)[w]
    anchors, starts = np.unique(owner, return_index=True)
    again = Windows(
        starts=starts,
        stops=np.append(starts[1:], len(w)),
        floor=windows.floor[w],
        ceiling=windows.ceiling[w],
        depth=windows.depth,
    )
    exact = Found.nothing(again)
    scan(problem.block(anchors), again, exact)
    found.rows[w], found.distances[w], found.closer[w] = exact.rows, exact.distances, exact.closer
