"""What goes, what stays, and that a store stays whole, read and numbered."""

import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from remine.data.errors import InputError, StoreBusyError, StoreError
from remine.data.store.gc import RetentionConfig, collect, plan_collection
from remine.data.store.history import history
from remine.data.store.integrity import verify
from remine.data.store.pins import pin, pinned_version, served_version
from remine.data.store.records import Artifact
from remine.data.store.store import Store
from remine.data.store.views import lay_out, lay_out_artifact

READ = """
import sys
from pathlib import Path
from remine.data.store.store import Store
store = Store(Path(sys.argv[1]))
release = store.register_reader(store.version(int(sys.argv[2])))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store", create=True)


def sound(store: Store) -> list[int]:
    """The numbers of the versions, each of which is whole."""
    result = verify(Store(store.address), lambda _done, _all: None)
    assert not result.faults
    return result.versions


def objects(store: Store) -> set[str]:
    return set(store.place.entries("objects"))


def test_the_last_versions_stay_and_only_what_others_have_alone_goes(store, versions):
    output = versions(store, 6)
    for version in output:
        lay_out(store, version)
    before = objects(store)
    text = plan_collection(store, RetentionConfig(keep=2))
    assert objects(store) == before
    assert sound(store) == [1, 2, 3, 4, 5, 6]
    went = collect(store, RetentionConfig(keep=2))
    assert (text.versions, text.objects, text.receipts) == (
        went.versions,
        went.objects,
        went.receipts,
    )
    assert went.versions == [1, 2, 3, 4]
    assert went.bytes == 4 * len(b"index 1")
    assert sound(store) == [5, 6]
    assert objects(store) == {
        name.removeprefix("objects/") for v in output[-2:] for name in v.files
    }
    assert store.recall("index-1") is None
    assert store.recall("items") == output[0].artifacts["items"]
    assert sorted(p.name for p in (store.root / "views").iterdir()) == ["00000005", "00000006"]
    assert not store.place.entries("retired")
    assert collect(store, RetentionConfig(keep=2)).versions == []


def test_numbers_go_on_where_old_ones_are_gone(store, versions, make_version):
    versions(store, 5)
    collect(store, RetentionConfig(keep=1))
    assert store.numbers() == [4, 5]  # 4 ended the last finished cycle
    (store.root / "CURRENT").unlink()
    assert Store(store.root).current().number == 5
    store.publish(make_version(store, 6))
    assert [v.number for v in Store(store.root).versions()] == [6, 5, 4]
    missing = replace(make_version(store, 7), number=2)
    with pytest.raises(StoreError, match="version 2 does not follow the newest one"):
        store.publish(missing)
    with pytest.raises(InputError, match="no version 2 in"):
        store.version(2)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_what_the_next_run_starts_from_stays(store, versions, count):
    output = versions(store, count)
    collect(store, RetentionConfig(keep=1, days=0))
    last = max(v.number for v in output if v.finished)
    assert sound(store) == list(range(last, count + 1))
    for version in output[last - 1 :]:
        assert store.recall(f"index-{version.number}") is not None


def test_a_long_cycle_under_way_stays_whole(store, make_version):
    for number in range(1, 6):
        place = (1, 1) if number == 1 else (2, number - 2)
        version = replace(make_version(store, number), cycle=place[0], round=place[1])
        store.publish(replace(version, rounds=1 if number == 1 else 9))
    assert collect(store, RetentionConfig(keep=1)).versions == []
    assert sound(store) == [1, 2, 3, 4, 5]


def test_the_last_trained_stays_under_versions_that_only_follow_the_items(
    store, versions, make_version
):
    versions(store, 4)
    for number in (5, 6, 7):
        store.publish(replace(make_version(store, number), cycle=number, round=0, rounds=0))
    went = collect(store, RetentionConfig(keep=1))
    assert went.reasons == {4: "the last trained cycle's end", 7: "one of the last 1"}
    assert sound(store) == [4, 7]


def test_a_first_cycle_that_is_under_way_loses_nothing(store, versions):
    versions(store, 1)
    half = store.remember("half", Artifact(kind="x", files=(store.put_bytes(b"h", name="h"),)))
    os.utime(store.root / "receipts/half.json", (0, 0))
    os.utime(store.path(half.files[0]), (0, 0))
    assert collect(store, RetentionConfig(keep=1, days=0)).objects == {}
    assert store.recall("half") == half


def test_the_pinned_version_stays_and_is_served(store, versions):
    versions(store, 6)
    pin(store, 2)
    assert collect(store, RetentionConfig(keep=1)).versions == [1, 3, 4, 5]
    assert sound(store) == [2, 6]
    assert served_version(Store(store.root)).number == 2
    assert store.current().number == 6


def test_a_pin_on_a_version_that_is_gone_is_refused_by_name(store, versions):
    versions(store, 4)
    collect(store, RetentionConfig(keep=1))
    with pytest.raises(InputError, match="no version 1 in"):
        pin(store, 1)
    assert pinned_version(store) == 0


@pytest.mark.parametrize("end", ["kill", "release"])
def test_what_a_process_reads_stays_until_it_ends(store, versions, end):
    versions(store, 6)
    with subprocess.Popen(
        [sys.executable, "-c", READ, str(store.root), "1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as reader:
        assert reader.stdout.readline() == "held\n"
        assert plan_collection(store, RetentionConfig(keep=1)).reasons[1] == "read"
        assert collect(store, RetentionConfig(keep=1)).versions == [2, 3, 4, 5]
        assert sound(store) == [1, 6]
        assert history(store)[-1].notes == "read"
        reader.kill() if end == "kill" else reader.stdin.close()
        reader.wait()
    assert collect(store, RetentionConfig(keep=1)).versions == [1]
    assert not list((store.root / "readers").iterdir())
    assert sound(store) == [6]


def test_a_reader_or_a_pin_that_comes_while_versions_retire_brings_them_back(
    store, versions, monkeypatch
):
    versions(store, 6)
    move, releases = store.place.move, []

    def meanwhile(name: str, target: str) -> None:
        if name == "versions/00000001.json" and not releases:
            releases.append(Store(store.root).register_reader(store.version(1)))
        if name == "versions/00000003.json":
            pin(Store(store.root), 3)
        move(name, target)

    monkeypatch.setattr(store.place, "move", meanwhile)
    assert collect(store, RetentionConfig(keep=1)).versions == [2, 4, 5]
    assert sound(store) == [1, 3, 6]
    releases[0]()


def test_a_reader_that_comes_too_late_is_told(store, versions):
    output = versions(store, 4)
    collect(store, RetentionConfig(keep=1))
    with pytest.raises(InputError, match="no version 1 in"):
        store.register_reader(output[0])
    assert not list((store.root / "readers").iterdir())


def test_nothing_goes_while_a_cycle_runs(store, versions):
    versions(store, 4)
    with store.lock(), pytest.raises(StoreBusyError):
        collect(Store(store.root), RetentionConfig(keep=1))
    assert sound(store) == [1, 2, 3, 4]


def test_a_damaged_manifest_stops_a_collection(store, versions):
    versions(store, 4)
    (store.root / "versions/00000002.json").write_bytes(b"{}")
    with pytest.raises(StoreError, match=r"00000002\.json is corrupt"):
        collect(store, RetentionConfig(keep=1))
    assert len(objects(store)) == 5


def test_files_that_nothing_names_go_when_they_are_old(store, versions):
    versions(store, 2)
    old, young = (store.path(store.put_bytes(c, name="x")) for c in (b"old", b"young"))
    os.utime(old, (0, 0))
    assert set(plan_collection(store, RetentionConfig()).objects) == {old.name}
    collect(store, RetentionConfig())
    assert not old.exists()
    assert young.exists()


def test_work_of_no_version_goes_by_its_last_use(store):
    """A store of comparisons has receipts, views and no versions."""
    day = time.time() - 20 * 86_400
    for key in ("used", "left", "shown"):
        artifact = Artifact(kind="arms", files=(store.put_bytes(key.encode(), name="arm.json"),))
        store.remember(key, artifact)
        os.utime(store.path(artifact.files[0]), (day, day))
        os.utime(store.root / f"receipts/{key}.json", (day, day))
    lay_out_artifact(store, store.receipt("left"))
    os.utime(store.root / "views" / (store.root / "latest").readlink().name, (day, day))
    page = lay_out_artifact(store, store.receipt("shown"))
    assert store.recall("used")  # by a comparison that goes on
    store.remember("started", Artifact(kind="started", files=()))
    os.utime(store.root / "receipts/started.json", (0, 0))
    (store.root / "work/killed").mkdir()
    os.utime(store.root / "work/killed", (day, day))
    went = collect(store, RetentionConfig())
    assert went.receipts == ["left.json"]
    assert len(went.objects) == 1
    assert (page / "arm.json").read_bytes() == b"shown"
    assert [p.name for p in (store.root / "views").iterdir()] == [page.name]
    assert store.recall("used")
    assert store.has_receipt("started")
    assert not list((store.root / "work").iterdir())


@pytest.mark.parametrize("settings", [{"keep": 0}, {"days": -1.0}])
def test_settings_are_checked(settings):
    with pytest.raises(InputError, match=rf"gc\.{next(iter(settings))} is"):
        RetentionConfig(**settings)


def test_a_pin_that_comes_too_late_is_taken_back(store, versions, monkeypatch):
    versions(store, 4)
    write, process = store.place.write, []

    def meanwhile(name: str, content: bytes) -> None:
        if name == "PIN" and not process:
            process.append(1)
            collect(Store(store.root), RetentionConfig(keep=1))
        write(name, content)

    monkeypatch.setattr(store.place, "write", meanwhile)
    with pytest.raises(InputError, match="no version 1 in"):
        pin(store, 1)
    assert pinned_version(store) == 0
    assert served_version(store).number == 4
