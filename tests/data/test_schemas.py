"""Parquet files: what is written reads back, by us and by others, and is always the same bytes."""

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remine.data import schemas
from remine.data.errors import StoreError
from remine.data.types import Embeddings, Triplets


def embeddings(n: int, d: int = 5, start: int = 0) -> Embeddings:
    rng = np.random.default_rng(start)
    return Embeddings(
        ids=np.arange(start, start + n),
        label_codes=rng.integers(0, 9, n).astype(np.int32),
        vectors=rng.normal(size=(n, d)).astype(np.float32),
    )


def triplets(kinds: list[int]) -> Triplets:
    t = len(kinds)
    rng = np.random.default_rng(t)
    ids = rng.integers(0, 2**62, (3, t))
    distances = rng.uniform(0, 4, (2, t)).astype(np.float32)
    return Triplets(
        anchor_id=ids[0],
        positive_id=ids[1],
        negative_id=ids[2],
        d_ap=distances[0],
        d_an=distances[1],
        kind=np.array(kinds, np.int8),
        negative_rank=rng.integers(0, 2**31 - 1, t).astype(np.int32),
    )


def assert_same(left, right) -> None:
    assert vars(left).keys() == vars(right).keys()
    for name, array in vars(left).items():
        np.testing.assert_array_equal(array, getattr(right, name))


@pytest.fixture
def write(tmp_path):
    def run(name: str, table: pa.Table, schema: str, **provenance: Any) -> Path:
        schemas.write(table, tmp_path / name, schema=schema, provenance=provenance)
        return tmp_path / name

    return run


def test_embeddings_round_trip(write):
    parts = [embeddings(7), embeddings(1, start=7), embeddings(70_000, d=5, start=8)]
    paths = [
        write(f"{i}.parquet", schemas.embeddings_table(part), "embeddings/1")
        for i, part in enumerate(parts)
    ]
    names = ("ids", "label_codes", "vectors")
    complete = {name: np.concatenate([getattr(p, name) for p in parts]) for name in names}
    assert_same(schemas.read_embeddings(paths), Embeddings(**complete))
    kind = pq.read_schema(paths[0]).field("vector").type
    assert (kind.list_size, kind.value_type) == (5, pa.float32())
    assert not kind.value_field.nullable


@pytest.mark.parametrize("kinds", [[], [2], [0, 1, 2, 1, 0], [1] * 200, [2, 0] * 40_000])
def test_triplets_round_trip(write, kinds):
    output = triplets(kinds)
    path = write("t.parquet", schemas.triplets_table(output), "triplets/1")
    table = schemas.read([path], schema="triplets/1")
    assert table.schema.names == schemas.TRIPLETS.names
    assert_same(schemas.triplets_from(table), output)


def test_triplets_of_shards_with_different_kinds(write):
    parts = [triplets(kinds) for kinds in ([2, 2], [], [0], [1, 0, 2])]
    paths = [
        write(f"{i}.parquet", schemas.triplets_table(part), "triplets/1")
        for i, part in enumerate(parts)
    ]
    table = schemas.read(paths, schema="triplets/1")
    assert_same(schemas.triplets_from(table), Triplets.concatenate(parts))


@settings(deadline=None)
@given(st.lists(st.integers(0, 2), max_size=20), st.randoms(use_true_random=False))
def test_triplets_from_columns_in_any_order(kinds, random):
    table = schemas.triplets_table(triplets(kinds))
    columns = random.sample(schemas.TRIPLETS.names, len(schemas.TRIPLETS.names))
    assert_same(schemas.triplets_from(table.select(columns)), triplets(kinds))


def test_triplets_whose_kinds_are_coded_in_another_order():
    # As other writers do it: by first appearance.
    table = schemas.triplets_table(triplets([2, 0, 2]))
    kinds = pa.array(["easy", "hard", "easy"]).dictionary_encode()
    table = table.set_column(5, "kind", kinds)
    assert schemas.triplets_from(table).kind.tolist() == [2, 0, 2]


def test_some_columns_of_some_files(write):
    path = write("e.parquet", schemas.embeddings_table(embeddings(4)), "embeddings/1")
    table = schemas.read([path, path], schema="embeddings/1", columns=["label_code", "id"])
    assert table.schema.names == ["label_code", "id"]
    assert table["id"].to_pylist() == [0, 1, 2, 3] * 2


def test_provenance_is_kept(write):
    path = write(
        "t.parquet", schemas.triplets_table(triplets([0])), "triplets/1", seed=7, index="a"
    )
    note = {"schema": "triplets/1", "seed": 7, "index": "a"}
    assert schemas.check(path, schema="triplets/1") == note


def test_another_schema_is_refused(write, tmp_path):
    path = write("t.parquet", schemas.triplets_table(triplets([0])), "triplets/1")
    for schema in ("triplets/2", "embeddings/1"):
        with pytest.raises(StoreError, match=rf"t\.parquet holds triplets/1, not {schema}"):
            schemas.read([path], schema=schema)
    with pytest.raises(StoreError, match="holds triplets/1, not embeddings/1"):
        schemas.read_embeddings([path])
    pq.write_table(pa.table({"id": [1]}), tmp_path / "plain.parquet")
    with pytest.raises(StoreError, match=r"plain\.parquet holds no remine schema"):
        schemas.check(tmp_path / "plain.parquet", schema="triplets/1")


@pytest.mark.parametrize(
    ("table", "schema"),
    [
        (schemas.triplets_table(triplets([0, 1, 2] * 1000)), "triplets/1"),
        (schemas.embeddings_table(embeddings(1000)), "embeddings/1"),
    ],
    ids=["triplets", "embeddings"],
)
def test_the_same_rows_are_the_same_bytes(write, table, schema):
    first = write("first.parquet", table, schema, b=1, a=2).read_bytes()
    # Neither the name of the file nor the order of the notes matters, nor how memory is cut up.
    cut = pa.concat_tables([table.slice(0, 10), table.slice(10)])
    assert write("second.parquet", cut, schema, a=2, b=1).read_bytes() == first
    assert write("third.parquet", table, schema, a=2, b=3).read_bytes() != first


def test_triplets_are_small(write):
    rng = np.random.default_rng(0)
    t = 30_000
    output = triplets([0, 1, 2] * 10_000)
    ids = {name: rng.integers(0, t, t) for name in ("positive_id", "negative_id")}
    ranks = rng.integers(0, 100, t).astype(np.int32)
    anchors = np.arange(t) // 5
    output = Triplets(**{**vars(output), **ids, "anchor_id": anchors, "negative_rank": ranks})
    path = write("t.parquet", schemas.triplets_table(output), "triplets/1")
    assert path.stat().st_size / t < 12.5  # 23.6 as pyarrow writes by default
    columns = pq.read_metadata(path).row_group(0).to_dict()["columns"]
    encodings = {column["path_in_schema"]: column["encodings"] for column in columns}
    assert "RLE_DICTIONARY" in encodings.pop("kind")
    assert all("BYTE_STREAM_SPLIT" in kinds for kinds in encodings.values())


def test_pandas_and_duckdb_read_it(write):
    output = triplets([2, 0, 1])
    path = write("t.parquet", schemas.triplets_table(output), "triplets/1")
    frame = pd.read_parquet(path)
    assert frame["kind"].tolist() == ["easy", "hard", "semi_hard"]
    assert frame["anchor_id"].tolist() == output.anchor_id.tolist()
    rows = duckdb.sql(f"SELECT kind, negative_rank FROM '{path}'").fetchall()
    assert rows == list(zip(frame["kind"], output.negative_rank.tolist(), strict=True))


@pytest.mark.parametrize("content", ["image", "path", "text", "vector"])
def test_items_schema_names_the_content(content):
    schema = schemas.items_schema(content)
    head = ["id", "label", "label_code", "split", "group", "content_hash"]
    assert schema.names == head + ([] if content == "vector" else [content])
    assert [name for name in schema.names if schema.field(name).nullable] == ["group"]
