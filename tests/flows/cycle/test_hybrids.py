"""Hybrids: rounds on confusable classes, on triplets mined again in the batch, and warm-up."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from remine.data.errors import InputError
from remine.data.items.catalogue import read_catalogue
from remine.data.store.store import Store
from remine.data.types import SPLITS
from remine.flows.config.settings import load_config
from remine.flows.cycle.cycle import call_plain, prepared, run_cycle
from remine.flows.jobs.console import Console
from remine.flows.jobs.job import run_plain
from remine.flows.query.terminal import print_counts
from remine.flows.query.triplets import TripletTable
from remine.flows.report.cycle_page import write_report
from remine.flows.report.rounds_table import round_rows, round_table
from remine.flows.stages.rounds.making import training_labels

PK = ("train.batches=pk", "train.miner=semi_hard")
CONFUSABLE = ("train.batches=confusable", "train.miner=semi_hard")
WARM = ("run.rounds=3", "train.warmup_rounds=1")


def cycle(config_file, *overrides: str, call=call_plain):
    config = load_config(config_file, ["train.steps=4", *overrides])
    with prepared(config, run_plain, Console(quiet=True)) as (run, items, inputs):
        return Store(config.store), run_cycle(run, items, inputs, call)


def kinds(version):
    """The artifacts of each round, without those that every round has."""
    return sorted(n for n in version.artifacts if n.startswith(("triplets", "classes")))


def test_rounds_on_pk_batches_mine_nothing(config_file):
    store, version = cycle(config_file, *PK)
    assert kinds(version) == []
    assert [row.get("batches") for row in round_rows(version)] == ["pk", "pk", None]
    assert all("pairs" not in row for row in round_rows(version))
    table = round_table(version)
    assert [column.header for column in table.columns][:2] == ["round", "batches"]
    page = write_report(store, version).read_text()
    assert "What was mined" not in page
    print_counts(version)
    with pytest.raises(InputError, match="its rounds trained on PK batches"):
        TripletTable(store, version).round(-1)


def test_confusable_classes_are_an_artifact_of_their_embeddings(config_file):
    store, version = cycle(config_file, *CONFUSABLE)
    assert kinds(version) == ["classes/round=0", "classes/round=1"]
    first = next(v for v in store.versions() if v.round == 0)
    artifact = version.artifacts["classes/round=0"]
    assert artifact.card["embeddings"] == first.artifacts["embeddings"].digest
    training = version.artifacts["training/round=0"].card
    assert (training["batches"], training["mined"]) == ("confusable", artifact.digest)
    frame = pd.read_parquet(store.root / "latest" / "classes" / "round=0")
    result = read_catalogue(store, version.artifacts["items"])
    names = np.array(result.labels)
    assert (frame["label"].to_numpy() == names[frame["label_code"]]).all()
    assert (frame["neighbour"].to_numpy() == names[frame["neighbour_code"]]).all()
    train = np.unique(result.label_codes[result.splits == SPLITS.index("train")])
    assert frame["label_code"].unique().tolist() == train.tolist()
    assert set(frame["neighbour_code"]) <= set(train.tolist())
    assert (frame["label_code"] != frame["neighbour_code"]).all()
    page = write_report(store, version).read_text()
    assert "Confusable classes" in page
    assert "What was mined" not in page


def test_batches_are_built_around_the_classes_that_were_found(config_file, monkeypatch):
    from remine.train import course

    calls = []
    original = course.row_batches

    def looked(loader: Any, ids: Any, start: int) -> Any:
        calls.append(loader)
        return original(loader, ids, start)

    monkeypatch.setattr(course, "row_batches", looked)
    store, version = cycle(config_file, *CONFUSABLE, "run.rounds=1", "train.random_classes=0")
    (loader,) = calls
    frame = pd.read_parquet(store.root / "latest" / "classes" / "round=0")
    result = read_catalogue(store, version.artifacts["items"])
    labels = training_labels(result)
    assert (loader.labels == labels).all()
    code_of = {int(labels[row]): int(result.label_codes[row]) for row in range(len(labels))}
    rows = next(loader.batches())
    met = [code_of[int(label)] for label in labels[rows[:: loader.per_class]]]
    neighbours = frame[frame["label_code"] == met[0]].sort_values("rank")["neighbour_code"]
    assert met[1:] == neighbours.tolist()[: len(met) - 1]


def test_warm_up_is_online_and_then_triplets_are_mined(config_file):
    store, version = cycle(config_file, *WARM)
    assert kinds(version) == ["triplets/round=1", "triplets/round=2"]
    rows = round_rows(version)
    assert [row.get("batches") for row in rows] == ["pk", "triplets", "triplets", None]
    assert "What was mined" in write_report(store, version).read_text()
    print_counts(version)
    # Later cycles go on with an encoder that is warm.
    _, second = cycle(config_file, *WARM)
    assert kinds(second) == ["triplets/round=0", "triplets/round=1", "triplets/round=2"]


def test_warm_up_may_lead_to_confusable_classes(config_file):
    _, version = cycle(config_file, *WARM, *CONFUSABLE)
    assert kinds(version) == ["classes/round=1", "classes/round=2"]


def test_a_warm_up_round_is_the_round_of_an_online_run(config_file, tmp_path, small_config):
    # Three items of a PK batch for each triplet.
    store, _ = cycle(config_file, *WARM, "run.rounds=2", "train.batch=16")
    second = tmp_path / "other" / "remine.toml"
    second.parent.mkdir()
    second.write_text(small_config)
    online, complete = cycle(second, *PK, "run.rounds=1", "train.batch=48")
    (warm,) = (v.artifacts["checkpoint"] for v in store.versions() if v.round == 1)
    assert warm.files[0] == complete.artifacts["checkpoint"].files[0]
    assert online.root != store.root


def test_triplets_are_mined_again_in_the_batch(config_file):
    """Of a batch's anchors, positives and negatives all pairs are asked, not those mined alone."""
    _, plain = cycle(config_file, "run.rounds=1")
    assert plain.artifacts["triplets/round=0"].rows
    _, repetition = cycle(config_file, "run.rounds=1", "train.miner=batch_hard")
    before, after = (v.artifacts["checkpoint"].files[0] for v in (plain, repetition))
    assert before != after
    assert kinds(repetition) == ["triplets/round=0"]


@pytest.mark.parametrize("overrides", [CONFUSABLE, WARM, ("train.miner=batch_hard",)])
def test_a_killed_hybrid_comes_to_the_same_bits(config_file, tmp_path, small_config, overrides):
    _, reference_run = cycle(config_file, *overrides)
    second = tmp_path / "other" / "remine.toml"
    second.parent.mkdir()
    second.write_text(small_config)
    for strike in (3, 4, 8):
        calls = 0

        def struck(stage: Any, *args: Any, last: int = strike) -> Any:
            nonlocal calls
            calls += 1
            if calls > last:
                raise KeyboardInterrupt
            return stage(*args)

        with pytest.raises(KeyboardInterrupt):
            cycle(second, *overrides, call=struck)
    assert cycle(second, *overrides)[1].digest == reference_run.digest


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("train.batches=index",), "train.batches is 'index'; it must be one of triplets, pk"),
        ((*PK, "train.warmup_rounds=1"), "later rounds train on PK batches too"),
        (("train.warmup_rounds=1", "train.warmup_miner=hard"), "train.warmup_miner is 'hard'"),
        (
            ("train.warmup_rounds=1", "train.loss=n_pair"),
            "in the first 1 rounds .*, but the loss n_pair uses the whole batch",
        ),
        (("train.random_classes=2",), "train.random_classes is 2.0; it must be 0 to 1"),
        ((*CONFUSABLE, "train.batch=18"), "two or more classes of per_class items each"),
    ],
)
def test_what_cannot_be_is_refused(config_file, overrides, message):
    with pytest.raises(InputError, match=message):
        cycle(config_file, *overrides)
