"""Every damaged file is told, with the versions that use it and what mends it."""

import os

import pytest

from remine.data.errors import InputError
from remine.data.store import pins
from remine.data.store.history import history
from remine.data.store.integrity import IntegrityReport, verify
from remine.data.store.store import Store


@pytest.fixture
def store(tmp_path, versions):
    output = Store(tmp_path / "store", create=True)
    versions(output, 3)
    return output


def verified(store: Store, number: int = 0) -> IntegrityReport:
    return verify(Store(store.address), lambda _done, _all: None, number)


def damage(store: Store, name: str) -> None:
    path = store.root / name
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"?")


def test_a_sound_store(store):
    calls = []
    result = verify(store, lambda done, whole: calls.append((done, whole)))
    assert (result.versions, result.files, result.receipts) == ([1, 2, 3], 4, 4)
    assert result.bytes == len(b"items") + 3 * len(b"index 1")
    assert calls[-1] == (result.bytes, result.bytes)
    assert not result.faults
    assert not result.notes


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("items", "(items of versions 1, 2, 3): `remine run` on the same data recreates it"),
        ("index-1", "(index of version 1): restore it from a backup"),
        ("index-3", "(index of version 3): `remine run` recreates it when it resumes"),
    ],
)
@pytest.mark.parametrize("how", ["is corrupt", "is missing", "is a link"])
def test_a_damaged_file(store, key, told, how):
    name = store.receipt(key).files[0].object
    if how == "is corrupt":
        damage(store, name)
    else:
        (store.root / name).unlink()
    if how == "is a link":
        (store.root / name).symlink_to("/etc/hostname")
        how = "is corrupt"
    (line,) = verified(store).faults
    assert f"{store.root}/{name} {how} {told}" in line


def test_one_version(store):
    damage(store, store.receipt("index-1").files[0].object)
    damage(store, "receipts/index-2.json")
    assert len(verified(store).faults) == 2
    assert len(verified(store, 1).faults) == 1
    assert not verified(store, 2).faults
    with pytest.raises(InputError, match="no version 9 in"):
        verified(store, 9)


@pytest.mark.parametrize("number", [1, 3])
def test_a_damaged_manifest_and_a_damaged_receipt(store, number):
    damage(store, f"versions/{number:08d}.json")
    damage(store, "receipts/items.json")
    manifest, receipt = verified(store).faults
    assert f"{number:08d}.json is corrupt" in manifest
    assert f"(version {number}): restore the file from a backup" in manifest
    assert ("or move it away to continue from the version before" in manifest) == (number == 3)
    assert "items.json is corrupt" in receipt
    assert "the next `remine run` repeats that work" in receipt


def test_a_manifest_under_another_number(store):
    first = (store.root / "versions/00000001.json").read_bytes()
    (store.root / "versions/00000002.json").write_bytes(first)
    assert "it is version 1" in verified(store).faults[0]


def test_what_harms_nobody_is_told_apart(store):
    (store.root / "tmp/half").touch()
    store.put_bytes(b"of no one", name="x")
    (store.root / "CURRENT").write_text("1\n")
    (store.root / "PIN").write_bytes(pins.pin_line(9))
    result = verified(store)
    assert not result.faults
    assert [note.split(":")[0] for note in result.notes] == [
        "1 files (9 bytes) are not referenced",
        "1 temporary files; the next run clears them",
        "CURRENT does not name version 3; the next version corrects it",
        "PIN names version 9, which does not exist",
    ]


def test_history(store):
    store.log("publish", version=2, cycle=1, round=1)
    with (store.root / "log.jsonl").open("a") as log:
        log.write('{"cut sho')
    os.utime(store.root / "versions/00000003.json", (1e9, 1e9))
    rows = history(store)
    assert [(r.number, r.cycle, r.round, r.rounds) for r in rows] == [
        (3, 2, 0, 1),
        (2, 1, 1, 1),
        (1, 1, 0, 1),
    ]
    assert [(r.bytes, r.new) for r in rows] == [(12, 7), (12, 7), (12, 12)]
    assert [r.notes for r in rows] == ["newest, served", "", ""]
    assert rows[0].published_at.timestamp() == 1e9
    assert rows[1].published_at.timestamp() == store.events()[-1]["time"]
