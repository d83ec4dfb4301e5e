"""Files, receipts and versions: what goes in comes out, and all or nothing of it is seen."""

import hashlib
import json
import os
import resource
import threading
from dataclasses import replace

import pytest

from remine.data.errors import InputError, StoreBusyError, StoreError
from remine.data.store import disk
from remine.data.store.records import Artifact, FileRef, Version, canonical, digest, file_sha256
from remine.data.store.store import Store


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store", create=True)


def artifact(store: Store, content: bytes = b"content", kind: str = "items") -> Artifact:
    file = store.put_bytes(content, name="part-00000.bin", rows=3)
    return Artifact(kind=kind, files=(file,), card={"note": "x", "numbers": [1, 2.5]})


def version(number: int, **artifacts: Artifact) -> Version:
    return Version(
        number=number,
        parent=None,
        cycle=1,
        round=number - 1,
        rounds=2,
        config={"seed": 1},
        artifacts=artifacts,
    )


def test_digest_is_of_the_content_not_of_its_order():
    assert canonical({"b": [1, 2.5, None], "a": "é"}) == b'{"a":"\\u00e9","b":[1,2.5,null]}'
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 2, "b": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        digest(float("nan"))


# Opening --------------------------------------------------------------------------------------


def test_store_is_made_only_when_asked(tmp_path):
    with pytest.raises(InputError, match="no store at"):
        Store(tmp_path / "store")
    assert not list(tmp_path.iterdir())
    root = Store(tmp_path / "deep" / "store", create=True).root
    assert (root / "FORMAT").read_text() == "remine-store/1\n"
    assert Store(root).current() is None


def test_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="holds other files: name an empty or a new folder"):
        Store(tmp_path, create=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(InputError, match=r"thesis\.tex is a file"):
        Store(tmp_path / "thesis.tex", create=True)


def test_an_empty_folder_and_a_store_are_taken(tmp_path):
    first = Store(tmp_path, create=True)
    file = first.put_bytes(b"kept", name="x")
    assert Store(tmp_path, create=True).path(file).read_bytes() == b"kept"


@pytest.mark.parametrize("content", [b"remine-store/2\n", b"", b"\xff\xfe"])
def test_store_of_another_format_is_refused(store, content):
    (store.root / "FORMAT").write_bytes(content)
    with pytest.raises(StoreError, match=r"FORMAT says .*; this remine reads 'remine-store/1'"):
        Store(store.root)


# Files ----------------------------------------------------------------------------------------


def test_file_lies_under_its_hash(store):
    file = store.put_bytes(b"some bytes", name="a/part-00000.parquet", rows=7)
    sha256 = hashlib.sha256(b"some bytes").hexdigest()
    assert file == FileRef(name="a/part-00000.parquet", sha256=sha256, bytes=10, rows=7)
    path = store.path(file)
    assert path == store.root / "objects" / f"{sha256}.parquet"
    assert path.read_bytes() == b"some bytes"
    assert file_sha256(path) == sha256
    assert path.stat().st_mode & 0o777 == 0o444
    assert not list((store.root / "tmp").iterdir())


def test_equal_content_is_stored_once(store):
    first, second = (store.put_bytes(b"same", name=name) for name in ("a.bin", "b.bin"))
    assert store.path(first) == store.path(second)
    assert len(list((store.root / "objects").iterdir())) == 1


def test_put_moves_a_finished_file(store):
    with store.temporary(".npy") as temp:
        temp.write_bytes(b"numbers")
        file = store.put(temp, name="x.npy")
        assert not temp.exists()
    assert store.path(file).read_bytes() == b"numbers"


def test_what_was_put_is_not_hashed_again_until_it_changes(store, monkeypatch):
    hash_list = []

    def counted(path):
        hash_list.append(path)
        return file_sha256(path)

    monkeypatch.setattr("remine.data.store.store.file_sha256", counted)
    ref = store.put_bytes(b"content", name="a")
    path = store.path(ref)
    assert len(hash_list) == 1
    Store(store.root).path(ref)  # another process trusts nothing
    assert len(hash_list) == 2
    path.chmod(0o644)
    path.write_bytes(b"damaged content")
    with pytest.raises(StoreError, match="is corrupt"):
        store.path(ref)


def test_temporary_files_go(store):
    with store.temporary(".npy") as temp:
        temp.write_bytes(b"half")
    assert temp.suffix == ".npy"
    assert not temp.exists()


def test_nothing_appears_when_the_disk_fails(store, monkeypatch):
    def fail(_handle: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space left"):
        store.put_bytes(b"content", name="x")
    with pytest.raises(OSError, match="no space left"):
        store.publish(version(1))
    for folder in ("objects", "versions", "tmp"):
        assert not list((store.root / folder).iterdir())


def test_bytes_reach_the_disk_before_their_name_does(store, monkeypatch):
    # A power cut between the two must not leave a name over nothing.
    events = []
    sync, move = disk.sync, disk.rename
    monkeypatch.setattr(
        disk, "sync", lambda path: (events.append(f"sync {path.parent.name}"), sync(path))
    )
    monkeypatch.setattr(
        disk, "rename", lambda path, to: (events.append(f"move {to.parent.name}"), move(path, to))
    )
    store.put_bytes(b"content", name="x")
    assert events == ["sync tmp", "move objects", "sync store"]


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/passwd", "..", ".", ""])
def test_name_that_leaves_its_folder_is_refused(store, name):
    with pytest.raises(StoreError, match="leaves its artifact's folder"):
        store.put_bytes(b"x", name=name)
    assert not list((store.root / "objects").iterdir())


@pytest.mark.parametrize("sha256", ["", "ab", "g" * 64, "../" + "a" * 61, "A" * 64])
def test_hash_that_is_none_is_refused(sha256):
    with pytest.raises(StoreError, match="has no SHA-256"):
        FileRef(name="x", sha256=sha256, bytes=1)


# Receipts -------------------------------------------------------------------------------------


def test_what_is_remembered_is_recalled(store):
    assert store.recall("key") is None
    assert not store.has_receipt("key")
    remainder = store.remember("key", artifact(store))
    assert store.has_receipt("key")
    assert Store(store.root).recall("key") == remainder
    assert (remainder.rows, store.paths(remainder)) == (3, [store.path(remainder.files[0])])
    assert store.recall("other") is None


def test_work_done_again_replaces_its_receipt(store):
    store.remember("key", artifact(store, b"first"))
    second = store.remember("key", artifact(store, b"second"))
    assert store.recall("key") == second


def test_scratch_is_found_again_until_cleared(store):
    (store.scratch("key") / "state").write_text("half way")
    assert (Store(store.root).scratch("key") / "state").read_text() == "half way"
    store.clear_scratch("key")
    assert not list(store.scratch("key").iterdir())
    store.clear_scratch("never there")


# Versions -------------------------------------------------------------------------------------


def test_published_versions_read_back(store):
    first = version(1, items=artifact(store))
    pair = {"items": artifact(store), "index": artifact(store, b"i")}
    second = replace(version(2, **pair), parent="x", cycle=2, config={"seed": [2]})
    for one in (first, second):
        store.publish(one)
        assert store.current() == one
    assert list(Store(store.root).versions()) == [second, first]
    assert store.version(1) == first
    with pytest.raises(InputError, match="no version 3 in"):
        store.version(3)


def test_a_cycle_ends_with_its_last_round():
    assert [version(number).finished for number in (1, 2, 3)] == [False, False, True]


def test_manifest_holds_no_time_host_or_path(store):
    store.publish(version(1, items=artifact(store)))
    text = (store.root / "versions" / "00000001.json").read_text()
    assert str(store.root) not in text
    assert sorted(json.loads(text)["body"]) == sorted(vars(version(1)))


def test_publishing_again_is_fine_publishing_something_else_is_not(store):
    store.publish(version(1))
    path = store.root / "versions" / "00000001.json"
    before = path.read_bytes()
    store.publish(version(1))
    with pytest.raises(StoreError, match=r"00000001\.json was published by another run"):
        store.publish(replace(version(1), config={"seed": 2}))
    assert path.read_bytes() == before


def test_of_many_that_publish_one_number_one_wins(store):
    winner, lost = [], []

    def publish(seed: int) -> None:
        try:
            store.publish(replace(version(1), config={"seed": seed}))
            winner.append(seed)
        except StoreError:
            lost.append(seed)

    threads = [threading.Thread(target=publish, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(winner) == 1
    assert len(lost) == 7
    assert store.current().config == {"seed": winner[0]}


@pytest.mark.parametrize("hint", [None, b"", b"1\n", b"9\n", b"-3", b"nonsense", b"\xff\n"])
def test_current_is_only_a_hint(store, hint):
    for number in (1, 2, 3):
        store.publish(version(number))
    path = store.root / "CURRENT"
    path.unlink() if hint is None else path.write_bytes(hint)
    assert Store(store.root).current() == version(3)


def test_log_has_a_line_of_json_an_event(store):
    store.log("stage", name="embed", count=3)
    store.log("cycle")
    first, second = map(json.loads, (store.root / "log.jsonl").read_text().splitlines())
    assert (first["event"], first["name"], first["count"]) == ("stage", "embed", 3)
    assert second["event"] == "cycle"
    assert second["time"] >= first["time"] > 1.7e9


def test_a_line_of_the_log_that_was_cut_short_costs_no_other(store):
    store.log("stage", name="embed")
    with (store.root / "log.jsonl").open("ab") as log:
        log.write(b'{"time": 1, "eve')
    store.log("cycle")
    assert [event["event"] for event in store.events()] == ["stage", "cycle"]


def test_the_lock_needs_no_room_on_the_disk(store):
    with store.lock():
        pass
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))  # as a full disk, which gc must mend
    try:
        with store.lock(), pytest.raises(StoreBusyError), Store(store.root).lock():
            pass
        with pytest.raises(OSError, match="File too large"):
            store.log("cycle")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
