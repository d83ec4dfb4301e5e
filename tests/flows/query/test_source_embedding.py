"""`remine embed`: the vectors of new data, with labels or without, as the store has them."""

import csv

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import remine
from remine.data.errors import InputError
from remine.flows.cli.main import app


def embed(store, source, out, *options: str):
    arguments = ["embed", str(source), "--out", str(out), "--store", str(store), *options]
    process = CliRunner().invoke(app, arguments)
    if process.exception:
        raise process.exception
    return process.output


def vectors_of(path):
    return np.stack(pq.read_table(path)["vector"].to_numpy())


def test_a_source_gets_the_vectors_that_the_store_has(cycle_store, glyphs, tmp_path):
    out = tmp_path / "vectors.parquet"
    output = embed(cycle_store, glyphs, out)
    table, items = pq.read_table(out), pq.read_table(glyphs)
    assert f"wrote {out}: {len(items):,} vectors by version" in output
    assert table.column_names == ["id", "label", "group", "vector"]
    assert table["id"].to_pylist() == items["id"].to_pylist()
    assert table["label"].to_pylist() == items["label"].to_pylist()
    expected = remine.open(cycle_store).embeddings().vectors
    np.testing.assert_allclose(vectors_of(out), expected, atol=1e-5)
    assert [path.name for path in tmp_path.iterdir()] == ["vectors.parquet"]


@pytest.mark.parametrize("kind", ["parquet", "csv", "folder", "classes", "picture"])
def test_labels_and_ids_are_not_needed(cycle_store, glyphs, tmp_path, kind):
    pictures = pq.read_table(glyphs)["image"].to_pylist()[:5]
    paths = [tmp_path / "pictures" / f"{row}.png" for row in range(5)]
    if kind == "classes":
        paths = [
            tmp_path / "pictures" / f"c{row // 3}" / path.name for row, path in enumerate(paths)
        ]
    for path, picture in zip(paths, pictures, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture)
    source = {"folder": tmp_path / "pictures", "classes": tmp_path / "pictures"}.get(kind)
    if kind == "parquet":
        source = tmp_path / "new.parquet"
        pq.write_table(pa.table({"image": pictures}), source)
    elif kind == "csv":
        source = tmp_path / "new.csv"
        with source.open("w") as file:
            csv.writer(file).writerows([["path"], *[[f"pictures/{path.name}"] for path in paths]])
    elif kind == "picture":
        source = paths[0]
    out = tmp_path / "out.parquet"
    embed(cycle_store, source, out)
    table = pq.read_table(out)
    expected = remine.open(cycle_store).embeddings().vectors[: len(table)]
    np.testing.assert_allclose(vectors_of(out), expected, atol=1e-5)
    assert table["id"].to_pylist() == list(range(1 if kind == "picture" else 5))
    assert ("label" in table.column_names) == (kind == "classes")
    if kind != "parquet":
        assert table["path"].to_pylist()[0] == str(paths[0])


def test_what_cannot_be_embedded_is_one_line_and_leaves_nothing(cycle_store, glyphs, tmp_path):
    np.save(tmp_path / "vectors.npy", np.eye(4, dtype=np.float32))
    bad = tmp_path / "bad.parquet"
    pq.write_table(pa.table({"image": [b"no picture"]}), bad)
    for source, message in (
        (tmp_path / "vectors.npy", "the source holds vectors, and the version's encoder reads"),
        (bad, r"bad.parquet: row 0"),
        (tmp_path / "nothing", r"nothing does not exist$"),
    ):
        with pytest.raises(InputError, match=message):
            embed(cycle_store, source, tmp_path / "out.parquet")
    with pytest.raises(InputError, match=r"name a file that ends in \.parquet"):
        embed(cycle_store, glyphs, tmp_path / "out.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.parquet", "vectors.npy"]
