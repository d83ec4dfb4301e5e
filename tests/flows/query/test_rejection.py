"""Unknown items in a store: never found, never trained on, and rejected by the distance."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from remine.data.errors import InputError
from remine.data.items.catalogue import UNKNOWN
from remine.data.store.store import Store
from remine.flows.api.store_version import StoreVersion
from remine.flows.cli.main import app
from remine.flows.config.settings import load_config
from remine.flows.cycle.cycle import prepared, run_cycle
from remine.flows.jobs.console import Console
from remine.flows.jobs.job import run_plain
from remine.flows.query.rejection import Rejection
from remine.flows.query.snapshot import Filter, SearchOptions, Snapshot
from remine.flows.report.cycle_page import write_report
from remine.flows.report.rejection import rejection_line
from remine.flows.serving.app import make_app

KNOWN, N_UNKNOWN, D = 480, 60, 16


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    """A cycle of one round on vectors of 40 classes, and vectors of none."""
    folder = tmp_path_factory.mktemp("rejection")
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(40), KNOWN // 40)
    known = rng.standard_normal((40, D))[codes] + 0.3 * rng.standard_normal((KNOWN, D))
    vectors = np.concatenate([known, rng.standard_normal((N_UNKNOWN, D))]).astype(np.float32)
    labels = [*(f"c{code}" for code in codes), *["oos"] * N_UNKNOWN]
    frame = pd.DataFrame({"label": labels, "vector": list(vectors)})
    frame.to_parquet(folder / "items.parquet")
    config = load_config(
        {
            "run": {"store": str(folder / "store"), "rounds": 1},
            "data": {
                "source": str(folder / "items.parquet"),
                "unknown_labels": ["oos"],
                "val_share": 0.3,
            },
            "train": {"steps": 3, "batch": 8},
        }
    )
    with prepared(config, run_plain, Console(quiet=True)) as inputs:
        run_cycle(*inputs)
    return folder / "store"


@pytest.fixture(scope="module")
def version(store):
    opened_store = Store(store)
    return StoreVersion(opened_store, opened_store.current(), Path())


@pytest.fixture(scope="module")
def snapshot(version):
    return Snapshot(version.store, version.version)


@pytest.fixture(scope="module")
def far(snapshot):
    """The id of an unknown item that is rejected, and of a known one that is not."""
    rejection = Rejection.of(snapshot.version, 0.1)
    answers = snapshot.search(snapshot.item_queries(snapshot.catalogue.ids), SearchOptions(k=1))
    marks, is_unknown = answers.unknown(rejection.limit), snapshot.catalogue.splits == UNKNOWN
    return int(np.flatnonzero(marks & is_unknown)[0]), int(np.flatnonzero(~marks & ~is_unknown)[0])


def test_unknown_items_are_neither_found_nor_mined(snapshot):
    catalogue = snapshot.catalogue
    unknown = catalogue.splits == UNKNOWN
    assert unknown.sum() == N_UNKNOWN
    queries = snapshot.item_queries(catalogue.ids)
    rows = snapshot.search(queries, SearchOptions(k=20)).rows
    assert not unknown[rows].any()
    named = SearchOptions(k=20, item_filter=Filter(splits=("unknown",)))
    assert unknown[snapshot.search(queries, named).rows].all()
    for artifact in snapshot.version.artifacts.values():
        if artifact.kind == "triplets":
            table = pd.read_parquet(snapshot.store.paths(artifact)[0])
            columns = ["anchor_id", "positive_id", "negative_id"]
            assert not np.isin(table[columns], catalogue.ids[unknown]).any()


def test_the_limit_holds_for_searches_of_the_index(snapshot):
    card = snapshot.version.artifacts[f"metrics/round={snapshot.version.round}"].card["rejection"]
    answers = snapshot.search(snapshot.item_queries(snapshot.catalogue.ids), SearchOptions(k=1))
    splits = snapshot.catalogue.splits
    for row in card["rates"]:
        marks = answers.unknown(row["limit"])
        assert marks[splits == 2].mean() == pytest.approx(row["false_alarms"], abs=0.01)
        assert marks[splits == UNKNOWN].mean() == pytest.approx(row["rejected"], abs=0.01)
    assert Rejection.of(snapshot.version, 0.1).limit == card["rates"][-1]["limit"]
    assert card["auroc"] > 0.8


def test_in_python_rows_are_marked(version, far):
    table = version.search(id=list(far), k=3, reject=0.1)
    assert table["unknown"].to_pylist() == [True] * 3 + [False] * 3
    assert "unknown" not in version.search(id=far[0], k=3).column_names
    with pytest.raises(InputError, match="reject is 1"):
        version.search(id=3, reject=1)


def test_on_the_command_line(store, far, tmp_path):
    def run(*arguments):
        result = CliRunner().invoke(app, ["search", "--store", str(store), *map(str, arguments)])
        return result.stdout, result.stderr

    printed, error = run("--id", far[0], "--reject", 0.1)
    assert printed.startswith("unknown: the nearest item is at ")
    assert "1 of 1 queries are unknown (limit " in error
    printed, error = run("--id", far[1], "--reject", 0.1, "--split", "train", "--json")
    assert {one["unknown"] for one in json.loads(printed)[0]} <= {True, False}
    assert "filters make more unknown" in error
    pd.DataFrame({"id": far}).to_csv(tmp_path / "q.csv", index=False)
    for suffix in (".parquet", ".json", ".html"):
        out = tmp_path / f"a{suffix}"
        run("--queries", tmp_path / "q.csv", "--reject", 0.1, "-k", 2, "--out", out)
    assert pd.read_parquet(tmp_path / "a.parquet")["unknown"].tolist() == [True] * 2 + [False] * 2
    first, second = json.loads((tmp_path / "a.json").read_text())
    assert [first[0]["unknown"], second[0]["unknown"]] == [True, False]
    assert (tmp_path / "a.html").read_text().count("query, unknown") == 1
    assert "unknown" not in run("--id", far[0], "--json")[0]


def test_rates_that_cannot_be_promised_are_refused(store, version):
    result = CliRunner().invoke(
        app, ["search", "--store", str(store), "--id", "1", "--reject", "2"]
    )
    assert isinstance(result.exception, InputError)
    both = ["--id", "1", "--reject", "0.1", "--itself"]
    result = CliRunner().invoke(app, ["search", "--store", str(store), *both])
    assert "give one of --itself and --reject" in str(result.exception)
    with pytest.raises(InputError, match=r"reject is 0\.001; \d+ val items allow"):
        version.search(id=3, reject=0.001)


def test_over_http(store, far, snapshot):
    with TestClient(make_app(Store(store))) as client:
        limit = Rejection.of(snapshot.version, 0.1).limit
        for item, is_unknown in zip(far, (True, False), strict=True):
            answer = client.get("/search", params={"id": item, "reject": 0.1}).json()
            assert (answer["unknown"], answer["limit"]) == (is_unknown, limit)
            body = {"id": item, "reject": 0.1}
            assert client.post("/search", json=body).json()["unknown"] == is_unknown
        batch = client.post("/search/batch", json={"ids": far, "reject": 0.1}).json()
        assert batch["unknown"] == [True, False]
        plain = client.get("/search", params={"id": far[0]}).json()
        assert plain["unknown"] is plain["limit"] is None
        for params in ({"reject": 1}, {"reject": 0.0001}, {"reject": 0.1, "itself": True}):
            assert client.get("/search", params={"id": 1, **params}).status_code == 422


def test_the_report_and_the_terminal_say_it(snapshot):
    page = write_report(snapshot.store, snapshot.version).read_text()
    assert "<h2>Rejection of unknown queries</h2>" in page
    assert f"{N_UNKNOWN} unknown items (AUROC" in page
    assert f"unknown: {N_UNKNOWN}" in page
    line = rejection_line(snapshot.version)
    assert line.startswith(f"unknown items ({N_UNKNOWN}): AUROC")
    assert "with a limit for 5% false alarms" in line


def test_the_report_of_a_store_without_unknown_items_says_no_more_than_was_measured(snapshot):
    name = f"metrics/round={snapshot.version.round}"
    rejection = dict(snapshot.version.artifacts[name].card["rejection"])
    del rejection["unknown"], rejection["auroc"]
    rates = [{k: v for k, v in row.items() if k != "rejected"} for row in rejection["rates"]]
    other = _with_metrics(snapshot.version, {"rejection": {**rejection, "rates": rates}})
    page = write_report(snapshot.store, other).read_text()
    assert "<h2>Rejection of unknown queries</h2>" in page
    assert f"tried on {rejection['test']} test items.\n" in page
    assert "AUROC" not in page
    assert "unknown items rejected" not in page


def _with_metrics(version, card):
    """The version, without a chosen round, with other results of its evaluation."""
    artifacts = {k: v for k, v in version.artifacts.items() if k != "choice"}
    name = f"metrics/round={version.round}"
    whole_card = {**artifacts[name].card, **card}
    metrics = type(artifacts[name])(kind="metrics", files=artifacts[name].files, card=whole_card)
    return type(version)(**{**vars(version), "artifacts": {**artifacts, name: metrics}})


def test_a_version_without_limits_says_why(snapshot):
    artifacts = {k: v for k, v in snapshot.version.artifacts.items() if k != "choice"}
    name = f"metrics/round={snapshot.version.round}"
    for card, message in (({}, "an older remine"), ({"rejection": {"test": 3}}, "set data.val_")):
        metrics = type(artifacts[name])(kind="metrics", files=(), card=card)
        other = type(snapshot.version)(
            **{**vars(snapshot.version), "artifacts": {**artifacts, name: metrics}}
        )
        with pytest.raises(InputError, match=message):
            Rejection.of(other, 0.1)
        assert not rejection_line(other)
