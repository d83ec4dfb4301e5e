"""kill -9 at random points of every stage: the resumed cycle ends with the same bits.

    TORTURE_KILLS=200 TORTURE_COMMAND_KILLS=10 python -m robustness.kills

Each trial kills a cycle once to three times in a row, then lets it finish; every second one is the
second cycle of its store. A reader polls the store all the while and may never see a version of
which a byte is missing.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from remine.data.store.store import Store
from remine.data.store.views import page_of
from robustness.kit import (
    Child,
    Left,
    Marks,
    command,
    left_in,
    new_place,
    number,
    preload,
    print_table,
    ran,
    seed_of,
    whole_versions,
    workshop,
    write_items,
)

MOST_IN_A_ROW = 3


@dataclass(kw_only=True)
class Counts:
    """What happened: kills by stage, trials, and reads of the reader."""

    kills: Counter[str] = field(default_factory=Counter)
    trials: int = 0
    same: int = 0
    reads: int = 0
    versions: Counter[int] = field(default_factory=Counter)


@dataclass(frozen=True, kw_only=True)
class Course:
    """An unkilled cycle: its stages and their seconds in order, what it leaves, where it began."""

    begin: Path | None
    stages: list[tuple[str, float]]
    left: Left


def main() -> None:
    """Run the kills and print them by stage."""
    draw = random.Random(seed_of("kills"))  # noqa: S311 - no secret
    preload()
    with workshop() as folder:
        counts = plain_kills(folder, number("TORTURE_KILLS", 200), draw)
        report("kill -9 of a cycle without Prefect", counts)
        kills = number("TORTURE_COMMAND_KILLS", 10)
        report("kill -9 of `remine run`", command_kills(folder, kills, draw))


def report(title: str, counts: Counts) -> None:
    """Print the counts; ends the script where one is not what it must be."""
    total = counts.kills.total()
    rows = [*sorted(counts.kills.items()), ("all", total)]
    print_table(title, ("killed in", "times"), rows)
    print(f"cycles finished bit-identical: {counts.same}/{counts.trials} after {total} kills")
    print(f"reads of the store meanwhile: {counts.reads}, none partial", flush=True)


def plain_kills(folder: Path, kills: int, draw: random.Random) -> Counts:
    """At least so many kills of cycles without Prefect."""
    items = folder / "items.parquet"
    write_items(items)
    courses = _courses(folder, items)
    counts = Counts()
    while counts.kills.total() < kills:
        place = folder / f"trial-{counts.trials}"
        course = courses[counts.trials % 2]
        new_place(place, items)
        if course.begin:
            shutil.copytree(course.begin, place / "store", symlinks=True)
        with Reader(place / "store", counts):
            for _ in range(draw.randint(1, min(MOST_IN_A_ROW, kills - counts.kills.total()))):
                if _done(place, course.left):
                    break  # a run would be the next cycle
                if stage := _struck(place, course, draw):
                    counts.kills[stage] += 1
            ended = None if _done(place, course.left) else ran("run", cwd=place)
        sound, text = (ended.code == 0, ended.text) if ended else (True, "")
        _compare(place, course.left, counts, sound, text)
        shutil.rmtree(place)
    return counts


def _done(place: Path, left: Left) -> bool:
    """Whether the cycle is over, its page and all."""
    store = place / "store"
    current = Store(store).current() if (store / "FORMAT").exists() else None
    if current is None or current.digest != left.version:
        return False
    return page_of(Store(store), current).exists()


def _compare(place: Path, left: Left, counts: Counts, sound: bool, text: str) -> None:  # noqa: FBT001
    counts.trials += 1
    if not sound:
        raise AssertionError(f"{place}: the resumed run fails: {text}")
    if (found := left_in(place / "store")) != left:
        extra = sorted(found.objects ^ left.objects)
        raise AssertionError(f"{place}: other bits: {found.version} for {left.version}, {extra}")
    counts.same += 1


def _courses(folder: Path, items: Path) -> list[Course]:
    """The first cycle of a store and its second, without a kill."""
    place = folder / "unkilled"
    new_place(place, items)
    first = _course(place, None)
    begin = folder / "begun"
    shutil.copytree(place / "store", begin, symlinks=True)
    return [first, _course(place, begin)]


def _course(place: Path, begin: Path | None) -> Course:
    marks, stages = Marks(), []
    child = Child(command("run", marks=marks), place)
    seen, started, name = 0, 0.0, ""
    while child.running():
        if marks.count != seen:
            if seen:
                stages.append((name, marks.started - started))
            seen, started, name = marks.count, marks.started, marks.name
        time.sleep(0.0002)
    stages.append((name, time.monotonic() - started))
    if (ended := child.end()).code:
        raise AssertionError(ended.text)
    return Course(begin=begin, stages=stages, left=left_in(place / "store"))


def _struck(place: Path, course: Course, draw: random.Random) -> str:
    """Kill the cycle at a random moment of a random stage; the stage, "" where it was too late."""
    marks = Marks()
    kinds = sorted({name for name, _ in course.stages})
    kind = draw.choice(kinds)
    wanted = draw.choice([i for i, (name, _) in enumerate(course.stages) if name == kind])
    wait = draw.random() * max(course.stages[wanted][1], 0.001)
    child = Child(command("run", marks=marks), place)
    while child.running() and marks.count <= wanted:
        time.sleep(0.0001)
    while child.running() and time.monotonic() - marks.started < wait:
        time.sleep(0.0001)
    stage = marks.name
    child.kill()
    return stage if child.end().code == -signal.SIGKILL else ""


class Reader:
    """Another process that reads the store's current version again and again."""

    def __init__(self, root: Path, counts: Counts) -> None:
        """Read the store at `root`."""
        self.root, self.counts = root, counts

    def __enter__(self) -> None:
        """Start."""
        out, self._in = os.pipe(), os.pipe()
        self._out = out[0]

        def work() -> None:
            os.close(self._in[1])
            os.set_blocking(self._in[0], False)
            last = reads = 0
            while not _closed(self._in[0]):
                found = whole_versions(self.root)
                if found < last:
                    raise AssertionError(f"version {found} after {last}")
                last, reads = found, reads + 1
                time.sleep(0.02)
            os.write(out[1], f"{reads} {last}".encode())

        self._child = Child(work)
        os.close(out[1])
        os.close(self._in[0])

    def __exit__(self, *_: object) -> None:
        """Stop, and fail where it met a partial version."""
        os.close(self._in[1])
        ended = self._child.end()
        with os.fdopen(self._out) as pipe:
            told = pipe.read()
        if ended.code:
            raise AssertionError(f"the reader met: {ended.text}")
        self.counts.reads += int(told.split()[0])


def _closed(pipe: int) -> bool:
    try:
        return os.read(pipe, 1) == b""
    except BlockingIOError:
        return False


# `remine run` -----------------------------------------------------------------------------------


def command_kills(folder: Path, kills: int, draw: random.Random) -> Counts:
    """So many kills of the installed command with Prefect, and its last run."""
    counts = Counts()
    if not kills:
        return counts
    from remine.flows.orchestration.prefect_server import server

    items = folder / "items-command.parquet"
    write_items(items)
    os.environ |= {"PREFECT_HOME": str(folder / "prefect"), "PREFECT_LOGGING_LEVEL": "WARNING"}
    with server(schedules=False):
        place = folder / "command-unkilled"
        new_place(place, items)
        seconds = _run_command(place, None)
        left = left_in(place / "store")
        for trial in range(kills):
            place = folder / f"command-{trial}"
            new_place(place, items)
            with Reader(place / "store", counts):
                _run_command(place, draw.random() * seconds)
                counts.kills["a random moment after the data was checked"] += 1
                if not _done(place, left):
                    _run_command(place, None)
            _compare(place, left, counts, sound=True, text="")
            shutil.rmtree(place)
    return counts


def _run_command(place: Path, kill_after: float | None) -> float:
    """Run it, killed so long after its store appeared; the seconds from there to its end."""
    process = subprocess.Popen(
        [Path(sys.executable).parent / "remine", "run"],
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    _until(lambda: (place / "store" / "FORMAT").exists() or process.poll() is not None)
    start = time.monotonic()
    if kill_after is not None:
        _until(lambda: time.monotonic() - start > kill_after or process.poll() is not None)
        process.kill()
    text, _ = process.communicate()
    if kill_after is None and process.returncode:
        raise AssertionError(f"remine run: {text}")
    return time.monotonic() - start


def _until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.005)


if __name__ == "__main__":
    main()
