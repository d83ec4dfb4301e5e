"""A comparison knows the start: it may be selected, is a row, and is said to be best if it is."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from remine.data.errors import InputError
from remine.flows.compare.arms import load_arms
from remine.flows.compare.comparison_page import read_comparison, summary, write_page
from remine.flows.compare.experiment import compare
from remine.flows.compare.verdict import START, start_sentences
from remine.flows.config.settings import load_config
from remine.flows.cycle.cycle import prepared, run_cycle
from remine.flows.jobs.console import Console
from remine.flows.jobs.job import run_plain

RUINOUS = """
[compare]
amount = 6
items = 24
evaluate_every = 3
seeds = 2
[compare.arms.online]
train = { batches = "pk", miner = "semi_hard" }
[compare.arms.mined]
train = { steps = 6 }
"""


@pytest.fixture
def vectors(tmp_path) -> Path:
    """A config for classes that the identity separates well, with a ruinous learning rate."""
    generator = np.random.default_rng(0)
    rows = np.repeat(generator.normal(size=(40, 16)), 12, axis=0)
    rows += 0.45 * generator.normal(size=rows.shape)
    np.save(tmp_path / "vectors.npy", rows.astype(np.float32))
    (tmp_path / "labels.txt").write_text("".join(f"c{i // 12:02}\n" for i in range(480)))
    path = tmp_path / "remine.toml"
    path.write_text(
        '[run]\nstore = "store"\n[data]\nsource = "vectors.npy"\nlabels = "labels.txt"\n'
        "[train]\nlearning_rate = 1.0\n[health]\nevery = 0\n" + RUINOUS
    )
    return path


def test_the_start_is_selected_where_training_ruins_the_model(vectors):
    comparison = read_comparison(compare(*load_arms(vectors), Console(quiet=True)))
    results = comparison.results
    selected = results[(results["which"] == "selected") & (results["arm"] != START)]
    assert set(selected["step"]) == {0}
    start = comparison.values(START, "map@r")
    for arm in ("online", "mined"):
        pd.testing.assert_series_equal(comparison.values(arm, "map@r"), start)
    final = results[(results["which"] == "final") & (results["metric"] == "map@r")]
    assert final["value"].max() < start.min()
    text = " ".join(comparison.verdict())
    assert "no arm is above it at its selected checkpoint" in text
    assert "In 4 of 4 runs val selects the start" in text
    assert "closed set" not in text
    assert summary(comparison).columns[0]._cells[0] == START
    page = write_page(next(vectors.parent.glob("store-compare/views/comparison-*")))
    assert "before training" in page.read_text()


def results_of(start: float, arms: dict[str, float], step: int = 10) -> pd.DataFrame:
    rows = [
        {"arm": arm, "seed": seed, "which": "selected", "split": "test", "metric": "map@r"}
        | {"value": value, "step": step if arm != START else 0, "family": "online"}
        for arm, value in {START: start, **arms}.items()
        for seed in range(2)
    ]
    return pd.DataFrame(rows)


def test_arms_above_the_start_are_counted():
    (sentence,) = start_sentences(results_of(0.5, {"a": 0.6, "b": 0.4}), "map@r", 0)
    assert sentence == (
        "Before training, MAP@R on test is 50.0 %; 1 of 2 arms are above it at their selected"
        " checkpoints."
    )


def test_a_closed_set_is_said_to_be_one():
    sentences = start_sentences(results_of(0.5, {"a": 0.6}), "map@r", 1234)
    assert sentences[-1].startswith("1,234 test classes are also trained on (a closed set)")


def test_results_of_earlier_versions_have_no_start():
    results = results_of(0.5, {"a": 0.6})
    assert start_sentences(results[results["arm"] != START], "map@r", 0) == []


NETS = """
import pathlib
from torch import nn

class Tower(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(16, 8)
    def forward(self, rows):
        with open(pathlib.Path(__file__).with_name("calls"), "a") as file:
            file.write(f"{len(rows)}\\n")
        return self.layer(rows)

def build():
    return Tower()
"""


def test_features_of_a_frozen_network_are_copied_from_the_cycles_store(vectors):
    (vectors.parent / "nets.py").write_text(f"# {vectors.parent}\n{NETS}")
    settings = [
        "encoder.name=nets:build",
        "encoder.frozen=true",
        "train.learning_rate=0.001",
        "train.steps=3",
        "run.rounds=1",
    ]
    with prepared(load_config(vectors, settings), run_plain, Console(quiet=True)) as ready:
        run_cycle(*ready)
    calls = vectors.parent / "calls"
    assert sum(int(m) for m in calls.read_text().split()) >= 480
    calls.write_text("")
    console = Console(quiet=True)
    said: list[str] = []
    console.on_line = said.append
    compare(*load_arms(vectors, settings), console)
    # Two rows at a time find out the shape; no item goes through the network again.
    assert max(int(m) for m in calls.read_text().split()) <= 2
    assert any("features of 480 items are copied from" in line for line in said)


def test_val_is_needed(vectors):
    with pytest.raises(InputError, match="no val classes"):
        compare(*load_arms(vectors, ["data.val_share=0.0"]), Console(quiet=True))
