"""The user's other columns: stored, grown, and carried by every result."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

import remine
from remine.data.store.store import Store
from remine.data.store.views import page_of
from remine.flows.api.source_check import check_source
from remine.flows.cli.main import app
from remine.flows.config.settings import load_config
from remine.flows.cycle.cycle import prepared, run_cycle
from remine.flows.cycle.status import status
from remine.flows.jobs.console import Console
from remine.flows.jobs.job import run_plain
from remine.flows.serving.app import make_app

EXTRA = 'extra_columns = ["url", "price", "new"]'


def run(config_file):
    with prepared(load_config(config_file), run_plain, Console(quiet=True)) as arguments:
        version = run_cycle(*arguments)
        page_of(arguments[0].store, version).touch()


def cli(config_file, *arguments):
    result = CliRunner().invoke(app, [*arguments, "--config", str(config_file)])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def config_file(tmp_path_factory, glyphs, small_config) -> Path:
    """A cycle over glyphs with three more columns, of which two items lack one."""
    folder = tmp_path_factory.mktemp("extra")
    table = pq.read_table(glyphs)
    ids = table["id"].to_pylist()
    table = table.append_column("url", pa.array([f"http://x/{i}" for i in ids]))
    table = table.append_column("price", pa.array([None, None, *(i / 4 for i in ids[2:])]))
    table = table.append_column("new", pa.array([i % 2 == 0 for i in ids]))
    table = table.append_column("tags", pa.array([["a"] for _ in ids]))
    pq.write_table(table, folder / "items.parquet")
    path = folder / "remine.toml"
    config = small_config.replace(str(glyphs), "items.parquet").replace("rounds = 2", "rounds = 1")
    path.write_text(config.replace("[data]", f"[data]\n{EXTRA}"))
    run(path)
    return path


def fields(item_id):
    price = item_id / 4 if item_id > 1 else None
    return {"url": f"http://x/{item_id}", "price": price, "new": item_id % 2 == 0}


def test_searches_carry_them(config_file, tmp_path):
    (neighbours,) = json.loads(cli(config_file, "search", "--id", "3", "--json"))
    assert all({k: one[k] for k in fields(0)} == fields(one["id"]) for one in neighbours)
    out = tmp_path / "out.parquet"
    cli(config_file, "search", "--id", "3", "--out", str(out), "-k", "400")
    rows = pq.read_table(out).to_pylist()
    assert len(rows) == 400
    assert all({k: row[k] for k in fields(0)} == fields(row["id"]) for row in rows)
    assert f"http://x/{neighbours[0]['id']}" in cli(config_file, "search", "--id", "3")
    version = remine.open(config_file.parent / "store")
    found = version.search(id=3, k=2)
    assert found.column_names[-3:] == ["url", "price", "new"]
    assert found.schema.field("price").type == pa.float64()


def test_triplets_and_suspects_carry_them(config_file, tmp_path):
    out = tmp_path / "triplets.csv"
    cli(config_file, "triplets", "export", str(out))
    table = pyarrow.csv.read_csv(out)
    for row in table.slice(0, 50).to_pylist():
        assert row["negative_url"] == f"http://x/{row['negative_id']}"
        assert row["anchor_new"] == (row["anchor_id"] % 2 == 0)
    assert "http://x/" in cli(config_file, "triplets", "head")
    suspects = tmp_path / "suspects.parquet"
    cli(config_file, "suspects", "--out", str(suspects))
    for row in pq.read_table(suspects).to_pylist():
        assert row["url"] == f"http://x/{row['id']}"
        assert (row["other_url"] is None) == (row["other_id"] is None)


def test_http_carries_them(config_file):
    config = load_config(config_file)
    with TestClient(make_app(Store(config.store), base=config.base)) as client:
        answer = client.get("/search", params={"id": 3}).json()
    assert answer["query"]["extra"] == fields(3)
    assert all(one["extra"] == fields(one["id"]) for one in answer["neighbours"])


def test_check_says_what_is_not_read(config_file):
    text = "\n".join(check_source(load_config(config_file)).lines)
    assert "reading    columns not read: tags (data.extra_columns keeps columns)" in text


def test_a_changed_value_is_a_changed_item_with_the_vector_it_had(config_file, tmp_path):
    # A copy, since the other tests read what the fixture made.
    shutil.copytree(config_file.parent, tmp_path / "copy", symlinks=True)
    config_file = tmp_path / "copy" / config_file.name
    store = Store(load_config(config_file).store)
    first = store.version(1)
    path = config_file.parent / "items.parquet"
    table = pq.read_table(path)
    prices = pc.if_else(pc.equal(table["id"], 5), 99.0, table["price"])
    pq.write_table(table.set_column(table.column_names.index("price"), "price", prices), path)
    change = status(load_config(config_file))["stale"]
    assert (change["changed"], change["new"], change["deleted"]) == (1, 0, 0)
    run(config_file)
    second = next(v for v in store.versions() if (v.cycle, v.round) == (2, 0))
    assert second.artifacts["inputs"].files == first.artifacts["inputs"].files
    items = [version.artifacts["items"].files for version in (first, second)]
    assert [a.sha256 != b.sha256 for a, b in zip(*items, strict=True)].count(True) == 1
    shards = store.paths(second.artifacts["items"])[:-1]
    rows = pa.concat_tables([pq.read_table(shard) for shard in shards])
    assert rows.filter(pc.equal(rows["id"], 5))["price"].to_pylist() == [99.0]
