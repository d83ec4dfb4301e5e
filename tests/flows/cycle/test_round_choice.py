"""Which round is served: the best on val, and the start unless a round is shown to be better."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import remine
from remine.data.errors import InputError
from remine.data.store.gc import RetentionConfig, collect
from remine.data.store.pins import CHOICE, cycle_record, pin, served_version, unpin
from remine.data.store.records import Artifact, Version
from remine.data.store.store import Store
from remine.flows.config.settings import load_config
from remine.flows.cycle.cycle import prepared, run_cycle
from remine.flows.cycle.refresh import NOTHING, decide
from remine.flows.cycle.round_choice import (
    BEST,
    LAST,
    NO_VAL,
    Gain,
    choose_round,
    paired_gain,
    rounds_without_gain,
)
from remine.flows.cycle.status import lines, status
from remine.flows.jobs.console import Console
from remine.flows.jobs.job import run_plain
from remine.flows.report.cycle_page import write_report
from remine.flows.report.rounds_table import cell_text, column_titles, round_rows

Run = Callable[..., Version]


def scores(values: np.ndarray, classes: int) -> pd.DataFrame:
    codes = np.arange(len(values)) % classes
    return pd.DataFrame({"label_code": codes, "map@r": values, "recall@1": values > 0.5})


@given(seed=st.integers(0, 2**32 - 1), classes=st.integers(2, 12))
def test_the_standard_error_is_that_of_a_ratio_over_classes(seed, classes):
    generator = np.random.default_rng(seed)
    before, after = (scores(generator.random(60), classes) for _ in range(2))
    gain = paired_gain(before, after, "map@r")
    differences = after["map@r"] - before["map@r"]
    # Cochran 1977, section 9A.2, class by class.
    squares = 0.0
    for code in range(classes):
        of_class = differences[before["label_code"] == code]
        squares += (of_class.sum() - differences.mean() * len(of_class)) ** 2
    error = np.sqrt(classes / (classes - 1) * squares) / len(differences)
    assert gain.mean == pytest.approx(differences.mean())
    assert gain.error == pytest.approx(error)


def test_alike_items_of_a_class_are_no_further_evidence():
    """A gain in one class of many items is as uncertain as with one item of each."""
    before = scores(np.zeros(400), 4)
    after = before.assign(**{"map@r": (before["label_code"] == 0) * 1.0})
    one_each = paired_gain(before[:4], after[:4], "map@r")
    assert paired_gain(before, after, "map@r").error == pytest.approx(one_each.error)
    assert not one_each.is_shown


def test_one_class_shows_no_gain():
    before, after = scores(np.zeros(5), 1), scores(np.ones(5), 1)
    assert not paired_gain(before, after, "map@r").is_shown
    assert Gain(mean=0.2, error=0.1).is_shown
    assert not Gain(mean=0.0, error=0.0).is_shown


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "store", create=True)


def metrics(store: Store, tmp_path: Path, values: np.ndarray | None, number: int) -> Artifact:
    """The metrics of round `number`, whose val queries of ten classes have these values."""
    card: dict[str, Any] = {"embeddings": f"embeddings {number}"}
    if values is None:
        return Artifact(kind="metrics", files=(), card=card)
    path = tmp_path / "scores.parquet"
    scores(values, 10).to_parquet(path, index=False)
    file = store.put_bytes(path.read_bytes(), name="val_scores.parquet", rows=len(values))
    card["val"] = {"map@r": float(values.mean())}
    return Artifact(kind="metrics", files=(file,), card=card)


NOISE = np.random.default_rng(0).normal(0, 0.05, 200)


@pytest.mark.parametrize(
    ("rounds", "chosen"),
    [
        ([0.5], 0),
        ([0.5, 0.6], 1),
        ([0.5, 0.6, 0.7, 0.65], 2),
        ([0.5, 0.4, 0.3], 0),
        ([0.5, 0.4, 0.6], 2),
        ([0.5, 0.5001], 0),  # within the error of the difference
    ],
)
def test_the_best_round_is_chosen_if_it_is_shown_to_be_above_the_start(
    store, tmp_path, rounds, chosen
):
    generator = np.random.default_rng(1)
    values = [level + NOISE + generator.normal(0, 0.05, 200) for level in rounds]
    artifacts = [metrics(store, tmp_path, v, n) for n, v in enumerate(values)]
    last = Artifact(kind="embeddings", files=())
    choice = choose_round(store, "best", "map@r", last, artifacts)
    assert (choice.card["round"], choice.card["reason"]) == (chosen, BEST)
    assert choice.card["embeddings"] == f"embeddings {chosen}"
    assert choice.card["scores"] == [pytest.approx(v.mean()) for v in values]
    by_wish = choose_round(store, "last", "map@r", last, artifacts)
    assert (by_wish.card["round"], by_wish.card["reason"]) == (len(rounds) - 1, LAST)


def test_without_val_the_last_round_is_chosen_and_the_reason_says_so(store, tmp_path):
    artifacts = [metrics(store, tmp_path, None, number) for number in range(3)]
    last = Artifact(kind="embeddings", files=())
    choice = choose_round(store, "best", "map@r", last, artifacts)
    assert (choice.card["round"], choice.card["reason"]) == (2, NO_VAL)
    assert choice.card["embeddings"] == last.digest
    assert rounds_without_gain(choice) == 0


def test_rounds_without_gain_are_counted_from_the_best():
    def count(*values: float) -> int:
        card = {"scores": list(values)}
        return rounds_without_gain(Artifact(kind="choice", files=(), card=card))

    assert [count(0.5), count(0.5, 0.6), count(0.5, 0.4), count(0.5, 0.6, 0.6, 0.4)] == [0, 0, 1, 2]


# Cycles -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vectors(tmp_path_factory) -> Path:
    """40 classes of 12 vectors that the identity separates well, and noise does not."""
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(40, 16))
    rows = np.repeat(centres, 12, axis=0) + 0.45 * generator.normal(size=(480, 16))
    folder = tmp_path_factory.mktemp("vectors")
    np.save(folder / "vectors.npy", rows.astype(np.float32))
    (folder / "labels.txt").write_text("".join(f"c{i // 12:02}\n" for i in range(480)))
    return folder


@pytest.fixture
def run(tmp_path, vectors) -> Run:
    """Runs a cycle on the vectors; a learning rate of 1 ruins them."""

    def run(*overrides: str) -> Version:
        settings = [
            f'data.source="{vectors / "vectors.npy"}"',
            f'data.labels="{vectors / "labels.txt"}"',
            f'run.store="{tmp_path / "store"}"',
            "run.rounds=3",
            "train.steps=8",
            "train.batch=32",
            "train.learning_rate=1.0",
            "train.val_every=0",
            "health.every=0",
            *overrides,
        ]
        config = load_config(None, settings)
        (tmp_path / "remine.toml").write_text(toml(settings))
        console = Console(quiet=True)
        console.on_line = said.append
        with prepared(config, run_plain, console) as (cycle, items, inputs):
            return run_cycle(cycle, items, inputs)

    said: list[str] = []
    run.said = said  # type: ignore[attr-defined]
    return run


def toml(settings: list[str]) -> str:
    tables: dict[str, list[str]] = {}
    for setting in settings:
        table, _, line = setting.partition(".")
        tables.setdefault(table, []).append(line)
    return "\n".join(f"[{table}]\n" + "\n".join(rows) for table, rows in tables.items())


def test_a_cycle_that_ruins_the_model_serves_the_model_it_started_from(run, tmp_path):
    version = run()
    store = Store(tmp_path / "store")
    served = served_version(store)
    assert (served.number, served.round) == (1, 0)
    # Two rounds in a row brought nothing, so the third is not run.
    assert (version.round, version.rounds, version.finished) == (2, 2, True)
    assert (store.root / "served").resolve().name == "00000001"
    assert (store.root / "latest").resolve().name == "00000003"
    text = "\n".join(run.said)
    assert "round 2 is below round 0 on val (MAP@R" in text
    assert "version 1 is served" in text
    # Of vectors a head is all there is to train: to freeze it is no advice.
    hints = "a lower train.learning_rate or fewer train.steps"
    assert f"no round was better than the start: try {hints}; `remine compare`" in text
    assert "the cycle ends after round 2 of 3" in text
    shown = "\n".join(lines(status(load_config(tmp_path / "remine.toml"))))
    assert "served     version 1, cycle 1, round 0" in shown
    assert "version 1 is served" in shown
    page = write_report(store, version).read_text()
    assert "version 1 is served." in page
    rows = round_rows(version)
    assert [row.get("served") for row in rows] == ["yes", None, None]
    assert column_titles(rows)["val_map@r"] == "val MAP@R %"
    assert rows[0]["val_map@r"] > rows[2]["val_map@r"]


def test_a_round_that_finds_nothing_better_ends_the_cycle(run, tmp_path):
    """Validation in the round returns to the weights that it began with."""
    version = run("train.val_every=2")
    assert (version.round, version.rounds) == (1, 1)
    assert version.artifacts["training/round=0"].card["best_step"] == 0
    first = Store(tmp_path / "store").version(1)
    assert version.artifacts["embeddings"].files == first.artifacts["embeddings"].files
    assert "no step of the last round made the model better on val" in "\n".join(run.said)


@pytest.mark.parametrize("score", [0.815453, 0.815549, 0.81555, 0.815551])
def test_the_table_and_the_line_below_it_round_a_score_alike(score):
    card = {"spread": 1.0, "recall@1": score, "recall@8": score, "map@r": score}
    metrics = Artifact(kind="metrics", files=(), card=card)
    choice = Artifact(
        kind="choice", files=(), card={"round": 0, "metric": "map@r", "scores": [score]}
    )
    (row,) = round_rows(
        SimpleNamespace(round=0, artifacts={"metrics/round=0": metrics, CHOICE: choice})
    )
    expected = f"{100 * score:.1f}"
    assert [cell_text(k, row[k]) for k in ("recall@1", "val_map@r")] == [expected] * 2


def test_readers_get_the_served_model_and_the_records_of_all_rounds(run, tmp_path):
    version = run()
    opened = remine.open(tmp_path / "store")
    assert (opened.number, opened.cycle.number) == (1, version.number)
    assert opened.rounds()["round"].to_pylist() == [0, 1, 2]
    assert opened.triplets(round=1).num_rows > 0
    assert remine.open(tmp_path / "store", version=2).rounds()["round"].to_pylist() == [0, 1]


def test_the_next_cycle_starts_from_the_served_model(run, tmp_path):
    run()
    store = Store(tmp_path / "store")
    second = run("train.learning_rate=0.001", "run.rounds=1")
    start = next(v for v in store.versions() if (v.cycle, v.round) == (2, 0))
    assert start.artifacts["checkpoint"] == store.version(1).artifacts["checkpoint"]
    assert start.artifacts["embeddings"].files == store.version(1).artifacts["embeddings"].files
    assert second.artifacts[CHOICE].card["reason"] == BEST


def test_nothing_is_to_do_after_a_cycle_that_serves_its_start(run, tmp_path):
    version = run()
    write_report(Store(tmp_path / "store"), version)
    assert decide(load_config(tmp_path / "remine.toml")).action == NOTHING


def test_the_served_version_outlives_garbage_collection(run, tmp_path):
    run("run.patience=0")
    store = Store(tmp_path / "store")
    assert store.numbers() == [1, 2, 3, 4]
    plan = collect(store, RetentionConfig(keep=1))
    assert store.numbers() == [1, 4]
    assert plan.reasons[1].startswith("served")
    assert served_version(store).number == 1


def test_the_last_round_is_served_on_demand(run, tmp_path):
    version = run('run.publish="last"', "run.patience=0")
    store = Store(tmp_path / "store")
    assert served_version(store).number == version.number == 4
    pin(store, 2)
    assert served_version(store).number == 2
    assert cycle_record(store, store.version(2)).number == 2
    unpin(store)
    assert served_version(store).number == 4


def test_without_val_items_the_last_round_is_served_and_that_is_said(run, tmp_path):
    version = run("data.val_share=0.0", "run.rounds=1")
    assert version.artifacts[CHOICE].card["reason"] == NO_VAL
    assert served_version(Store(tmp_path / "store")).number == version.number
    assert "there are no val items, so the last round is served" in "\n".join(run.said)


def test_test_items_are_searched_among_training_items_of_their_class(run):
    with pytest.raises(InputError, match=r'run\.gallery is "train", but no class of the test'):
        run('run.gallery="train"')
