"""Peak memory of exact mining beyond the embeddings, as n grows; each n in a process of its own."""

import subprocess
import sys

import numpy as np
import psutil

from benchmarks.common import show
from remine.data.types import Embeddings, unit
from remine.mining.config import MiningConfig
from remine.mining.engines.engines import ExactEngine
from remine.mining.miner import mine_block
from remine.mining.problem import by_label

D, ANCHORS = 64, 8192


def main() -> None:
    """Mine one unit of anchors against galleries of growing size."""
    rows = [["items", "embeddings MB", "peak beyond them MB"]]
    for n in (20_000, 80_000, 320_000, 1_280_000):
        command = [sys.executable, "-m", "benchmarks.memory", str(n)]
        peak_text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        rows.append([f"{n:,}", f"{n * (4 * D + 12) / 1e6:.0f}", peak_text.strip()])
    show(f"Mining one unit of {ANCHORS:,} anchors, d = {D}", rows)


def measure(n: int) -> None:
    """Print the megabytes that mining adds to a process that holds the embeddings."""
    rng = np.random.default_rng(0)
    small = ExactEngine(problem=by_label(embeddings(rng, 2000)))
    mine_block(small, slice(1000), MiningConfig())  # compiles and loads libraries first
    gallery = ExactEngine(problem=by_label(embeddings(rng, n)))
    reset_peak()
    before = psutil.Process().memory_info().rss
    mine_block(gallery, slice(ANCHORS), MiningConfig())
    print(f"{(peak() - before) / 1e6:.0f}")


def embeddings(rng: np.random.Generator, n: int) -> Embeddings:
    """Make n vectors around n / 10 centres, made in blocks."""
    codes = rng.integers(0, n // 10, n).astype(np.int32)
    vectors = np.empty((n, D), np.float32)
    centres = rng.normal(size=(n // 10, D)).astype(np.float32)
    for start in range(0, n, 50_000):
        rows = slice(start, start + 50_000)
        noise = rng.normal(size=(len(codes[rows]), D)).astype(np.float32)
        vectors[rows] = unit(centres[codes[rows]] + noise)
    return Embeddings(ids=np.arange(n), label_codes=codes, vectors=vectors)


def reset_peak() -> None:
    """Let the kernel's high-water mark start again."""
    with open("/proc/self/clear_refs", "w") as file:  # noqa: PTH123
        file.write("5")


def peak() -> int:
    """The kernel's high-water mark of resident memory, in bytes."""
    with open("/proc/self/status") as file:  # noqa: PTH123
        line = next(line for line in file if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    measure(int(sys.argv[1])) if len(sys.argv) > 1 else main()
