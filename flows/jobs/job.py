"""Jobs: a stage's work cut into units, run as one linear Beam chain or as a plain loop.

    Create(units) | Reshuffle | ParDo(RunUnit)

An element is a unit (a shard's rows), never an item: the worker reads its rows from the store,
writes its own shard back and leaves a receipt. That shape runs as it is on every runner, and a
killed job resumes at the unit.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import TYPE_CHECKING, Protocol, cast

from remine.data.errors import StoreError
from remine.data.store.records import Artifact, FileRef

if TYPE_CHECKING:
    from remine.data.store.store import Store

Unit = tuple[int, int, int]
"""Number of the shard, first row, row after the last. Plain ints: Beam's coders know them."""

Progress = Callable[[int, int], None]


class Job(Protocol):
    """The work of one stage; pickled to the workers."""

    def key(self, unit: Unit) -> str:
        """The hash of everything that the unit's output depends on."""

    def open(self, store: "Store") -> Callable[[Unit], Artifact]:
        """On the worker: load what all units share, return the function that does one."""


Execute = Callable[["Store", Job, Sequence[Unit]], None]
"""Runs the units of a job and leaves a receipt for each."""


def run_job(
    store: "Store", job: Job, units: Sequence[Unit], execute: Execute, progress: Progress
) -> list[Artifact]:
    """Run what is not done yet; return what each unit left, in order."""
    todo = [unit for unit in units if store.recall(job.key(unit)) is None]
    with _watch(store, [job.key(unit) for unit in units], progress):
        if todo:
            execute(store, job, todo)
    left = [store.recall(job.key(unit)) for unit in units]
    if None in left:
        raise StoreError(f"unit {units[left.index(None)]} left no sound output")
    return cast("list[Artifact]", left)


def run_plain(store: "Store", job: Job, units: Sequence[Unit]) -> None:
    """The units one after the other, in this process, without an engine."""
    work = job.open(store)
    for unit in units:
        store.remember(job.key(unit), work(unit))


@contextmanager
def _watch(store: "Store", keys: Sequence[str], progress: Progress) -> Iterator[None]:
    """Report how many receipts are there, while workers anywhere write them."""
    stop = threading.Event()

    found: set[str] = set()

    def count(keys: Iterable[str]) -> int:
        # What is there stays there; an object store asks a request for each.
        found.update(key for key in keys if key not in found and store.has_receipt(key))
        return len(found)

    def watch() -> None:
        while not stop.wait(0.5):
            progress(count(keys), len(keys))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    progress(len(keys), len(keys))


def units_of(rows: int, size: int) -> list[Unit]:
    """`rows` cut into units of `size`."""
    starts = range(0, rows, size)
    return [(number, start, min(start + size, rows)) for number, start in enumerate(starts)]


def units_of_files(files: Sequence[FileRef]) -> list[Unit]:
    """A unit for each shard."""
    stops = list(accumulate(file.rows for file in files))
    return [(number, stop - files[number].rows, stop) for number, stop in enumerate(stops)]
