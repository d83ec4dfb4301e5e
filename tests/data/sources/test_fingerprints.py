"""Fingerprints: they decide whether finished work is looked up or done again."""

import os
from itertools import pairwise

import numpy as np
import pytest

from remine.data.config import DataConfig
from remine.data.sources.source import open_source


@pytest.fixture
def paths(tmp_path, picture):
    """The paths of pictures that lie in `tmp_path`."""
    (tmp_path / "pictures").mkdir()
    names = [f"pictures/{row:02d}.png" for row in range(24)]
    for name in names:
        (tmp_path / name).write_bytes(picture())
    return names


def change_nothing(_root):
    pass


def change_a_picture(root):
    (root / "pictures/03.png").write_bytes(b"other bytes")


def change_a_time(root):
    os.utime(root / "pictures/03.png", ns=(1, 1))


def change_a_size(root):
    path = root / "pictures/03.png"
    stat = path.stat()
    path.write_bytes(b"longer than it was before" * 100)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def change_bytes_only(root):
    path = root / "pictures/03.png"
    stat = path.stat()
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def rename_a_picture(root):
    (root / "pictures/03.png").rename(root / "pictures/03b.png")


@pytest.mark.parametrize("source", ["items.csv", "."])
def test_fingerprint_of_pictures(tmp_path, table, paths, source):
    calls = []
    for change in (
        change_nothing,
        change_nothing,
        change_a_picture,
        change_a_time,
        change_a_size,
        change_bytes_only,
        rename_a_picture,
    ):
        change(tmp_path)
        if source == "items.csv":
            table("items.csv", path=paths)
        calls.append(open_source(DataConfig(source=source), tmp_path).fingerprint())
    assert calls[0] == calls[1]
    assert all(a != b for a, b in pairwise(calls[1:]))


def test_fingerprint_of_a_table(tmp_path, table, labels):
    config = DataConfig(source="items.parquet")
    renamed = DataConfig(source="items.parquet", columns={"label": "other"})
    table(text=labels, other=labels)
    first = open_source(config, tmp_path).fingerprint()
    assert first == open_source(config, tmp_path).fingerprint()
    assert first != open_source(renamed, tmp_path).fingerprint()
    table(text=labels[::-1], other=labels)
    assert first != open_source(config, tmp_path).fingerprint()


def test_fingerprint_of_vectors(tmp_path):
    config = DataConfig(source="vectors.npy", labels="labels.txt")
    calls = []
    for first, labels in ((1, "a\nb"), (1, "a\nb"), (2, "a\nb"), (2, "a\nc")):
        np.save(tmp_path / "vectors.npy", np.array([[first, 1], [1, 1]]))
        (tmp_path / "labels.txt").write_text(labels)
        calls.append(open_source(config, tmp_path).fingerprint())
    assert calls[0] == calls[1]
    assert all(a != b for a, b in pairwise(calls[1:]))
