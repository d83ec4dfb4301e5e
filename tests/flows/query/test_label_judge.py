"""Labels that training has learnt are judged by the embeddings before it, which the output says."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from remine.data import schemas
from remine.data.errors import StoreError
from remine.data.items.catalogue import UNKNOWN
from remine.data.store.store import Store
from remine.flows.cli.main import app
from remine.flows.config.settings import load_config
from remine.flows.cycle.cycle import prepared, run_cycle
from remine.flows.jobs.console import Console
from remine.flows.jobs.job import run_plain
from remine.flows.query import label_judge
from remine.flows.query.snapshot import Snapshot
from remine.flows.query.start_vectors import start_vectors
from remine.flows.query.suspects import find_suspects, print_suspects, write_suspects
from remine.flows.serving.app import make_app
from remine.mining.suspects import SuspectConfig

CLASSES, SIZE, D = 60, 10, 48
NET = "from torch import nn\n\ndef build():\n    return nn.Identity()\n"
CONFIG = """
[run]
store = "store"
rounds = 1
publish = "last"
[data]
source = "items.parquet"
[encoder]
name = "nets_of_judge:build"
frozen = true
head = "linear"
dimensions = 48
[train]
steps = 150
batch = 64
learning_rate = 3e-3
val_every = 0
batches = "pk"
miner = "batch_hard"
"""


def nothing(*_):
    """Report to nobody."""


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """A snapshot of vectors that a head has learnt by heart, and the rows with wrong labels."""
    folder = tmp_path_factory.mktemp("judge")
    rng = np.random.default_rng(0)
    true = np.repeat(np.arange(CLASSES), SIZE)
    vectors = rng.standard_normal((CLASSES, D))[true] + 0.8 * rng.standard_normal((len(true), D))
    splits = np.array(["train", "train", "train", "val", "test"])[true % 5]
    labels = true.copy()
    wrong = rng.choice(len(true), len(true) // 20, replace=False)
    for row in wrong:
        others = np.unique(true[splits == splits[row]])
        labels[row] = rng.choice(others[others != true[row]])
    frame = pd.DataFrame({"label": labels, "split": splits, "vector": list(vectors)})
    extra = pd.DataFrame({"label": "oos", "split": "unknown", "vector": list(vectors[:5] * 2)})
    pd.concat([frame, extra]).astype({"label": str}).to_parquet(folder / "items.parquet")
    (folder / "nets_of_judge.py").write_text(NET)
    (folder / "remine.toml").write_text(CONFIG)
    config = load_config(folder / "remine.toml")
    with prepared(config, run_plain, Console(quiet=True)) as inputs:
        run_cycle(*inputs)
    store = Store(config.store)
    return Snapshot(store, store.current(), folder), wrong[splits[wrong] == "train"]


def recall(snapshot, wrong, wish):
    suspects = find_suspects(snapshot, SuspectConfig(), nothing, wish).suspects
    ids = suspects["id"][suspects["reason"] == "mislabelled"]
    return np.isin(wrong, ids).mean()


def test_the_better_of_both_judges(planted):
    start, served, auto = (recall(*planted, wish) for wish in ("start", "served", "auto"))
    assert served < 0.7 < start == auto


def test_every_output_says_who_judged(planted, tmp_path, capsys):
    snapshot, _ = planted
    report = find_suspects(snapshot, SuspectConfig(), nothing)
    assert (report.judge.name, report.judge.version) == ("start", 1)
    line = "judged by the encoder before training (version 1): training has learnt wrong labels"
    print_suspects(report, 1)
    assert line in capsys.readouterr().out
    for suffix in (".csv", ".parquet", ".html"):
        write_suspects(snapshot, report, tmp_path / f"s{suffix}")
    assert set(pd.read_csv(tmp_path / "s.csv")["judge"]) == {"start"}
    assert set(pd.read_parquet(tmp_path / "s.parquet")["judge"]) == {"start"}
    assert line.capitalize() in (tmp_path / "s.html").read_text()
    config = str(snapshot.base / "remine.toml")
    result = CliRunner().invoke(app, ["suspects", "--config", config, "--json", "-n", "2"])
    content = json.loads(result.stdout)
    assert content["judge"] == report.judge.to_json()
    assert [one["id"] for one in content["suspects"]] == report.suspects["id"].head(2).tolist()
    result = CliRunner().invoke(app, ["suspects", "--config", config, "--judge", "served"])
    assert "judged by version 2, the one searched: this was asked for" in result.stdout


def test_over_http(planted):
    snapshot, _ = planted
    judge = find_suspects(snapshot, SuspectConfig(), nothing).judge.to_json()
    with TestClient(make_app(snapshot.store, base=snapshot.base)) as client:
        answer = client.get("/suspects").json()
        while answer["state"] == "working":
            answer = client.get("/suspects").json()
    assert answer["judge"] == judge


@pytest.mark.parametrize("has_features", [True, False])
def test_the_start_is_made_again_where_its_version_is_gone(planted, monkeypatch, has_features):
    snapshot, _ = planted
    first = next(v for v in snapshot.store.versions() if v.number == 1)
    stored = schemas.read_embeddings(snapshot.store.paths(first.artifacts["embeddings"])).vectors
    result = start_vectors(snapshot)
    assert result.version == 1
    np.testing.assert_array_equal(result.vectors, stored)
    artifacts = dict(snapshot.version.artifacts)
    if not has_features:
        del artifacts["features"]
    version = replace(snapshot.version, artifacts=artifacts)
    monkeypatch.setattr(type(snapshot.store), "versions", lambda _: [version])
    calls = []
    again = start_vectors(
        Snapshot(snapshot.store, version, snapshot.base), lambda *counts: calls.append(counts)
    )
    assert again.version == 0
    assert calls[-1] == (len(stored), len(stored))
    np.testing.assert_allclose(again.vectors, stored, atol=1e-6)


def test_a_start_that_cannot_be_built_is_told(planted, monkeypatch):
    def broken(*_):
        raise StoreError("its files are not those of the checkpoint")

    monkeypatch.setattr(label_judge, "start_vectors", broken)
    report = find_suspects(planted[0], SuspectConfig(), nothing)
    assert report.judge.name == "served"
    assert "not to be had (its files are not those of the checkpoint)" in report.judge.line
    with pytest.raises(StoreError):
        find_suspects(planted[0], SuspectConfig(), nothing, "start")


def test_an_untrained_version_judges_itself(planted):
    store = planted[0].store
    first = Snapshot(store, next(v for v in store.versions() if v.number == 1), planted[0].base)
    judge = find_suspects(first, SuspectConfig(), nothing).judge
    assert (judge.name, judge.version) == ("served", 1)
    assert judge.reason == "its encoder has not been trained"


def test_unknown_items_are_no_suspects(planted):
    snapshot, _ = planted
    report = find_suspects(snapshot, SuspectConfig(margin=0.0), nothing)
    unknown = snapshot.catalogue.splits == UNKNOWN
    ids = snapshot.catalogue.ids[unknown]
    # Each is a copy of a known item's direction under another label.
    assert not report.suspects["id"].isin(ids).any()
    assert not report.suspects["other_id"].isin(ids).any()
    assert (report.neighbour_rows[unknown] == -1).all()
    assert "oos" not in set(report.suspects["suspected_label"])
