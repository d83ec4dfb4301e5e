"""A batch in parts has the loss and the gradients of the whole; how large the parts are."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from remine.data.errors import InputError
from remine.data.items.inputs import Inputs
from remine.train.config import TrainConfig
from remine.train.encoders.encoder import Encoder
from remine.train.optimization.cached import BatchInParts, WholeBatch
from remine.train.optimization.memory import (
    activation_bytes,
    forecast,
    machine_memory,
    parts_of,
)
from remine.train.precision import autocast
from remine.train.processes import SingleProcess

CPU = torch.device("cpu")
PLAIN = autocast(CPU, bf16=False)


@pytest.fixture(scope="module")
def rounds():
    place = Path(__file__).parents[1] / "rounds.py"
    spec = importlib.util.spec_from_file_location("rounds", place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def encoder(*extra):
    torch.manual_seed(0)
    layers = [torch.nn.Linear(6, 8), torch.nn.Tanh(), *extra, torch.nn.Linear(8, 4)]
    return Encoder(torch.nn.Sequential(*layers))


def contrast(features):
    """A loss in which every item meets every other."""
    unit = torch.nn.functional.normalize(features)
    return torch.logsumexp(unit @ unit.T / 0.1, dim=1).mean()


def gradients(network, embedded):
    network.zero_grad()
    loss = contrast(embedded.features)
    loss.backward()
    embedded.backward()
    return loss.item(), [p.grad.clone() for p in network.parameters()]


@pytest.mark.parametrize("count", [2, 3, 10])
def test_parts_have_the_gradients_of_the_whole(count):
    network = encoder()
    process, inputs = SingleProcess(network), torch.randn(10, 6)
    loss, expected = gradients(network, WholeBatch(process, inputs, int, PLAIN))
    parted = BatchInParts(process, inputs, int, PLAIN, count)
    loss_in_parts, actual = gradients(network, parted)
    assert loss_in_parts == pytest.approx(loss, rel=1e-6)
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_dropout_leaves_out_the_same_in_both_passes():
    network = encoder(torch.nn.Dropout(0.5)).train()
    state, inputs = torch.get_rng_state(), torch.randn(10, 6)
    torch.set_rng_state(state)
    embedded = BatchInParts(SingleProcess(network), inputs, lambda n: 7 + n, PLAIN, 3)
    again = [embedded._embed(number) for number in range(3)]
    assert torch.equal(torch.cat(again), embedded.features)
    other = BatchInParts(SingleProcess(network), inputs, lambda n: 8 + n, PLAIN, 3)
    assert not torch.equal(other.features, embedded.features)
    assert torch.equal(torch.get_rng_state(), state)  # the caller's draws go on as they were


def test_a_loss_without_gradient_changes_nothing():
    network = encoder()
    embedded = BatchInParts(SingleProcess(network), torch.randn(4, 6), int, PLAIN, 2)
    embedded.backward()
    assert all(p.grad is None for p in network.parameters())


@pytest.mark.parametrize(
    ("batch", "item", "limit", "part"),
    [(288, 10, 2880, 288), (288, 10, 2879, 144), (288, 10, 100, 10), (10, 50, 1, 1), (7, 0, 1, 7)],
)
def test_parts_are_as_large_as_fits(batch, item, limit, part):
    assert parts_of(batch, item, limit) == part


def test_bytes_are_those_that_backward_needs():
    network = encoder(torch.nn.BatchNorm1d(8)).train()
    state = {k: v.clone() for k, v in network.state_dict().items()}
    # Of an item: what tanh and batch norm return, 8 floats each, for their own backward passes and
    # the next ones'; features and what normalisation keeps of them, 4 floats and a few.
    count = activation_bytes(network, torch.randn(1000, 6))
    assert 2 * 32 <= count <= 2 * 32 + 5 * 16 + 1
    assert all(torch.equal(v, state[k]) for k, v in network.state_dict().items())
    wide = Encoder(torch.nn.Sequential(torch.nn.Linear(6, 4000), torch.nn.Tanh()))
    assert activation_bytes(wide, torch.randn(10, 6)) >= 16_000


@pytest.fixture
def inputs(tmp_path):
    np.save(tmp_path / "inputs.npy", np.random.default_rng(0).normal(size=(50, 6)).astype("f4"))
    return Inputs([tmp_path / "inputs.npy"])


def test_a_forecast_divides_what_does_not_fit(inputs):
    network = encoder()
    item = forecast(network, inputs, 96, TrainConfig(), CPU).item_bytes
    config = TrainConfig(memory_limit=40 * item / 1e9)
    memory = forecast(network, inputs, 96, config, CPU)
    assert (memory.batch, memory.part) == (96, 32)
    assert memory.line().startswith("batches of 96 items in parts of 32: ")
    whole = forecast(network, inputs, 96, TrainConfig(), CPU)
    assert whole.line().startswith("batches of 96 items in one piece: ")
    assert forecast(network, inputs, 96, TrainConfig(micro_batch=5), CPU).part == 5


def test_batch_statistics_forbid_parts(inputs, monkeypatch):
    network = encoder(torch.nn.BatchNorm1d(8)).train()
    small = TrainConfig(memory_limit=1e-6)
    assert forecast(network, inputs, 96, small, CPU).part == 96
    with pytest.raises(InputError, match=r"^train\.micro_batch is 5, .*statistics = .kept.$"):
        forecast(network, inputs, 96, TrainConfig(micro_batch=5), CPU)
    monkeypatch.setattr("remine.train.optimization.memory.machine_memory", lambda _device: 1000.0)
    with pytest.raises(InputError, match=r"^a batch of 96 items takes .* cannot be divided"):
        forecast(network, inputs, 96, small, CPU)
    network.eval()
    assert forecast(network, inputs, 96, replace(small, micro_batch=5), CPU).part == 5
    assert machine_memory(CPU) > 1e9


CASES = {
    "mean over triplets": TrainConfig(steps=6, batch=7, learning_rate=0.01),
    "all of a batch": TrainConfig(steps=6, batch=15, per_class=5, batches="pk", learning_rate=0.01),
    "with a memory": TrainConfig(
        steps=6, batch=15, per_class=5, batches="pk", memory=40, margin=0.5, learning_rate=0.01
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("content", ["vector", "image"])
def test_a_round_in_parts_ends_as_one_of_whole_batches(rounds, tmp_path, case, content):
    """The largest pass through the encoder is that of a part."""
    rounds.lay_down(tmp_path, content)
    config = replace(CASES[case], batch_statistics="kept")
    weights, losses, sizes = {}, {}, {}
    for part in (0, 4):
        round_ = rounds.training(
            tmp_path, f"parts-{part}", content, replace(config, micro_batch=part)
        )
        passes = []
        round_.encoder.body.register_forward_hook(
            lambda _m, args, _out, passes=passes: passes.append(len(args[0]))
        )
        losses[part] = round_.run(config, lambda *_: None).loss
        weights[part], sizes[part] = round_.encoder.state_dict(), passes
    items = 21 if case == "mean over triplets" else 15
    assert set(sizes[0]) == {items}
    assert max(sizes[4]) <= 6  # two whole triplets
    # Triplets that add up go through once, others twice.
    assert sum(sizes[4]) == 6 * items * (1 if case == "mean over triplets" else 2)
    assert losses[4] == pytest.approx(losses[0], abs=1e-4)
    for key, weight in weights[0].items():
        torch.testing.assert_close(weights[4][key], weight, atol=2e-4, rtol=0)
