"""Each reader brings the same items in the same order, and refuses what it cannot read."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from remine.data.config import DataConfig
from remine.data.errors import InputError
from remine.data.sources.image_folder import FolderSource
from remine.data.sources.source import open_source

N = 24


@pytest.fixture
def pictures(tmp_path, picture):
    """N pictures, each of a grey of its own, and their paths in `tmp_path`."""
    contents = [picture(10 * row) for row in range(N)]
    paths = [f"pictures/{row:02d}.png" for row in range(N)]
    (tmp_path / "pictures").mkdir()
    for path, content in zip(paths, contents, strict=True):
        (tmp_path / path).write_bytes(content)
    return contents, paths


def greys(laid):
    """The grey of each picture, after all of its pixels were seen to be the same."""
    contents = laid.contents
    assert contents.shape == (N, 1, 8, 8)
    assert (contents == contents[:, :, :1, :1]).all()
    return contents[:, 0, 0, 0].tolist()


def as_struct(content):
    return pa.array([{"bytes": one, "path": f"elsewhere/{i}"} for i, one in enumerate(content)])


def as_category(paths):
    return pa.array(paths).dictionary_encode()


@pytest.mark.parametrize(
    ("name", "column", "made_of", "form"),
    [
        ("items.parquet", "image", 0, pa.array),
        ("items.parquet", "image", 0, lambda c: pa.array(c, pa.large_binary())),
        ("items.parquet", "image", 0, as_struct),
        ("items.parquet", "image", 1, pa.array),
        ("items.parquet", "image", 1, lambda p: pa.array(p, pa.large_string())),
        ("items.parquet", "image", 1, as_category),
        ("items.parquet", "path", 1, pa.array),
        ("items.csv", "path", 1, pa.array),
        ("items.csv", "image", 1, pa.array),
    ],
)
def test_pictures_in_a_table(lay_down, table, pictures, labels, name, column, made_of, form):
    layout = lay_down(table(name, **{column: form(pictures[made_of])}))
    assert greys(layout) == list(range(0, 10 * N, 10))
    assert layout.labels == labels
    store_rows = "image" if made_of == 0 else "path"
    assert layout.items.card["content"] == store_rows
    assert layout.table[store_rows].to_pylist() == list(pictures[made_of])


def test_a_table_that_pandas_wrote(lay_down, tmp_path, pictures, labels):
    frame = pd.DataFrame({"label": pd.Categorical(labels), "image": pictures[1]})
    frame.to_parquet(tmp_path / "items.parquet")
    layout = lay_down("items.parquet")
    assert greys(layout) == list(range(0, 10 * N, 10))
    assert layout.labels == labels


@pytest.mark.parametrize("name", ["items.parquet", "items.csv"])
def test_texts(lay_down, table, labels, name):
    # "NA" is a text as any other, as are a line break and a comma.
    texts = ["NA", "null", 'two\nlines, "quoted"', *(f"text {i}" for i in range(3, N))]
    layout = lay_down(table(name, text=texts))
    assert layout.table["text"].to_pylist() == texts
    assert layout.labels == labels
    assert layout.items.card["content"] == "text"


def test_texts_of_many_lines_in_a_csv_of_many_blocks(table, tmp_path):
    # Arrow reads CSV by the megabyte; the cuts fall inside texts.
    texts = [f"{row}\n" + "a line\n" * (row % 50) for row in range(9000)]
    path = table("items.csv", label=["a"] * 9000, text=texts)
    assert path.stat().st_size > 1 << 20
    source = open_source(DataConfig(source=str(path)), tmp_path)
    assert [text for block in source.blocks(100) for text in block] == texts


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.float32()),
        pa.list_(pa.float64()),
        pa.list_(pa.int16()),
        pa.large_list(pa.float32()),
        pa.list_(pa.float32(), 3),
    ],
    ids=str,
)
def test_vectors_in_a_table(lay_down, table, kind):
    vectors = np.arange(1, 3 * N + 1).reshape(N, 3)
    layout = lay_down(table(vector=pa.array(vectors.tolist(), kind)))
    assert layout.contents.dtype == np.float32
    np.testing.assert_array_equal(layout.contents, vectors)
    assert layout.inputs.card["shape"] == [3]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int8])
@pytest.mark.parametrize("label_file", ["labels.npy", "labels.txt"])
def test_vectors_and_labels_in_files_of_their_own(lay_down, tmp_path, labels, dtype, label_file):
    vectors = np.arange(1, 2 * N + 1).reshape(N, 2).astype(dtype)
    np.save(tmp_path / "vectors.npy", vectors)
    if label_file.endswith(".npy"):
        np.save(tmp_path / label_file, np.array(labels))
    else:
        (tmp_path / label_file).write_text("\n".join(labels) + "\n")
    layout = lay_down("vectors.npy", labels=label_file)
    np.testing.assert_array_equal(layout.contents, vectors)
    assert layout.labels == labels


def test_number_labels_in_npy(lay_down, tmp_path):
    np.save(tmp_path / "vectors.npy", np.ones((N, 2), np.float32))
    np.save(tmp_path / "labels.npy", np.arange(N) // 2)
    layout = lay_down("vectors.npy", labels="labels.npy")
    assert layout.labels == [str(row // 2) for row in range(N)]


def grow_folder(root: Path, picture, names) -> list[str]:
    """A picture at each of `names` below `root`, of grey 10, 20, ...; returns `names`."""
    for number, name in enumerate(names, start=1):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(picture(10 * number))
    return names


def test_folder_of_classes(lay_down, tmp_path, picture):
    names = [f"{label}/{name}" for label in "abcdefghij" for name in ("1.png", "deep/2.PNG")]
    grow_folder(tmp_path / "set", picture, names)
    layout = lay_down("set", class_folders="top")
    assert layout.labels == [name[0] for name in names]
    assert layout.table["path"].to_pylist() == names
    assert layout.contents[:, 0, 0, 0].tolist() == [10 * i for i in range(1, 21)]


NESTED = [
    f"{path}/{number}.png"
    for path in ("Fruit/Apple/Gala", "Fruit/Apple/Pink-Lady", "Fruit/Kiwi", "Milk", "Milk/Gala")
    for number in (1, 2)
]


def test_folders_that_hold_pictures_are_the_classes_and_counted(tmp_path, picture):
    grow_folder(tmp_path / "set", picture, NESTED)
    source = folder_source(tmp_path)
    assert source.labels == [name.rpartition("/")[0] for name in NESTED]
    (line,) = source.notes
    assert line.startswith(f"{tmp_path}/set: 5 classes, the folders that hold pictures, up to 3 ")
    assert line.endswith('data.class_folders = "top" makes 2 of the folders at the top')
    config = DataConfig(source="set", class_folders="top")
    top = open_source(config, tmp_path)
    assert top.metadata()["label"].to_pylist() == [name.partition("/")[0] for name in NESTED]
    assert not top.notes


def test_nested_classes_below_splits(tmp_path, picture):
    names = [f"{split}/{name}" for split in ("test", "train", "validation") for name in NESTED]
    grow_folder(tmp_path / "set", picture, names)
    source = folder_source(tmp_path)
    assert source.labels == [name.rpartition("/")[0] for name in NESTED] * 3
    assert source.splits == [split for split in ("test", "train", "val") for _ in NESTED]
    assert any("5 classes" in note for note in source.notes)


def test_flat_classes_have_nothing_to_say(tmp_path, picture):
    grow_folder(tmp_path / "set", picture, ["a/1.png", "b/1.png"])
    assert not folder_source(tmp_path).notes


def test_hidden_and_other_files_are_passed_over(lay_down, tmp_path, picture):
    names = grow_folder(
        tmp_path / "set", picture, [f"{c}/{i}.png" for c in "abcdefghij" for i in "12"]
    )
    for clutter in ("a/._1.png", "a/.trash/3.png", "a/notes.txt", ".cache/4.png", "read.me"):
        (tmp_path / "set" / clutter).parent.mkdir(exist_ok=True)
        (tmp_path / "set" / clutter).write_bytes(b"no picture")
    assert lay_down("set").table["path"].to_pylist() == names


def folder_source(tmp_path) -> FolderSource:
    source = open_source(DataConfig(source="set"), tmp_path)
    assert isinstance(source, FolderSource)
    return source


def paths_and_lines(tmp_path) -> tuple[list[str], list[str]]:
    source = folder_source(tmp_path)
    root = tmp_path / "set"
    return [str(path.relative_to(root)) for path in source.paths], source.omission_lines()


def test_files_that_are_passed_over_are_counted_by_ending(tmp_path, picture):
    names = grow_folder(tmp_path / "set", picture, ["a/1.png", "b/1.JFIF", "b/2.pbm", "b/3.jpe"])
    assert paths_and_lines(tmp_path) == (names, [])
    grow_folder(
        tmp_path / "set",
        picture,
        ["a/1.HEIC", "a/deep/2.heic", "b/notes", ".cache/4.png", "a/.5.png", "6.png"],
    )
    counts = "2 .heic, 2 hidden, 1 .png outside the class folders, 1 without ending"
    assert paths_and_lines(tmp_path) == (
        names,
        [
            f"{tmp_path}/set: 6 passed over: {counts}",
            ".heic files would be read after: pip install pillow-heif",
        ],
    )
    grow_folder(tmp_path / "set", picture, [f"a/{i}.x{i}" for i in range(9)])
    line, _ = paths_and_lines(tmp_path)[1]
    assert "set: 15 passed over: 2 .heic, " in line
    assert line.endswith(", 5 with other endings")


def test_pictures_beside_the_classes_of_a_split_are_counted(tmp_path, picture):
    names = ["test/x/1.png", "train/a/1.png", "train/b/1.png"]
    grow_folder(tmp_path / "set", picture, [*names, "train/2.png", "val/3.jpg", "val/4.jpg"])
    line = "3 passed over: 2 .jpg outside the class folders, 1 .png outside the class folders"
    assert paths_and_lines(tmp_path) == (names, [f"{tmp_path}/set: {line}"])


def test_a_class_without_pictures_says_what_it_has(tmp_path, picture):
    grow_folder(tmp_path / "set", picture, ["a/1.png", "b/1.heic", "b/2.heic"])
    with pytest.raises(InputError, match=r"class 'b' is empty: .*/set/b, only 2 \.heic$"):
        folder_source(tmp_path)


def test_links_are_followed_but_not_in_circles(tmp_path, picture):
    root = tmp_path / "set"
    grow_folder(root, picture, ["a/1.png", "a/deep/2.png", "b/1.png"])
    grow_folder(tmp_path / "elsewhere", picture, ["3.png", "deeper/4.png"])
    (root / "c").symlink_to(tmp_path / "elsewhere")
    (root / "a" / "batch").symlink_to(tmp_path / "elsewhere")
    (root / "b" / "5.png").symlink_to(root / "a" / "1.png")
    names = ["a/1.png", "a/batch/3.png", "a/batch/deeper/4.png", "a/deep/2.png"]
    names += ["b/1.png", "b/5.png", "c/3.png", "c/deeper/4.png"]
    assert paths_and_lines(tmp_path) == (names, [])
    (root / "a" / "again").symlink_to(tmp_path / "elsewhere" / "deeper")
    (root / "a" / "deep" / "up").symlink_to(root / "a")
    (root / "b" / "all").symlink_to(root)
    (tmp_path / "elsewhere" / "out").symlink_to(tmp_path)
    targets = sorted((root / name).resolve() for name in names)
    paths, (line,) = paths_and_lines(tmp_path)
    assert sorted((root / path).resolve() for path in paths) == targets
    assert line.startswith(f"{root}: 5 passed over: 5 linked folder already read")


def test_folder_with_splits_above_the_classes(lay_down, tmp_path, picture):
    names = ["test/x/1.png", "test/x/2.png", "train/a/1.png", "train/a/2.png", "train/b/1.png"]
    grow_folder(tmp_path / "set", picture, [*names, "val/y/1.png"])
    layout = lay_down("set")
    assert layout.labels == ["x", "x", "a", "a", "b", "y"]
    assert layout.table["split"].to_pylist() == ["test"] * 2 + ["train"] * 3 + ["val"]


@pytest.mark.parametrize("name", ["validation", "valid", "dev"])
def test_folder_of_another_name_of_val(tmp_path, picture, name):
    grow_folder(tmp_path / "set", picture, ["test/x/1.png", "train/a/1.png", f"{name}/y/1.png"])
    source = open_source(DataConfig(source="set"), tmp_path)
    table = source.metadata().to_pydict()
    splits = dict(zip(table["label"], table["split"], strict=True))
    assert splits == {"x": "test", "a": "train", "y": "val"}
    assert source.notes == [f"split: {name!r} is read as val (1 items)"]


def test_splits_need_one_to_train_on(tmp_path, picture):
    grow_folder(tmp_path / "set", picture, ["test/1.png", "val/2.png"])
    table = open_source(DataConfig(source="set"), tmp_path).metadata()
    assert table.to_pydict() == {"label": ["test", "val"]}


def test_folder_of_parquet_files(lay_down, tmp_path, table, labels):
    for name, rows in {"b": slice(10, 24), "a": slice(0, 10)}.items():
        texts = [f"text {row}" for row in range(N)][rows]
        table(f"set/{name}.parquet", label=labels[rows], text=texts)
    layout = lay_down("set")
    assert layout.table["text"].to_pylist() == [f"text {row}" for row in range(N)]
    assert layout.labels == labels
    row_name = open_source(DataConfig(source="set"), tmp_path).row_name
    assert row_name(9) == f"{tmp_path}/set/a.parquet: row 9"
    assert row_name(10) == f"{tmp_path}/set/b.parquet: row 0"


@pytest.mark.parametrize("name", ["items.parquet", "items.csv"])
def test_columns_under_other_names(lay_down, table, labels, name):
    splits = ["test"] * 4 + ["val"] * 4 + ["train"] * 16
    path = table(
        name, label=None, key=range(100, 124), kind=labels, part=splits, body=labels, who=labels
    )
    columns = {"id": "key", "label": "kind", "split": "part", "text": "body", "group": "who"}
    layout = lay_down(path, columns=columns)
    assert layout.catalogue.ids.tolist() == list(range(100, 124))
    assert layout.labels == labels
    assert layout.table["split"].to_pylist() == splits
    assert layout.table["text"].to_pylist() == layout.table["group"].to_pylist() == labels


@pytest.mark.parametrize("name", ["items.parquet", "items.csv"])
def test_labels_that_look_like_numbers_stay_text(lay_down, table, labels, name):
    codes = {label: f"{number:03d}" for number, label in enumerate(sorted(set(labels)))}
    expected = [codes[label] for label in labels]
    assert lay_down(table(name, label=expected, text=labels)).labels == expected
    assert "007" in expected


@pytest.mark.parametrize(
    "names", [["items.parquet"], ["items.csv"], ["set/a.parquet", "set/b.parquet"]]
)
def test_unsorted_ids_are_sorted(lay_down, tmp_path, table, labels, names):
    rows = np.random.default_rng(0).permutation(N)
    parts = np.split(rows, [10]) if len(names) == 2 else [rows]
    for name, part in zip(names, parts, strict=True):
        table(name, id=part, label=[labels[i] for i in part], text=[f"text {i}" for i in part])
    source = names[0].split("/")[0]
    layout = lay_down(source)
    assert layout.catalogue.ids.tolist() == list(range(N))
    assert layout.labels == labels
    assert layout.table["text"].to_pylist() == [f"text {i}" for i in range(N)]
    # A message names the row where it stands in the user's file.
    handle = open_source(DataConfig(source=source), tmp_path)
    handle.metadata()
    for row in range(N):
        name, place = handle.row_name(row).split(": ")
        part = parts[names.index(str(Path(name).relative_to(tmp_path)))]
        unit, number = place.split()
        # A text file is counted in lines from 1, below the header.
        assert part[int(number) - 2 * (unit == "line")] == row


def test_blocks_are_as_long_as_asked_for(table, tmp_path):
    path = table(text=[f"text {row}" for row in range(N)])
    pq.write_table(pq.read_table(path), path, row_group_size=5)
    blocks = list(open_source(DataConfig(source=str(path)), tmp_path).blocks(7))
    assert [len(block) for block in blocks] == [7, 7, 7, 3]
    texts = [text for block in blocks for text in block]
    assert texts == [f"text {row}" for row in range(N)]


def test_too_large_to_sort(table, labels, refusal, monkeypatch):
    monkeypatch.setattr("remine.data.sources.table.SORT_LIMIT", 10)
    message = refusal(table(id=range(N, 0, -1), text=labels))
    assert "items.parquet is not sorted by id" in message
