"""Texts and paths beside ids: whole in a pipe, in JSON, Parquet and HTTP; fitted on a terminal."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from starlette.testclient import TestClient
from typer.testing import CliRunner

import remine
from remine.data.store.store import Store
from remine.flows.cli.main import app
from remine.flows.config.settings import load_config
from remine.flows.cycle.cycle import prepared, run_cycle
from remine.flows.jobs.console import Console
from remine.flows.jobs.job import run_plain
from remine.flows.query import item_contents, terminal
from remine.flows.serving.app import make_app

CONFIG = """
[run]
store = "store"
rounds = 1
[data]
source = "{source}"
[encoder]
dimensions = 8
[train]
steps = 3
batch = 8
"""
LABELS = [f"c{number // 6}" for number in range(60)]
TEXTS = [
    f"question {number} about subject {number // 6},\n" + "and so on " * 40 + f"end{number}"
    for number in range(60)
]


def cycle(folder: Path, source: str) -> Path:
    (folder / "remine.toml").write_text(CONFIG.format(source=source))
    config = load_config(folder / "remine.toml")
    with prepared(config, run_plain, Console(quiet=True)) as inputs:
        run_cycle(*inputs)
    return folder / "store"


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    with (folder / "items.csv").open("w", newline="") as file:
        rows = zip((f"q-{number}" for number in range(60)), LABELS, TEXTS, strict=True)
        csv.writer(file).writerows([("id", "label", "text"), *rows])
    return cycle(folder, "items.csv")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for number, label in enumerate(LABELS):
        (folder / "photos" / label).mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (16, 16), np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / label / f"photo {number:02}.png")
    return cycle(folder, "photos")


def call(store, *arguments):
    process = CliRunner().invoke(app, [*map(str, arguments), "--store", str(store)])
    if process.exception:
        raise process.exception
    return process.stdout


def path_of(number: int) -> str:
    return f"{LABELS[number]}/photo {number:02}.png"


def test_answers_carry_texts(texts, tmp_path, monkeypatch):
    (answer,) = json.loads(call(texts, "search", "--id", "q-7", "-k", 5, "--json"))
    assert all(one["text"] == TEXTS[int(one["id"][2:])] for one in answer)
    table = remine.open(texts).search(id="q-7", k=5)
    assert table["text"].to_pylist() == [one["text"] for one in answer]
    monkeypatch.setattr(item_contents, "FEW", 2)  # read whole
    call(texts, "search", "--id", "q-7", "-k", 5, "--out", tmp_path / "a.parquet")
    assert pq.read_table(tmp_path / "a.parquet") == table
    printed = call(texts, "search", "--id", "q-7", "-k", 5)
    assert all(" ".join(one["text"].split()) in printed for one in answer)


def test_answers_carry_paths(pictures):
    (answer,) = json.loads(call(pictures, "search", "--id", 7, "-k", 5, "--json"))
    assert [one["path"] for one in answer] == [path_of(one["id"]) for one in answer]
    printed = call(pictures, "search", "--id", 7, "-k", 5)
    assert all(one["path"] in printed for one in answer)
    with TestClient(make_app(Store(pictures))) as client:
        content = client.get("/search", params={"id": 7, "k": 5}).json()
        assert [one["path"] for one in content["neighbours"]] == [one["path"] for one in answer]
        assert content["query"]["path"] == path_of(7)
        assert client.get("/items/7").json()["item"]["path"] == path_of(7)


def test_triplets_are_printed_with_contents(texts, pictures):
    rows = remine.open(texts).triplets().slice(0, 3).to_pylist()
    printed = call(texts, "triplets", "head", "-n", 3)
    for row in rows:
        for role in ("anchor", "positive", "negative"):
            assert " ".join(TEXTS[int(row[f"{role}_id"][2:])].split()) in printed
    first = remine.open(pictures).triplets().slice(0, 1).to_pylist()[0]
    for command in (("head", "-n", 1), ("show", first["anchor_id"], "-n", 1)):
        assert path_of(first["anchor_id"]) in call(pictures, "triplets", *command)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_suspects_carry_contents(texts, pictures, tmp_path, suffix):
    out = tmp_path / f"s{suffix}"
    for store, name in ((texts, "text"), (pictures, "path")):
        printed = call(store, "suspects", "--margin", 0, "--out", out)
        table = pq.read_table(out) if suffix == ".parquet" else None
        rows = (
            table.to_pylist()
            if table
            else list(csv.DictReader(io.StringIO(out.read_text(), newline="")))
        )
        assert rows
        for row in rows:
            number = int(str(row["id"]).removeprefix("q-"))
            assert row[name] == (TEXTS[number] if name == "text" else path_of(number))
            assert bool(row[f"other_{name}"]) == bool(row["other_id"])
        assert " ".join(rows[0][name].split()) in printed


def test_a_terminal_gets_short_texts_and_complete_paths(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr("sys.stdout", Terminal())
    short = terminal.fitted(TEXTS[3], "text")
    assert len(short) == 160
    assert short == " ".join(TEXTS[3].split())[:159] + "…"
    assert terminal.fitted("a/" * 500, "path") == "a/" * 500


def test_a_narrow_console_breaks_ids_and_paths_and_cuts_none(texts, pictures, monkeypatch):
    monkeypatch.setattr(terminal, "PIPE_WIDTH", 70)
    for store, item in ((texts, "q-3"), (pictures, 3)):
        for command in (
            ["suspects", "--margin", 0],
            ["search", "--id", item],
            ["triplets", "head"],
        ):
            printed = call(store, *command)
            assert max(map(len, printed.splitlines()[1:4])) <= 70
            assert "…" not in printed
