"""Two processes train as one does, and a killed round of theirs resumes to the same bits."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load

from remine.data.errors import InputError
from remine.train.checkpoint import encoder_bytes
from remine.train.processes import DistributedProcess

HERE = Path(__file__).parent
JOBS = [
    ("vector", "triplets", "whole", 0),
    ("vector", "proxies", "whole", 0),
    ("vector", "memory", "whole", 0),
    ("vector", "parts", "whole", 0),
    ("image", "triplets", "whole", 0),
    ("image", "triplets", "killed", 5),
    ("image", "triplets", "killed", 0),
]
PROGRAM = f"""
import os, sys
from pathlib import Path
sys.path.insert(0, {str(HERE)!r})
import torch, torch.distributed as dist
import rounds
from remine.train.checkpoint import encoder_bytes
torch.set_num_threads(1)
dist.init_process_group("gloo")
for content, name, scratch, last in {JOBS!r}:
    folder = Path(sys.argv[1]) / content
    round_ = rounds.training(folder, f"{{name}}-{{scratch}}", content, rounds.CONFIGS[name])
    def progress(step, loss, active):
        if step == last:
            raise rounds.Killed
    try:
        history = round_.run(rounds.CONFIGS[name], progress)
    except rounds.Killed:
        dist.barrier()
        names = [path.name for path in (folder / f"{{name}}-{{scratch}}").iterdir()]
        assert [name[:8] for name in names] == ["00000003"], names
        continue
    out = folder / f"{{name}}-{{scratch}}-{{dist.get_rank()}}"
    out.with_suffix(".safetensors").write_bytes(encoder_bytes(round_.encoder))
    out.with_suffix(".txt").write_text(repr(history.loss))
dist.destroy_process_group()
os._exit(0)  # gloo's threads may outlive the interpreter, and abort it
"""


@pytest.fixture(scope="module")
def rounds():
    spec = importlib.util.spec_from_file_location("rounds", HERE / "rounds.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def jobs_folder(rounds, tmp_path_factory):
    """All the jobs in one pair of processes, since starting them takes longest."""
    folder = tmp_path_factory.mktemp("pair")
    for content in ("vector", "image"):
        (folder / content).mkdir()
        rounds.lay_down(folder / content, content)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-P", "-c", PROGRAM, str(folder)],
            env={**os.environ, **meeting, "RANK": str(rank)},
        )
        for rank in range(2)
    ]
    assert [process.wait(timeout=240) for process in processes] == [0, 0]
    return folder


def outcome(folder, name):
    """What process 0 leaves, its weights and losses; the other's are the same bits.

    But for running statistics: those of process 0 reach the other in its next step.
    """
    outs = [folder / f"{name}-{rank}" for rank in range(2)]
    first, second = (load(out.with_suffix(".safetensors").read_bytes()) for out in outs)
    for key, weight in first.items():
        assert "running" in key or torch.equal(second[key], weight)
    losses, theirs = (json.loads(out.with_suffix(".txt").read_text()) for out in outs)
    assert losses == theirs
    return first, losses


def test_parts_of_a_batch_do_not_change_it(jobs_folder):
    """21 rows in six parts, of which each of both processes embeds three."""
    weights, losses = outcome(jobs_folder / "vector", "triplets-whole")
    weights_in_parts, losses_in_parts = outcome(jobs_folder / "vector", "parts-whole")
    for key, weight in weights.items():
        torch.testing.assert_close(weights_in_parts[key], weight, atol=1e-4, rtol=0)
    assert losses_in_parts == pytest.approx(losses, abs=1e-4)


@pytest.mark.parametrize("name", ["triplets", "proxies", "memory", "parts"])
def test_two_processes_train_as_one_does(rounds, jobs_folder, tmp_path, name):
    weights, losses = outcome(jobs_folder / "vector", f"{name}-whole")
    (tmp_path / "inputs.npy").symlink_to(jobs_folder / "vector" / "inputs.npy")
    (tmp_path / "triplets.parquet").symlink_to(jobs_folder / "vector" / "triplets.parquet")
    alone = rounds.training(tmp_path, "alone", "vector", rounds.CONFIGS[name])
    fresh = load(encoder_bytes(alone.encoder))
    history = alone.run(rounds.CONFIGS[name], lambda *_: None)
    for key, weight in alone.encoder.state_dict().items():
        assert (weight - fresh[key]).abs().max() > 1e-3  # else equal weights would say nothing
        torch.testing.assert_close(weights[key], weight, atol=1e-4, rtol=0)
    assert losses == pytest.approx(history.loss, abs=1e-4)


def test_batch_statistics_are_each_shares_own_and_those_of_process_0_stay(rounds, jobs_folder):
    weights, losses = outcome(jobs_folder / "image", "triplets-whole")
    config = rounds.CONFIGS["triplets"]
    alone = rounds.training(jobs_folder / "image", "alone", "image", config)
    alone.encoder.features = in_shares(alone.encoder.body)
    history = alone.run(config, lambda *_: None)
    for key, weight in alone.encoder.state_dict().items():
        torch.testing.assert_close(weights[key], weight, atol=1e-3, rtol=0)
    assert losses == pytest.approx(history.loss, abs=1e-3)


def in_shares(body) -> Callable[[torch.Tensor], torch.Tensor]:
    """The same in one process: two shares one by one, the second's running statistics dropped."""

    def features(inputs: torch.Tensor) -> torch.Tensor:
        middle = (len(inputs) + 1) // 2
        buffers = {name: buffer.clone() for name, buffer in body.named_buffers()}
        theirs = torch.func.functional_call(body, buffers, (inputs[middle:],))
        return torch.cat([body(inputs[:middle]), theirs])

    return features


def test_a_killed_round_of_two_resumes_to_the_same_bits(jobs_folder):
    outs = [
        (jobs_folder / "image" / f"triplets-{run}-0.safetensors").read_bytes()
        for run in ("whole", "killed")
    ]
    assert outs[0] == outs[1]


@pytest.mark.parametrize(("m", "count"), [(21, 2), (8, 3), (3, 3), (10, 4)])
def test_shares_are_all_rows_once(m, count):
    rows = []
    for number in range(count):
        one = DistributedProcess.__new__(DistributedProcess)
        one.count, one.number = count, number
        rows += list(range(m))[one.share(m)]
    assert rows == list(range(m))
    with pytest.raises(InputError, match=f"^{count - 1} rows in a batch cannot be shared out"):
        one.share(count - 1)
