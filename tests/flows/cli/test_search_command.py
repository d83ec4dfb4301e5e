"""`remine search` and `remine index`, called in this process."""

import csv
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from remine.data.errors import InputError, StoreError
from remine.flows.cli.main import app
from remine.flows.query.questions import Question, queries_of


@pytest.fixture
def call(cycle_store):
    return caller(cycle_store)


def caller(store):
    def call(*arguments, fails=None):
        process = CliRunner().invoke(app, [*map(str, arguments), "--store", str(store)])
        if fails:
            assert isinstance(process.exception, fails), process.output
            return str(process.exception)
        if process.exception:
            raise process.exception
        return process

    return call


def asked(call, *arguments):
    return json.loads(call("search", *arguments, "--json").stdout)


def test_a_file_of_ids_gives_parquet_as_single_questions_do(call, tmp_path):
    ids = [3, 500, 41]
    np.save(tmp_path / "ids.npy", np.array(ids))
    with (tmp_path / "ids.csv").open("w") as file:
        csv.writer(file).writerows([["id"], *[[i] for i in ids]])
    pq.write_table(pa.table({"id": ids}), tmp_path / "ids.parquet")
    single = [asked(call, "--id", i, "-k", 4)[0] for i in ids]
    for name in ("ids.npy", "ids.csv", "ids.parquet"):
        out = tmp_path / "out.parquet"
        call("search", "--queries", tmp_path / name, "-k", 4, "--out", out)
        table = pq.read_table(out)
        assert table["query"].to_pylist() == np.repeat([0, 1, 2], 4).tolist()
        assert table["rank"].to_pylist() == [1, 2, 3, 4] * 3
        flat = [one for answer in single for one in answer]
        assert table.select(["id", "label", "split"]).to_pylist() == [
            {key: one[key] for key in ("id", "label", "split")} for one in flat
        ]
        assert table["distance"].to_pylist() == pytest.approx([one["distance"] for one in flat])


def test_files_of_pictures_and_vectors(call, tmp_path, glyphs, cycle_store):
    from remine.data import schemas
    from remine.data.store.store import Store

    pictures = pq.read_table(glyphs)["image"].to_pylist()[5:8]
    for place, picture in enumerate(pictures):
        (tmp_path / f"{place}.png").write_bytes(picture)
    store = Store(cycle_store)
    files = store.paths(store.current().artifacts["embeddings"])
    vectors = schemas.read_embeddings(files).vectors[5:8]
    pq.write_table(pa.table({"image": pictures}), tmp_path / "image.parquet")
    paths = [f"{place}.png" for place in range(3)]
    pq.write_table(pa.table({"path": paths}), tmp_path / "path.parquet")
    pq.write_table(pa.table({"vector": (vectors * 3).tolist()}), tmp_path / "vector.parquet")
    np.save(tmp_path / "vector.npy", vectors)
    for name in ("image.parquet", "path.parquet", "vector.parquet", "vector.npy"):
        result = asked(call, "--queries", tmp_path / name, "-k", 1)
        assert [one[0]["distance"] for one in result] == pytest.approx([0, 0, 0], abs=1e-5)


def test_filters_and_explain(call):
    process = call("search", "--id", 3, "--split", "test", "-k", 3, "--explain", "--json")
    assert {one["split"] for one in json.loads(process.stdout)[0]} == {"test"}
    assert "index Flat, 100.00% of the vectors visited" in process.stderr
    assert "items match the filter" in process.stderr


def test_a_page_of_pictures_is_offline_and_escaped(call, tmp_path, glyphs):
    (tmp_path / "q.png").write_bytes(pq.read_table(glyphs)["image"][5].as_py())
    for question in (["--id", 3], ["--image", tmp_path / "q.png"]):
        call("search", *question, "-k", 5, "--out", tmp_path / "sheet.html")
        page = (tmp_path / "sheet.html").read_text()
        assert page.count("data:image/png;base64,") == 6
        for outside in ("http://", "https://", "<script", "<link"):
            assert outside not in page


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2\n", "has none of the columns id, text, path, image, vector"),
        ("id,text\n1,x\n", "has id and text of the columns"),
        ("id\n1.5\n", "line 2: id is '1.5', not a whole number"),
        ("id\n3\n003\n", "line 3: id is '003', not a whole number; one has no zeros in front"),
        ("id\n1\n\n3\n", "line 3: id is missing"),
        (f"id\n{2**63 + 5}\n", f"line 2: id {2**63 + 5} is not between 0 and 2"),
        ("vector\n[1.0]\n", "column 'vector' is string, not lists of numbers"),
        ("id\n999999\n", "no item 999999 in the index"),
        ("text\nhello\n", "line 2: the items are pictures, not texts"),
        ("image\nnone.png\n", "line 2: .*none.png does not exist"),
        ("path\nnone.png\n", "line 2: .*none.png does not exist"),
    ],
)
def test_bad_query_files_are_refused_with_the_row(call, tmp_path, content, message):
    import re

    (tmp_path / "q.csv").write_text(content)
    messages = call("search", "--queries", tmp_path / "q.csv", fails=InputError)
    assert re.search(message, messages)
    assert "\n" not in messages


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("vector", ["[1.0]"], "column 'vector' is string, not lists of numbers"),
        ("vector", [["1.0"]], "column 'vector' is list<element: string>, not lists of numbers"),
        ("vector", [[True]], "column 'vector' is list<element: bool>, not lists of numbers"),
        ("text", [3], "column 'text' is int64, not text"),
        ("image", [3], "column 'image' is int64, not the bytes or the paths of pictures"),
        ("id", ["3"], "row 0: id is string; the ids of these items are integers"),
        ("id", [3.0], "id is double; ids are whole numbers or texts"),
        (
            "id",
            np.array([1, 2**63 + 5], np.uint64),
            f"row 1: id {2**63 + 5} is not between 0 and 2",
        ),
    ],
)
def test_columns_of_another_type_are_one_line(call, tmp_path, name, values, message):
    pq.write_table(pa.table({name: values}), tmp_path / "q.parquet")
    line = call("search", "--queries", tmp_path / "q.parquet", fails=InputError)
    assert message in line
    assert "\n" not in line


def test_ids_in_npy_that_no_item_can_have(call, tmp_path):
    np.save(tmp_path / "q.npy", np.array([2**63 + 5], np.uint64))
    line = call("search", "--queries", tmp_path / "q.npy", fails=InputError)
    assert line.endswith(f"q.npy: row 0: id {2**63 + 5} is not between 0 and 2^63 - 1")


class Texts:
    """Stands in for a snapshot of texts: a query is its text."""

    def text_queries(self, texts, _locate):
        return texts


@pytest.mark.parametrize("quote", ["", '"'])
@pytest.mark.parametrize(
    "texts", [["00003"], ["1.50", "2"], ["1e5"], ["1.50", "word"], ["true"], ["NA", "2020-01-01"]]
)
def test_texts_in_a_csv_are_asked_as_written(tmp_path, quote, texts):
    (tmp_path / "q.csv").write_text("text\n" + "".join(f"{quote}{t}{quote}\n" for t in texts))
    (block,) = queries_of(Texts(), Question(file=tmp_path / "q.csv"))
    assert block == texts


def test_bad_places_are_refused_before_searching(call, tmp_path):
    (tmp_path / "q.txt").touch()
    for arguments, message in [
        (["--queries", tmp_path / "q.txt"], "give a .parquet, .csv or .npy file"),
        (["--queries", tmp_path / "none.csv"], "none.csv does not exist"),
        (["--id", 1, "--out", tmp_path / "a.txt"], "name a file that ends in .parquet"),
        (["--id", 1, "--out", tmp_path / "none" / "a.json"], "none does not exist"),
        (["--id", 1, "--recall", 2], "recall is 2.0"),
        (["--id", 1, "--label", "none"], "no label 'none'"),
        (["--id", "sku-1"], "no item 'sku-1' in the index: ids are 0 to 2^63 - 1"),
        (["--id", 2**63], f"no item '{2**63}' in the index: ids are 0 to 2^63 - 1"),
    ]:
        assert message in call("search", *arguments, fails=InputError)
    assert [p.name for p in tmp_path.iterdir()] == ["q.txt"]


# The index ------------------------------------------------------------------------------------


def test_list_show_and_verify(call):
    listing = call("index", "list").stdout
    assert listing.count("Flat") == 3
    assert "newest, served" in listing
    page_text = call("index", "show", "2").stdout
    assert "every one is compared" in page_text
    assert "for queries like the items (82 held out)" in page_text
    verified = call("index", "verify").stdout
    assert verified.count("ok ") == 4
    assert "recall@10 is 1.0000 for queries like the items, on 821 items" in verified


def test_use_serves_an_older_version_and_changes_nothing_published(own_store):
    call = caller(own_store)
    before = {path: path.read_bytes() for path in (own_store / "versions").iterdir()}
    newest = asked(call, "--id", 3)
    first = asked(call, "--id", 3, "--version", 1)
    assert first != newest
    call("index", "use", "1")
    assert "pinned, served" in call("index", "list").stdout
    assert asked(call, "--id", 3) == first
    call("index", "use", "--newest")
    assert asked(call, "--id", 3) == newest
    assert before == {path: path.read_bytes() for path in (own_store / "versions").iterdir()}
    assert "no version 9" in call("index", "use", "9", fails=InputError)
    assert "--newest" in call("index", "use", fails=InputError)


def test_verify_finds_a_flipped_bit_and_a_card_that_lies(own_store):
    import dataclasses

    from remine.data.store.store import Store

    store = Store(own_store)
    version = store.current()
    index = version.artifacts["index"]
    card = {**index.card, "embeddings": "0" * 64}
    lying = dataclasses.replace(index, card=card)
    store.publish(
        dataclasses.replace(
            version,
            number=version.number + 1,
            parent=version.digest,
            artifacts={**version.artifacts, "index": lying},
        )
    )
    call = caller(own_store)
    assert "the index is of other embeddings" in call("index", "verify", fails=StoreError)
    path = own_store / index.files[0].object
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert "is corrupt" in call("index", "verify", str(version.number), fails=StoreError)


# Triplets -------------------------------------------------------------------------------------


def test_triplets_stats_show_compare_and_export(call, tmp_path):
    result = json.loads(call("triplets", "stats", "--round", "0", "--json").stdout)
    assert f"{result['rows']:,} triplets" in call("triplets", "stats", "--round", "0").stdout
    assert json.loads(call("triplets", "compare", "0", "1", "--json").stdout)["pairs"]["both"]
    assert "in both" in call("triplets", "compare", "0", "1").stdout
    assert "5 U+004C LATIN CAPITAL LETTER L: anchor of" in call("triplets", "show", "5").stdout
    head = call("triplets", "head", "-n", "2", "--kind", "hard", "--sort", "margin").stdout
    assert head.count("hard") == 2
    process = call("triplets", "export", tmp_path / "t.csv", "--kind", "hard", "--round", "0")
    assert f"{result['kinds']['hard']['rows']:,} rows" in process.stdout
    assert "no item 999999" in call("triplets", "show", "999999", fails=InputError)
    assert "round 7 has no triplets" in call("triplets", "compare", "0", "7", fails=InputError)
