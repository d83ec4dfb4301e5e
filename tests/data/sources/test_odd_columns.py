"""Rare layouts of columns give the same values as the plain ones, for `run` and `mine` alike."""

import uuid
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from remine.data.config import DataConfig
from remine.data.errors import InputError
from remine.data.items.source_catalogue import build_catalogue
from remine.data.sources.column_types import common_type, plain_values
from remine.data.sources.labels import Cleaning, spellings
from remine.data.sources.source import open_source
from remine.data.sources.vectors import read_label_column, read_vectors

N = 24
LABELS = [f"c{row // 4}" for row in range(N)]
VECTORS = [[float(row % 7 + 1), 2.0, row / 4] for row in range(N)]


def write(path, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def stored_labels(tmp_path, name="items.parquet"):
    config = DataConfig(source=name)
    catalogue = build_catalogue(open_source(config, tmp_path), config)
    return [catalogue.labels[code] for code in catalogue.label_codes]


LAYOUTS = (
    *(pa.list_, pa.large_list, pa.list_view, pa.large_list_view),
    lambda kind: pa.list_(kind, 3),
)


@pytest.mark.parametrize("make", LAYOUTS)
@pytest.mark.parametrize("number", [pa.float16(), pa.float32(), pa.float64()])
def test_vectors_in_every_layout_of_lists(tmp_path, make, number):
    numbers = [[float(np.float16(x)) for x in row] for row in VECTORS]
    path = write(
        tmp_path / "items.parquet",
        label=LABELS,
        id=list(range(N, 0, -1)),  # another order
        vector=pa.array(numbers, make(number)),
    )
    source = open_source(DataConfig(source="items.parquet"), tmp_path)
    source.metadata()
    blocks = np.concatenate(list(source.blocks(7)))
    assert np.array_equal(blocks, np.array(numbers, np.float32)[::-1])
    mined = read_vectors(path).vectors
    lengths = np.linalg.norm(blocks[::-1], axis=1, keepdims=True)
    assert np.allclose(mined, blocks[::-1] / lengths, atol=1e-6)


def test_missing_lists_of_a_view_stay_missing():
    view = pa.chunked_array([pa.array([[1], None, [], [2, 3]], pa.list_view(pa.int8()))])
    values = plain_values(view)
    values.validate(full=True)
    assert values.to_pylist() == [[1], None, [], [2, 3]]
    assert values.type == pa.large_list(pa.int8())


@pytest.mark.parametrize(("layout", "texts"), [(pa.string_view(), True), (pa.binary_view(), False)])
def test_views_of_texts_and_bytes_are_sorted_by_id(tmp_path, layout, texts):
    values = [f"a text of some length {row}" for row in range(N)]
    column = pa.array(values if texts else [value.encode() for value in values], layout)
    name = "text" if texts else "image"
    write(tmp_path / "items.parquet", id=list(range(N, 0, -1)), label=LABELS, **{name: column})
    source = open_source(DataConfig(source="items.parquet"), tmp_path)
    source.metadata()
    contents = [value for block in source.blocks(7) for value in block]
    assert [c if texts else c.decode() for c in contents] == values[::-1]


@pytest.mark.parametrize("store_schema", [True, False])
def test_uuids_are_labels(tmp_path, store_schema):
    names = [str(uuid.UUID(int=2**100 + row // 4)) for row in range(N)]
    column = pa.array([uuid.UUID(name).bytes for name in names], pa.uuid())
    table = pa.table({"label": column, "vector": VECTORS})
    pq.write_table(table, tmp_path / "items.parquet", store_schema=store_schema)
    assert stored_labels(tmp_path) == names
    assert read_vectors(tmp_path / "items.parquet").labels == names


def test_zero_and_minus_zero_are_one_class(tmp_path):
    for number in (pa.float16(), pa.float32(), pa.float64()):
        values = [(0.0, -0.0, 1.5, -2.0)[row % 4] for row in range(N)]
        write(tmp_path / "items.parquet", label=pa.array(values, number), vector=VECTORS)
        labels = stored_labels(tmp_path)
        assert labels[0] == labels[1]
        assert len(set(labels)) == 3
        assert {float(label) for label in labels} == {0.0, 1.5, -2.0}


def test_decimals_and_lists_of_several_widths_have_a_common_type():
    common = common_type(pa.decimal32(5, 2), pa.decimal128(20, 2))
    assert common == pa.decimal128(20, 2)
    assert common_type(pa.decimal128(20, 2), pa.decimal128(20, 3)) is None
    lists = common_type(pa.list_(pa.string()), pa.large_list(pa.large_string()))
    assert lists == pa.large_list(pa.large_string())
    assert common_type(pa.list_(pa.string()), pa.list_(pa.int8())) is None


def test_mining_reads_folders_as_a_run_does(tmp_path):
    decimals = [Decimal(row // 4) / 4 for row in range(N)]
    half = N // 2
    for name, rows, layout, number in (
        ("set/a.parquet", slice(half), pa.list_(pa.float32()), pa.decimal128(9, 2)),
        ("set/deep/b.pq", slice(half, N), pa.list_view(pa.float32()), pa.decimal128(20, 2)),
    ):
        write(
            tmp_path / name,
            label=pa.array(decimals[rows], number),
            vector=pa.array(VECTORS[rows], layout),
        )
    write(tmp_path / "set/empty.parquet", label=pa.nulls(0), vector=pa.nulls(0))
    (tmp_path / "set/notes.txt").touch()
    file = read_vectors(tmp_path / "set")
    assert file.labels == decimals
    assert file.notes == [f"{tmp_path}/set: passed over 1 .txt"]
    assert [Decimal(label) for label in stored_labels(tmp_path, "set")] == decimals


def test_mining_reads_labels_in_names_of_folders(tmp_path):
    for name, rows in (("a", slice(0, 12)), ("b", slice(12, N))):
        write(tmp_path / f"set/label={name}/0.parquet", vector=VECTORS[rows])
    assert read_vectors(tmp_path / "set").labels == ["a"] * 12 + ["b"] * 12
    assert read_label_column(tmp_path / "set") == ["a"] * 12 + ["b"] * 12


def test_mining_refuses_a_row_by_its_own_file(tmp_path):
    write(tmp_path / "set/a.parquet", label=["a"] * 4, vector=VECTORS[:4])
    write(tmp_path / "set/b.parquet", label=["a", None, "b", "b"], vector=VECTORS[:4])
    with pytest.raises(InputError, match=r"b\.parquet: row 1: label is missing"):
        read_vectors(tmp_path / "set")


def test_cleaned_labels_are_counted_for_run_and_mine(tmp_path):
    labels = [(" a", "a", "b ", "cafe\u0301", "caf\u00e9", "d")[row % 6] for row in range(N)]
    path = write(tmp_path / "items.parquet", label=labels, vector=VECTORS)
    config = DataConfig(source="items.parquet")
    catalogue = build_catalogue(open_source(config, tmp_path), config)
    assert catalogue.cleaning == Cleaning(changed=3, merged=2)
    assert read_vectors(path).cleaning == catalogue.cleaning
    assert catalogue.cleaning.lines() == read_vectors(path).notes
    assert catalogue.cleaning.lines()[0].startswith("labels: 3 spelling(s) are stored without")
    assert not Cleaning.of(["a", "b"]).lines()
    assert spellings([["a", b"b"], ["c"]]) == {"a", "b", "c"}
    assert read_label_column(path) == read_vectors(path).labels
