"""Which engine mines what, in which products, and what it will cost. Decided here and only here.

Decisions follow from sizes, settings and what the processor says it can do, never from a stopwatch:
the same machine always decides the same, however busy it is. Only the forecast of `remine plan`
(`expect`) times a bare product.
"""

from dataclasses import dataclass
from functools import cache
from math import sqrt
from pathlib import Path
from time import perf_counter

import torch

from remine.data.errors import InputError
from remine.mining.config import MiningConfig
from remine.mining.search.gallery_size import gallery_size, held_gb

# Up to here the exact search takes seconds: at 100,000 items 7 to 11 core-seconds, where lists take
# 3 to 7 and miss two in a thousand.
EXACT_LIMIT = 100_000
# The more anchors, the more of them meet in each list: at 1,000,000 items the search by lists took
# 38 s with units of 65,536, 26 s with 131,072, 18 s with 262,144.
UNITS = {"exact": 16_384, "faiss": 16_384, "approximate": 262_144}
HELD_ANSWERS, LEAST_UNIT = 4_000_000, 1024  # 20 bytes each, and triplets of about 50
# Where there is a GPU, which lists do not use. Not measured: no GPU was at hand.
DEVICE_LIMIT = 2_000_000
CPUINFO = Path("/proc/cpuinfo")
# x86 instructions that multiply bfloat16. With avx512_bf16 (EPYC, Zen 5) torch's product took 0.1
# to 0.25 of the float32 one at d = 64 to 384; with amx_bf16 (Xeon) 0.2 to
# 0.25. Without them oneDNN widens to float32 first and it took longer than float32, so float32
# products are taken, which leave no more than rounding to look at again (1.1 to 1.5 times the bare
# product). bfloat16 of other architectures was never measured and is not taken.
HALF = frozenset({"avx512_bf16", "amx_bf16"})


@cache
def fast_half(device: torch.device | None = None) -> bool:
    """Whether bfloat16 is multiplied much faster than float32, by the device or this processor.

    The processor has HALF, and torch uses it: its own kernels may be held to less
    (ATEN_CPU_CAPABILITY).
    """
    if device:
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    able = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    library = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return able and library and bool(HALF & _flags())


def _flags() -> set[str]:
    """What the first processor says it can do; nothing where the system does not tell."""
    try:
        lines = CPUINFO.read_text().splitlines()
    except OSError:
        return set()
    return set(next((line for line in lines if line.startswith("flags")), "").split())


@cache
def accelerator() -> torch.device | None:
    """The GPU that torch sees, if there is one."""
    return torch.device("cuda") if torch.cuda.is_available() else None


@dataclass(frozen=True, kw_only=True)
class Choice:
    """An engine and why. shards: parts of the gallery, each of which fits mining.memory_gb."""

    engine: str
    reason: str
    shards: int


def choose(n: int, d: int, config: MiningConfig) -> Choice:
    """How to mine against n gallery items of d dimensions."""
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
    return Choice(engine=engine, reason=reason, shards=shards)


def unit_anchors(engine: str, config: MiningConfig) -> int:
    """Anchors in a unit of work: what is lost by a kill, and what is held at once."""
    if config.unit_anchors:
        return config.unit_anchors
    depth = config.per_pair + config.skip_ranks
    if "rank_band" in config.negatives:
        depth = max(depth, config.band[1])
    answers = max(1, sum(windows_of(config)) * depth)  # an anchor
    return max(LEAST_UNIT, min(UNITS[engine], HELD_ANSWERS // answers))


# The forecast's factors, fitted to 100,000, 300,000 and 1,000,000 items of benchmarks/vectors.py at
# d = 128, on an EPYC with avx512_bf16: all but a few within 1.3 times, none beyond 1.5.
EXACT_HALF, WINDOW_HALF = 0.30, 0.042  # of the float32 product: the scan, and each window an anchor
EXACT_FULL, WINDOW_FULL = 1.05, 0.09
VISITED = {False: 36, True: 15}  # lists of sqrt(n) items' worth of product; with floors at d_ap
VISITED_WINDOW = 6  # and for each window
BEYOND = {False: 0.0, True: 0.15}  # of the product: searched exactly, since lists do not reach
PER_ANCHOR = 5e-6  # core-seconds to find pairs and make triplets
ONCE, MEASURED = 0.1, 0.5  # core-seconds to start, and to measure the recall of lists
EXAMPLE = 8  # positives an anchor where there is no limit


def windows_of(config: MiningConfig) -> tuple[int, int]:
    """Windows an anchor that `config` asks for: with a floor at each d_ap, and without."""
    pairs = config.max_positives or EXAMPLE
    if config.positives != "all":
        pairs = max(1, config.max_positives) if config.positives != "random" else 1
    semi_hard = any("semi_hard" in name for name in config.negatives)
    others = bool({"hard", "hardest", "rank_band"} & set(config.negatives))
    guarded = config.absolute_margin > 0 or config.relative_margin > 0
    floors = pairs if semi_hard or (others and guarded) else 0
    return floors, int(others and not guarded)


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What mining will cost: wall-clock seconds on this machine, and the process's peak."""

    seconds: float
    memory_gb: float


def expect(anchors: int, n: int, d: int, config: MiningConfig, rate: float) -> Forecast:
    """The cost of what `choose` chooses. rate: see `product_rate`."""
    choice = choose(n, d, config)
    floors, others = windows_of(config)
    fixed, window = (EXACT_HALF, WINDOW_HALF) if fast_half() else (EXACT_FULL, WINDOW_FULL)
    share = fixed + window * (floors + others)
    if choice.engine != "exact":
        slower = share / (EXACT_HALF + WINDOW_HALF * (floors + others))  # 1 with fast bfloat16
        lists = VISITED[floors > 0] + VISITED_WINDOW * (floors + others if floors else 0)
        share = min(share, slower * (BEYOND[floors > 0] + lists / sqrt(n)))
    once = ONCE if choice.engine == "exact" else ONCE + MEASURED
    seconds = share * 2.0 * anchors * n * d / rate
    seconds += (anchors * PER_ANCHOR + once) / torch.get_num_threads()
    memory = held_gb(n, d, config.memory_gb, exact=choice.engine == "exact")
    return Forecast(seconds=seconds, memory_gb=memory)


def product_rate() -> float:
    """Float32 operations a second of this machine's matrix product, all threads."""
    a, b = torch.randn(1024, 128), torch.randn(2048, 128)
    taken = []
    for _ in range(5):
        start = perf_counter()
        _ = a @ b.T
        taken.append(perf_counter() - start)
    return 2 * 1024 * 2048 * 128 / min(taken)
