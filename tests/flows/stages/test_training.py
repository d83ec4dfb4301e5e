"""The training stage with other losses: reachable from the config, listed, and carried on."""

import json

import pytest

from remine.data.errors import InputError
from remine.data.store.store import Store
from remine.flows.config.loss_catalogue import catalogue_text
from remine.flows.config.settings import load_config
from remine.flows.cycle.cycle import prepared, run_cycle
from remine.flows.jobs.console import Console
from remine.flows.jobs.job import run_plain
from remine.mining.in_batch.config import MINERS
from remine.train.losses.config import LOSSES, SYNTHESES


def cycle(config_file, *overrides: str):
    config = load_config(config_file, ["train.steps=3", *overrides])
    with prepared(config, run_plain, Console(quiet=True)) as (run, items, inputs):
        return Store(config.store), run_cycle(run, items, inputs)


PK = ("train.batches=pk", "train.per_class=4")
SYMMETRICAL = ("train.synthesis=symmetrical", "mining.second_negative=true")


@pytest.mark.parametrize(
    "overrides",
    [
        ("train.loss=margin", "train.losses.margin.per_class=true"),
        ("train.loss=n_pair", *SYMMETRICAL),
        SYMMETRICAL,
        (*PK, "train.loss=l2_softmax"),
        (*PK, "train.miner=semi_hard", 'online.fallback="random"', "train.memory=50"),
        (*PK, "train.miner=distance_weighted", "train.loss=margin"),
        (*PK, "train.synthesis=symmetrical", "train.loss=angular"),
        ("train.miner=batch_hard", "train.synthesis=daml"),
    ],
)
def test_a_cycle_with_other_settings(config_file, overrides):
    store, version = cycle(config_file, *overrides)
    checkpoint = version.artifacts["checkpoint"]
    assert checkpoint.card["steps"] == 6
    history = json.loads(store.path(checkpoint.files[2]).read_bytes())
    assert len(history["loss"]) == 3
    names = [file.name for file in checkpoint.files]
    stateful = {"train.loss=margin", "train.loss=l2_softmax", "train.memory=50"}
    stateful |= {"train.synthesis=daml"}
    assert ("objective.safetensors" in names) == bool(stateful & set(overrides))
    assert ("synthetic" in checkpoint.card) == any("synthesis" in o for o in overrides)


def test_the_default_checkpoint_is_as_small_as_ever(config_file):
    _, version = cycle(config_file)
    checkpoint = version.artifacts["checkpoint"]
    names = [file.name for file in checkpoint.files]
    assert names[:3] == ["encoder.safetensors", "optimizer.safetensors", "history.json"]
    assert names[3:] == ["health.parquet"]
    assert "objective" not in checkpoint.card


def test_the_memory_of_a_round_goes_on_in_the_next(config_file):
    from safetensors.torch import load

    store, version = cycle(config_file, *PK, "train.memory=1000")
    (file,) = [f for f in version.artifacts["checkpoint"].files if f.name.startswith("objective")]
    state = load(store.path(file).read_bytes())
    assert int(state["state.memory.filled"]) == 2 * 3 * 16  # two rounds of three steps of 16


def test_what_the_data_do_not_allow_is_refused_before_anything_runs(config_file):
    for overrides, message in (
        (("train.loss=l2_softmax", "train.losses.l2_softmax.alpha=2"), "out of reach below"),
        ((*PK, "train.batch=4000"), "needs 1000 classes in a batch"),
    ):
        with pytest.raises(InputError, match=message):
            cycle(config_file, *overrides)


def test_every_loss_miner_and_synthesis_is_listed():
    listing = [line.strip() for line in catalogue_text().splitlines()]
    for name in (*LOSSES, *MINERS, *SYNTHESES, "pml:Name"):
        assert name in listing
    # Each setting as it can be given back.
    settings = [line for line in listing if " = " in line and "..." not in line]
    assert len(settings) > 30
    for line in settings:
        key, value = line.split(" = ")
        load_config(None, [f"{key}={value}"])
