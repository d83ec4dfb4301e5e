"""Mining: a problem in, triplets out.

    pairs ──▶ windows ──▶ an engine searches them ──▶ matches ──▶ triplets
          └─▶ random draws ───────────────────────────────┘

`mine` does it for arrays in memory. `mine_blocks` goes through all anchors of an engine block by
block; a distributed job calls `mine_block` for one block per unit of work. If the gallery does not
fit a worker, `mine_shards` searches it part by part and merges the matches exactly.
"""

import resource
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any

import numpy as np

from remine.data.errors import InputError
from remine.data.faiss_library import faiss
from remine.data.measures import triplet_kinds
from remine.data.types import KINDS, Float32, Int64, Triplets
from remine.mining.arguments import check_seed, id_pairs, make_problem
from remine.mining.config import MiningConfig
from remine.mining.engines.engine_choice import anchor_blocks
from remine.mining.engines.engines import Engine, EngineSetup, Mask, prepare
from remine.mining.problem import Problem
from remine.mining.row_lists import Rows
from remine.mining.search.scan import scan
from remine.mining.search.windows import WindowMatches
from remine.mining.stats import MiningStats
from remine.mining.strategies.hub_cap import cap_hubs
from remine.mining.strategies.negatives import (
    EVERYTHING,
    Negatives,
    SearchPlan,
    guard_floor,
    plan_search,
    select_negatives,
)
from remine.mining.strategies.positive_duplicates import count_copies
from remine.mining.strategies.positives import Pairs, hashes, pair_counts
from remine.mining.strategies.random_negatives import (
    draw_from_window,
    draw_uniform,
    draw_weighted,
)


@dataclass(frozen=True, kw_only=True)
class Mined:
    """Triplets, sorted by anchor, d_ap, strategy and preference, with an account of the mining.

    Attributes:
        triplets: The triplets, by item id.
        stats: Counts.
        setup: The engine and its measured recall.
        seconds: Wall-clock time by phase.
        peak_mb: Peak of the process's resident memory.
    """

    triplets: Triplets
    stats: MiningStats
    setup: EngineSetup
    seconds: Mapping[str, float]
    peak_mb: int

    def card(self) -> dict[str, Any]:
        """The account in plain JSON."""
        return mining_card(self.stats, self.setup, self.seconds, self.peak_mb)


@dataclass(frozen=True)
class PhaseTimer:
    """Wall-clock seconds by phase."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Add the time inside the context to the phase `name`."""
        start = perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + perf_counter() - start

    def rounded(self) -> dict[str, float]:
        """The seconds rounded to milliseconds."""
        return {name: round(value, 3) for name, value in self.seconds.items()}


def mine(
    vectors: Float32,
    labels: Sequence[object] | Sequence[Sequence[str]] | None = None,
    *,
    config: MiningConfig | None = None,
    ids: Int64 | None = None,
    queries: Float32 | None = None,
    positives: Mapping[int, Sequence[int]] | None = None,
    same_as: Int64 | None = None,
    index: faiss.Index | None = None,
    seed: int = 0,
) -> Mined:
    """Mine triplets from vectors in memory.

    Args:
        vectors: (n, d) numbers; scaled to unit length.
        labels: n sortable labels; or n lists of labels, where items that share any label are
            positives; or None with queries.
        config: Strategies, guards, limits and engine; the defaults if None.
        ids: (n,) unique integers; 0 to n - 1 if None.
        queries: (q, d) numbers, instead of labels: anchors that are mined against the vectors.
        positives: With queries, query number to the ids of its answers among the vectors.
        same_as: (p, 2) pairs of ids that are never negatives of one another.
        index: A FAISS index that returns these ids, to mine through it.
        seed: Seed of all random choices, which are hashes of it and of ids.

    Raises:
        InputError: An argument cannot be mined, or the recall of the configuration not reached.

    Example:
        >>> import numpy as np
        >>> vectors = np.random.default_rng(0).normal(size=(400, 16)).astype(np.float32)
        >>> labels = np.arange(400) // 4
        >>> config = MiningConfig(negatives=("semi_hard",), max_positives=1)
        >>> mined = mine(vectors, labels, config=config)
        >>> triplets = mined.triplets
        >>> bool(np.all((triplets.d_ap < triplets.d_an) & (triplets.d_an < triplets.d_ap + 0.2)))
        True
        >>> mined.card()["engine"]
        'exact'
    """
    config = MiningConfig() if config is None else config
    if not isinstance(config, MiningConfig) or not isinstance(index, faiss.Index | None):
        raise InputError("config must be a MiningConfig, and index an index of FAISS")
    seed, pairs = check_seed(seed), id_pairs([] if same_as is None else same_as)

    # A function, so that no variable here keeps the problem alive while it is mined.
    def pose() -> Problem:
        problem = make_problem(vectors, labels, ids, queries, positives)
        return problem.forbid(pairs) if len(pairs) else problem

    return mine_problem(pose(), config, seed, index)


def mine_problem(
    problem: Problem, config: MiningConfig, seed: int = 0, index: faiss.Index | None = None
) -> Mined:
    """Mine all anchors of a problem; see `mine`."""
    timer = PhaseTimer()
    with timer("prepare"):
        setup, engine = prepare(problem, config, seed, index)
    del problem  # the engine may hold a reordered copy, and `mine` keeps no reference
    parts, stats = [], MiningStats()
    for _, part, part_stats in mine_blocks(engine, setup, config, seed, timer):
        parts.append(part)
        stats += part_stats
    with timer("settle"):
        remaining = cap_hubs(lambda: parts, config.hub_cap, seed) if config.hub_cap else parts
        triplets = sort_by_anchor(Triplets.concatenate(list(remaining)))
    return Mined(
        triplets=triplets,
        stats=stats.after_cap(len(triplets)),
        setup=setup,
        seconds=timer.rounded(),
        peak_mb=peak_mb(),
    )


def mining_card(
    stats: MiningStats, setup: EngineSetup, seconds: Mapping[str, float], peak: int
) -> dict[str, Any]:
    """What was mined, how, at which recall and cost, in plain JSON."""
    return {
        "triplets": stats.triplets - stats.capped,
        **stats.to_json(),
        **setup.to_json(),
        "seconds": dict(seconds),
        "peak_mb": peak,
    }


def mine_blocks(
    engine: Engine, setup: EngineSetup, config: MiningConfig, seed: int, timer: PhaseTimer
) -> Iterator[tuple[slice, Triplets, MiningStats]]:
    """Mine all anchors of an engine, in blocks of `unit_anchors`, fewer if they have many pairs.

    Yields:
        The block's range of anchors, its triplets sorted by anchor, and its counts. A problem
        without anchors is one empty block.
    """
    counts = pair_counts(engine.problem, config)
    for block in anchor_blocks(counts, setup.engine, config) or [slice(0, 0)]:
        triplets, stats = mine_block(engine, block, config, seed, timer)
        with timer("settle"):
            triplets = sort_by_anchor(triplets)
        yield block, triplets, stats


def mine_block(
    engine: Engine,
    anchors: slice | Rows,
    config: MiningConfig,
    seed: int = 0,
    timer: PhaseTimer | None = None,
) -> tuple[Triplets, MiningStats]:
    """Mine some anchors of the engine's problem.

    Args:
        engine: The engine.
        anchors: Rows of its problem's anchors, ascending.
        config: Strategies and guards.
        seed: Seed of all random choices.
        timer: Collects the seconds of the phases.

    Returns:
        The triplets in the order of the anchors' rows, and their counts.
    """
    timer = timer or PhaseTimer()
    problem = engine.problem.block(anchors)
    with timer("pairs"):
        pairs, plan = plan_search(problem, config, seed)
    matches = WindowMatches.empty(plan.windows)
    with timer("search"):
        cut_short = engine.search(anchors, plan.windows, matches)
    with timer("settle"):
        return assemble(problem, pairs, plan, matches, cut_short, config, seed)


def mine_shards(
    problem: Problem, shards: Iterable[tuple[int, Float32]], config: MiningConfig, seed: int = 0
) -> tuple[Triplets, MiningStats]:
    """Mine all anchors of a problem whose gallery is loaded in parts.

    The result is that of one exact search, bit for bit.

    Args:
        problem: Its `gallery` is read only at the rows of positives and of random negatives, so it
            may be mapped from a file.
        shards: (first row, vectors) of consecutive parts of the gallery.
        config: Strategies and guards.
        seed: Seed of all random choices.
    """
    pairs, plan = plan_search(problem, config, seed)
    matches = WindowMatches.empty(plan.windows)
    for first, vectors in shards:
        part = WindowMatches.empty(plan.windows)
        scan(replace(problem, gallery=vectors), plan.windows, part, first=first)
        matches = matches.merge(part)
    cut_short = np.zeros(len(plan.windows.floor), bool)
    return assemble(problem, pairs, plan, matches, cut_short, config, seed)


def assemble(
    problem: Problem,
    pairs: Pairs,
    plan: SearchPlan,
    matches: WindowMatches,
    cut_short: Mask,
    config: MiningConfig,
    seed: int,
) -> tuple[Triplets, MiningStats]:
    """Turn the matches of the windows into triplets.

    Args:
        problem: The anchors and the whole gallery.
        pairs: The p pairs.
        plan: The w windows, and which of them serves a pair.
        matches: What the search found in the windows.
        cut_short: (w,) bool, whether the search of a window was approximate.
        config: Strategies and guards.
        seed: Seed of all random choices.
    """
    answers = {
        name: _negatives_of(name, problem, pairs, plan, matches, cut_short, config, seed)
        for name in config.negatives
    }
    triplets = _triplets(problem, pairs, list(answers.values()), config, seed)
    has_pair = np.bincount(pairs.anchor, minlength=len(problem)) > 0
    missing = {name: (negatives.rows < 0).sum(axis=1) for name, negatives in answers.items()}
    stats = MiningStats(
        anchors=len(problem),
        singletons=int((~has_pair).sum()),
        pairs=len(pairs),
        positive_copies=_copies(problem, pairs, list(answers.values())),
        kinds=dict(
            zip(KINDS, np.bincount(triplets.kind, minlength=len(KINDS)).tolist(), strict=True)
        ),
        answered={name: int((a.rows >= 0).sum()) for name, a in answers.items()},
        none_exists={n: int(missing[n][~a.cut_short].sum()) for n, a in answers.items()},
        not_found={n: int(missing[n][a.cut_short].sum()) for n, a in answers.items()},
    )
    return triplets, stats


def sort_by_anchor(triplets: Triplets) -> Triplets:
    """The triplets sorted by anchor id; those of one anchor stay in their order."""
    return triplets.take(np.argsort(triplets.anchor_id, kind="stable"))


def peak_mb() -> int:
    """The peak of this process's resident memory so far, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def _negatives_of(
    name: str,
    problem: Problem,
    pairs: Pairs,
    plan: SearchPlan,
    matches: WindowMatches,
    cut_short: Mask,
    config: MiningConfig,
    seed: int,
) -> Negatives:
    """The negatives of one strategy for all pairs."""
    floor = guard_floor(pairs.d_ap, config)
    if name == "uniform":
        ceiling = np.full(len(pairs), EVERYTHING, np.float32)
        return draw_uniform(problem, pairs, floor, ceiling, config.per_pair, seed)
    if name == "distance_weighted":
        return draw_weighted(problem, pairs, floor, config, seed)
    keys = hashes(seed, problem.anchor_ids[pairs.anchor], problem.gallery_ids[pairs.positive])
    negatives = select_negatives(name, plan, matches, cut_short, keys, problem.gallery_ids, config)
    if name == "random_semi_hard":
        return draw_from_window(problem, pairs, plan, matches, negatives, config, seed)
    return negatives


def _copies(problem: Problem, pairs: Pairs, answers: list[Negatives]) -> int:
    """How many of the negatives have exactly the vector of their positive."""
    copies = 0
    for negatives in answers:
        pair, place = np.nonzero(negatives.rows >= 0)
        rows, d_an = negatives.rows[pair, place], negatives.distances[pair, place]
        copies += count_copies(problem.gallery, pairs.positive[pair], rows, pairs.d_ap[pair], d_an)
    return copies


def _triplets(
    problem: Problem, pairs: Pairs, answers: list[Negatives], config: MiningConfig, seed: int
) -> Triplets:
    """One triplet for each negative, by pair, then strategy, then preference."""
    rows = np.stack([a.rows for a in answers], axis=1)  # (p, strategies, m)
    pair, strategy, place = np.nonzero(rows >= 0)
    negative = rows[pair, strategy, place]
    d_an = np.stack([a.distances for a in answers], axis=1)[pair, strategy, place]
    ranks = np.stack([a.ranks for a in answers], axis=1)[pair, strategy, place]
    d_ap = pairs.d_ap[pair]
    return Triplets(
        anchor_id=problem.anchor_ids[pairs.anchor[pair]],
        positive_id=problem.gallery_ids[pairs.positive[pair]],
        negative_id=problem.gallery_ids[negative],
        d_ap=d_ap,
        d_an=d_an,
        kind=triplet_kinds(d_ap, d_an, config.margin),
        negative_rank=np.minimum(ranks, 2**31 - 1).astype(np.int32),
        negative2_id=_second_negatives(problem, pairs, pair, negative, seed)
        if config.second_negative
        else None,
    )


def _second_negatives(
    problem: Problem, pairs: Pairs, pair: Int64, negative: Int64, seed: int
) -> Int64:
    """Another item of each negative's class, by hash of the triplet; -1 if there is none."""
    assert problem.partners is not None  # `prepare` refuses problems without partners
    lists = problem.partners
    start, size = lists.starts[negative], lists.stops[negative] - lists.starts[negative]
    ids = problem.gallery_ids
    key = hashes(
        seed, problem.anchor_ids[pairs.anchor[pair]], ids[pairs.positive[pair]], ids[negative]
    )
    place = (key % np.maximum(size - 1, 1).astype(np.uint64)).astype(np.int64)
    rows = lists.rows[start + place]
    # Uniform over the class without the negative: places from its own on stand for the next row.
    rows = np.where(rows >= negative, lists.rows[start + np.minimum(place + 1, size - 1)], rows)
    return np.where(size > 1, ids[rows], -1)
