"""A store whose ids are texts: they are what is asked with and what is answered, everywhere."""

import csv
import json

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import remine
from remine.data.errors import InputError
from remine.flows.cli.main import app
from remine.flows.query.triplets import ROLES

ITEM = 41


@pytest.fixture(scope="module")
def numbered(cycle_store):
    return remine.open(cycle_store)


@pytest.fixture(scope="module")
def keyed(keyed_store):
    return remine.open(keyed_store)


@pytest.fixture
def call(keyed_store):
    def call(*arguments, fails=False):
        arguments = [*map(str, arguments), "--store", str(keyed_store)]
        process = CliRunner().invoke(app, arguments, env={"COLUMNS": "400"})
        if fails:
            assert isinstance(process.exception, InputError), process.output
            assert "\n" not in str(process.exception)
            return str(process.exception)
        if process.exception:
            raise process.exception
        return process.stdout

    return call


def with_keys(table: pa.Table, keys) -> list[dict]:
    """The rows of a table with the text of each id."""
    names = [name for name in table.column_names if name == "id" or name.endswith("_id")]
    return [{**row, **{name: keys(row[name]) for name in names}} for row in table.to_pylist()]


def test_the_kind_of_ids_changes_no_result(numbered, keyed, keys):
    a, b = numbered.embeddings(), keyed.embeddings()
    assert b.ids.tolist() == [keys(number) for number in a.ids.tolist()]
    np.testing.assert_array_equal(a.vectors, b.vectors)
    assert a.labels.tolist() == b.labels.tolist()
    triplets = keyed.triplets()
    assert triplets.schema.field("anchor_id").type == pa.string()
    assert triplets.to_pylist() == with_keys(numbered.triplets(), keys)


def test_search_from_python(numbered, keyed, keys):
    expected = with_keys(numbered.search(id=[ITEM, 3], k=4), keys)
    assert keyed.search(id=[keys(ITEM), keys(3)], k=4).to_pylist() == expected
    assert keyed.search(id=np.array([keys(ITEM), keys(3)]), k=4).to_pylist() == expected
    assert keyed.search(id=keys(ITEM), k=4).to_pylist() == expected[:4]
    for wrong, message in (
        (keys(10**6), "no item 'shop-1/ü 1000000"),
        (ITEM, "no item 41 in the index: its ids are texts"),
        ("", "no item ''"),
        (keys(ITEM) + " ", "no item"),
    ):
        with pytest.raises(InputError, match=message):
            keyed.search(id=wrong)


def test_search_by_one_id_on_the_command_line(call, numbered, keys, tmp_path):
    expected = with_keys(numbered.search(id=ITEM, k=4), keys)
    (answer,) = json.loads(call("search", "--id", keys(ITEM), "-k", 4, "--json"))
    assert [one["id"] for one in answer] == [row["id"] for row in expected]
    table = call("search", "--id", keys(ITEM), "-k", 4)
    assert all(row["id"] in table for row in expected)
    call("search", "--id", keys(ITEM), "-k", 4, "--out", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert page.count('title="id shop-') == 5
    assert "<b>%2F" not in page  # escaped
    assert call("search", "--id", "41", fails=True) == "no item '41' in the index"


def test_search_by_a_file_of_ids(call, numbered, keys, tmp_path):
    numbers = [ITEM, 500, ITEM, 3]
    ids = [keys(number) for number in numbers]
    expected = with_keys(numbered.search(id=numbers, k=3), keys)
    np.save(tmp_path / "q.npy", np.array(ids))
    pq.write_table(pa.table({"id": ids}), tmp_path / "q.parquet")
    with (tmp_path / "q.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id"], *[[one] for one in ids]])
    for name in ("q.npy", "q.parquet", "q.csv"):
        call("search", "--queries", tmp_path / name, "-k", 3, "--out", tmp_path / "out.parquet")
        assert pq.read_table(tmp_path / "out.parquet").to_pylist() == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id\n7\n", "line 2: no item '7' in the index"),
        ("id\n{}\n\n", "line 3: id is missing"),
        ("id\n{}\n{} \n", "line 3: no item"),
    ],
)
def test_a_file_with_an_unknown_id_names_the_line(call, keys, tmp_path, content, message):
    quoted = '"' + keys(1).replace('"', '""') + '"'
    (tmp_path / "q.csv").write_text(
        content.replace("{} ", quoted[:-1] + ' "').replace("{}", quoted)
    )
    assert message in call("search", "--queries", tmp_path / "q.csv", fails=True)


def test_numbers_in_a_file_of_ids_are_refused(call, tmp_path):
    pq.write_table(pa.table({"id": [3]}), tmp_path / "q.parquet")
    np.save(tmp_path / "q.npy", np.array([3]))
    for name in ("q.parquet", "q.npy"):
        message = call("search", "--queries", tmp_path / name, fails=True)
        assert message.endswith(f"{name}: row 0: id is int64; the ids of these items are texts")


def test_triplets_on_the_command_line(call, keyed):
    first = keyed.triplets(round=0)[0:1].to_pylist()[0]
    head = call("triplets", "head", "-n", 1, "--round", 0)
    stats = json.loads(call("triplets", "stats", "--json", "--round", 0))
    negatives = pd.Series(keyed.triplets(round=0)["negative_id"].to_pylist()).value_counts()
    assert [hub["count"] for hub in stats["hubs"]] == negatives.head(10).tolist()
    assert all(negatives[hub["id"]] == hub["count"] for hub in stats["hubs"])
    assert stats["hubs"][0]["id"][:8] in call("triplets", "stats", "--round", 0)
    for role in ROLES:
        assert first[f"{role}_id"][:8] in head
    shown = call("triplets", "show", first["anchor_id"], "--round", 0)
    assert shown.startswith(f"{first['anchor_id']} ")
    count = sum(row["anchor_id"] == first["anchor_id"] for row in keyed.triplets(0).to_pylist())
    assert f"anchor of {count:,}" in " ".join(shown.split())
    assert "no item '5' in version" in call("triplets", "show", "5", fails=True)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_plain_export_has_the_ids_of_the_data(call, keyed, tmp_path, suffix):
    out = tmp_path / f"t{suffix}"
    call("triplets", "export", out, "--round", 0)
    frame = {
        ".csv": pd.read_csv,
        ".jsonl": lambda path: pd.read_json(path, lines=True),
        ".parquet": pd.read_parquet,
    }[suffix](out)
    expected = keyed.triplets(round=0)
    for role in ROLES:
        assert frame[f"{role}_id"].tolist() == expected[f"{role}_id"].to_pylist()


def test_indices_are_exported_with_the_ids_that_they_stand_for(call, keyed, tmp_path):
    call("triplets", "export", tmp_path / "t.npz", "--layout", "indices", "--round", 0)
    with np.load(tmp_path / "t.npz") as arrays:
        for role in ROLES:
            ids = arrays["keys"][arrays[f"{role}s"]].tolist()
            assert ids == keyed.triplets(round=0)[f"{role}_id"].to_pylist()


def test_contents_are_exported_by_number(call, keyed, glyphs, keys, tmp_path):
    pictures = dict(
        zip(
            pq.read_table(glyphs)["id"].to_pylist(),
            pq.read_table(glyphs)["image"].to_pylist(),
            strict=True,
        )
    )
    by_key = {keys(number): picture for number, picture in pictures.items()}
    call("triplets", "export", tmp_path / "t.parquet", "--layout", "triplet", "--round", 0)
    anchors = pq.read_table(tmp_path / "t.parquet")["anchor"].to_pylist()[:50]
    ids = keyed.triplets(round=0)["anchor_id"].to_pylist()[:50]
    assert [one["bytes"] for one in anchors] == [by_key[one] for one in ids]


def test_suspects(cycle_store, keyed_store, keys, tmp_path):
    tables = []
    for number, store in enumerate((cycle_store, keyed_store)):
        out = tmp_path / f"{number}.parquet"
        arguments = ["suspects", "--margin", "0", "--store", str(store), "--out", str(out)]
        process = CliRunner().invoke(app, arguments, env={"COLUMNS": "400"})
        assert process.exit_code == 0, process.output
        tables.append(pq.read_table(out))
    plain, table = tables
    assert len(table) == len(plain) > 0
    assert table["id"].to_pylist() == [keys(number) for number in plain["id"].to_pylist()]
    others = [None if n is None else keys(n) for n in plain["other_id"].to_pylist()]
    assert table["other_id"].to_pylist() == others
    assert table["id"][0].as_py()[:9] in process.stdout
    arguments[-1] = str(tmp_path / "page.html")
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert 'title="id shop-' in (tmp_path / "page.html").read_text()


def test_the_page_of_the_cycle_names_the_ids_of_the_data(keyed_store):
    from remine.data.store.store import Store
    from remine.flows.report.cycle_page import write_report

    store = Store(keyed_store)
    page = write_report(store, store.current()).read_text()
    assert 'title="id shop-' in page


def test_verify_and_status(call, keyed_store):
    assert "ok  the index belongs" in call("index", "verify")
    assert (
        "821 items"
        in CliRunner()
        .invoke(app, ["status", "--config", str(keyed_store.parent / "remine.toml")])
        .stdout
    )


def test_the_files_of_a_store_join_in_one_query(keyed, keyed_store):
    latest = keyed_store / "latest"
    joins = " ".join(
        f"JOIN '{latest}/items/*.parquet' {role} ON {role}.id = {role}_id" for role in ROLES
    )
    sql = (
        f"SELECT anchor.key, positive.key, negative.key FROM '{latest}/triplets/round=1/*.parquet'"
    )
    rows = duckdb.sql(f"{sql} {joins}").fetchall()
    expected = [tuple(row[f"{role}_id"] for role in ROLES) for row in keyed.triplets(1).to_pylist()]
    assert sorted(rows) == sorted(expected)
    items = pd.concat(map(pd.read_parquet, sorted((latest / "items").glob("*.parquet"))))
    triplets = pd.concat(
        map(pd.read_parquet, sorted((latest / "triplets" / "round=1").glob("*.parquet")))
    )
    anchors = triplets["anchor_id"].map(items.set_index("id")["key"])
    assert anchors.tolist() == [row[0] for row in expected]
