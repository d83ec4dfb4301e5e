"""The store on an S3 server: the same promises, kept by conditional puts instead of renames."""

import os
import socket
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from data import bucket, lease
from data.bucket import Bucket, TakenError, evict
from data.errors import (
    InputError,
    LostLockError,
    StoreBusyError,
    StoreError,
    UnansweredError,
)
from data.gc import Keeping, collect, plan
from data.history import history
from data.pins import pin, served, unpin
from data.records import FileRef
from data.store import Store, made
from data.verify import verify


@pytest.fixture
def store(s3):
    return Store(s3, create=True)


@pytest.fixture
def elsewhere(store, tmp_path, monkeypatch):
    """Opens the same store as another machine, which has nothing of it yet."""

    def run(name: str = "other") -> Store:
        monkeypatch.setenv("REMINE_CACHE", str(tmp_path / name))
        opened = Store(store.address)
        assert opened.root != store.root
        return opened

    return run


@pytest.fixture
def quick(monkeypatch):
    """Leases of two seconds and a half."""
    monkeypatch.setattr(lease, "SECONDS", 2.5)


def remote(store: Store, name: str, content: bytes | None = None) -> bytes | None:
    """What the server holds under `name`; with `content`, it is changed behind the store's back."""
    place = store.place
    key = {"Bucket": place.bucket, "Key": f"{place.prefix}/{name}"}
    if content is None:
        return place._client.get_object(**key)["Body"].read()
    place._client.put_object(**key, Body=content)
    return None


def faults(store: Store) -> list[str]:
    return verify(store, lambda _done, _all: None).damaged


# Files and versions ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["s3://", "s3://bucket", "s3://bucket/", "s3://b/p?x=1", "gs://bucket/prefix"]
)
def test_an_address_that_names_no_prefix_is_refused(url):
    with pytest.raises(InputError, match=url[:5]):
        Store(url)


def test_what_is_not_there_is_said(s3):
    assert not made(s3)
    with pytest.raises(InputError, match=f"no store at {s3}"):
        Store(s3)
    with pytest.raises(InputError, match="no bucket 'nowhere'; make it"):
        Store("s3://nowhere/x", create=True)


def test_a_prefix_with_other_objects_is_refused(store):
    remote(store, "../thesis/a.tex".replace("../", ""), b"years of work")
    with pytest.raises(InputError, match="holds other objects"):
        Bucket(store.address).check()


def test_a_server_that_is_away_is_one_line(s3, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    monkeypatch.setattr(bucket, "TRIES", 1)
    with pytest.raises(UnansweredError, match=s3) as caught:
        Store(s3)
    assert "\n" not in str(caught.value)


def test_another_machine_reads_what_was_published(store, versions, elsewhere):
    published = versions(store, 3)
    other = elsewhere()
    assert list(other.versions()) == published[::-1]
    assert other.current() == served(other) == published[-1]
    for version in published:
        for artifact in version.artifacts.values():
            assert [p.read_bytes() for p in other.paths(artifact)] == [
                p.read_bytes() for p in store.paths(artifact)
            ]
    assert other.recall("items") == published[0].artifacts["items"]
    assert remote(store, "CURRENT") == b"3\n"
    assert not faults(other)
    assert [row.number for row in history(other)] == [3, 2, 1]
    assert history(other)[0].when is not None


def test_a_pin_is_seen_by_all(store, versions, elsewhere):
    versions(store, 3)
    pin(store, 2)
    assert served(elsewhere()).number == 2
    unpin(store)
    assert served(elsewhere()).number == 3


def test_a_folder_and_a_bucket_hold_the_same_bytes(store, versions, tmp_path):
    versions(store, 3)
    local = Store(tmp_path / "local", create=True)
    versions(local, 3)
    for folder in ("objects", "receipts", "versions"):
        names = local.place.entries(folder)
        assert set(store.place.entries(folder)) == set(names)
        for name in names:
            assert remote(store, f"{folder}/{name}") == local.place.read(f"{folder}/{name}")


@pytest.mark.parametrize("ignored", ["IfNoneMatch", "IfMatch"])
def test_a_server_that_ignores_conditions_is_refused(s3, s3_server, monkeypatch, ignored):
    real = bucket.client(s3_server)

    class Careless:
        def __getattr__(self, name):
            return getattr(real, name)

        def put_object(self, **arguments):
            arguments.pop(ignored, None)
            return real.put_object(**arguments)

    monkeypatch.setattr(bucket, "client", lambda _endpoint: Careless())
    with pytest.raises(InputError, match=f"this server ignores {ignored} on puts"):
        Store(s3, create=True)
    assert not made(s3)


# Damage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"itemz", b"", b"items and more"])
def test_a_damaged_object_is_told_and_never_read(store, versions, elsewhere, content):
    published = versions(store, 2)
    file = published[0].artifacts["items"].files[0]
    remote(store, file.object, content)
    other = elsewhere()
    with pytest.raises(StoreError, match="is corrupt"):
        other.path(file)
    assert other.recall("items") is None
    assert not list((other.root / "objects").iterdir())
    (line,) = faults(store)
    assert f"{store.address}/{file.object} is corrupt (items of versions 1, 2)" in line
    other.put_bytes(b"items", name="part-00000.bin")  # the work is done again
    assert not faults(store)
    assert elsewhere("third").recall("items") is not None


def test_what_the_server_lacks_is_missing_whatever_lies_in_the_cache(store, versions):
    published = versions(store, 1)
    file = published[0].artifacts["items"].files[0]
    store.place.remove(file.object)
    again = Store(store.address)
    assert again.recall("items") is None
    with pytest.raises(StoreError, match=r"\(part-00000.bin\) is missing"):
        again.path(file)
    assert len(faults(again)) == 1


def test_a_damaged_cache_is_filled_again(store, versions):
    file = versions(store, 1)[0].artifacts["items"].files[0]
    path = store.path(file)
    path.chmod(0o644)
    path.write_bytes(b"itemz")
    assert Store(store.address).path(file).read_bytes() == b"items"


def test_the_cache_is_bounded_and_keeps_what_was_used_lately(tmp_path):
    now = time.time()
    (tmp_path / "folder").mkdir()
    for name, size, age in (("a", 5, 9_000), ("b", 5, 8_000), ("c", 5, 7_000), ("d", 90, 10)):
        (tmp_path / name).write_bytes(bytes(size))
        os.utime(tmp_path / name, (now - age, now - age))
    evict(tmp_path, 97)
    assert [n for n in "abcd" if (tmp_path / n).exists()] == ["c", "d"]
    evict(tmp_path, 0)
    assert [n for n in "abcd" if (tmp_path / n).exists()] == ["d"]


# Unknown outcomes -----------------------------------------------------------------------------


@pytest.fixture
def answers(store, monkeypatch):
    """Makes puts lose their answers: `lost` after they were done, `never` before."""
    monkeypatch.setattr(bucket.time, "sleep", lambda _seconds: None)
    real = store.place._client
    plan_: list[str] = []

    class Losing:
        def __getattr__(self, name):
            return getattr(real, name)

        def put_object(self, **arguments):
            from botocore.exceptions import ReadTimeoutError

            what = plan_.pop(0) if plan_ else "fine"
            if what != "never":
                found = real.put_object(**arguments)
            if what != "fine":
                raise ReadTimeoutError(endpoint_url="loopback")
            return found

    monkeypatch.setattr(bucket, "client", lambda _endpoint: Losing())
    return plan_


@pytest.mark.parametrize("what", [["lost"], ["never"], ["never", "never", "lost"]])
@pytest.mark.parametrize("work", ["put", "remember", "publish", "pin"])
def test_a_lost_answer_changes_nothing(store, make_version, answers, what, work):
    version = make_version(store, 1)
    if work == "pin":
        store.publish(version)
    answers += what
    if work == "put":
        assert store.path(store.put_bytes(b"new", name="x")).read_bytes() == b"new"
    elif work == "remember":
        store.remember("key", version.artifacts["items"])
        assert store.recall("key") == version.artifacts["items"]
    elif work == "publish":
        store.publish(version)
        assert store.current() == version
    else:
        pin(store, 1)
        assert served(store) == version
    assert not answers
    assert not faults(store)


def test_no_answer_at_all_is_an_error_and_removes_nothing(store, make_version, answers):
    version = make_version(store, 1)
    answers += ["lost", "fine"]
    store.publish(version)
    answers += ["never"] * bucket.TRIES
    with pytest.raises(StoreError, match="no answer that says whether it was written"):
        store.put_bytes(b"new", name="x")
    assert store.current() == version
    assert not faults(store)


def test_a_lost_answer_while_another_publisher_won(store, make_version, answers, monkeypatch):
    mine = make_version(store, 1)
    other = replace(mine, config={"seed": 2})
    create, done = store.place.create, []

    def late(name: str, content: bytes) -> bytes:
        if not done:
            done.append(1)
            Store(store.address).publish(other)
            answers.append("never")
        return create(name, content)

    monkeypatch.setattr(store.place, "create", late)
    with pytest.raises(StoreError, match="was published by another run"):
        store.publish(mine)
    assert store.current() == other


def test_of_two_publishers_one_wins_and_the_same_version_twice_is_fine(store, make_version):
    mine = make_version(store, 1)
    store.publish(mine)
    Store(store.address).publish(mine)
    with pytest.raises(StoreError, match="was published by another run"):
        Store(store.address).publish(replace(mine, config={"seed": 2}))
    with pytest.raises(TakenError):
        store.place.put("versions/00000001.json", b"x", IfNoneMatch="*")


# The lock -------------------------------------------------------------------------------------

HOLD = """
import sys
from data import lease
from data.store import Store
lease.SECONDS = 2.5
with Store(sys.argv[1]).lock():
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(store: Store) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, store.address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    return process


def take(store: Store) -> None:
    with store.lock():
        pass


@pytest.mark.usefixtures("quick")
def test_a_living_holder_keeps_the_lock_past_its_time_and_gives_it_back(store):
    with holder(store) as process:
        end = time.monotonic() + 3
        while time.monotonic() < end:
            with pytest.raises(StoreBusyError, match=f"in use by process {process.pid} on"):
                take(Store(store.address))
            time.sleep(0.3)
        process.stdin.close()
        process.wait()
    start = time.monotonic()
    take(store)
    assert time.monotonic() - start < 0.7  # it need not be watched


@pytest.mark.usefixtures("quick")
def test_a_killed_holder_is_followed_when_its_time_is_past(store):
    with holder(store) as process:
        process.kill()
        process.wait()
    with pytest.raises(StoreBusyError):
        take(Store(store.address))
    time.sleep(2.6)
    take(Store(store.address))
    take(Store(store.address))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("jump", [-3600, 3600])
def test_a_clock_that_jumps_takes_no_lock_from_the_living(store, jump, monkeypatch):
    with holder(store) as process:
        real = time.time
        monkeypatch.setattr(lease.time, "time", lambda: real() + jump)
        with pytest.raises(StoreBusyError, match=f"process {process.pid}"):
            take(Store(store.address))
        process.stdin.close()


def test_a_holder_that_slept_through_its_lease_publishes_nothing(store, make_version, monkeypatch):
    monkeypatch.setattr(lease, "SECONDS", 0.6)
    version = make_version(store, 1)
    frozen = Store(store.address)
    with frozen.lock():
        held = frozen.place._lease
        monkeypatch.setattr(held, "_body", lambda _seconds: 1 / 0)  # it cannot renew
        time.sleep(0.8)
        with Store(store.address).lock():
            with pytest.raises(LostLockError, match="taken over by another run"):
                frozen.publish(version)
            with pytest.raises(StoreBusyError):
                take(Store(store.address))
    assert store.current() is None
    take(Store(store.address))


def test_of_two_that_take_over_one_gets_it(store, monkeypatch):
    dead = lease.json.dumps({"holder": "process 1 on x", "token": "x", "until": 1.0}).encode()
    remote(store, "lock", dead)
    other, slept = Store(store.address).lock(), []

    def meanwhile(_seconds: float) -> None:
        slept.append(1)
        if len(slept) == 1:  # the first one watches: a second one comes and is quicker
            other.__enter__()

    monkeypatch.setattr(lease.time, "sleep", meanwhile)
    with pytest.raises(StoreBusyError, match=f"in use by process {os.getpid()} on"):
        take(store)
    assert len(slept) == 2
    other.__exit__(None, None, None)
    take(store)


def test_a_lock_that_is_none_is_named(store):
    remote(store, "lock", b"[]")
    for look in (take, Store.holder):
        with pytest.raises(StoreError, match="/lock is no lock; remove it"):
            look(store)


def test_who_holds_the_lock_is_told_and_nothing_is_taken(store):
    other = Store(store.address)
    assert other.holder() is None  # nobody ever has
    with store.lock():
        before = remote(store, "lock")
        assert other.holder() == f"process {os.getpid()} on {socket.gethostname()}"
        assert remote(store, "lock") == before
    assert other.holder() is None
    # A killed one, past its time.
    remote(store, "lock", before.replace(b'"until": ', b'"until": 1.0, "until_then": '))
    assert other.holder() is None


# Collection -----------------------------------------------------------------------------------


def test_collection_keeps_what_is_pinned_and_read(store, versions, elsewhere):
    made_ = versions(store, 7)
    pin(store, 2)
    release = elsewhere().hold(made_[2])
    told = plan(store, Keeping(keep=1))
    went = collect(store, Keeping(keep=1))
    assert told.versions == went.versions == [1, 4, 5]
    assert sorted(went.kept) == [2, 3, 6, 7]
    assert store.numbers() == [2, 3, 6, 7]
    assert not faults(store)
    assert not store.place.entries("retired")
    release()
    unpin(store)
    assert collect(store, Keeping(keep=1)).versions == [2, 3]
    assert len(store.place.entries("objects")) == 3
    assert not faults(store)
    version = replace(made_[6], number=8)
    store.publish(version)
    assert elsewhere("third").current() == version


def test_a_killed_reader_holds_only_for_a_while(store, versions, monkeypatch):
    made_ = versions(store, 4)
    store.hold(made_[0])
    assert store.place.held() == {1}
    monkeypatch.setattr(lease, "READER_SECONDS", -1.0)
    assert store.place.held() == set()


def test_a_reader_goes_on_renewing(store, versions, monkeypatch):
    monkeypatch.setattr(lease, "READER_SECONDS", 3.0)
    release = store.hold(versions(store, 1)[0])
    time.sleep(3.5)
    assert store.place.held() == {1}
    release()
    assert store.place.held() == set()


def test_a_file_that_was_never_there_is_missing(store):
    file = FileRef(name="a/b.bin", sha256="0" * 64, bytes=1)
    with pytest.raises(StoreError, match="is missing"):
        store.path(file)
