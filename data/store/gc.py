"""What a store need not keep, and its removal, which may be killed at any point.

Kept: the last versions, the pinned one, those that a process reads, and from the last finished
version on all that the next cycle, or the rest of a killed one, starts from. A version goes in
this order, each step on the disk before the next begins:

    1  its manifest moves to retired/: no reader finds it any more
    2  who registered as its reader, or pinned it, meanwhile: it moves back
    3  receipts of work whose files go, then the files that nothing kept names, then its view
    4  the manifest in retired/

Killed anywhere, every version in versions/ is whole; the next collection finds what was begun in
retired/ and ends it.
"""

import shutil
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import Field

from remine.data.config_table import Unit, config_table
from remine.data.errors import StoreError
from remine.data.store.pins import pinned
from remine.data.store.records import Artifact, Version, unsealed
from remine.data.store.store import Store

DAY = 86_400.0
GRACE = 3_600.0
"""Seconds that a file which nothing names is left alone: a worker may be about to name it."""


@config_table("gc")
class Keeping:
    """What `remine gc` keeps."""

    keep: Annotated[int, Field(ge=1)] = 8
    """How many of the last versions. The pinned version, versions that are being read and the last
    finished one are always kept.
    """
    days: Annotated[float, Field(ge=0, le=36_500), Unit("days")] = 14.0
    """How long results that belong to no version (of a comparison or a killed run) are kept after
    their last use.
    """


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What goes. kept: why each version stays. objects: bytes by name in objects/."""

    kept: dict[int, str]
    versions: list[int] = field(default_factory=list)
    receipts: list[str] = field(default_factory=list)
    objects: dict[str, int] = field(default_factory=dict)
    folders: list[Path] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        """Of the objects that go."""
        return sum(self.objects.values())


def plan(store: Store, keeping: Keeping) -> Plan:
    """What a collection would remove now; nothing is touched."""
    versions = {version.number: version for version in store.versions()}
    kept = why_kept(store, versions, keeping)
    going = [version for number, version in versions.items() if number not in kept]
    going += [version for version in _retired(store) if version.number not in versions]
    return _plan(store, {n: versions[n] for n in kept}, kept, going, keeping)


def collect(store: Store, keeping: Keeping) -> Plan:
    """Remove what need not be kept; what went. No cycle can run meanwhile."""
    with store.lock():
        first = plan(store, keeping)
        for number in first.versions:
            if number in store.numbers():
                store.place.move(_manifest(number), _manifest(number, "retired"))
        _bring_back(store)
        # Looked at again as it is now: a reader may have come between.
        versions = {version.number: version for version in store.versions()}
        going = [version for version in _retired(store) if version.number not in versions]
        kept = {number: first.kept.get(number, "read") for number in versions}
        final = _plan(store, versions, kept, going, keeping)
        _remove(store, final)
        if versions:
            store.place.write("CURRENT", f"{max(versions)}\n".encode())
        store.log("gc", versions=final.versions, files=len(final.objects), bytes=final.bytes)
    return final


def why_kept(store: Store, versions: dict[int, Version], keeping: Keeping) -> dict[int, str]:
    """The numbers of the versions that stay, ascending, each with the reason."""
    numbers = sorted(versions)
    finished = max((n for n in numbers if versions[n].finished), default=0)
    # Versions of no rounds follow the items only; what drifted is measured from the last trained.
    trained = max((n for n in numbers if versions[n].finished and versions[n].rounds), default=0)
    held, pin = store.place.held(), pinned(store)
    if pin and pin not in versions:
        raise StoreError(f"version {pin} is pinned and not there: `remine index use --newest`")
    reasons: dict[int, str] = {}
    for number in numbers:
        if number == pin:
            reasons[number] = "pinned"
        elif number in held:
            reasons[number] = "read"
        elif number in numbers[-keeping.keep :]:
            reasons[number] = f"one of the last {keeping.keep}"
        elif number == finished:
            reasons[number] = "the last finished cycle's end"
        elif number == trained:
            reasons[number] = "the last trained cycle's end"
        elif number > finished:
            reasons[number] = "the cycle is not finished"
    return reasons


def _plan(
    store: Store,
    versions: dict[int, Version],
    kept: dict[int, str],
    going: list[Version],
    keeping: Keeping,
) -> Plan:
    named = {name for version in versions.values() for name in version.files}
    gone = {name for version in going for name in version.files} - named
    newest = versions[max(versions)] if versions else None
    under_way = newest is not None and not newest.finished
    oldest = 0.0 if under_way else time.time() - keeping.days * DAY
    shown, folders = _views(store, {version.number for version in going}, oldest)
    named |= shown
    receipts = []
    for name, entry in store.place.entries("receipts").items():
        files = {file.object for file in _receipt(store, name).files}
        if files & gone or (files - named and entry.time < oldest):
            receipts.append(name)
        else:
            named |= files
    objects = {}
    young = time.time() - GRACE
    for name, entry in store.place.entries("objects").items():
        where = f"objects/{name}"
        if where not in named and (where in gone or entry.time < young):
            objects[name] = entry.bytes
    return Plan(
        kept=kept,
        versions=sorted(version.number for version in going),
        receipts=sorted(receipts),
        objects=objects,
        folders=folders + _unused(store.root / "work", oldest),
    )


def _remove(store: Store, plan: Plan) -> None:
    place = store.place
    place.check_lock()
    place.remove(*(f"receipts/{name}" for name in plan.receipts))
    place.check_lock()
    place.remove(*(f"objects/{name}" for name in plan.objects))
    for folder in plan.folders:
        shutil.rmtree(folder, ignore_errors=True)
    place.remove(*(f"retired/{name}" for name in place.entries("retired")))


def _bring_back(store: Store) -> None:
    """Versions on their way out that somebody reads or pinned are versions again."""
    wanted = {*store.place.held(), pinned(store)}
    for version in _retired(store):
        if version.number in wanted and version.number not in store.numbers():
            store.place.move(_manifest(version.number, "retired"), _manifest(version.number))


def _retired(store: Store) -> list[Version]:
    """The versions in retired/. A damaged one names nothing: its files go as files of no one."""
    found = []
    for name in store.place.entries("retired"):
        with suppress(StoreError, FileNotFoundError):
            body = unsealed(store.place.read(f"retired/{name}"), name)
            found.append(Version.from_json(body))
    return found


def _receipt(store: Store, name: str) -> Artifact:
    """A receipt, or an empty one in place of a damaged one, which `recall` does not use either."""
    with suppress(StoreError, FileNotFoundError):
        return store.receipt(name.removesuffix(".json"))
    return Artifact(kind="damaged", files=())


def _views(store: Store, going: set[int], oldest: float) -> tuple[set[str], list[Path]]:
    """Objects that views for people show, and the views that go.

    A version's view goes with it. A comparison is no version: its view goes when it is old and
    `latest` shows another.
    """
    latest = (store.root / "latest").resolve()
    shown: set[str] = set()
    folders = []
    for view in sorted((store.root / "views").iterdir()):
        if view.name.isdigit():
            if int(view.name) in going:
                folders.append(view)
        elif view == latest or view.resolve() == latest or view.stat().st_mtime >= oldest:
            links = [path for path in view.rglob("*") if path.is_symlink()]
            shown |= {f"objects/{Path(link.readlink()).name}" for link in links}
        else:
            folders.append(view)
    return shown, folders


def _unused(folder: Path, oldest: float) -> list[Path]:
    """The folders that nothing was written to since `oldest`."""
    return sorted(path for path in folder.iterdir() if path.stat().st_mtime < oldest)


def _manifest(number: int, folder: str = "versions") -> str:
    return f"{folder}/{number:08d}.json"
