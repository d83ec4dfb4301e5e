"""Every file of a store against its hash, every manifest and receipt against its digest."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from remine.data.errors import InputError, StoreError
from remine.data.store.pins import pinned
from remine.data.store.records import FileRef, Version
from remine.data.store.store import Store

Progress = Callable[[int, int], None]

FROM_DATA = ("items", "inputs")
AGAIN = "the next `remine run` does that work again"


@dataclass(frozen=True, kw_only=True)
class Verified:
    """What was looked at and found. damaged and notes: a line each."""

    versions: list[int]
    files: int = 0
    bytes: int = 0
    receipts: int = 0
    damaged: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def verify(store: Store, progress: Progress, number: int = 0) -> Verified:
    """Check version `number`, or all that is kept; progress gets bytes done and bytes in all."""
    if number and number not in store.numbers():
        raise InputError(f"no version {number} in {store.address}")
    damaged: list[str] = []
    versions = _versions(store, [number] if number else store.numbers(), damaged)
    users: dict[str, list[int]] = defaultdict(list)
    files: dict[str, tuple[FileRef, str]] = {}
    for version in versions:
        for name, artifact in version.artifacts.items():
            for file in artifact.files:
                files[file.object] = (file, name)
                if version.number not in users[file.object]:
                    users[file.object].append(version.number)
    receipts = 0
    if not number:
        receipts = _receipts(store, files, damaged)
    finished = max((v.number for v in versions if v.finished), default=0)
    whole, done = sum(file.bytes for file, _ in files.values()), 0
    for where, (file, name) in sorted(files.items()):
        if fault := _fault(store, file):
            damaged.append(_line(store, where, fault, users[where], name, finished))
        done += file.bytes
        progress(done, whole)
    return Verified(
        versions=[version.number for version in versions],
        files=len(files),
        bytes=whole,
        receipts=receipts,
        damaged=damaged,
        notes=[] if number else _notes(store, files),
    )


def _versions(store: Store, numbers: Iterable[int], damaged: list[str]) -> list[Version]:
    found = []
    for number in numbers:
        try:
            found.append(store.version(number))
        except StoreError as error:
            mend = "copy the file back from a backup"
            if number == max(store.numbers()):
                mend += ", or move it away to go on from the version before"
            damaged.append(f"{error} (version {number}): {mend}")
    return found


def _receipts(store: Store, files: dict[str, tuple[FileRef, str]], damaged: list[str]) -> int:
    """Look at each receipt; the files that only receipts name are looked at too."""
    names = store.place.entries("receipts")
    for name in sorted(names):
        try:
            artifact = store.receipt(name.removesuffix(".json"))
        except FileNotFoundError:
            continue
        except StoreError as error:
            damaged.append(f"{error} (no version): {AGAIN}")
            continue
        for file in artifact.files:
            if store.place.exists(file.object):
                files.setdefault(file.object, (file, ""))
    return len(names)


def _fault(store: Store, file: FileRef) -> str:
    try:
        return "" if store.place.sha256(file) == file.sha256 else "is corrupt"
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def _line(store: Store, where: str, fault: str, users: list[int], name: str, finished: int) -> str:
    path = f"{store.address}/{where}"
    if not users:
        return f"{path} {fault} (no version): {AGAIN}"
    word = "version" if len(users) == 1 else "versions"
    if name in FROM_DATA:
        mend = "`remine run` on the same data makes it again"
    elif min(users) > finished:
        mend = "`remine run` makes it again when it goes on with the cycle"
    else:
        mend = "copy it back from a backup: any file of that name is the right one"
    listed = ", ".join(map(str, users))
    return f"{path} {fault} ({name} of {word} {listed}): {mend}"


def _notes(store: Store, files: dict[str, tuple[FileRef, str]]) -> list[str]:
    """What is out of place and harms nobody."""
    notes = []
    known = {where.removeprefix("objects/") for where in files}
    if orphans := [e for n, e in store.place.entries("objects").items() if n not in known]:
        size = sum(entry.bytes for entry in orphans)
        notes.append(f"{len(orphans)} files ({size:,} bytes) belong to nothing: `remine gc`")
    if left := list((store.root / "tmp").iterdir()):
        notes.append(f"{len(left)} temporary files; the next run clears them")
    if retired := store.place.entries("retired"):
        notes.append(f"{len(retired)} versions are on their way out: `remine gc` ends it")
    newest = max(store.numbers(), default=0)
    hint = -1
    with suppress(FileNotFoundError, ValueError):
        hint = int(store.place.read("CURRENT"))
    if newest and hint != newest:
        notes.append(f"CURRENT does not name version {newest}; the next version mends it")
    if (pin := pinned(store)) and pin not in store.numbers():
        notes.append(f"PIN names version {pin}, which is not there: `remine index use --newest`")
    return notes
