"""Mining: a problem in, triplets out.

    pairs ──▶ windows ──▶ an engine searches them ──▶ answers ──▶ triplets
          └─▶ draws by chance ──────────────────────────┘

`mine` does it for arrays in memory. A job over blocks of anchors prepares an engine once and calls
`mine_block` for each block; where the gallery does not fit one worker, `mine_shards` searches it
part by part and merges what was found, exactly.
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
from remine.data.types import EASY, HARD, KINDS, SEMI_HARD, Float32, Int8, Int64, Triplets
from remine.mining.arguments import check_seed, id_pairs, make_problem
from remine.mining.config import MiningConfig
from remine.mining.problem import Problem, Rows
from remine.mining.search.engine_choice import unit_anchors
from remine.mining.search.engines import Cut, Engine, Setup, prepare
from remine.mining.search.scan import scan
from remine.mining.search.windows import Found
from remine.mining.stats import MiningStats
from remine.mining.strategies.hub_cap import hub_limits, under_limits
from remine.mining.strategies.negatives import EVERYTHING, Answer, Plan, answer, ask, guard
from remine.mining.strategies.positives import Pairs, hashes
from remine.mining.strategies.random_negatives import draw_uniform, draw_weighted


@dataclass(frozen=True, kw_only=True)
class Mined:
    """Triplets, sorted by anchor, d_ap, strategy, preference, and the account of how.

    seconds: wall-clock by phase. peak_mb: the process's peak of resident memory.
    """

    triplets: Triplets
    stats: MiningStats
    setup: Setup
    seconds: Mapping[str, float]
    peak_mb: int

    def card(self) -> dict[str, Any]:
        """The account in plain JSON."""
        return account(self.stats, self.setup, self.seconds, self.peak_mb)


@dataclass(frozen=True)
class Phases:
    """Seconds by phase."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Count the time inside to the phase `name`."""
        start = perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + perf_counter() - start

    def rounded(self) -> dict[str, float]:
        """To milliseconds."""
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

    vectors: (n, d) numbers, scaled to unit length here. labels: n labels of any kind that sorts, or
    n lists of labels (positive = any shared). ids: (n,) unique integers, 0 to n - 1 by default.
    Instead of labels: queries (q, d) with positives, query number -> ids of its answers among the
    vectors. same_as: (p, 2) pairs of ids that are never negatives of one another. index: a FAISS
    index that answers with these ids, to mine through.
    """
    config = MiningConfig() if config is None else config
    if not isinstance(config, MiningConfig) or not isinstance(index, faiss.Index | None):
        raise InputError("config must be a MiningConfig, and index an index of FAISS")
    seed, pairs = check_seed(seed), id_pairs([] if same_as is None else same_as)

    def posed() -> Problem:
        problem = make_problem(vectors, labels, ids, queries, positives)
        return problem.forbid(pairs) if len(pairs) else problem

    return mine_problem(posed(), config, seed, index)


def mine_problem(
    problem: Problem, config: MiningConfig, seed: int = 0, index: faiss.Index | None = None
) -> Mined:
    """Mine all anchors of a problem, block by block."""
    phases = Phases()
    with phases("prepare"):
        setup, engine = prepare(problem, config, seed, index)
    del problem  # the engine may hold a copy in its own order; `mine` holds none
    parts, stats = [], MiningStats()
    size = unit_anchors(setup.engine, config)
    for start in range(0, max(1, len(engine.problem)), size):
        block = slice(start, min(start + size, len(engine.problem)))
        triplets, counted = mine_block(engine, block, config, seed, phases)
        parts.append(triplets)
        stats += counted
    with phases("settle"):
        if config.hub_cap:
            limits = hub_limits(parts, config.hub_cap, seed)
            parts = [under_limits(part, limits, seed) for part in parts]
        triplets = by_anchor(Triplets.concatenate(parts))
    return Mined(
        triplets=triplets,
        stats=replace(stats, capped=stats.triplets - len(triplets)),
        setup=setup,
        seconds=phases.rounded(),
        peak_mb=peak_mb(),
    )


def account(
    stats: MiningStats, setup: Setup, seconds: Mapping[str, float], peak: int
) -> dict[str, Any]:
    """What was asked and found, how, how well and at what cost, in plain JSON."""
    return {
        "triplets": stats.triplets - stats.capped,
        **stats.to_json(),
        **setup.to_json(),
        "seconds": dict(seconds),
        "peak_mb": peak,
    }


def mine_block(
    engine: Engine,
    anchors: slice | Rows,
    config: MiningConfig,
    seed: int = 0,
    phases: Phases | None = None,
) -> tuple[Triplets, MiningStats]:
    """The triplets of some anchors of the engine's problem, ascending."""
    phases = phases or Phases()
    problem = engine.problem.block(anchors)
    with phases("pairs"):
        pairs, plan = ask(problem, config, seed)
    found = Found.nothing(plan.windows)
    with phases("search"):
        cut = engine.search(anchors, plan.windows, found)
    with phases("settle"):
        return settle(problem, pairs, plan, found, cut, config, seed)


def mine_shards(
    problem: Problem, shards: Iterable[tuple[int, Float32]], config: MiningConfig, seed: int = 0
) -> tuple[Triplets, MiningStats]:
    """The triplets of all anchors where the gallery comes in parts: (first row, vectors).

    problem: its `gallery` is only asked for the rows of positives and of drawn negatives, so it may
    be mapped from a file. The answer is that of one exact search, bit for bit.
    """
    pairs, plan = ask(problem, config, seed)
    found = Found.nothing(plan.windows)
    for first, vectors in shards:
        part = Found.nothing(plan.windows)
        scan(replace(problem, gallery=vectors), plan.windows, part, first=first)
        found = found.merge(part)
    cut = np.zeros(len(plan.windows.floor), bool)
    return settle(problem, pairs, plan, found, cut, config, seed)


def settle(
    problem: Problem,
    pairs: Pairs,
    plan: Plan,
    found: Found,
    cut: Cut,
    config: MiningConfig,
    seed: int,
) -> tuple[Triplets, MiningStats]:
    """The triplets that follow from the answers."""
    answers = {
        name: _answer(name, problem, pairs, plan, found, cut, config, seed)
        for name in config.negatives
    }
    triplets = _triplets(problem, pairs, list(answers.values()), config, seed)
    paired = np.bincount(pairs.anchor, minlength=len(problem)) > 0
    missing = {name: (found.rows < 0).sum(axis=1) for name, found in answers.items()}
    stats = MiningStats(
        anchors=len(problem),
        singletons=int((~paired).sum()),
        pairs=len(pairs),
        kinds=dict(
            zip(KINDS, np.bincount(triplets.kind, minlength=len(KINDS)).tolist(), strict=True)
        ),
        answered={name: int((found.rows >= 0).sum()) for name, found in answers.items()},
        none_exists={n: int(missing[n][~a.cut_short].sum()) for n, a in answers.items()},
        not_found={n: int(missing[n][a.cut_short].sum()) for n, a in answers.items()},
    )
    return triplets, stats


def by_anchor(triplets: Triplets) -> Triplets:
    """Sorted by anchor; what belongs to one anchor stays in its order."""
    return triplets.take(np.argsort(triplets.anchor_id, kind="stable"))


def peak_mb() -> int:
    """The peak of this process's resident memory so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def _answer(
    name: str,
    problem: Problem,
    pairs: Pairs,
    plan: Plan,
    found: Found,
    cut: Cut,
    config: MiningConfig,
    seed: int,
) -> Answer:
    floor = guard(pairs.d_ap, config)
    if name == "uniform":
        ceiling = np.full(len(pairs), EVERYTHING, np.float32)
        return draw_uniform(problem, pairs, floor, ceiling, config.per_pair, seed)
    if name == "distance_weighted":
        return draw_weighted(problem, pairs, floor, config, seed)
    keys = hashes(seed, problem.anchor_ids[pairs.anchor], problem.gallery_ids[pairs.positive])
    listed = answer(name, plan, found, cut, keys, problem.gallery_ids, config)
    if name == "random_semi_hard":
        return _beyond_the_list(problem, pairs, plan, found, listed, config, seed)
    return listed


def _beyond_the_list(
    problem: Problem,
    pairs: Pairs,
    plan: Plan,
    found: Found,
    listed: Answer,
    config: MiningConfig,
    seed: int,
) -> Answer:
    """Where a window holds more than its list, draw from all of the window instead."""
    window = plan.of["random_semi_hard"]
    skipped = np.maximum(config.skip_ranks - found.closer[window], 0)
    nearest = found.distances[window, np.maximum(skipped - 1, 0)]
    # Where one that is skipped has an equal that is not, the list is all there is to draw from.
    parted = (skipped == 0) | (found.distances[window, skipped] > nearest)
    full = np.flatnonzero(parted & (found.rows[window, -1] >= 0))
    some = Pairs(anchor=pairs.anchor[full], positive=pairs.positive[full], d_ap=pairs.d_ap[full])
    floor = np.where(skipped > 0, nearest, plan.windows.floor[window])[full]
    ceiling = plan.ceiling["random_semi_hard"][full]
    drawn = draw_uniform(problem, some, floor, ceiling, config.per_pair, seed)
    rows, distances, ranks = listed.rows.copy(), listed.distances.copy(), listed.ranks.copy()
    rows[full], distances[full], ranks[full] = drawn.rows, drawn.distances, drawn.ranks
    return Answer(rows=rows, distances=distances, ranks=ranks, cut_short=listed.cut_short)


def _triplets(
    problem: Problem, pairs: Pairs, answers: list[Answer], config: MiningConfig, seed: int
) -> Triplets:
    """One triplet for each negative found."""
    rows = np.stack([found.rows for found in answers], axis=1)  # (p, strategies, m)
    pair, strategy, place = np.nonzero(rows >= 0)
    negative = rows[pair, strategy, place]
    d_an = np.stack([found.distances for found in answers], axis=1)[pair, strategy, place]
    ranks = np.stack([found.ranks for found in answers], axis=1)[pair, strategy, place]
    d_ap = pairs.d_ap[pair]
    return Triplets(
        anchor_id=problem.anchor_ids[pairs.anchor[pair]],
        positive_id=problem.gallery_ids[pairs.positive[pair]],
        negative_id=problem.gallery_ids[negative],
        d_ap=d_ap,
        d_an=d_an,
        kind=kinds(d_ap, d_an, config.margin),
        negative_rank=np.minimum(ranks, 2**31 - 1).astype(np.int32),
        negative2_id=_second(problem, pairs, pair, negative, seed)
        if config.second_negative
        else None,
    )


def kinds(d_ap: Float32, d_an: Float32, margin: float) -> Int8:
    """hard: d_an <= d_ap; semi_hard: d_ap < d_an < d_ap + margin; easy: the rest. (t,) each."""
    far = np.where(d_an < d_ap + np.float32(margin), SEMI_HARD, EASY)
    return np.where(d_an <= d_ap, HARD, far).astype(np.int8)


def _second(problem: Problem, pairs: Pairs, pair: Int64, negative: Int64, seed: int) -> Int64:
    """Another item of each negative's class, by hash of the triplet; -1 where there is none."""
    assert problem.partners is not None  # prepare has seen to it
    lists = problem.partners
    start, size = lists.starts[negative], lists.stops[negative] - lists.starts[negative]
    ids = problem.gallery_ids
    key = hashes(
        seed, problem.anchor_ids[pairs.anchor[pair]], ids[pairs.positive[pair]], ids[negative]
    )
    place = (key % np.maximum(size - 1, 1).astype(np.uint64)).astype(np.int64)
    chosen = lists.rows[start + place]
    # The negative's own place in the list is passed over.
    chosen = np.where(
        chosen >= negative, lists.rows[start + np.minimum(place + 1, size - 1)], chosen
    )
    return np.where(size > 1, ids[chosen], -1)
