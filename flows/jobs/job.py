"""Jobs: a stage's work cut into units, run as one linear Beam chain or as a plain loop.

    Create(units) | Reshuffle | ParDo(RunUnit)

An element is a unit (a shard's rows), never an item: the worker reads its rows from the store,
writes its own shard back and leaves a receipt. That shape runs as it is on every runner, and a
killed job resumes at the unit.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from itertools import accumulate
from typing import TYPE_CHECKING, Protocol, cast

from remine.data.errors import StoreError
from remine.data.store.records import Artifact, FileRef
from remine.flows.jobs.partial_rows import rows_in_progress

if TYPE_CHECKING:
    from remine.data.store.store import Store

Unit = tuple[int, int, int]
"""Number of the shard, first row, row after the last. Plain ints: Beam's coders know them."""

Progress = Callable[[int, int], None]


class Job(Protocol):
    """The work of one stage. It is pickled and sent to the workers."""

    def key(self, unit: Unit) -> str:
        """Hash of everything that the unit's output depends on."""

    def open(self, store: "Store") -> Callable[[Unit], Artifact]:
        """On a worker: load what all units share; returns the function that does one unit."""


Execute = Callable[["Store", Job, Sequence[Unit]], None]
"""Runs the units of a job and leaves a receipt for each."""


def run_job(
    store: "Store", job: Job, units: Sequence[Unit], execute: Execute, progress: Progress
) -> list[Artifact]:
    """Run the units that have no receipt yet.

    Args:
        store: Where the units' outputs and receipts are.
        job: What to do with a unit.
        units: All units.
        execute: Runs units and leaves a receipt for each.
        progress: Called with the number of finished rows and of all rows.

    Returns:
        The output of each unit, in order.

    Raises:
        StoreError: A unit left no output, or a damaged one.

    """
    todo = [unit for unit in units if store.recall(job.key(unit)) is None]
    with _watch(store, {job.key(unit): unit[2] - unit[1] for unit in units}, progress):
        if todo:
            execute(store, job, todo)
    outputs = [store.recall(job.key(unit)) for unit in units]
    if None in outputs:
        raise StoreError(f"unit {units[outputs.index(None)]} left no undamaged output")
    return cast("list[Artifact]", outputs)


def run_plain(store: "Store", job: Job, units: Sequence[Unit]) -> None:
    """Run the units one after the other in this process, without an engine."""
    work = job.open(store)
    for unit in units:
        store.remember(job.key(unit), work(unit))


@contextmanager
def _watch(store: "Store", sizes: Mapping[str, int], progress: Progress) -> Iterator[None]:
    """Report how many rows have a receipt or are on their way, while workers anywhere write them.

    sizes: rows of each unit by its key.
    """
    stop = threading.Event()
    finished_keys: set[str] = set()
    total = sum(sizes.values())

    def count() -> int:
        # A receipt stays, and an object store takes a request to ask for one.
        finished_keys.update(
            key for key in sizes if key not in finished_keys and store.has_receipt(key)
        )
        return sum(
            size if key in finished_keys else min(size, rows_in_progress(store, key))
            for key, size in sizes.items()
        )

    def watch() -> None:
        while not stop.wait(0.5):
            progress(count(), total)

    # In this context: Prefect's logger, to which lines of progress go, knows its run from there.
    thread = threading.Thread(target=copy_context().run, args=(watch,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    progress(total, total)


def units_of(rows: int, size: int) -> list[Unit]:
    """Cut `rows` rows into units of `size`."""
    starts = range(0, rows, size)
    return [(number, start, min(start + size, rows)) for number, start in enumerate(starts)]


def units_of_files(files: Sequence[FileRef]) -> list[Unit]:
    """One unit for each shard."""
    stops = list(accumulate(file.rows for file in files))
    return [(number, stop - files[number].rows, stop) for number, stop in enumerate(stops)]
