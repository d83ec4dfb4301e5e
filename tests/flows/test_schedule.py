"""A schedule that really creates runs, and runs them, with a Prefect server of its own."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from data.errors import InputError, StoreBusyError
from data.store import Store
from flows.cli import _interval

LIMIT = 120


def test_intervals():
    assert _interval("90s").total_seconds() == 90
    assert _interval("6h").total_seconds() == 6 * 3600
    for bad in ("6", "h", "0s", "-1h", "1w", "²s", "99999999999d", "9999d"):
        with pytest.raises(InputError):
            _interval(bad)


class Schedule:
    """`remine schedule` every 3 s, with a Prefect of its own that outlives it on disk."""

    def __init__(self, config_file: Path) -> None:
        self.folder = config_file.parent
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.out = self.folder / "out"
        self.started: list[subprocess.Popen[bytes]] = []
        self.start()

    def start(self) -> None:
        environment = {
            **os.environ,
            "PREFECT_HOME": str(self.folder / "prefect"),
            "PREFECT_SERVER_API_PORT": str(self.port),
            # Prefect looks for runs that are due every 10 s, and makes them every 60 s.
            "PREFECT_RUNNER_POLL_FREQUENCY": "1",
        }
        environment.pop("PREFECT_API_URL", None)
        remine = Path(sys.executable).parent / "remine"
        command = [remine, "schedule", "--every", "3s", "-c", self.folder / "remine.toml"]
        command += ["-s", "run.rounds=1", "-s", "train.steps=60"]
        with self.out.open("a") as out:
            process = subprocess.Popen(command, env=environment, stdout=out, stderr=out)
        self.started.append(process)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + LIMIT
        while not condition():
            assert time.monotonic() < deadline, self.out.read_text()
            assert self.started[-1].poll() is None, self.out.read_text()
            time.sleep(0.2)

    def finished(self) -> int:
        """How many cycles are finished in the store."""
        root = self.folder / "store"
        if not (root / "CURRENT").exists():
            return 0
        return sum(version.finished for version in Store(root).versions())

    def wait_for_silence(self) -> None:
        """Until the server has gone."""
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
            except ConnectionRefusedError:
                return
            time.sleep(0.2)
        pytest.fail("the server outlived the schedule")


@pytest.fixture
def schedule(config_file: Path) -> Iterator[Schedule]:
    schedule = Schedule(config_file)
    yield schedule
    for process in schedule.started:
        process.kill()


def test_a_schedule_runs_cycles_after_a_kill_and_stops_when_told(schedule):
    schedule.wait_for(lambda: " mine " in schedule.out.read_text())
    schedule.started[0].kill()  # in the middle of a cycle
    schedule.wait_for_silence()
    before = schedule.finished()
    schedule.start()
    schedule.wait_for(lambda: schedule.finished() > before)
    with ExitStack() as held:
        schedule.wait_for(lambda: _locks(held, Store(schedule.folder / "store")))
        schedule.wait_for(lambda: "skipped: " in schedule.out.read_text())
    schedule.started[1].send_signal(signal.SIGTERM)
    assert schedule.started[1].wait(20) == 130
    out = schedule.out.read_text()
    assert "Traceback" not in out, out
    assert out.splitlines()[-1] == "remine: interrupted; the same command resumes"
    schedule.wait_for_silence()


def _locks(held: ExitStack, store: Store) -> bool:
    """Take the store's lock, unless a cycle holds it."""
    try:
        held.enter_context(store.lock())
    except StoreBusyError:
        return False
    return True


def test_a_tethered_module_ends_with_whoever_started_it():
    command = [sys.executable, "-m", "flows.tether", "http.server", "0", "--bind", "127.0.0.1"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.read(7) == b"Serving"
    assert process.poll() is None
    process.stdin.close()  # what the system does for a killed parent
    assert process.wait(10) != 0
    process.stdout.close()
