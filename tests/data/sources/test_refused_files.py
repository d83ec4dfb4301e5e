"""What is wrong with users' files and columns is said in one line, and leaves no trace.

The fixture `refused` checks the one line and the traces; here stands what the line must say.
"""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

N = 24


def test_no_label_column(refusal, table, labels):
    path = table(label=None, kind=labels, text=labels)
    expected = f"{path} has no column 'label'; it has kind, text (name yours: data.columns.label)"
    assert refusal(path) == expected


def test_column_whose_name_is_no_utf8(refusal, table, labels):
    path = table(text=labels, zzqq=labels)
    pq.write_table(pq.read_table(path), path, store_schema=False)
    content = path.read_bytes()
    assert b"zzqq" in content
    path.write_bytes(content.replace(b"zzqq", b"\xa0\xa1zq"))
    assert refusal(path) == f"{path}: a column's name is not UTF-8"


def test_named_column_that_is_not_there(refusal, table, labels):
    path = table(text=labels)
    message = refusal(path, columns={"label": "kind"})
    assert message == f"{path} has no column 'kind' (data.columns.label)"


@pytest.mark.parametrize(
    ("columns", "found"), [((), "none"), (("image", "text"), "image and text")]
)
def test_none_or_two_content_columns(refusal, table, labels, columns, found):
    path = table(**dict.fromkeys(columns, labels))
    assert refusal(path).startswith(f"{path} has {found} of the columns image, path, text, vector")


@pytest.mark.parametrize(
    ("column", "values", "kind"),
    [
        ("text", list(range(N)), "int64, not text"),
        ("path", list(range(N)), "int64, not text"),
        ("image", list(range(N)), "int64, not the bytes or the paths of pictures"),
        ("image", [{"path": "x"}] * N, "struct<path: string>, not the bytes or the paths of"),
        ("vector", ["[1, 2]"] * N, "string, not lists of numbers"),
        ("vector", [["a"]] * N, "list<element: string>, not lists of numbers"),
    ],
)
def test_content_of_another_type(refusal, table, column, values, kind):
    path = table(**{column: values})
    assert refusal(path).startswith(f"{path}: column '{column}' is {kind}")


@pytest.mark.parametrize("column", ["label", "split", "group"])
@pytest.mark.parametrize("value", [["a"], {"a": 1}, b"\xff\xfe"])
def test_who_is_who_that_is_no_text(refusal, table, labels, column, value):
    path = table(**{column: [value] * N}, text=labels)
    message = refusal(path)
    assert message.startswith(f"{path}: {column} is ")
    assert message.endswith("which cannot be read as text; make it UTF-8 text")


def bytes_as_text(row: int) -> pa.Array:
    """A column that says it is text; `row` holds no UTF-8."""
    names = [b"\xff" if i == row else f"{i % 3}".encode() for i in range(N)]
    return pa.array(names, pa.binary()).cast(pa.string(), safe=False)


@pytest.mark.parametrize("column", ["label", "split", "group"])
def test_who_is_who_in_bytes_that_are_no_text(refusal, table, labels, column):
    path = table(**{column: bytes_as_text(5)}, text=labels)
    message = refusal(path)
    assert message == f"{path}: {column} is string which cannot be read as text; make it UTF-8 text"


@pytest.mark.parametrize("column", ["path", "text"])
def test_contents_in_bytes_that_are_no_text(refusal, table, column):
    path = table(**{column: bytes_as_text(5)})
    assert refusal(path) == f"{path}: row 5: {column} is not UTF-8"


@pytest.mark.parametrize("name", [b"\xff/0.png", b"a/\xff.png"])
def test_picture_whose_name_is_no_utf8(refusal, tmp_path, picture, name):
    for folder in (b"pics/a/0.png", b"pics/" + name):
        place = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + folder))
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(picture())
    page_text = name.decode(errors="backslashreplace")
    assert refusal("pics") == f"{tmp_path}/pics/{page_text}: its name is not UTF-8; rename it"


def test_complex_labels(refusal, tmp_path):
    np.save(tmp_path / "vectors.npy", np.ones((N, 2)))
    np.save(tmp_path / "labels.npy", np.ones(N, np.complex64))
    message = refusal("vectors.npy", labels="labels.npy")
    assert message.startswith(f"{tmp_path}/labels.npy holds complex64")


def test_second_file_of_another_type(refusal, table, picture, tmp_path):
    table("set/0.parquet", image=[picture()] * N)
    table("set/1.parquet", image=list(range(N)))
    assert refusal("set") == (
        f"{tmp_path}/set/1.parquet: column 'image' is int64, but in {tmp_path}/set/0.parquet it is"
        " binary: write it with one type in all files"
    )


@pytest.mark.parametrize(
    "names",
    [
        ("train", "valid", "dev", "test"),
        ("train", "valid", "cat", "test"),
        ("train", "cat"),
        ("test", "cat"),
        ("test", "dev"),
    ],
)
def test_folders_that_are_half_splits(refusal, picture, tmp_path, names):
    for name in names:
        (tmp_path / "set" / name / "a").mkdir(parents=True)
        (tmp_path / "set" / name / "a" / "0.png").write_bytes(picture())
    classes = ", ".join(sorted({*names} - {"train", "test"}))
    assert f" beside {classes}: name splits" in refusal("set")


@pytest.mark.parametrize("name", ["items.parquet", "items.csv", "vectors.npy"])
@pytest.mark.parametrize("content", [b"", b"PAR1 nonsense\nof,\xff\xfe,three\nlines\n"])
def test_file_that_is_not_what_it_is_called(refusal, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    (tmp_path / "labels.txt").write_text("a\nb\n")
    assert refusal(name, labels="labels.txt").startswith(f"{tmp_path}/{name}")


def test_corrupt_page(refusal, table):
    texts = [f"text {row}" for row in range(N)]
    path = table(text=texts)
    pq.write_table(pq.read_table(path), path, use_dictionary=False, compression="zstd")
    content = bytearray(path.read_bytes())
    page = pq.read_metadata(path).row_group(0).column(1)
    start = page.data_page_offset
    content[start + 30 : start + page.total_compressed_size] = bytes(
        page.total_compressed_size - 30
    )
    path.write_bytes(bytes(content))
    assert refusal(path).startswith(f"{path}: ")


def test_csv_with_a_row_too_long(refusal, tmp_path):
    (tmp_path / "items.csv").write_text('label,text\na,b\n"a\nb",c,d\n')
    expected = f"{tmp_path}/items.csv: line 3: 3 field(s), but the header has 2"
    assert refusal("items.csv").startswith(expected)


def test_source_that_is_nothing(refusal, tmp_path):
    assert refusal("gone.csv") == f"data.source: {tmp_path}/gone.csv does not exist"
    (tmp_path / "some.txt").touch()
    message = refusal("some.txt")
    assert (
        message
        == f"data.source: {tmp_path}/some.txt is not a Parquet, CSV or .npy file, nor a folder"
    )


def test_no_items(refusal, table):
    path = table(label=pa.array([], pa.string()), text=pa.array([], pa.string()))
    assert refusal(path) == f"data.source: {path} holds no items"


@pytest.mark.parametrize("above", ["", "train/"])
def test_empty_class_folder(refusal, tmp_path, picture, above):
    for name in "ab":
        (tmp_path / "set" / above / name).mkdir(parents=True)
        (tmp_path / "set" / above / name / "1.png").write_bytes(picture())
    (tmp_path / "set" / above / "void").mkdir()
    (tmp_path / "set" / above / "void/.1.png").write_bytes(picture())
    expected = f"class 'void' is empty: no image in {tmp_path}/set/{above}void, only 1 hidden"
    assert refusal("set") == expected


def test_folder_without_classes(refusal, tmp_path, picture):
    (tmp_path / "set").mkdir()
    (tmp_path / "set/1.png").write_bytes(picture())
    assert refusal("set").startswith(f"{tmp_path}/set holds no folders")


def test_vectors_without_labels(refusal, tmp_path):
    np.save(tmp_path / "vectors.npy", np.ones((N, 2)))
    assert refusal("vectors.npy").startswith(f"{tmp_path}/vectors.npy has no labels: name")
    message = refusal("vectors.npy", labels="gone.txt")
    assert message == f"data.labels: {tmp_path}/gone.txt does not exist"


@pytest.mark.parametrize("name", ["labels.txt", "labels.npy"])
@pytest.mark.parametrize("count", [0, N - 1, N + 1])
def test_labels_of_another_length(refusal, tmp_path, name, count):
    np.save(tmp_path / "vectors.npy", np.ones((N, 2)))
    if name == "labels.npy":
        np.save(tmp_path / name, np.arange(count))
    else:
        (tmp_path / name).write_text("a label\n" * count)
    message = refusal("vectors.npy", labels=name)
    assert message == f"{tmp_path}/{name} has {count} labels for {N} vectors"


@pytest.mark.parametrize("name", ["labels.txt", "labels.npy"])
def test_missing_label_in_a_file_of_labels(refusal, tmp_path, name):
    np.save(tmp_path / "vectors.npy", np.ones((N, 2)))
    if name == "labels.npy":
        np.save(tmp_path / name, np.array([1.0] * 20 + [np.nan] * 4))
    else:
        (tmp_path / name).write_text("a\n" * 20 + "\n" * 4)
    message = refusal("vectors.npy", labels=name)
    place = "vectors.npy: row 20" if name == "labels.npy" else "labels.txt: line 21"
    assert message == f"{tmp_path}/{place}: label is missing"


@pytest.mark.parametrize("content", [b"\xff\xfe\n" * N, None])
def test_labels_that_are_no_text(refusal, tmp_path, content):
    np.save(tmp_path / "vectors.npy", np.ones((N, 2)))
    labels = tmp_path / "labels.txt"
    labels.mkdir() if content is None else labels.write_bytes(content)
    assert refusal("vectors.npy", labels="labels.txt").startswith(f"{labels}: ")


@pytest.mark.parametrize("vectors", [np.ones(N), np.ones((N, 2, 2)), np.full((N, 2), "a")])
def test_npy_that_is_no_matrix_of_numbers(refusal, tmp_path, vectors):
    np.save(tmp_path / "vectors.npy", vectors)
    (tmp_path / "labels.txt").write_text("a\n" * N)
    message = refusal("vectors.npy", labels="labels.txt")
    assert message.startswith(f"{tmp_path}/vectors.npy holds {vectors.dtype} {vectors.shape}, not")


def test_npz_under_another_name(refusal, tmp_path):
    with (tmp_path / "vectors.npy").open("wb") as file:
        np.savez(file, a=np.ones((N, 2)), b=np.ones(N))
    (tmp_path / "labels.txt").write_text("a\n" * N)
    assert "holds several arrays" in refusal("vectors.npy", labels="labels.txt")


# The task -------------------------------------------------------------------------------------


def test_no_test_classes(refusal, table, labels):
    path = table(split=["train"] * 20 + ["val"] * 4, text=labels)
    assert refusal(path).startswith(f"{path}: no test classes: no item has the split `test`")


def test_one_training_class(refusal, table, labels):
    path = table(split=["train"] * 2 + ["test"] * 22, text=labels)
    assert refusal(path).startswith(f"{path}: 1 of 12 classes are for training: triplets need two")


def test_one_class(refusal, table, labels):
    path = table(label=["a"] * N, text=labels)
    assert refusal(path).startswith(f"{path}: 0 of 1 classes are for training: triplets need two")


def test_no_class_with_two_items(refusal, table, labels):
    path = table(label=[f"class {row}" for row in range(N)], text=labels)
    assert refusal(path) == f"{path}: no training class has two items, so there is no pair"


def test_no_test_class_with_two_items(refusal, table, labels):
    splits = ["train"] * 20 + ["test"] * 4
    path = table(label=[*labels[:20], "w", "x", "y", "z"], split=splits, text=labels)
    expected = "no test class has two items, so retrieval cannot be measured"
    assert refusal(path) == f"{path}: {expected}"


def test_no_training_class_with_two_items(refusal, table, labels):
    splits = ["train", "test"] * 12  # two items a class, but only one of them to train on
    path = table(split=splits, text=labels)
    assert refusal(path) == f"{path}: no training class has two items, so there is no pair"


@pytest.mark.parametrize("column", ["label", "text"])
def test_damage_that_makes_a_column_shorter(refusal, table, labels, column):
    """Arrow believes a page's header, and reads less than the file's footer says, in silence."""
    path = table(text=labels)
    pq.write_table(pq.read_table(path), path, use_dictionary=False, compression="none")
    group = pq.ParquetFile(path).metadata.row_group(0)
    columns = {group.column(i).path_in_schema: group.column(i) for i in range(2)}
    raw = bytearray(path.read_bytes())
    place = raw.index(bytes([0x15, 2 * N]), columns[column].data_page_offset)  # its count of values
    raw[place + 1] = 2 * (N - 4)
    path.write_bytes(raw)
    assert len(pq.read_table(path, columns=[column])) == N - 4
    message = f"{path}: {column} gives {N - 4} of {N} rows: it is damaged"
    assert refusal(path) == message
