"""Folders of Parquet files: every file is read or counted, and no file's types change a value."""

import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remine.data.config import DataConfig
from remine.data.errors import InputError
from remine.data.sources.column_types import common_type
from remine.data.sources.source import open_source

N = 24
HALF = N // 2


def write(path, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def texts(start=0, n=HALF):
    return [f"text {row}" for row in range(start, start + n)]


def open_set(tmp_path, **settings_):
    return open_source(DataConfig(source="set", **settings_), tmp_path)


def column(tmp_path, name):
    return open_set(tmp_path).metadata()[name].to_pylist()


def test_files_of_any_ending_and_depth_are_read(tmp_path):
    names = ["2023/a/0.parquet", "2023/b.PARQUET", "c.parquet", "d.parq", "e.Pq"]
    for number, name in enumerate(names):
        write(tmp_path / "set" / name, label=[f"c{number}"] * 4, text=texts(4 * number, 4))
    source = open_set(tmp_path)
    assert source.metadata()["label"].to_pylist() == [f"c{i}" for i in range(5) for _ in range(4)]
    assert [text for block in source.blocks(7) for text in block] == texts(0, 20)
    assert source.row_name(5) == f"{tmp_path}/set/2023/b.PARQUET: row 1"
    assert not source.notes


def test_folders_that_are_named_as_files(tmp_path):  # as Spark does
    write(tmp_path / "set/a.parquet/part-0.parquet", label=["a"] * 4, text=texts(0, 4))
    write(tmp_path / "set/b.parquet/part-0.parquet", label=["b"] * 4, text=texts(4, 4))
    assert column(tmp_path, "label") == ["a"] * 4 + ["b"] * 4


@pytest.mark.parametrize("name", ["items.PARQUET", "items.parq", "items.pq"])
def test_a_file_of_any_ending(tmp_path, name):
    write(tmp_path / name, label=["a"] * 4, text=texts(0, 4))
    assert len(open_source(DataConfig(source=name), tmp_path).metadata()) == 4


def test_a_csv_file_in_capitals(tmp_path):
    (tmp_path / "items.CSV").write_text("label,text\n007,b\n")
    table = open_source(DataConfig(source="items.CSV"), tmp_path).metadata()
    assert table["label"].to_pylist() == ["007"]


def test_files_that_are_passed_over_are_counted(tmp_path):
    write(tmp_path / "set/a.parquet", label=["a"] * 4, text=texts(0, 4))
    for name in ("b.csv", "c.csv", "deep/d.jsonl", "NOTES", ".a.parquet.crc", "_tmp/e.parquet"):
        (tmp_path / "set" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "set" / name).touch()
    source = open_set(tmp_path)
    assert source.notes == [
        f"{tmp_path}/set: passed over 2 .csv, 2 hidden, 1 .jsonl, 1 without ending"
    ]
    assert len(source.metadata()) == 4


def test_linked_folders_are_read_once(tmp_path):
    write(tmp_path / "elsewhere/a.parquet", label=["a"] * 4, text=texts(0, 4))
    (tmp_path / "set").mkdir()
    (tmp_path / "set/link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/loop").symlink_to(tmp_path / "set")
    assert len(open_set(tmp_path).metadata()) == 4


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([0] * HALF, ["00"] * HALF),
        ([1] * HALF, [1.0] * HALF),
        ([1.0] * HALF, [1] * HALF),
        ([1] * HALF, [True] * HALF),
        (pa.array([0.1] * HALF, pa.float32()), [0.1] * HALF),
        (["a"] * HALF, [b"a"] * HALF),
    ],
)
def test_labels_of_two_kinds_are_refused(refusal, tmp_path, first, second):
    write(tmp_path / "set/a.parquet", label=first, text=texts())
    write(tmp_path / "set/b.parquet", label=second, text=texts(HALF))
    kinds = [pa.array(values).type for values in (first, second)]
    assert refusal("set") == (
        f"{tmp_path}/set/b.parquet: column 'label' is {kinds[1]}, but in {tmp_path}/set/a.parquet"
        f" it is {kinds[0]}: write it with one type in all files"
    )


@pytest.mark.parametrize("name", ["split", "id", "text", "label"])
@pytest.mark.parametrize("lacking", ["a", "b"])
def test_a_column_that_one_file_lacks(refusal, tmp_path, name, lacking):
    for number, file in enumerate("ab"):
        ids = np.arange(number * HALF, (number + 1) * HALF)
        columns = {"label": texts(), "text": texts(), "split": ["train"] * HALF, "id": ids}
        if file == lacking:
            del columns[name]
        write(tmp_path / f"set/{file}.parquet", **columns)
    present = "b" if lacking == "a" else "a"
    assert refusal("set") == (
        f"{tmp_path}/set/{lacking}.parquet has no column {name!r}, but"
        f" {tmp_path}/set/{present}.parquet has: add it there, or leave it out of all files"
    )


@pytest.mark.parametrize("lacking", ["a", "b"])
def test_groups_of_some_files(tmp_path, lacking):
    for file in "ab":
        groups = {} if file == lacking else {"group": [f"g{row}" for row in range(HALF)]}
        write(tmp_path / f"set/{file}.parquet", label=texts(), text=texts(), **groups)
    names = [f"g{row}" for row in range(HALF)]
    nulls = [None] * HALF
    assert column(tmp_path, "group") == (nulls + names if lacking == "a" else names + nulls)
    assert open_set(tmp_path).notes == [
        "group: 1 of 2 files have no such column; their 12 items are in no group"
    ]


def test_an_empty_first_file_decides_nothing(tmp_path):
    write(tmp_path / "set/a.parquet", label=pa.nulls(0), text=pa.nulls(0))
    write(tmp_path / "set/b.parquet", label=["00"] * 4, text=texts(0, 4), split=["train"] * 4)
    assert column(tmp_path, "label") == ["00"] * 4
    assert column(tmp_path, "split") == ["train"] * 4
    assert open_set(tmp_path).row_name(1) == f"{tmp_path}/set/b.parquet: row 1"


def test_a_first_file_of_null_type_decides_nothing(tmp_path):
    write(tmp_path / "set/a.parquet", label=["a"] * 2, text=texts(0, 2), group=pa.nulls(2))
    write(tmp_path / "set/b.parquet", label=["b"] * 2, text=texts(2, 2), group=["00", "g"])
    assert column(tmp_path, "group") == [None, None, "00", "g"]


def test_integers_and_vectors_of_several_widths(tmp_path):
    write(
        tmp_path / "set/a.parquet",
        label=pa.array([1, -2], pa.int8()),
        vector=pa.array([[1, 2], [3, 4]], pa.list_(pa.int8())),
    )
    write(
        tmp_path / "set/b.parquet",
        label=pa.array([2**40, 7]),
        vector=pa.array([[0.1, 0.2], [0.3, 0.5]], pa.list_(pa.float32(), 2)),
    )
    assert column(tmp_path, "label") == [1, -2, 2**40, 7]
    blocks = list(open_set(tmp_path).blocks(4))
    expected = np.array([[1, 2], [3, 4], [0.1, 0.2], [0.3, 0.5]], np.float32)
    np.testing.assert_array_equal(blocks[0], expected)


def test_text_and_categories_are_both_text(tmp_path):
    kinds = (pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string()))
    for number, kind in enumerate(kinds):
        labels = pa.array([f"0{number}"] * 2).cast(kind)
        write(tmp_path / f"set/{number}.parquet", label=labels, text=texts(0, 2))
    assert column(tmp_path, "label") == ["00", "00", "01", "01", "02", "02"]


TYPES = [
    *(pa.int8(), pa.int64(), pa.uint8(), pa.uint64(), pa.float32(), pa.float64(), pa.bool_()),
    *(pa.string(), pa.large_string(), pa.binary(), pa.large_binary(), pa.null(), pa.date32()),
    *(pa.list_(pa.int8()), pa.list_(pa.float32(), 2), pa.large_list(pa.float64())),
]


@settings(deadline=None)
@given(first=st.sampled_from(TYPES), second=st.sampled_from(TYPES))
def test_a_common_type_changes_no_value(first, second):
    common = common_type(first, second)
    other_order = common_type(second, first)
    assert (common is None) == (other_order is None)
    samples = {
        "int": [0, 1, 100],
        "uint": [0, 1, 100],
        "list": [[1, 2], [3, 4]],
        "large": [[1, 2], [3, 4]],
        "fixed": [[1, 2], [3, 4]],
    }
    for kind in (first, second):
        prefix = next((name for name in samples if str(kind).startswith(name)), "")
        if common is None or not prefix or "string" in str(kind) or "binary" in str(kind):
            continue
        values = pa.array(samples[prefix], kind)
        cast = values.cast(common).to_pylist()
        assert cast == values.to_pylist()
        assert pa.types.is_integer(common) == pa.types.is_integer(kind)


def test_values_in_folder_names(tmp_path):
    for label in ("00", "0", "a%2Fb"):
        for split in ("train", "test"):
            folder = tmp_path / f"set/label={label}/split={split}"
            write(folder / "part-0.parquet", text=texts(0, 2))
    labels = column(tmp_path, "label")
    assert labels == ["0"] * 4 + ["00"] * 4 + ["a/b"] * 4
    assert column(tmp_path, "split") == ["test", "test", "train", "train"] * 3
    before = open_set(tmp_path).fingerprint()
    (tmp_path / "set/label=0").rename(tmp_path / "set/label=1")
    assert open_set(tmp_path).fingerprint() != before


def test_a_missing_value_in_a_folder_name(tmp_path):
    write(tmp_path / "set/group=a/0.parquet", label=["x"], text=["t"])
    write(tmp_path / "set/group=__HIVE_DEFAULT_PARTITION__/0.parquet", label=["x"], text=["t"])
    assert column(tmp_path, "group") == [None, "a"]


def test_a_column_beside_the_same_folder_name(tmp_path):
    write(tmp_path / "set/label=7/0.parquet", label=[7, 7], text=texts(0, 2))
    assert column(tmp_path, "label") == [7, 7]
    write(tmp_path / "set/label=8/0.parquet", label=[8, 7], text=texts(0, 2))
    with pytest.raises(InputError, match=r"label=8/0.parquet: row 1: label is 7, but the folder"):
        column(tmp_path, "label")


@pytest.mark.parametrize("ending", ["csv", "jsonl", "arrow", "npy"])
@pytest.mark.parametrize("folder", ["", "label=a/"])
def test_folder_of_other_tables(refusal, tmp_path, ending, folder):
    for name in "ab":
        path = tmp_path / f"set/{folder}{name}.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    message = refusal("set")
    assert message.startswith(
        f"data.source: {tmp_path}/set holds neither Parquet files nor pictures, but 2 .{ending}:"
    )


@pytest.mark.parametrize("names", [("train-0-of-1", "test-0-of-1"), ("test/0", "train/0")])
def test_splits_in_names_of_files_are_not_ignored_silently(tmp_path, names):
    for name in names:
        write(tmp_path / f"set/{name}.parquet", label=["a"], text=["t"])
    (note,) = open_set(tmp_path).notes
    assert note.startswith("split: names of files (test, train) are not read; add a column split")
    for name in names:
        write(tmp_path / f"set/{name}.parquet", label=["a"], text=["t"], split=["train"])
    assert not open_set(tmp_path).notes


def test_parquet_below_pictures(refusal, tmp_path, picture):
    write(tmp_path / "set/data/a.parquet", label=["a"], text=["t"])
    (tmp_path / "set/logo.png").write_bytes(picture())
    message = refusal("set")
    assert message.startswith(f"class 'data' is empty: no image in {tmp_path}/set/data")
    assert message.endswith(
        f"; to read its 1 Parquet files, name their folder: {tmp_path}/set/data"
    )


def test_only_hidden_files(refusal, tmp_path):
    write(tmp_path / "set/_a.parquet", label=["a"], text=["t"])
    assert "holds neither Parquet files nor pictures, but 1 hidden: name" in refusal("set")


@pytest.mark.parametrize("name", ["broken link", "pipe"])
def test_a_name_of_no_file(refusal, tmp_path, name):
    write(tmp_path / "set/a.parquet", label=["a"], text=["t"])
    path = tmp_path / "set/b.parquet"
    path.symlink_to("gone.parquet") if name == "broken link" else os.mkfifo(path)
    assert refusal("set") == f"{path} is not a file, or a link to nothing: remove it"


def test_two_columns_of_one_name(refusal, tmp_path):
    columns = pa.table([["a"], ["b"], ["t"]], names=["label", "label", "text"])
    pq.write_table(columns, tmp_path / "items.parquet")
    assert refusal("items.parquet") == (
        f"{tmp_path}/items.parquet: two columns have one name: rename one"
    )


def test_a_number_that_would_change(refusal, tmp_path):
    write(tmp_path / "set/a.parquet", label=pa.array([2**63], pa.uint64()), text=["t"])
    write(tmp_path / "set/b.parquet", label=[1], text=["t"])
    assert refusal("set").startswith(
        f"{tmp_path}/set/a.parquet: column 'label' has another type in other files, and a value"
        " that would change: Integer value 9223372036854775808"
    )


def test_delta_table(refusal, tmp_path):
    write(tmp_path / "set/a.parquet", label=["a"], text=["t"])
    (tmp_path / "set/_delta_log").mkdir()
    assert refusal("set").startswith(f"{tmp_path}/set is a Delta table")


@pytest.mark.parametrize("name", ["validation", "valid", "dev"])
@pytest.mark.parametrize("file", ["items.parquet", "items.csv"])
def test_other_names_of_val(lay_down, tmp_path, table, labels, name, file):
    splits = ["train"] * 12 + [name] * 4 + ["test"] * 8
    path = table(file, label=labels, split=splits, text=labels)
    layout = lay_down(path)
    assert layout.table["split"].to_pylist() == ["train"] * 12 + ["val"] * 4 + ["test"] * 8
    source = open_source(DataConfig(source=file), tmp_path)
    source.metadata()
    source.metadata()
    assert source.notes == [f"split: {name!r} is read as val (4 items)"]


def test_two_names_of_val(refusal, table, labels):
    path = table(split=["train"] * 12 + ["val"] * 3 + ["dev"] + ["test"] * 8, text=labels)
    assert refusal(path) == (
        f"{path}: row 15: split is 'dev'; known: train, val, test, unknown"
        " (of val, validation, valid, dev the data may have one, which is val)"
    )
