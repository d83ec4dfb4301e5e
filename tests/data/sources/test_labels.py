"""One rule for labels, in all readers."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from remine.data.config import DataConfig
from remine.data.errors import InputError
from remine.data.items.source_catalogue import build_catalogue
from remine.data.sources.labels import clean_label
from remine.data.sources.source import open_source
from remine.data.sources.vectors import read_vectors

N = 24
LABELS = [name for name in "abcdefghijkl" for _ in range(2)]
SPELLINGS = [
    "caf\u00e9",
    "cafe\u0301",
    " caf\u00e9",
    "caf\u00e9 \t",
    "\u00a0caf\u00e9\u2028",
    "\ufeffcaf\u00e9",
]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_spellings_of_a_label(spelling):
    assert clean_label(spelling) == "caf\u00e9"


def read_all(tmp_path, name: str, labels: str | None = None):
    """The labels of each item by `remine mine` and by a source of items, and what was merged."""
    mined = read_vectors(tmp_path / name, tmp_path / labels if labels else None)
    config = DataConfig(source=name, labels=labels or "")
    catalogue = build_catalogue(open_source(config, tmp_path), config)
    stored = [catalogue.labels[code] for code in catalogue.label_codes]
    assert catalogue.cleaning.merged == mined.cleaning.merged
    return mined.labels, stored, mined.cleaning.merged


@pytest.mark.parametrize(
    "content",
    [
        "\n".join(LABELS).encode(),
        "\n".join(LABELS).encode() + b"\n",
        b"\xef\xbb\xbf" + "\r\n".join(LABELS).encode() + b"\r\n",
    ],
)
def test_text_file_of_labels(tmp_path, content):
    np.save(tmp_path / "x.npy", np.ones((N, 2)))
    (tmp_path / "l.txt").write_bytes(content)
    assert read_all(tmp_path, "x.npy", "l.txt") == (LABELS, LABELS, 0)


@pytest.mark.parametrize("kind", ["text", "npy", "parquet", "lists"])
def test_spellings_are_one_class_and_are_counted(tmp_path, kind):
    labels = [*LABELS[:18], *(s if kind != "text" else s.strip("\ufeff") for s in SPELLINGS)]
    vectors = np.ones((N, 2))
    if kind in ("parquet", "lists"):
        column = [[label] for label in labels] if kind == "lists" else labels
        pq.write_table(
            pa.table({"vector": vectors.tolist(), "label": column}), tmp_path / "x.parquet"
        )
        if kind == "lists":
            data = read_vectors(tmp_path / "x.parquet")
            assert data.labels == [[label] for label in [*LABELS[:18], *["caf\u00e9"] * 6]]
            assert data.cleaning.merged == 5
            return
        mined, stored, merged = read_all(tmp_path, "x.parquet")
    else:
        np.save(tmp_path / "x.npy", vectors)
        if kind == "npy":
            np.save(tmp_path / "l.npy", np.array(labels))
        else:
            (tmp_path / "l.txt").write_text("\n".join(labels), newline="")
        mined, stored, merged = read_all(tmp_path, "x.npy", "l.npy" if kind == "npy" else "l.txt")
    assert mined == stored == [*LABELS[:18], *["caf\u00e9"] * 6]
    assert merged == (5 if kind != "text" else 4)


@pytest.mark.parametrize("separator", ["\x0c", "\u2028", "\x85", "\x0b", "\x1c"])
def test_only_line_feeds_end_a_line(tmp_path, separator):
    labels = [f"{label}{separator}x" for label in LABELS]
    np.save(tmp_path / "x.npy", np.ones((N, 2)))
    (tmp_path / "l.txt").write_text("\n".join(labels), newline="")
    assert read_all(tmp_path, "x.npy", "l.txt") == (labels, labels, 0)


@pytest.mark.parametrize("blank", ["", " ", "\t", "\u00a0", "\ufeff"])
@pytest.mark.parametrize("row", [0, 5, N - 1])
def test_blank_label_is_missing(tmp_path, blank, row):
    labels = [*LABELS[:row], blank, *LABELS[row + 1 :]]
    np.save(tmp_path / "x.npy", np.ones((N, 2)))
    (tmp_path / "l.txt").write_text("\n".join(labels) + "\n", newline="")
    np.save(tmp_path / "l.npy", np.array(labels))
    table = pa.table({"vector": np.ones((N, 2)).tolist(), "label": labels})
    pq.write_table(table, tmp_path / "x.parquet")
    for name, file, place in (
        ("x.npy", "l.txt", f"l.txt: line {row + 1}"),
        ("x.npy", "l.npy", f"l.npy: row {row}"),
        ("x.parquet", None, f"x.parquet: row {row}"),
    ):
        with pytest.raises(InputError) as error:
            read_vectors(tmp_path / name, tmp_path / file if file else None)
        assert str(error.value) == f"{tmp_path}/{place}: label is missing"
        config = DataConfig(source=name, labels=file or "")
        with pytest.raises(InputError, match="label is missing"):
            build_catalogue(open_source(config, tmp_path), config)


def test_label_file_that_is_not_utf8(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((3, 2)))
    (tmp_path / "l.txt").write_bytes(b"a\nb\nc\xe9\n")
    with pytest.raises(InputError, match=r"l\.txt: line 3: not UTF-8"):
        read_vectors(tmp_path / "x.npy", tmp_path / "l.txt")


def test_labels_as_bytes(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((N, 2)))
    np.save(tmp_path / "l.npy", np.array([f"{label} ".encode() for label in LABELS]))
    assert read_all(tmp_path, "x.npy", "l.npy")[:2] == (LABELS, LABELS)
