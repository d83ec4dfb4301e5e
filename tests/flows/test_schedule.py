"""A schedule that really creates runs, and runs them, with a Prefect server of its own."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data.errors import InputError
from data.store import Store
from flows.cli import _interval

LIMIT = 120


def test_intervals():
    assert _interval("90s").total_seconds() == 90
    assert _interval("6h").total_seconds() == 6 * 3600
    for bad in ("6", "h", "0s", "-1h", "1w"):
        with pytest.raises(InputError):
            _interval(bad)


def test_a_schedule_creates_and_runs_cycles(config_file, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_SERVER_API_PORT": str(port),
    }
    environment.pop("PREFECT_API_URL", None)
    remine = Path(sys.executable).parent / "remine"
    command = [remine, "schedule", "--every", "3s", "--set", "run.rounds=1", "-c", config_file]
    with (tmp_path / "out").open("w") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out)
    try:
        store = config_file.parent / "store"
        deadline = time.monotonic() + LIMIT
        while time.monotonic() < deadline and not _cycles(store, 2):
            assert process.poll() is None, (tmp_path / "out").read_text()
            time.sleep(0.5)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
    assert _cycles(store, 2), (tmp_path / "out").read_text()
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
        pass  # the server went with the schedule


def _cycles(root: Path, wanted: int) -> bool:
    """Whether `wanted` cycles are finished in the store."""
    if not (root / "CURRENT").exists():
        return False
    return sum(version.finished for version in Store(root).versions()) >= wanted
