"""A damaged store is noticed, never read: any flipped byte, any cut, any missing file."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remine.data.errors import StoreError
from remine.data.store import disk
from remine.data.store.records import Artifact, Version
from remine.data.store.store import Store

KEY = "key"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A store with two objects, a receipt and a version; every test leaves it as it was."""
    store = Store(tmp_path_factory.mktemp("damage") / "store", create=True)
    noise = np.random.default_rng(0).bytes(5000)
    files = (store.put_bytes(noise, name="a.bin", rows=2), store.put_bytes(b"b", name="b.bin"))
    card = {"text": "é\n", "number": 0.1, "none": None, "list": [1, -2, True]}
    artifact = store.remember(KEY, Artifact(kind="items", files=files, card=card))
    store.publish(
        Version(
            number=1,
            parent="0" * 64,
            cycle=1,
            round=0,
            rounds=1,
            config={"mining": {"margin": 0.2}},
            artifacts={"items": artifact},
        )
    )
    return store.root


@contextmanager
def damaged(path: Path, content: bytes) -> Iterator[None]:
    """`path` with another content for a while, then as it was."""
    before, stat = path.read_bytes(), path.stat()
    path.chmod(0o644)
    try:
        path.write_bytes(content)
        yield
    finally:
        path.write_bytes(before)
        path.chmod(stat.st_mode)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def flipped(content: bytes, place: int, bits: int) -> bytes:
    return content[:place] + bytes([content[place] ^ bits]) + content[place + 1 :]


@settings(deadline=None)
@given(place=st.integers(0, 4999), bits=st.integers(1, 255))
def test_flipped_byte_of_an_object(root, place, bits):
    artifact = Store(root).recall(KEY)
    assert artifact is not None
    file = artifact.files[0]
    path = root / file.object
    with damaged(path, flipped(path.read_bytes(), place, bits)):
        store = Store(root)
        assert store.recall(KEY) is None
        with pytest.raises(StoreError, match=r"\(a\.bin\) is corrupt"):
            store.path(file)


@pytest.mark.parametrize("bits", [1, 0x20, 0x80])
@pytest.mark.parametrize("name", [f"receipts/{KEY}.json", "versions/00000001.json"])
def test_every_flipped_byte_of_a_receipt_and_of_a_manifest(root, name, bits):
    path, store = root / name, Store(root)
    sound = path.read_bytes()
    for place in range(len(sound)):
        with damaged(path, flipped(sound, place, bits)):
            if name.startswith("receipts"):
                assert store.recall(KEY) is None
            else:
                with pytest.raises(StoreError, match=r"00000001\.json is corrupt"):
                    store.version(1)
    assert store.recall(KEY) is not None
    assert store.current() is not None


@pytest.mark.parametrize("name", [f"receipts/{KEY}.json", "versions/00000001.json"])
@pytest.mark.parametrize(
    "change",
    [
        lambda _sound: b"",
        lambda _sound: b"[]",
        lambda _sound: b"null",
        lambda _sound: b'{"body": {}}',
        lambda _sound: b"\xff\xfe",
        lambda sound: sound[:-1],
        lambda sound: sound[: len(sound) // 2],
        lambda sound: sound + b"\n",
        lambda sound: b" " + sound,
        lambda sound: sound * 2,
        lambda sound: sound.replace(b": ", b":"),
    ],
)
def test_receipt_and_manifest_that_hold_something_else(root, name, change):
    path, store = root / name, Store(root)
    with damaged(path, change(path.read_bytes())):
        if name.startswith("receipts"):
            assert store.recall(KEY) is None
        else:
            with pytest.raises(StoreError, match=r"00000001\.json is corrupt"):
                store.current()


@pytest.mark.parametrize("cut", [0, 1, 4999])
def test_truncated_object(root, cut):
    file = Store(root).recall(KEY).files[0]
    path = root / file.object
    with damaged(path, path.read_bytes()[:cut]), pytest.raises(StoreError, match="is corrupt"):
        Store(root).path(file)


def test_missing_object(root, tmp_path):
    store = Store(shutil.copytree(root, tmp_path / "store"))
    artifact = store.recall(KEY)
    store.path(artifact.files[1]).unlink()
    assert store.recall(KEY) is None
    with pytest.raises(StoreError, match=r"\(b\.bin\) is missing"):
        store.paths(artifact)


def test_an_object_that_changes_after_its_first_use_is_looked_at_again(root, tmp_path):
    store = Store(shutil.copytree(root, tmp_path / "store"))
    file = store.recall(KEY).files[0]
    path = store.path(file)
    with damaged(path, bytes(5000)):
        os.utime(path, ns=(1, 1))  # the clock of files is coarse
        with pytest.raises(StoreError, match="is corrupt"):
            store.path(file)


def test_work_done_again_mends_a_damaged_object(root, tmp_path):
    store = Store(shutil.copytree(root, tmp_path / "store"))
    file = store.recall(KEY).files[1]
    path = store.path(file)
    path.chmod(0o644)
    path.write_bytes(b"?")
    os.utime(path, ns=(1, 1))
    assert store.recall(KEY) is None
    assert store.put_bytes(b"b", name="b.bin") == file
    assert store.recall(KEY) is not None


# Errors of calls that may have happened -------------------------------------------------------


@contextmanager
def failing(call: str, *, done: bool) -> Iterator[None]:
    """The next `call` on the disk fails: after it was done, or before."""
    real, remainder = getattr(disk, call), [1]

    def run(path: Path, target: Path) -> None:
        if not remainder:
            real(path, target)
            return
        remainder.pop()
        if done:
            real(path, target)
        raise OSError(5, "Input/output error")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(disk, call, run)
        yield


@pytest.mark.parametrize("done", [True, False])
@pytest.mark.parametrize("work", ["put", "remember", "publish", "current"])
def test_an_error_is_believed_only_when_what_lies_there_says_so(root, tmp_path, work, done):
    store = Store(shutil.copytree(root, tmp_path / "store"))
    first = store.version(1)
    second = replace(first, number=2, round=1, parent=first.digest)
    works = {
        "put": lambda: store.put_bytes(b"new", name="x"),
        "remember": lambda: store.remember("new", first.artifacts["items"]),
        "publish": lambda: store.publish(second),
        "current": lambda: store.publish(second),
    }
    with failing("link" if work == "publish" else "rename", done=done):
        if done:
            works[work]()
        else:
            with pytest.raises(OSError, match="Input/output error"):
                works[work]()
    works[work]()
    assert store.recall(KEY) == first.artifacts["items"]
    assert store.version(1) == first
    assert not list((store.root / "tmp").iterdir())
    if work == "remember":
        assert store.recall("new") == first.artifacts["items"]
    if work in ("publish", "current"):
        assert Store(store.root).current() == second


def test_an_error_while_another_publisher_won_is_a_refusal(root, tmp_path, monkeypatch):
    store = Store(shutil.copytree(root, tmp_path / "store"))
    first = store.version(1)
    mine, second = (replace(first, number=2, config={"seed": seed}) for seed in (1, 2))

    def link(_path: Path, _target: Path) -> None:
        monkeypatch.undo()
        store.publish(second)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(disk, "link", link)
    with pytest.raises(StoreError, match="was published by another run"):
        store.publish(mine)
    assert store.current() == second
