"""Helpers that the benchmarks share."""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from remine.flows.config.settings import Config, load_config
from remine.flows.cycle.cycle import prepared
from remine.flows.jobs.console import Console
from remine.flows.jobs.job import Execute, run_plain
from remine.flows.jobs.run_context import Run


@contextmanager
def fresh_run(*overrides: str, execute: Execute = run_plain) -> Iterator[tuple[Run, Config, list]]:
    """A prepared store in a temporary folder, with the demo's settings and `overrides`."""
    with tempfile.TemporaryDirectory() as folder:
        config = load_config(None, [f'run.store="{Path(folder) / "store"}"', *overrides])
        with prepared(config, execute, Console(quiet=True)) as (run, items, inputs):
            yield run, config, [items, inputs]


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def in_turns(sides: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each side; the sides take turns."""
    timings: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, work in sides.items():
            timings[name].append(seconds(work))
    return {name: statistics.median(values) for name, values in timings.items()}


def show(title: str, rows: Sequence[Sequence[object]]) -> None:
    """Print a small Markdown table."""
    print(f"\n### {title}\n")
    for place, row in enumerate(rows):
        print("| " + " | ".join(map(str, row)) + " |")
        if not place:
            print("|" + "---|" * len(row))
