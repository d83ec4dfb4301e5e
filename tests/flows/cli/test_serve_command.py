"""`remine serve` as a process of its own: it starts, answers, and ends when it is told to."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

COMMAND = str(Path(sys.executable).parent / "remine")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_it_serves_until_it_is_told_to_stop(cycle_store, number, code):
    process = subprocess.Popen(
        [COMMAND, "serve", "--store", cycle_store, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    with process:
        address = process.stdout.readline().split(" at ")[1].strip()
        with urllib.request.urlopen(f"{address}health", timeout=10) as answer:
            assert json.load(answer)["status"] == "ok"
        with urllib.request.urlopen(address, timeout=10) as answer:
            assert "<title>remine</title>" in answer.read().decode()
        process.send_signal(number)
        messages, errors = process.communicate(timeout=20)
    assert process.returncode == code
    assert f"stopped by {number.name}" in messages
    assert "Traceback" not in errors
