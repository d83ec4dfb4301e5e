"""The training stage with other losses: reachable from the config, listed, and carried on."""

import json
import math

import numpy as np
import pytest

from remine.data.errors import InputError
from remine.data.items.catalogue import Catalogue
from remine.data.store.store import Store
from remine.flows.config.loss_catalogue import catalogue_text
from remine.flows.config.settings import load_config
from remine.flows.cycle.cycle import prepared, run_cycle
from remine.flows.jobs.console import Console
from remine.flows.jobs.job import run_plain
from remine.flows.stages.rounds.making import validation_of
from remine.mining.in_batch.config import MINERS
from remine.train.config import TrainConfig
from remine.train.losses.config import LOSSES, SYNTHESES


def cycle(config_file, *overrides: str, console: Console | None = None):
    config = load_config(config_file, ["train.steps=3", *overrides])
    with prepared(config, run_plain, console or Console(quiet=True)) as (run, items, inputs):
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
        (("train.loss=pml:TripletLoss",), "is 'pml:TripletLoss'; known: AngularLoss"),
        (("train.loss=pml:ArcFaceLoss", 'train.losses.pml=["m=1"]'), "unexpected keyword .*'m'"),
    ):
        with pytest.raises(InputError, match=message):
            cycle(config_file, *overrides)
        assert Store(load_config(config_file).store).current() is None


def test_batches_are_as_large_as_little_data_allow(config_file):
    lines: list[str] = []
    console = Console(quiet=True, on_line=lines.append)
    _, version = cycle(config_file, *PK, "train.batch=4000", console=console)
    classes = version.artifacts["items"].card["splits"]["train"]["classes"]
    note = f"batches of {4 * classes} items in place of train.batch = 4000"
    assert sum(note in line for line in lines) == 2  # in each of both rounds


def test_a_few_texts_are_enough(tmp_path):
    rows = [(f"c{n % 8}", f"text {n % 8} number {n}") for n in range(48)]
    table = "label,text\n" + "\n".join(",".join(row) for row in rows)
    (tmp_path / "texts.csv").write_text(table)
    config = tmp_path / "remine.toml"
    config.write_text('[run]\nstore = "store"\nrounds = 1\n[data]\nsource = "texts.csv"\n')
    lines: list[str] = []
    _, version = cycle(config, "mining.margin=0.01", console=Console(on_line=lines.append))
    count = version.artifacts["triplets/round=0"].card["kinds"]["semi_hard"]
    assert 0 < count < 96
    assert any(f"batches of {count} triplets in place of train.batch = 96" in one for one in lines)
    assert version.artifacts["checkpoint"].card["steps"] == 3


def test_a_round_without_triplets_is_one_in_which_nothing_is_learnt(config_file):
    """The first round refuses it; in a later one the encoder is simply good."""
    never = ("mining.margin=1e-9", "run.rounds=1")
    with pytest.raises(InputError, match=r"^no triplets of kind semi_hard were mined"):
        cycle(config_file, *never)
    store, first = cycle(config_file, "run.rounds=1")
    _, second = cycle(config_file, *never)
    before, after = (version.artifacts["checkpoint"] for version in (first, second))
    assert (after.card["round_steps"], after.card["stopped"]) == (0, "idle")
    assert after.card["best_step"] == 0
    assert [file.sha256 for file in after.files[:2]] == [file.sha256 for file in before.files[:2]]
    assert store.current().number == second.number


def test_epochs_are_passes_through_what_was_mined(config_file):
    settings = ["train.steps=auto", "train.epochs=0.5", "train.batch=50", "run.rounds=1"]
    config = load_config(config_file, settings)
    with prepared(config, run_plain, Console(quiet=True)) as prepared_run:
        version = run_cycle(*prepared_run)
    count = version.artifacts["triplets/round=0"].card["kinds"]["semi_hard"]
    assert version.artifacts["checkpoint"].card["round_steps"] == math.ceil(0.5 * count / 50)


def test_a_round_ends_with_its_best_weights(config_file):
    lines: list[str] = []
    settings = ("health.every=0", "run.rounds=1", "train.learning_rate=0.1")
    validated = ("train.steps=12", "train.val_every=2", "train.patience=2")
    console = Console(quiet=True, on_line=lines.append)
    _, version = cycle(config_file, *settings, *validated, console=console)
    card = version.artifacts["training/round=0"].card
    scores = dict(card["val"])
    best = card["best_step"]
    assert scores[best] == max(scores.values())
    assert 0 < best < card["round_steps"]
    assert card["stopped"] == "val"
    assert card["round_steps"] == best + 4
    assert 0 < card["val_cost"] < 1
    assert card["recipe"]["learning_rate"] == 0.1
    assert any(line.startswith("train: a network from scratch: 12 steps") for line in lines)
    assert any(line.startswith("train: batches of 48 items in one piece: ") for line in lines)
    store = ("run.store=" + str(config_file.parent / "other"), f"train.steps={best}")
    _, short = cycle(config_file, *settings, *store)
    ends = [one.artifacts["checkpoint"].files[0].sha256 for one in (version, short)]
    assert ends[0] == ends[1]


def test_how_a_round_is_trained_is_said_where_the_settings_are_others(config_file):
    def said(*settings: str) -> int:
        lines: list[str] = []
        console = Console(quiet=True, on_line=lines.append)
        cycle(config_file, "run.rounds=2", *settings, console=console)
        return sum("steps a round" in line for line in lines)

    assert [said(), said(), said("train.learning_rate=0.002")] == [1, 0, 1]


def test_validation_searches_where_the_evaluation_does():
    """Val items among training items of their classes, in a closed set."""
    codes = np.repeat(np.arange(5, dtype=np.int32), 8)
    splits = np.tile(np.array([0, 0, 0, 0, 0, 0, 1, 1], np.int8), 5)
    catalogue = Catalogue(
        ids=np.arange(40), label_codes=codes, labels=list("abcde"), splits=splits, groups=None
    )
    config = TrainConfig(val_every=5, val_items=20)
    validation = validation_of(config, catalogue, 0, "train")
    is_val = splits[validation.rows] == 1
    assert is_val.tolist() == [True] * 10 + [False] * 20
    # Training items lie at their class's corner, the val items at that of the next class.
    corners = np.eye(5, dtype=np.float32)[codes[validation.rows]]
    assert validation.score(corners) == 1.0
    moved = np.where(is_val[:, None], np.roll(corners, 1, axis=1), corners)
    assert validation.score(moved) == 0.0
    # Among themselves the val items are as good as before.
    alone = validation_of(config, catalogue, 0)
    assert splits[alone.rows].tolist() == [1] * 10
    assert alone.score(moved[:10]) == 1.0


def test_data_without_val_are_not_validated(config_file):
    lines: list[str] = []
    settings = ("data.val_share=0", "train.val_every=1", "run.rounds=1")
    _, version = cycle(config_file, *settings, console=Console(quiet=True, on_line=lines.append))
    card = version.artifacts["checkpoint"].card
    assert (card["best_step"], card["val"]) == (None, [])
    assert sum("the split val has no class of two items" in line for line in lines) == 1


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
