"""A schedule runs unattended while items are added, a run is killed and its server restarted.

    TORTURE_INTERVALS=10 python -m robustness.endurance

Runs `remine schedule` every 10 s with its own Prefect server. At the end the newest index must
contain exactly the items of the file, and no run may remain marked as running.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from remine.data import schemas
from remine.data.store.store import Store
from robustness.kit import (
    env_number,
    new_place,
    print_table,
    seed_of,
    verified_state,
    workshop,
    write_items,
)

EVERY = 10
CLASSES, PER_CLASS = 24, 8
PATIENCE = 180


def main() -> None:
    """Let the schedule run for the intervals and verify the store."""
    seed_of("endurance")
    intervals = env_number("TORTURE_INTERVALS", 10)
    with workshop() as folder:
        items = folder / "items.parquet"
        write_items(folder / "whole.parquet", classes=CLASSES + intervals)
        _grow(folder / "whole.parquet", items, CLASSES)
        place = new_place(folder / "place", items).parent
        port = _free_port()
        schedule = _start(place, port)
        try:
            rows = _live(place, port, schedule, intervals)
            schedule = rows.pop()
        finally:
            schedule.send_signal(signal.SIGTERM)
            schedule.wait(60)
        rows.append(_verdict(place))
    print_table("a schedule left alone", ("what", "result"), rows)


def _live(place: Path, port: int, schedule: subprocess.Popen[bytes], intervals: int) -> list:
    kills = restarts = 0
    start = cycles = 0
    for interval in range(intervals):
        _grow(place.parent / "whole.parquet", place / "items.parquet", CLASSES + interval)
        if interval == intervals // 3:
            _until(lambda now=schedule: _cycle_of(now) is not None)
            time.sleep(3)
            if child := _cycle_of(schedule):
                child.kill()
                kills += 1
        if interval == 2 * intervals // 3:
            schedule.kill()
            schedule.wait()
            _until(lambda: not _answers(port))
            schedule = _start(place, port)
            restarts += 1
        goal = start + 1
        _until(lambda goal=goal: _finished(place) >= goal)
        start = cycles = _finished(place)
    return [
        ("intervals of 10 s with items added in each", intervals),
        ("cycles finished", cycles),
        ("runs killed", kills),
        ("schedule and its server killed and started again", restarts),
        schedule,
    ]


def _grow(source: Path, items: Path, classes: int) -> None:
    """Replace the items file by one with the first `classes` classes of `source`, with ids."""
    table = pq.read_table(source)
    table = table.append_column("id", pa.array(range(len(table)))).slice(0, PER_CLASS * classes)
    new = items.with_name("new.parquet")
    pq.write_table(table, new)
    new.replace(items)


def _verdict(place: Path) -> tuple[str, str]:
    """Compare the newest finished version with the items of the last file."""
    store = Store(place / "store")
    version = next(v for v in store.versions() if v.finished)
    n = len(pq.read_table(place / "items.parquet"))
    vectors = schemas.read_embeddings(store.paths(version.artifacts["embeddings"]))
    index = version.artifacts["index"]
    if index.files[0].rows != n or not np.array_equal(vectors.ids, np.arange(n)):
        raise AssertionError(
            f"of {n} items the index holds {index.files[0].rows}, the embeddings {vectors.ids}"
        )
    if index.card["checkpoint"] != version.artifacts["checkpoint"].digest:
        raise AssertionError("the index is of another checkpoint")
    with store.lock():  # empties tmp, as the next cycle would
        pass
    verified_state(place / "store")
    return "the index holds", f"all {n} items, of the checkpoint beside it; every file sound"


def _start(place: Path, port: int) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "PREFECT_HOME": str(place / "prefect"),
        "PREFECT_SERVER_API_PORT": str(port),
    }
    environment.pop("PREFECT_API_URL", None)
    command = [Path(sys.executable).parent / "remine", "schedule", "--every", f"{EVERY}s"]
    with (place / "out").open("a") as out:
        return subprocess.Popen(command, cwd=place, env=environment, stdout=out, stderr=out)


def _cycle_of(schedule: subprocess.Popen[bytes]) -> psutil.Process | None:
    """The process of the running cycle: a child of the runner that was spawned for a flow."""
    for child in psutil.Process(schedule.pid).children():
        if "spawn_main" in " ".join(child.cmdline()):
            return child
    return None


def _finished(place: Path) -> int:
    if not (place / "store" / "FORMAT").exists():
        return 0
    return sum(version.finished for version in Store(place / "store").versions())


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("waited too long")
        time.sleep(0.2)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
