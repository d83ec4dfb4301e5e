"""kill -9 at random points of every stage; the resumed cycle must end with the same bits.

    TORTURE_KILLS=200 TORTURE_COMMAND_KILLS=10 python -m robustness.kills

Each trial kills a cycle one to three times in a row and then lets it finish. Every second trial is
the second cycle of its store. Meanwhile a reader polls the store and must never see an incomplete
version.
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
    Marks,
    StoreState,
    command,
    env_number,
    new_place,
    preload,
    print_table,
    run_command,
    seed_of,
    verified_state,
    verified_version,
    workshop,
    write_items,
)

MOST_IN_A_ROW = 3


@dataclass(kw_only=True)
class Counts:
    """Counts of kills by stage, trials, trials with identical results, and reads."""

    kills: Counter[str] = field(default_factory=Counter)
    trials: int = 0
    identical: int = 0
    reads: int = 0
    versions: Counter[int] = field(default_factory=Counter)


@dataclass(frozen=True, kw_only=True)
class Course:
    """A cycle without a kill: its stages and their seconds, its result, the store before it."""

    begin: Path | None
    stages: list[tuple[str, float]]
    state: StoreState


def main() -> None:
    """Run all trials and print the kills by stage."""
    draw = random.Random(seed_of("kills"))  # noqa: S311 - no secret
    preload()
    with workshop() as folder:
        counts = plain_kills(folder, env_number("TORTURE_KILLS", 200), draw)
        report("kill -9 of a cycle without Prefect", counts)
        kills = env_number("TORTURE_COMMAND_KILLS", 10)
        report("kill -9 of `remine run`", command_kills(folder, kills, draw))


def report(title: str, counts: Counts) -> None:
    """Print the counts of a kind of trial."""
    total = counts.kills.total()
    rows = [*sorted(counts.kills.items()), ("all", total)]
    print_table(title, ("killed in", "times"), rows)
    print(f"cycles finished bit-identical: {counts.identical}/{counts.trials} after {total} kills")
    print(f"reads of the store meanwhile: {counts.reads}, none partial", flush=True)


def plain_kills(folder: Path, kills: int, draw: random.Random) -> Counts:
    """Run trials of cycles without Prefect until there were at least `kills` kills."""
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
                if _is_finished(place, course.state):
                    break  # another run would be the next cycle
                if stage := _kill_in_random_stage(place, course, draw):
                    counts.kills[stage] += 1
            outcome = None if _is_finished(place, course.state) else run_command("run", cwd=place)
        if outcome and outcome.code:
            raise AssertionError(f"{place}: the resumed run fails: {outcome.text}")
        _compare(place, course.state, counts)
        shutil.rmtree(place)
    return counts


def _is_finished(place: Path, state: StoreState) -> bool:
    """Whether the cycle is finished, including its report."""
    store = place / "store"
    current = Store(store).current() if (store / "FORMAT").exists() else None
    if current is None or current.digest != state.version:
        return False
    return page_of(Store(store), current).exists()


def _compare(place: Path, state: StoreState, counts: Counts) -> None:
    """Count a trial whose store must be in `state`."""
    counts.trials += 1
    if (final := verified_state(place / "store")) != state:
        extra = sorted(final.objects ^ state.objects)
        raise AssertionError(f"{place}: other bits: {final.version} for {state.version}, {extra}")
    counts.identical += 1


def _courses(folder: Path, items: Path) -> list[Course]:
    """The first and the second cycle of a store, without a kill."""
    place = folder / "unkilled"
    new_place(place, items)
    first = _course(place, None)
    begin = folder / "begun"
    shutil.copytree(place / "store", begin, symlinks=True)
    return [first, _course(place, begin)]


def _course(place: Path, begin: Path | None) -> Course:
    marks, stages = Marks(), []
    child = Child(command("run", marks=marks), place)
    mark_count, start, name = 0, 0.0, ""
    while child.running():
        if marks.count != mark_count:
            if mark_count:
                stages.append((name, marks.started - start))
            mark_count, start, name = marks.count, marks.started, marks.name
        time.sleep(0.0002)
    stages.append((name, time.monotonic() - start))
    if (outcome := child.end()).code:
        raise AssertionError(outcome.text)
    return Course(begin=begin, stages=stages, state=verified_state(place / "store"))


def _kill_in_random_stage(place: Path, course: Course, draw: random.Random) -> str:
    """Kill the cycle at a random moment of a random stage; returns the stage, "" if too late."""
    marks = Marks()
    kinds = sorted({name for name, _ in course.stages})
    kind = draw.choice(kinds)
    stage_number = draw.choice([i for i, (name, _) in enumerate(course.stages) if name == kind])
    wait = draw.random() * max(course.stages[stage_number][1], 0.001)
    child = Child(command("run", marks=marks), place)
    while child.running() and marks.count <= stage_number:
        time.sleep(0.0001)
    while child.running() and time.monotonic() - marks.started < wait:
        time.sleep(0.0001)
    stage = marks.name
    child.kill()
    return stage if child.end().code == -signal.SIGKILL else ""


class Reader:
    """A process that reads the current version of the store again and again."""

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
                number = verified_version(self.root)
                if number < last:
                    raise AssertionError(f"version {number} after {last}")
                last, reads = number, reads + 1
                time.sleep(0.02)
            os.write(out[1], f"{reads} {last}".encode())

        self._child = Child(work)
        os.close(out[1])
        os.close(self._in[0])

    def __exit__(self, *_: object) -> None:
        """Stop, and fail if the process read an incomplete version."""
        os.close(self._in[1])
        outcome = self._child.end()
        with os.fdopen(self._out) as pipe:
            totals = pipe.read()
        if outcome.code:
            raise AssertionError(f"the reader met: {outcome.text}")
        self.counts.reads += int(totals.split()[0])


def _closed(pipe: int) -> bool:
    try:
        return os.read(pipe, 1) == b""
    except BlockingIOError:
        return False


# `remine run` -----------------------------------------------------------------------------------


def command_kills(folder: Path, kills: int, draw: random.Random) -> Counts:
    """Kill the installed command, with Prefect, `kills` times; each time let it finish."""
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
        state = verified_state(place / "store")
        for trial in range(kills):
            place = folder / f"command-{trial}"
            new_place(place, items)
            with Reader(place / "store", counts):
                _run_command(place, draw.random() * seconds)
                counts.kills["a random moment after the data was checked"] += 1
                if not _is_finished(place, state):
                    _run_command(place, None)
            _compare(place, state, counts)
            shutil.rmtree(place)
    return counts


def _run_command(place: Path, kill_after: float | None) -> float:
    """Run `remine run`; returns the seconds from the creation of its store to its end.

    kill_after: kill it that many seconds after its store was created; None to let it finish.
    """
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
