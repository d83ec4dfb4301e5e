"""Queries that an encoder reads only in part are counted: on the terminal, by HTTP, in Python."""

import json
import warnings

import numpy as np
import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

import remine
from remine.data.items.inputs import Omissions, transform_counted
from remine.data.store.store import Store
from remine.flows.cli.main import app
from remine.flows.config.settings import load_config
from remine.flows.cycle.cycle import prepared, run_cycle
from remine.flows.jobs.console import Console
from remine.flows.jobs.job import run_plain
from remine.flows.serving.app import make_app
from remine.train.encoders.encoder import GRAMS, GramTransform

SHORT, LONG = "a short text", "word " * (GRAMS + 1)
CUT = f"cut to their first {GRAMS} grams"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """The store of a cycle over texts."""
    folder = tmp_path_factory.mktemp("texts")
    rows = [f"label {c},text {c} of {n}" for c in range(12) for n in range(6)]
    (folder / "texts.csv").write_text("label,text\n" + "\n".join(rows) + "\n")
    settings = {
        "run": {"store": str(folder / "store"), "rounds": 1},
        "data": {"source": str(folder / "texts.csv")},
        "encoder": {"dimensions": 8},
        "train": {"steps": 1, "batch": 8},
        "health": {"every": 0},
    }
    with prepared(load_config(settings), run_plain, Console(quiet=True)) as inputs:
        run_cycle(*inputs)
    return folder / "store"


def command(store, *arguments):
    result = CliRunner().invoke(app, ["search", *map(str, arguments), "--store", str(store)])
    assert result.exit_code == 0, result.output
    return result


def test_the_terminal_says_it_once_with_the_count(store, tmp_path):
    result = command(store, "--text", LONG, "--json")
    assert result.stderr.splitlines() == [
        f"  1 of 1 texts: {CUT} (all words, then the trigrams of each)"
    ]
    assert len(json.loads(result.stdout)[0]) == 10
    assert not command(store, "--text", SHORT).stderr
    file = tmp_path / "queries.csv"
    rows = [LONG if n % 1000 == 0 else SHORT for n in range(2500)]  # two blocks of queries
    file.write_text("text\n" + "\n".join(rows) + "\n")
    result = command(store, "--queries", file, "--out", tmp_path / "out.parquet")
    assert [line for line in result.stderr.splitlines() if "cut" in line] == [
        f"  3 of 2,500 texts: {CUT} (all words, then the trigrams of each)"
    ]


def test_http_says_it_in_a_field(store):
    with TestClient(make_app(Store(store))) as client:
        assert client.get("/search", params={"text": SHORT}).json()["left_out"] == []
        (line,) = client.get("/search", params={"text": LONG}).json()["left_out"]
        assert line.startswith(f"1 of 1 texts: {CUT}")
        body = {"texts": [SHORT, LONG, LONG]}
        (line,) = client.post("/search/batch", json=body).json()["left_out"]
        assert line.startswith("2 of 3 texts")
        assert client.get("/search", params={"id": 0}).json()["left_out"] == []


def test_python_warns(store):
    version = remine.open(store)
    with pytest.warns(UserWarning, match=rf"^1 of 2 texts: {CUT}"):
        version.search(text=[SHORT, LONG])
    with pytest.warns(UserWarning, match=rf"^2 of 3 texts: {CUT}") as caught:
        version.encoder().encode([SHORT, LONG, LONG], batch=2)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        version.search(text=SHORT)
        version.encoder().encode([SHORT])


def test_counts_of_one_call_are_added_to_those_of_the_transform():
    transform = GramTransform()
    transform([LONG], str)
    inputs, omissions = transform_counted(transform, [SHORT, LONG], str)
    assert inputs.shape == (2, GRAMS)
    assert (omissions.rows, omissions.counts.total()) == (2, 1)
    assert (transform.omissions.rows, transform.omissions.counts.total()) == (3, 2)
    plain, nothing = transform_counted(lambda rows, _name: np.asarray(rows), [1, 2], str)
    assert plain.tolist() == [1, 2]
    assert nothing == Omissions()
