"""What a loss costs: Symmetrical Synthesis against the plain step, Batch-All against the cube.

The step is the demo's conv net on 64 pairs (batch 128), as in the paper, whose figure is 0.2 %.
"""

import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import psutil
import torch
from torch.nn import functional

from benchmarks.common import show
from benchmarks.memory import peak, reset_peak
from remine.train.config import TrainConfig
from remine.train.encoders.config import EncoderConfig
from remine.train.encoders.encoder import build_encoder
from remine.train.losses.batch import Batch
from remine.train.objective import Objective
from remine.train.optimization.groups import make_optimizer

PAIRS, SHAPE, D = 64, (1, 32, 32), 64
LOSSES = ("triplet", "n_pair", "lifted_structure", "angular")


def overhead(loss: str) -> tuple[float, float, float]:
    """CPU-seconds: a whole plain step, its loss with backward pass, the same symmetrical."""
    plain, symmetrical = (
        TrainConfig(loss=loss, batches="pk", per_class=2, batch=128, synthesis=synthesis)
        for synthesis in ("none", "symmetrical")
    )
    parts = [loss_only(plain), loss_only(symmetrical)]
    best = [np.inf, np.inf]
    for _ in range(20):  # in turns; the least is what the machine's other work disturbed least
        best = [min(a, cpu_seconds(w, 20)) for a, w in zip(best, parts, strict=True)]
    whole_step = step(plain)
    return min(cpu_seconds(whole_step, 3) for _ in range(5)), best[0], best[1]


def cpu_seconds(work: Callable[[], object], times: int) -> float:
    """The mean of so many calls."""
    start = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - start) / times


def batch_of(features: torch.Tensor) -> Batch:
    """Pairs of classes, in order."""
    return Batch(
        features=features,
        embeddings=functional.normalize(features),
        labels=torch.arange(2 * PAIRS) // 2,
        items=torch.arange(2 * PAIRS),
    )


def step(config: TrainConfig) -> Callable[[], object]:
    """One whole step of the conv net: forward, loss, backward, Adam."""
    encoder = build_encoder(EncoderConfig(), "image", SHAPE).train()
    optimizer = make_optimizer(encoder, config)
    objective = Objective(config, dimensions=D, classes=PAIRS, items=2 * PAIRS)
    rng = np.random.default_rng(0)
    pictures = torch.from_numpy(rng.integers(0, 256, (2 * PAIRS, *SHAPE)).astype(np.uint8))

    def work() -> None:
        value = objective(batch_of(encoder.features(pictures)), 0)
        optimizer.zero_grad(set_to_none=True)
        value.loss.backward()
        optimizer.step()

    return work


def loss_only(config: TrainConfig) -> Callable[[], object]:
    """Loss and backward pass to given features."""
    objective = Objective(config, dimensions=D, classes=PAIRS, items=2 * PAIRS)
    features = torch.randn(2 * PAIRS, D, generator=torch.Generator().manual_seed(0))

    def work() -> None:
        objective(batch_of(features.clone().requires_grad_()), 0).loss.backward()

    return work


CHILD = "from benchmarks.losses import child; child({per_class})"


def child(per_class: int) -> None:
    """Print the megabytes that Batch-All of 512 items adds to this process's peak."""
    torch.set_num_threads(1)
    objective = Objective(
        TrainConfig(batches="pk", batch=512, per_class=per_class),
        dimensions=D,
        classes=512 // per_class,
        items=512,
    )

    def run(m: int) -> None:
        features = torch.randn(m, D).requires_grad_()
        labels = torch.arange(m) // per_class
        batch = Batch(
            features=features,
            embeddings=functional.normalize(features),
            labels=labels,
            items=torch.arange(m),
        )
        objective(batch, 0).loss.backward()

    run(2 * per_class)  # libraries and pools first
    reset_peak()
    before = psutil.Process().memory_info().rss
    run(512)
    print((peak() - before) / 2**20)


def main() -> None:
    """Print both tables."""
    torch.set_num_threads(1)
    rows = [["loss", "step, CPU-ms", "its loss alone", "with synthesis", "more of a step"]]
    for loss in LOSSES:
        step_ms, part, synthesis = (1e3 * value for value in overhead(loss))
        overhead_share = f"{(synthesis - part) / step_ms:.1%}"
        rows.append([loss, f"{step_ms:.1f}", f"{part:.2f}", f"{synthesis:.2f}", overhead_share])
    show(f"Symmetrical Synthesis, conv net, {PAIRS} pairs", rows)
    cube = 512**3 * 4 / 2**20
    table = [["items a class", "peak, MB", f"of the cubic tensor ({cube:.0f} MB)"]]
    for per_class in (2, 4, 16, 64):
        process = subprocess.run(
            [sys.executable, "-c", CHILD.format(per_class=per_class)],
            capture_output=True,
            text=True,
            check=True,
        )
        peak = float(process.stdout)
        table.append([per_class, f"{peak:.1f}", f"{peak / cube:.3f}"])
    show("Batch-All on 512 items, forward and backward", table)


if __name__ == "__main__":
    main()
