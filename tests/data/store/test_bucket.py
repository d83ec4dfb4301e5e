"""The store on an S3 server: the same promises, kept by conditional puts instead of renames."""

import os
import time
from dataclasses import replace

import pytest

from remine.data.errors import InputError, StoreError, UnansweredError
from remine.data.store import bucket, lease
from remine.data.store.bucket import Bucket, ConditionFailedError, evict
from remine.data.store.gc import RetentionConfig, collect, plan_collection
from remine.data.store.history import history
from remine.data.store.integrity import verify
from remine.data.store.pins import pin, served_version, unpin
from remine.data.store.records import FileRef
from remine.data.store.store import Store, store_exists


@pytest.fixture
def store(s3):
    return Store(s3, create=True)


@pytest.fixture
def elsewhere(store, tmp_path, monkeypatch):
    """Opens the same store as another machine, which has nothing of it yet."""

    def run(name: str = "other") -> Store:
        monkeypatch.setenv("REMINE_CACHE", str(tmp_path / name))
        handle = Store(store.address)
        assert handle.root != store.root
        return handle

    return run


def remote(store: Store, name: str, content: bytes | None = None) -> bytes | None:
    """What the server holds under `name`; with `content`, it is changed behind the store's back."""
    place = store.place
    key = {"Bucket": place.bucket, "Key": f"{place.prefix}/{name}"}
    if content is None:
        return place._client.get_object(**key)["Body"].read()
    place._client.put_object(**key, Body=content)
    return None


def faults(store: Store) -> list[str]:
    return verify(store, lambda _done, _all: None).faults


# Files and versions ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["s3://", "s3://bucket", "s3://bucket/", "s3://b/p?x=1", "gs://bucket/prefix"]
)
def test_an_address_that_names_no_prefix_is_refused(url):
    with pytest.raises(InputError, match=url[:5]):
        Store(url)


def test_what_is_not_there_is_said(s3):
    assert not store_exists(s3)
    with pytest.raises(InputError, match=f"no store at {s3}"):
        Store(s3)
    with pytest.raises(InputError, match="there is no bucket 'nowhere'; create it"):
        Store("s3://nowhere/x", create=True)


def test_a_prefix_with_other_objects_is_refused(store):
    remote(store, "../thesis/a.tex".replace("../", ""), b"years of work")
    with pytest.raises(InputError, match="holds other objects"):
        Bucket(store.address).check()


def test_a_server_that_is_away_is_one_line(s3, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    monkeypatch.setattr(bucket, "TRIES", 1)
    with pytest.raises(UnansweredError, match=s3) as error:
        Store(s3)
    assert "\n" not in str(error.value)


def test_another_machine_reads_what_was_published(store, versions, elsewhere):
    publication = versions(store, 3)
    second = elsewhere()
    assert list(second.versions()) == publication[::-1]
    assert second.current() == served_version(second) == publication[-1]
    for version in publication:
        for artifact in version.artifacts.values():
            assert [p.read_bytes() for p in second.paths(artifact)] == [
                p.read_bytes() for p in store.paths(artifact)
            ]
    assert second.recall("items") == publication[0].artifacts["items"]
    assert remote(store, "CURRENT") == b"3\n"
    assert not faults(second)
    assert [row.number for row in history(second)] == [3, 2, 1]
    assert history(second)[0].published_at is not None


def test_a_pin_is_seen_by_all(store, versions, elsewhere):
    versions(store, 3)
    pin(store, 2)
    assert served_version(elsewhere()).number == 2
    unpin(store)
    assert served_version(elsewhere()).number == 3


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
    assert not store_exists(s3)


# Damage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"itemz", b"", b"items and more"])
def test_a_damaged_object_is_told_and_never_read(store, versions, elsewhere, content):
    publication = versions(store, 2)
    file = publication[0].artifacts["items"].files[0]
    remote(store, file.object, content)
    second = elsewhere()
    with pytest.raises(StoreError, match="is corrupt"):
        second.path(file)
    assert second.recall("items") is None
    assert not list((second.root / "objects").iterdir())
    (line,) = faults(store)
    assert f"{store.address}/{file.object} is corrupt (items of versions 1, 2)" in line
    second.put_bytes(b"items", name="part-00000.bin")  # the work is done again
    assert not faults(store)
    assert elsewhere("third").recall("items") is not None


def test_what_the_server_lacks_is_missing_whatever_lies_in_the_cache(store, versions):
    publication = versions(store, 1)
    file = publication[0].artifacts["items"].files[0]
    store.place.remove(file.object)
    repetition = Store(store.address)
    assert repetition.recall("items") is None
    with pytest.raises(StoreError, match=r"\(part-00000.bin\) is missing"):
        repetition.path(file)
    assert len(faults(repetition)) == 1


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

            kind = plan_.pop(0) if plan_ else "fine"
            if kind != "never":
                result = real.put_object(**arguments)
            if kind != "fine":
                raise ReadTimeoutError(endpoint_url="loopback")
            return result

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
        assert served_version(store) == version
    assert not answers
    assert not faults(store)


def test_no_answer_at_all_is_an_error_and_removes_nothing(store, make_version, answers):
    version = make_version(store, 1)
    answers += ["lost", "fine"]
    store.publish(version)
    answers += ["never"] * bucket.TRIES
    with pytest.raises(StoreError, match="the server did not confirm that it was written"):
        store.put_bytes(b"new", name="x")
    assert store.current() == version
    assert not faults(store)


def test_a_lost_answer_while_another_publisher_won(store, make_version, answers, monkeypatch):
    mine = make_version(store, 1)
    second = replace(mine, config={"seed": 2})
    create, process = store.place.create, []

    def late(name: str, content: bytes) -> bytes:
        if not process:
            process.append(1)
            Store(store.address).publish(second)
            answers.append("never")
        return create(name, content)

    monkeypatch.setattr(store.place, "create", late)
    with pytest.raises(StoreError, match="was published by another run"):
        store.publish(mine)
    assert store.current() == second


def test_of_two_publishers_one_wins_and_the_same_version_twice_is_fine(store, make_version):
    mine = make_version(store, 1)
    store.publish(mine)
    Store(store.address).publish(mine)
    with pytest.raises(StoreError, match="was published by another run"):
        Store(store.address).publish(replace(mine, config={"seed": 2}))
    with pytest.raises(ConditionFailedError):
        store.place.put("versions/00000001.json", b"x", IfNoneMatch="*")


# Collection -----------------------------------------------------------------------------------


def test_collection_keeps_what_is_pinned_and_read(store, versions, elsewhere):
    output_ = versions(store, 7)
    pin(store, 2)
    release = elsewhere().register_reader(output_[2])
    text = plan_collection(store, RetentionConfig(keep=1))
    went = collect(store, RetentionConfig(keep=1))
    assert text.versions == went.versions == [1, 4, 5]
    assert sorted(went.reasons) == [2, 3, 6, 7]
    assert store.numbers() == [2, 3, 6, 7]
    assert not faults(store)
    assert not store.place.entries("retired")
    release()
    unpin(store)
    assert collect(store, RetentionConfig(keep=1)).versions == [2, 3]
    assert len(store.place.entries("objects")) == 3
    assert not faults(store)
    version = replace(output_[6], number=8)
    store.publish(version)
    assert elsewhere("third").current() == version


def test_a_killed_reader_holds_only_for_a_while(store, versions, monkeypatch):
    output_ = versions(store, 4)
    store.register_reader(output_[0])
    assert store.place.versions_in_use() == {1}
    monkeypatch.setattr(lease, "READER_SECONDS", -1.0)
    assert store.place.versions_in_use() == set()


def test_a_reader_goes_on_renewing(store, versions, monkeypatch):
    monkeypatch.setattr(lease, "READER_SECONDS", 3.0)
    release = store.register_reader(versions(store, 1)[0])
    time.sleep(3.5)
    assert store.place.versions_in_use() == {1}
    release()
    assert store.place.versions_in_use() == set()


def test_a_file_that_was_never_there_is_missing(store):
    file = FileRef(name="a/b.bin", sha256="0" * 64, bytes=1)
    with pytest.raises(StoreError, match="is missing"):
        store.path(file)
