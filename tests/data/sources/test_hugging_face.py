"""Parquet of Hugging Face data sets: names of classes, pictures by path."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from remine.data.config import DataConfig
from remine.data.sources.source import open_source

N = 24
PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def write(path, features, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    content = pa.table(columns)
    metadata = json.dumps({"info": {"features": features}})
    pq.write_table(content.replace_schema_metadata({"huggingface": metadata}), path)
    return path


def class_label(*names):
    return {"names": list(names), "_type": "ClassLabel"}


def test_names_of_classes(lay_down, tmp_path):
    names = [f"class {letter}" for letter in "lkjihgfedcba"]
    path = write(
        tmp_path / "items.parquet",
        {"label": class_label(*names), "text": {"dtype": "string", "_type": "Value"}},
        label=[row // 2 for row in range(N)],
        text=[f"text {row}" for row in range(N)],
    )
    assert lay_down(path).labels == [names[row // 2] for row in range(N)]
    assert open_source(DataConfig(source=str(path)), tmp_path).notes == [
        "label: numbers are read as the 12 names in the Hugging Face metadata"
    ]


def test_names_of_splits_and_of_a_renamed_column(lay_down, tmp_path):
    path = write(
        tmp_path / "items.parquet",
        {"kind": class_label("a", "b", "c"), "split": class_label("test", "train", "validation")},
        kind=[0, 1, 2, 0, 1, 2] * 4,
        split=[1, 1, 2, 0, 0, 2] * 4,
        text=["t"] * N,
    )
    layout = lay_down(path, columns={"label": "kind"})
    assert layout.labels == ["a", "b", "c", "a", "b", "c"] * 4
    names = ["train", "train", "val", "test", "test", "val"] * 4
    assert layout.table["split"].to_pylist() == names


def test_files_number_their_classes_differently(tmp_path):
    write(
        tmp_path / "set/a.parquet", {"label": class_label("x", "y")}, label=[0, 1], text=["t"] * 2
    )
    write(
        tmp_path / "set/b.parquet", {"label": class_label("y", "x")}, label=[0, 1], text=["t"] * 2
    )
    table = open_source(DataConfig(source="set"), tmp_path).metadata()
    assert table["label"].to_pylist() == ["x", "y", "y", "x"]


def test_names_in_one_file_only(refusal, tmp_path):
    write(
        tmp_path / "set/a.parquet", {"label": class_label("x", "y")}, label=[0, 1], text=["t"] * 2
    )
    write(tmp_path / "set/b.parquet", {}, label=[0, 1], text=["t"] * 2)
    assert refusal("set").startswith(f"{tmp_path}/set/b.parquet: column 'label' is int64, but in")


@pytest.mark.parametrize("number", [-1, 2])
def test_a_number_without_a_name(refusal, tmp_path, number):
    features = {"label": class_label("x", "y")}
    path = write(tmp_path / "items.parquet", features, label=[0, 1, number], text=["t"] * 3)
    assert refusal(path) == (
        f"{path}: row 2: label is {number}, which has no name in the Hugging Face metadata (0 to 1"
        " have): leave such rows out"
    )


def test_two_numbers_of_one_name(refusal, tmp_path):
    features = {"label": class_label("x", "y", "x ")}
    path = write(tmp_path / "items.parquet", features, label=[0, 1, 2], text=["t"] * 3)
    assert refusal(path).startswith(f"{path}: two classes of column 'label' have one name")


@pytest.mark.parametrize("metadata", [b"{", b"[]", b'{"info": null}', b'{"info": {"features": 3}}'])
def test_other_metadata_is_ignored(tmp_path, metadata):
    content = pa.table({"label": [0, 1], "text": ["a", "b"]})
    content = content.replace_schema_metadata({"huggingface": metadata})
    pq.write_table(content, tmp_path / "items.parquet")
    source = open_source(DataConfig(source="items.parquet"), tmp_path)
    assert source.metadata()["label"].to_pylist() == [0, 1]


def lay_pictures(tmp_path, picture, embedded):
    """A table of N pictures, of grey 10 * row; rows in `embedded` hold the bytes."""
    rows = []
    for row in range(N):
        content = picture(10 * row)
        (tmp_path / f"{row}.png").write_bytes(content)
        is_embedded = row in embedded
        name = "not there" if is_embedded else f"{row}.png"
        rows.append({"bytes": content if is_embedded else None, "path": name})
    return pa.array(rows, PICTURE)


@pytest.mark.parametrize(
    ("embedded", "content"), [((), "path"), ((0, 5), "image"), (range(N), "image")]
)
@pytest.mark.parametrize("statistics", [True, False])
def test_pictures_by_path(lay_down, tmp_path, picture, labels, embedded, content, statistics):
    path = tmp_path / "items.parquet"
    pictures = lay_pictures(tmp_path, picture, embedded)
    rows = pa.table({"image": pictures, "label": labels})
    pq.write_table(rows, path, write_statistics=statistics, row_group_size=7)
    layout = lay_down(path)
    assert layout.contents[:, 0, 0, 0].tolist() == list(range(0, 10 * N, 10))
    if statistics:  # without them the bytes are stored
        assert layout.items.card["content"] == content
    before = open_source(DataConfig(source=str(path)), tmp_path).fingerprint()
    (tmp_path / "9.png").write_bytes(picture(3))
    changed = open_source(DataConfig(source=str(path)), tmp_path).fingerprint() != before
    assert changed == (9 not in embedded)


def test_pictures_by_path_in_one_file_of_two(lay_down, tmp_path, picture, labels):
    rows = lay_pictures(tmp_path, picture, range(12))
    (tmp_path / "set").mkdir()
    for row in range(12, N):
        (tmp_path / f"{row}.png").rename(tmp_path / f"set/{row}.png")
    for number, part in enumerate((slice(0, 12), slice(12, N))):
        content = pa.table({"image": rows[part], "label": labels[part]})
        pq.write_table(content, tmp_path / f"set/{number}.parquet")
    layout = lay_down("set")
    assert layout.contents[:, 0, 0, 0].tolist() == list(range(0, 10 * N, 10))
    assert not open_source(DataConfig(source="set"), tmp_path).notes


@pytest.mark.parametrize("embedded", [(), (0,)])
def test_a_picture_by_path_that_is_not_there(refusal, tmp_path, picture, labels, embedded):
    path = tmp_path / "items.parquet"
    pq.write_table(
        pa.table({"image": lay_pictures(tmp_path, picture, embedded), "label": labels}), path
    )
    (tmp_path / "20.png").unlink()
    assert refusal(path) == f"{path}: row 20: {tmp_path}/20.png does not exist"


def test_a_picture_with_neither_bytes_nor_path(refusal, tmp_path, picture, labels):
    rows = lay_pictures(tmp_path, picture, range(N)).to_pylist()
    rows[20] = {"bytes": None, "path": None}
    path = tmp_path / "items.parquet"
    pq.write_table(pa.table({"image": pa.array(rows, PICTURE), "label": labels}), path)
    assert refusal(path) == f"{path}: row 20: image is missing"
