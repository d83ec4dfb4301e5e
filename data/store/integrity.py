"""Verification of a store: every file against its hash, manifests and receipts against digests."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from remine.data.errors import InputError, StoreError
from remine.data.store.pins import pinned_version
from remine.data.store.records import FileRef, Version
from remine.data.store.store import Store

Progress = Callable[[int, int], None]
"""Called with the number of bytes verified so far and the number of all bytes."""

FROM_DATA = ("items", "inputs")
"""Artifacts that can be made again from the user's data."""
REPEAT = "the next `remine run` repeats that work"

Files = dict[str, tuple[FileRef, str]]
"""Each file with the name of an artifact that has it ("" for none), by its path in the store."""


@dataclass(frozen=True, kw_only=True)
class IntegrityReport:
    """The result of a verification.

    Attributes:
        versions: The numbers of the versions that could be read.
        files, bytes, receipts: How many of each were verified.
        faults: One line per fault, with its repair.
        notes: One line per harmless irregularity.
    """

    versions: list[int]
    files: int = 0
    bytes: int = 0
    receipts: int = 0
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def verify(store: Store, progress: Progress, number: int = 0) -> IntegrityReport:
    """Verify version `number`, or with 0 all versions and receipts."""
    if number and number not in store.numbers():
        raise InputError(f"no version {number} in {store.address}")
    faults: list[str] = []
    versions = _read_versions(store, [number] if number else store.numbers(), faults)
    files, users = _files_and_users(versions)
    receipts = 0
    if not number:
        receipts = _read_receipts(store, files, faults)
    last_finished = max((v.number for v in versions if v.finished), default=0)
    total, count = sum(file.bytes for file, _ in files.values()), 0
    for path, (file, artifact) in sorted(files.items()):
        if fault := _fault(store, file):
            faults.append(_fault_line(store, path, fault, users[path], artifact, last_finished))
        count += file.bytes
        progress(count, total)
    return IntegrityReport(
        versions=[version.number for version in versions],
        files=len(files),
        bytes=total,
        receipts=receipts,
        faults=faults,
        notes=[] if number else _notes(store, files),
    )


def _files_and_users(versions: Iterable[Version]) -> tuple[Files, dict[str, list[int]]]:
    """The files of all versions, and the versions that use each file."""
    files: Files = {}
    users: dict[str, list[int]] = defaultdict(list)
    for version in versions:
        for name, artifact in version.artifacts.items():
            for file in artifact.files:
                files[file.object] = (file, name)
                if version.number not in users[file.object]:
                    users[file.object].append(version.number)
    return files, users


def _read_versions(store: Store, numbers: Iterable[int], faults: list[str]) -> list[Version]:
    """The versions whose manifests are intact; a line for each other one is added to `faults`."""
    versions = []
    for number in numbers:
        try:
            versions.append(store.version(number))
        except StoreError as error:
            repair = "restore the file from a backup"
            if number == max(store.numbers()):
                repair += ", or move it away to continue from the version before"
            faults.append(f"{error} (version {number}): {repair}")
    return versions


def _read_receipts(store: Store, files: Files, faults: list[str]) -> int:
    """Verify all receipts and add the files that only receipts refer to; returns their number."""
    names = store.place.entries("receipts")
    for name in sorted(names):
        try:
            artifact = store.receipt(name.removesuffix(".json"))
        except FileNotFoundError:  # removed since it was listed
            continue
        except StoreError as error:
            faults.append(f"{error} (no version): {REPEAT}")
            continue
        for file in artifact.files:
            # A receipt whose file is missing is no fault: the work is simply repeated.
            if store.place.exists(file.object):
                files.setdefault(file.object, (file, ""))
    return len(names)


def _fault(store: Store, file: FileRef) -> str:
    """What is wrong with a file, "" if it matches its hash."""
    try:
        return "" if store.place.sha256(file) == file.sha256 else "is corrupt"
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def _fault_line(
    store: Store, path: str, fault: str, users: list[int], artifact: str, last_finished: int
) -> str:
    """One line about a damaged file and its repair.

    Args:
        store: The store.
        path: The path of the file in the store.
        fault: What is wrong with it.
        users: The versions that have the file.
        artifact: The artifact that has it.
        last_finished: The last version that ended its cycle.
    """
    address = f"{store.address}/{path}"
    if not users:
        return f"{address} {fault} (no version): {REPEAT}"
    noun = "version" if len(users) == 1 else "versions"
    if artifact in FROM_DATA:
        repair = "`remine run` on the same data recreates it"
    elif min(users) > last_finished:
        repair = "`remine run` recreates it when it resumes the cycle"
    else:
        repair = "restore it from a backup, where any file of that name is right"
    return f"{address} {fault} ({artifact} of {noun} {', '.join(map(str, users))}): {repair}"


def _notes(store: Store, files: Files) -> list[str]:
    """One line for each irregularity that does no harm."""
    notes = []
    names = {path.removeprefix("objects/") for path in files}
    if orphans := [e for n, e in store.place.entries("objects").items() if n not in names]:
        size = sum(entry.bytes for entry in orphans)
        notes.append(
            f"{len(orphans)} files ({size:,} bytes) are not referenced: `remine gc` removes them"
        )
    if temporary := list((store.root / "tmp").iterdir()):
        notes.append(f"{len(temporary)} temporary files; the next run clears them")
    if retired_names := store.place.entries("retired"):
        notes.append(f"{len(retired_names)} versions are being removed: `remine gc` completes it")
    newest = max(store.numbers(), default=0)
    hint = -1
    with suppress(FileNotFoundError, ValueError):
        hint = int(store.place.read("CURRENT"))
    if newest and hint != newest:
        notes.append(f"CURRENT does not name version {newest}; the next version corrects it")
    if (pin := pinned_version(store)) and pin not in store.numbers():
        notes.append(f"PIN names version {pin}, which does not exist: `remine index use --newest`")
    return notes
