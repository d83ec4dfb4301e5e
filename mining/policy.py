"""Which engine mines what, and what it will cost. The one place where this is decided.

The factors were measured by benchmarks/mining.py at d = 128; the bare matrix product that they
refer to is timed on the machine at hand.
"""

from dataclasses import asdict, dataclass
from math import sqrt
from time import perf_counter
from typing import Any

import torch

from mining.config import MiningConfig
from mining.scan import fast_half

# Up to here the exact search costs about as much as lists, and seconds: 9 core-seconds at 100,000.
EXACT_LIMIT = 100_000
EXACT_HALF, EXACT_FULL = 0.35, 1.15  # of the float32 product, hard and semi-hard of 4 positives
VISITED = 24  # lists of sqrt(n) items that the join looks into for an anchor, shared ones included
PER_ANCHOR = 12e-6  # core-seconds to find pairs, windows and triplets of an anchor


@dataclass(frozen=True, kw_only=True)
class Choice:
    """An engine, why, and the expected cost.

    shards: parts of the gallery, each of which fits mining.memory_gb. seconds: wall-clock on this
    machine. memory_gb: the process's peak.
    """

    engine: str
    reason: str
    shards: int
    seconds: float
    memory_gb: float

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


def choose(anchors: int, n: int, d: int, config: MiningConfig) -> Choice:
    """How to mine `anchors` anchors against n gallery items of d dimensions."""
    gallery_gb = n * (4 * d + 12) / 2**30
    shards = -(-gallery_gb // config.memory_gb)
    engine, reason = config.engine.partition(":")[0], "mining.engine asks for it"
    if engine == "auto" and shards > 1:
        engine = "exact"
        reason = f"{gallery_gb:.1f} GB of gallery are over mining.memory_gb, so it is cut in shards"
    elif engine == "auto" and config.recall >= 1:
        engine, reason = "exact", "mining.recall is 1"
    elif engine == "auto" and n <= EXACT_LIMIT:
        engine, reason = "exact", f"up to {EXACT_LIMIT:,} items exact costs no more than lists"
    elif engine == "auto":
        engine, reason = "approximate", f"over {EXACT_LIMIT:,} items lists cost less than exact"
    product = 2.0 * anchors * n * d / product_rate()
    threads = torch.get_num_threads()
    exact = product * (EXACT_HALF if fast_half() else EXACT_FULL)
    visited = min(1.0, VISITED / sqrt(n))
    seconds = exact if engine == "exact" else exact * visited
    seconds += anchors * PER_ANCHOR / threads
    extra = 0.5 if engine == "exact" else 0.5 + n * d * 6 / 2**30  # a copy by lists, and in half
    return Choice(
        engine=engine,
        reason=reason,
        shards=int(max(1, shards)),
        seconds=seconds,
        memory_gb=min(gallery_gb, config.memory_gb) + extra,
    )


def product_rate() -> float:
    """Float32 operations a second of this machine's matrix product, all threads."""
    a, b = torch.randn(1024, 128), torch.randn(2048, 128)
    taken = []
    for _ in range(5):
        start = perf_counter()
        _ = a @ b.T
        taken.append(perf_counter() - start)
    return 2 * 1024 * 2048 * 128 / min(taken)
