"""The store's protocol on a model of a disk that dies: at each change, losing what is not synced.

A mutation runs once on a real folder, with every change that it makes recorded (`disk`). Then,
for each prefix of the changes, the model tells what a disk may hold after a power cut: of each file
any content since its last sync, or a torn half; of each folder any subset of the entries changed
since its last sync. One of these is that all survived: a kill -9. Each such disk is laid down and
looked at as a reader, by verify, and by the next run, which must end at the same bytes.

REMINE_TORTURE=1 looks at many more disks a prefix, and prints how many.
"""

import itertools
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import pytest

from remine.data.errors import StoreError
from remine.data.store import disk, gc
from remine.data.store import store as store_module
from remine.data.store.folder import Folder
from remine.data.store.gc import RetentionConfig, collect
from remine.data.store.integrity import verify
from remine.data.store.pins import pin, served_version, unpin
from remine.data.store.records import Artifact
from remine.data.store.store import Store

TORTURE = os.environ.get("REMINE_TORTURE") == "1"
DISKS = 4_000 if TORTURE else 10
UNMODELLED = ("tmp", "views", "work", "readers")
SAME = ("objects", "receipts", "versions", "retired")

Change = tuple[str, tuple[str, ...], bytes]
Files = dict[str, bytes]


# The model --------------------------------------------------------------------------------------


@dataclass
class ModelDisk:
    """states: of each file, the content that is safe and those since. entries: what is safe of each
    folder. pending: the changes of entries since the folder's last sync."""

    states: list[list[bytes]] = field(default_factory=list)
    entries: dict[str, int] = field(default_factory=dict)
    pending: list[tuple[str, int | None]] = field(default_factory=list)

    @classmethod
    def of(cls, files: Files) -> "ModelDisk":
        numbered = enumerate(files.items())
        return cls([[c] for c in files.values()], {name: n for n, (name, _) in numbered})

    def visible(self) -> dict[str, int]:
        return self.surviving(self.pending)

    def surviving(self, changes: list[tuple[str, int | None]]) -> dict[str, int]:
        result = dict(self.entries)
        for name, inode in changes:
            result.pop(name, None)
            if inode is not None:
                result[name] = inode
        return result

    def apply(self, change: Change) -> None:
        kind, names, content = change
        calls, name = self.visible(), names[0]
        if kind == "write":
            if name in calls:
                self.states[calls[name]] += [b"", content]
            else:
                self.states.append([b"", content])
                self.pending.append((name, len(self.states) - 1))
        elif kind == "sync" and name in calls:
            self.states[calls[name]] = self.states[calls[name]][-1:]
        elif kind == "sync":
            inside = [c for c in self.pending if str(PurePosixPath(c[0]).parent) == name]
            self.entries = self.surviving(inside)
            self.pending = [c for c in self.pending if c not in inside]
        elif kind == "link":
            self.pending.append((names[1], calls[name]))
        elif kind == "rename":
            self.pending += [(names[1], calls[name]), (name, None)]
        elif kind == "unlink" and name in calls:
            self.pending.append((name, None))

    def killed(self) -> Files:
        return {name: self.states[inode][-1] for name, inode in self.visible().items()}

    def after_power_cuts(self, count: int, chance: random.Random) -> Iterator[Files]:
        """All that survived first, then nothing unsynced, then `count` others, seldom the same."""
        yield self.killed()
        yield {name: self.states[inode][0] for name, inode in self.entries.items()}
        for _ in range(count):
            share = chance.choice((0.2, 0.5, 0.8))
            remainder = [change for change in self.pending if chance.random() < share]
            yield {name: self._torn(i, chance) for name, i in self.surviving(remainder).items()}

    def _torn(self, inode: int, chance: random.Random) -> bytes:
        states = self.states[inode]
        content = chance.choice(states)
        if len(states) > 1 and chance.random() < 0.3:
            content = content[: len(content) // 2]
        return content


def lay(files: Files, root: Path) -> Path:
    """The files as a real folder."""
    if root.exists():
        shutil.rmtree(root)
    for folder in ("objects", "receipts", "versions", "views", "work", "tmp"):
        (root / folder).mkdir(parents=True)
    for name, content in files.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(content)
    return root


def lifted(root: Path) -> Files:
    """What lies in a real folder."""
    paths = (p for p in root.rglob("*") if p.is_file() and not p.is_symlink())
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in paths}


def told(files: Files, folders: tuple[str, ...] = (*SAME, "CURRENT", "PIN", "FORMAT")) -> Files:
    """What must be the same in the end."""
    return {name: c for name, c in files.items() if name.split("/")[0] in folders}


@contextmanager
def recorded(root: Path, at: Callable[[int], None] = lambda _n: None) -> Iterator[list[Change]]:
    """Every change to the disk below `root`, in order; `at` is called before each."""
    changes: list[Change] = []
    patch = pytest.MonkeyPatch()

    def record(what: str) -> None:
        real = getattr(disk, what)

        def run(*args):
            at(len(changes))
            names = tuple(a.relative_to(root).as_posix() for a in args if isinstance(a, Path))
            changes.append((what, names, next((a for a in args if isinstance(a, bytes)), b"")))
            real(*args)

        patch.setattr(disk, what, run)

    for what in ("write", "sync", "rename", "link", "unlink"):
        record(what)
    try:
        yield changes
    finally:
        patch.undo()


# What is checked --------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Mutation:
    """start makes the store that it finds; run is what dies, and what the next run does again."""

    start: Callable[[Store], object]
    run: Callable[[Store], object]
    versions: tuple[int, ...]
    after: tuple[int, ...]


def look(root: Path, old: Files, mutation: Mutation) -> None:
    """Old or new, whole: as a reader, verify and the next stage see it."""
    store = Store(root)
    result = verify(store, lambda _done, _all: None)
    assert not result.faults, result.faults
    assert set(mutation.versions) & set(mutation.after) <= set(result.versions), "one is lost"
    assert set(result.versions) <= {*mutation.versions, *mutation.after}
    assert int((root / "CURRENT").read_bytes()) in result.versions, "CURRENT runs ahead"
    assert served_version(store).number in result.versions
    for name in store.place.entries("receipts"):
        assert store.recall(name.removesuffix(".json")), f"{name} names what is not there"
    assert (root / "FORMAT").read_bytes() == old["FORMAT"]


def crash_everywhere(
    mutation: Mutation,
    tmp_path: Path,
    disks: int = DISKS,
    dropped: Callable[[Change], bool] = lambda _change: False,
) -> int:
    """Run the mutation, cut the power at each change, look, go on; how many disks there were.

    dropped: changes that a mutant of the protocol leaves out.
    """
    root, chance, count = tmp_path / "store", random.Random(7), 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _handle: None)  # the model does it
        mutation.start(Store(root, create=True))
        old = {n: c for n, c in lifted(root).items() if n.split("/")[0] not in UNMODELLED}
        old = told(old)
        with recorded(root) as changes:
            mutation.run(Store(root))
        changes = [change for change in changes if not dropped(change)]
        end = told(lifted(root))
        model = ModelDisk.of(old)
        for number in range(len(changes) + 1):
            calls = set()
            for files in model.after_power_cuts(disks, chance):
                if (key := tuple(sorted(files.items()))) in calls:
                    continue
                calls.add(key)
                repetition = lay(files, tmp_path / "crashed")
                look(repetition, old, mutation)
                mutation.run(Store(repetition))
                assert told(lifted(repetition)) == end, "the next run ends elsewhere"
                count += 1
            if number < len(changes):
                model.apply(changes[number])
        assert told(model.killed()) == end, "a change went past data.store.disk"
    return count


def race_everywhere(first: Callable[[Store], object], second, root: Path) -> None:
    """Two publishers of one number, the second whole at each change of the first: one wins."""
    pristine = lifted(root)
    for number in itertools.count():
        lay(pristine, root)
        won: list[str] = []

        def meanwhile(change: int, number: int = number, won: list[str] = won) -> None:
            if change == number and "at" not in won:
                won.append("at")
                attempt("second", second, won)

        with recorded(root, meanwhile) as changes:
            attempt("first", first, won)
        winners = [name for name in won if name != "at"]
        assert len(winners) == 1 or "at" not in won, "both won"
        if number >= len(changes):
            return


def attempt(name: str, publish: Callable[[], object], won: list[str]) -> None:
    try:
        publish()
    except StoreError:
        return
    won.append(name)


def damage_everywhere(root: Path) -> None:
    """A flipped byte in any file that a version or a receipt rests on is never read as sound."""
    for name, content in lifted(root).items():
        if name.split("/")[0] not in SAME:
            continue
        for place in range(0, len(content), max(1, len(content) // 40)):
            bad = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
            path = root / name
            path.chmod(0o644)
            path.write_bytes(bad)
            assert noticed(Store(root)), f"{name} is read as sound"
            path.write_bytes(content)


def noticed(store: Store) -> bool:
    try:
        for version in store.versions():
            for artifact in version.artifacts.values():
                store.paths(artifact)
    except StoreError:
        return True
    receipts = store.place.entries("receipts")
    return any(store.recall(receipt.removesuffix(".json")) is None for receipt in receipts)


# Mutations --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mutations(versions, make_version) -> dict[str, Mutation]:
    def remember(store: Store) -> None:
        file = store.put_bytes(b"work", name="part-00000.bin", rows=4)
        store.remember("work", Artifact(kind="items", files=(file,)))

    def round_(store: Store) -> None:
        with store.lock():
            version = make_version(store, 3)
            if 3 in store.numbers():  # as a cycle does when it is walked again
                version = store.version(3)
            store.publish(version)

    def start(store: Store) -> None:
        versions(store, 2)

    def many(store: Store) -> None:
        versions(store, 4)

    def pinned_two(store: Store) -> None:
        many(store)
        pin(store, 2)

    def keep_one(store: Store) -> None:
        collect(store, RetentionConfig(keep=1))

    old = (1, 2)
    four = (1, 2, 3, 4)
    return {
        "put": Mutation(
            start=start, run=lambda s: s.put_bytes(b"new", name="x.bin"), versions=old, after=old
        ),
        "remember": Mutation(start=start, run=remember, versions=old, after=old),
        "round": Mutation(start=start, run=round_, versions=old, after=(1, 2, 3)),
        "pin": Mutation(start=start, run=lambda s: pin(s, 1), versions=old, after=old),
        "unpin": Mutation(start=pinned_two, run=unpin, versions=four, after=four),
        "gc": Mutation(start=many, run=keep_one, versions=four, after=(4,)),
        "gc beside a pin": Mutation(start=pinned_two, run=keep_one, versions=four, after=(2, 4)),
    }


NAMES = ("put", "remember", "round", "pin", "unpin", "gc", "gc beside a pin")


@pytest.mark.parametrize("name", NAMES)
def test_a_power_cut_anywhere(mutations, name, tmp_path, capsys):
    count = crash_everywhere(mutations[name], tmp_path)
    if TORTURE:
        with capsys.disabled():
            print(  # noqa: T201 - the counts are what it is for
                f"\n{name}: {count} disks after a power cut, each whole, each completed"
            )


@pytest.fixture
def rivals(tmp_path, make_version) -> tuple[Path, Callable[[], object], Callable[[], object]]:
    root = tmp_path / "store"
    mine = make_version(Store(root, create=True), 1)
    second = replace(mine, config={"seed": 2})
    return root, lambda: Store(root).publish(mine), lambda: Store(root).publish(second)


def test_of_two_publishers_at_any_step_one_wins(rivals):
    root, first, second = rivals
    race_everywhere(first, second, root)


def test_damage_is_never_read_as_sound(tmp_path, versions):
    versions(Store(tmp_path / "store", create=True), 2)
    damage_everywhere(tmp_path / "store")


# Planted mutants: each must be caught -----------------------------------------------------------


def rename_before_write(patch: pytest.MonkeyPatch) -> None:
    def write(self: Folder, name: str, content: bytes) -> None:
        target = self.local / name
        with disk.temporary(self.local / "tmp") as temp:
            disk.write(temp, b"")
            disk.rename(temp, target)
            disk.write(target, content)
            disk.sync(target)
            disk.sync(target.parent)

    patch.setattr(Folder, "write", write)


def current_first(patch: pytest.MonkeyPatch) -> None:
    real = Store.publish

    def publish(self: Store, version) -> None:
        self.place.write("CURRENT", f"{version.number}\n".encode())
        real(self, version)

    patch.setattr(Store, "publish", publish)


def files_before_manifests(patch: pytest.MonkeyPatch) -> None:
    real = gc.collect

    def collect_(store: Store, retention: RetentionConfig):
        gc._remove(store, gc.plan_collection(store, retention))
        return real(store, retention)

    patch.setitem(globals(), "collect", collect_)


def objects_before_receipts(patch: pytest.MonkeyPatch) -> None:
    real = gc._remove

    def remove(store: Store, plan) -> None:
        store.place.remove(*(f"objects/{name}" for name in plan.objects))
        real(store, plan)

    patch.setattr(gc, "_remove", remove)


CRASHING = {
    "CURRENT before the manifest": ("round", current_first),
    "rename before write": ("remember", rename_before_write),
    "files before manifests": ("gc", files_before_manifests),
    "objects before receipts": ("gc", objects_before_receipts),
}


FOLDERS = ("", ".", *SAME)


@pytest.mark.parametrize("folders", [False, True])
def test_a_store_that_does_not_sync_is_caught(mutations, folders, tmp_path):
    def dropped(change: Change) -> bool:
        return change[0] == "sync" and (change[1][0] in FOLDERS) == folders

    with pytest.raises(AssertionError):
        crash_everywhere(mutations["round"], tmp_path, 200, dropped)


@pytest.mark.parametrize("mutant", CRASHING)
def test_crash_mutants_are_caught(mutations, mutant, tmp_path, monkeypatch):
    name, plant = CRASHING[mutant]
    plant(monkeypatch)
    with pytest.raises((AssertionError, StoreError)):
        crash_everywhere(mutations[name], tmp_path, disks=200)


def test_a_publisher_that_renames_is_caught(rivals, monkeypatch):
    def create(self: Folder, name: str, content: bytes) -> bytes:
        if self.exists(name):
            return self.read(name)
        self.write(name, content)
        return content

    monkeypatch.setattr(Folder, "create", create)
    root, first, second = rivals
    with pytest.raises(AssertionError, match="both won"):
        race_everywhere(first, second, root)


def unseal_unchecked(content: bytes, where: object) -> dict:
    try:
        return json.loads(content)["body"]
    except (ValueError, KeyError):
        raise StoreError(f"{where} is no JSON") from None


@pytest.mark.parametrize("what", ["objects", "manifests"])
def test_a_store_that_checks_nothing_is_caught(tmp_path, versions, monkeypatch, what):
    if what == "objects":
        monkeypatch.setattr(Store, "path", lambda self, ref: self.place.fetch(ref))
    else:
        monkeypatch.setattr(store_module, "unseal", unseal_unchecked)
    versions(Store(tmp_path / "store", create=True), 2)
    with pytest.raises(AssertionError, match="is read as sound"):
        damage_everywhere(tmp_path / "store")
