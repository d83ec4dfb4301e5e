"""Whatever a manifest or a receipt says: it names nothing outside the store, nothing crashes."""

import json
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from remine.data.errors import InputError, StoreError
from remine.data.store.integrity import verify
from remine.data.store.records import Artifact, FileRef, Version, seal
from remine.data.store.store import Store
from remine.data.store.views import verified_path, view

PARTS = st.sampled_from(["..", ".", "", "a", "a.b", "/", "\0", "\\", "~", "-rf", "x" * 300, "é\n"])
NAMES = st.one_of(st.text(), st.lists(PARTS).map("/".join), st.lists(PARTS).map(".".join))
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), NAMES
)
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
)
SHA = "0" * 64


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("records") / "store", create=True).root


def inside(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve()) and path.resolve() != folder.resolve()


def file_of(**changes):
    return FileRef(**{"name": "a.bin", "sha256": SHA, "bytes": 1, **changes})


@settings(max_examples=400, deadline=None)
@given(name=NAMES)
@example(name="a/../../b")
@example(name="/etc/passwd")
@example(name="a.\0")
@example(name="a." + "x" * 200)
@example(name="\ud800")
def test_a_name_stays_in_its_folder_or_is_refused(root, name):
    try:
        ref = file_of(name=name)
    except StoreError as error:
        messages = str(error)
    else:
        messages = ""
    if messages:
        assert "\n" not in messages
        assert len(messages) < 200
        return
    assert (root / ref.object).parent == root / "objects"
    assert inside(root / ref.object, root / "objects")
    assert inside(root / "views" / "1" / name, root / "views" / "1")
    (root / ref.object).touch()  # a name that the disk takes
    (root / ref.object).unlink()


@settings(deadline=None)
@given(name=NAMES)
def test_artifacts_and_kinds_stay_in_the_view_or_are_refused(root, name):
    try:
        artifact = Artifact(kind=name, files=())
        assert inside(root / "views" / f"{artifact.kind}-0", root / "views")
    except StoreError:
        pass
    try:
        version_of({name: Artifact(kind="items", files=())})
        assert inside(root / "views" / "1" / name, root / "views" / "1")
    except StoreError:
        pass


def version_of(artifacts) -> Version:
    return Version(
        number=1, parent=None, cycle=1, round=0, rounds=1, config={}, artifacts=artifacts
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"sha256": f"../{SHA[3:]}"},
        {"sha256": 5},
        {"bytes": -1},
        {"bytes": "1"},
        {"bytes": True},
        {"rows": None},
        {"name": None},
        {"name": 7},
    ],
)
def test_a_file_that_is_none_is_refused(changes):
    with pytest.raises(StoreError):
        file_of(**changes)


@settings(max_examples=300, deadline=None)
@given(body=JSON, field=st.sampled_from(["", "artifacts", "items", "files", "number", "round"]))
def test_a_manifest_of_anything_is_a_version_or_refused(root, body, field):
    """Its digest is right: who can write it can seal it."""
    file = {"name": "a", "sha256": SHA, "bytes": 1, "rows": 0}
    item = {"kind": "items", "files": [file], "card": {}}
    complete = {
        "number": 1,
        "parent": None,
        "cycle": 1,
        "round": 0,
        "rounds": 1,
        "config": {},
        "artifacts": {"items": item},
    }
    if field == "":
        complete = body
    elif field == "items":
        complete["artifacts"]["items"] = body
    elif field == "files":
        item["files"] = body
    else:
        complete[field] = body
    (root / "versions/00000001.json").write_bytes(seal(complete))
    (root / "receipts/key.json").write_bytes(seal(item if field == "files" else complete))
    store = Store(root)
    try:
        version = store.version(1)
        assert all(inside(root / name, root / "objects") for name in version.files)
    except (StoreError, InputError):
        pass
    assert store.recall("key") is None or field == "files"
    verify(store, lambda _done, _all: None)


def test_a_manifest_that_is_too_deep_is_refused(root):
    (root / "versions/00000001.json").write_bytes(b'{"body": ' + b"[" * 100_000)
    with pytest.raises(StoreError, match="is corrupt"):
        Store(root).version(1)


@pytest.mark.parametrize("how", ["link", "link in the store", "folder", "pipe"])
def test_an_object_that_is_no_plain_file_is_never_opened(tmp_path, how):
    import os

    store = Store(tmp_path / "store", create=True)
    ref = store.put_bytes(b"content", name="a.bin")
    path = store.root / ref.object
    changes = (store.root / "work" if "store" in how else tmp_path) / "moved"
    path.rename(changes)
    if "link" in how:
        path.symlink_to(changes)  # of the right bytes, today
    elif how == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    with pytest.raises(StoreError, match=r"\(a\.bin\) is corrupt: it is not a regular file"):
        Store(store.root).path(ref)


def test_a_view_is_checked_before_it_is_read(tmp_path):
    store = Store(tmp_path / "store", create=True)
    ref = store.put_bytes(json.dumps({"a": 1}).encode(), name="arms.json")
    version = version_of({"arms": Artifact(kind="arms", files=(ref,))})
    store.publish(version)
    path = view(store, version) / "arms" / "arms.json"
    assert verified_path(path).read_bytes() == b'{"a": 1}'
    target = store.path(ref)
    target.chmod(0o644)
    target.write_bytes(b'{"a": 2}')
    with pytest.raises(StoreError, match="is corrupt"):
        verified_path(path)
    target.unlink()
    with pytest.raises(StoreError, match="is corrupt"):
        verified_path(path)
