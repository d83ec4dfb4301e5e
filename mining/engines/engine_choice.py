"""The choice of an engine, of the precision of its products, and the forecast of its cost.

All decisions are made here. They follow from sizes, settings and what the processor reports, never
from a stopwatch, so a machine always decides the same however busy it is. Only the forecast of
`remine plan` (`expect`) times a bare product.
"""

from dataclasses import dataclass
from math import sqrt
from time import perf_counter

import numpy as np
import torch

from remine.data.errors import InputError
from remine.data.types import Int64
from remine.mining.config import MiningConfig
from remine.mining.engines.memory_forecast import gallery_size, peak_memory_gb
from remine.mining.row_lists import bounded_slices
from remine.mining.search.processor import accelerator, fast_half

# Up to this size exact search takes seconds: at 100,000 items 7 to 11 core-seconds, where lists
# take 3 to 7 and miss two in a thousand.
EXACT_LIMIT = 100_000
# More anchors per unit means more of them in each list: at 1,000,000 items the search by lists took
# 38 s with units of 65,536, 26 s with 131,072, 18 s with 262,144.
UNITS = {"exact": 16_384, "faiss": 16_384, "approximate": 262_144}
MAX_ANSWERS, MIN_UNIT = 4_000_000, 1024  # 20 bytes each, and about 50 for a triplet
# With a GPU, which lists do not use. Not measured.
DEVICE_LIMIT = 2_000_000


@dataclass(frozen=True, kw_only=True)
class EngineChoice:
    """An engine.

    Attributes:
        engine: "exact", "approximate" or "faiss".
        reason: Why this engine, for people.
        shards: Parts of the gallery, each within mining.memory_gb.
    """

    engine: str
    reason: str
    shards: int


def choose_engine(n: int, d: int, config: MiningConfig) -> EngineChoice:
    """How to mine against n gallery items of d dimensions.

    Raises:
        InputError: The configured engine needs the whole gallery, which exceeds mining.memory_gb.
    """
    gallery_gb = gallery_size(n, d)
    shards = int(max(1, -(-gallery_gb // config.memory_gb)))
    engine, reason = config.engine.partition(":")[0], "mining.engine asks for it"
    if shards > 1 and engine not in ("auto", "exact"):
        raise InputError(
            f"mining.engine {config.engine!r} holds the whole gallery, {gallery_gb:.3g} GB, which"
            f' is over mining.memory_gb = {config.memory_gb:g}: raise it, or take "exact", which'
            " goes through the gallery in parts"
        )
    if engine == "auto" and shards > 1:
        engine = "exact"
        reason = (
            f"{gallery_gb:.3g} GB of gallery are over mining.memory_gb, so it is cut in shards, and"
            " lists need all of it"
        )
    elif engine == "auto" and config.recall >= 1:
        engine, reason = "exact", "mining.recall is 1"
    elif engine == "auto" and accelerator() and n <= DEVICE_LIMIT:
        engine = "exact"
        reason = f"up to {DEVICE_LIMIT:,} items a GPU compares all with all rather than by lists"
    elif engine == "auto" and n <= EXACT_LIMIT:
        engine, reason = "exact", f"up to {EXACT_LIMIT:,} items exact costs no more than lists"
    elif engine == "auto":
        engine, reason = "approximate", f"over {EXACT_LIMIT:,} items lists cost less than exact"
    return EngineChoice(engine=engine, reason=reason, shards=shards)


def unit_anchors(engine: str, config: MiningConfig) -> int:
    """Anchors per unit of work: what a killed run loses, and what is held in memory at once."""
    if config.unit_anchors:
        return config.unit_anchors
    answers = max(1, sum(windows_of(config)) * _depth(config))  # per anchor
    return max(MIN_UNIT, min(UNITS[engine], MAX_ANSWERS // answers))


def anchor_blocks(pair_counts: Int64, engine: str, config: MiningConfig) -> list[slice]:
    """Blocks of `unit_anchors` anchors, fewer where the anchors have so many pairs.

    Args:
        pair_counts: (a,) pairs of each anchor.
        engine: The engine.
        config: Strategies and limits.
    """
    floors, without_floor = windows_of(config)
    windows = (pair_counts if floors else 0) + np.full(len(pair_counts), without_floor)
    answers = np.maximum(windows * _depth(config), pair_counts)
    return bounded_slices(answers, unit_anchors(engine, config), MAX_ANSWERS)


def _depth(config: MiningConfig) -> int:
    """Matches that are listed for each window."""
    depth = config.per_pair + config.skip_ranks
    return max(depth, config.band[1]) if "rank_band" in config.negatives else depth


# Factors of the forecast, fitted to 100,000, 300,000 and 1,000,000 items of benchmarks/vectors.py
# at d = 128 on an EPYC with avx512_bf16: nearly all within a factor of 1.3, all within 1.5.
EXACT_HALF, WINDOW_HALF = 0.30, 0.042  # of the float32 product: the scan, each window
EXACT_FULL, WINDOW_FULL = 1.05, 0.09
VISIT_COST = {False: 36, True: 15}  # in products with sqrt(n) items; by floors at d_ap
WINDOW_VISIT_COST = 6  # and per window
EXACT_SHARE = {False: 0.0, True: 0.15}  # of the product: windows beyond the lists
PER_ANCHOR = 5e-6  # core-seconds to find pairs and make triplets
# Core-seconds per item of an anchor's class, from which its positives are selected: 1e8 of them
# took 2.5 s by hash, 9 s by distance at d = 16.
PER_CLASSMATE, PER_CLASSMATE_COMPONENT = 2.5e-8, 4e-9
START, MEASUREMENT = 0.1, 0.5  # core-seconds to start, to measure recall
EXAMPLE = 8  # positives per anchor if there is no limit


def windows_of(config: MiningConfig) -> tuple[int, int]:
    """Windows per anchor that `config` needs: with a floor at each d_ap, and without a floor."""
    pairs = config.max_positives or EXAMPLE
    if config.positives != "all":
        pairs = max(1, config.max_positives) if config.positives != "random" else 1
    semi_hard = any("semi_hard" in name for name in config.negatives)
    without_floor = bool({"hard", "hardest", "rank_band"} & set(config.negatives))
    has_guards = config.absolute_margin > 0 or config.relative_margin > 0
    floors = pairs if semi_hard or (without_floor and has_guards) else 0
    return floors, int(without_floor and not has_guards)


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """The expected cost of mining.

    Attributes:
        seconds: Wall-clock time on this machine.
        memory_gb: Peak of the process's resident memory.
    """

    seconds: float
    memory_gb: float


@dataclass(frozen=True, kw_only=True)
class PairForecast:
    """What finding positives takes, counted from the labels.

    Attributes:
        pairs: Pairs of an anchor and a positive, at most.
        classmates: Pairs of items that share a class, from which they are selected.
        largest: Items that the anchor with the most classmates shares a class with.
    """

    pairs: int
    classmates: int
    largest: int


def expect(
    anchors: int,
    n: int,
    d: int,
    config: MiningConfig,
    rate: float,
    pairs: PairForecast | None = None,
) -> Forecast:
    """The expected cost of mining with the engine that `choose_engine` chooses.

    Args:
        anchors: Number of anchors.
        n: Number of gallery items.
        d: Their dimensions.
        config: Strategies and engine.
        rate: Float32 operations per second, see `product_rate`.
        pairs: Counted pairs; None to assume max_positives, or 8, for every anchor.
    """
    choice = choose_engine(n, d, config)
    floors, without_floor = windows_of(config)
    if pairs and floors:
        floors = -(-pairs.pairs // max(1, anchors))
    scan_cost, window_cost = (EXACT_HALF, WINDOW_HALF) if fast_half() else (EXACT_FULL, WINDOW_FULL)
    share = scan_cost + window_cost * (floors + without_floor)
    if choice.engine != "exact":
        # 1 with fast bfloat16, for which the costs of lists were fitted.
        slower = share / (EXACT_HALF + WINDOW_HALF * (floors + without_floor))
        lists = VISIT_COST[floors > 0]
        lists += WINDOW_VISIT_COST * (floors + without_floor if floors else 0)
        share = min(share, slower * (EXACT_SHARE[floors > 0] + lists / sqrt(n)))
    fixed_seconds = START if choice.engine == "exact" else START + MEASUREMENT
    seconds = share * 2.0 * anchors * n * d / rate
    seconds += (anchors * PER_ANCHOR + fixed_seconds) / torch.get_num_threads()
    if pairs:
        row_cost = PER_CLASSMATE
        if config.positives in ("hardest", "easiest"):
            row_cost += PER_CLASSMATE_COMPONENT * d
        seconds += pairs.classmates * row_cost / torch.get_num_threads()
    memory = peak_memory_gb(n, d, config.memory_gb, exact=choice.engine == "exact")
    return Forecast(seconds=seconds, memory_gb=memory)


def product_rate() -> float:
    """Float32 operations per second of this machine's matrix product, on all threads."""
    a, b = torch.randn(1024, 128), torch.randn(2048, 128)
    timings = []
    for _ in range(5):
        start = perf_counter()
        _ = a @ b.T
        timings.append(perf_counter() - start)
    return 2 * 1024 * 2048 * 128 / min(timings)
