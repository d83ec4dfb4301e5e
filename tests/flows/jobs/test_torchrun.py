"""A cycle in two processes, as torchrun starts them: one runs it, the other helps it train."""

import json
import os
import socket
import subprocess
import sys

import pytest

from remine.data.store.store import Store
from remine.flows.config.settings import load_config
from remine.flows.cycle.cycle import prepared, run_cycle
from remine.flows.jobs.console import Console
from remine.flows.jobs.job import run_plain
from remine.flows.jobs.torchrun import processes

NETS = """
from torch import nn

class Scaled(nn.Module):
    def forward(self, pictures):
        return pictures.float().flatten(1) / 255

def build():
    return nn.Sequential(Scaled(), nn.Linear(256, 12))
"""
PROGRAM = """
import sys
from pathlib import Path
from remine.flows.config.settings import load_config
from remine.flows.jobs.console import Console
from remine.flows.cycle.cycle import prepared, run_cycle
from remine.flows.jobs.job import run_plain
from remine.flows.jobs.torchrun import processes

config = load_config(Path(sys.argv[1]), sys.argv[2:])
with processes() as first:
    print("first" if first else "other")
    if first:
        with prepared(config, run_plain, Console(quiet=True)) as (run, items, inputs):
            run_cycle(run, items, inputs)
"""
# One round: in a second one the last bits of the first would choose other triplets.
# At the low rate of networks of one's own, a step would round the differences of sums away.
SETTINGS = (
    "encoder.name=nets:build",
    "encoder.dimensions=12",
    "run.rounds=1",
    "train.learning_rate=1e-3",
    "train.warmup=0",
)


def start(config_file, *overrides: str) -> list[subprocess.Popen[str]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    return [
        subprocess.Popen(
            [sys.executable, "-P", "-c", PROGRAM, str(config_file), *overrides],
            env={**os.environ, **meeting, "RANK": str(rank), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]


def losses(store, version):
    checkpoint = version.artifacts["checkpoint"]
    return json.loads(store.path(checkpoint.files[2]).read_bytes())["loss"]


def test_a_cycle_of_two_processes_trains_as_one_does(config_file):
    (config_file.parent / "nets.py").write_text(NETS)
    processes = start(config_file, "run.store=both", *SETTINGS)
    out = [process.communicate(timeout=240) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], out
    assert [stdout.strip() for stdout, _ in out] == ["first", "other"]
    config = load_config(config_file, ["run.store=alone", *SETTINGS])
    with prepared(config, run_plain, Console(quiet=True)) as (run, items, inputs):
        alone = run_cycle(run, items, inputs)
    pair = Store(config_file.parent / "both")
    version = pair.current()
    assert version.finished
    assert losses(pair, version) == pytest.approx(losses(run.store, alone), abs=1e-4)
    assert losses(pair, version) != losses(run.store, alone)  # another order of sums, so it was two
    assert not any((pair.root / "work").iterdir())


def test_the_others_end_in_one_line_when_the_first_fails(config_file):
    processes = start(config_file, "data.source=nothing.parquet")
    (_, first), (_, second) = (process.communicate(timeout=240) for process in processes)
    assert "nothing.parquet" in first.splitlines()[-1]
    assert second.splitlines()[-1].endswith("process 0 has ended, and this one with it")


def test_without_torchrun_this_process_is_the_first(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with processes() as first:
        assert first
