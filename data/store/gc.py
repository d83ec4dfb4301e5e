"""Garbage collection: removes old versions and unreferenced files; safe to kill at any point.

The last versions, the pinned one and those that a process reads are retained, and everything from
the last finished version on, from which the next cycle starts or a killed one resumes. A version
is removed in this order, each step on the disk before the next begins:

    1  its manifest moves to retired/, so that no reader finds it any more
    2  if a reader registered or a user pinned it before that, it moves back
    3  receipts of work whose files are removed, then files that no retained version or receipt
       refers to, then its view
    4  the manifest in retired/ is deleted

After a kill at any point every version in versions/ is complete. The next collection finds the
manifests in retired/ and continues.
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
from remine.data.store.pins import chosen_version, pinned_version
from remine.data.store.records import Artifact, Version, unseal
from remine.data.store.store import Store

DAY = 86_400.0
GRACE = 3_600.0
"""Seconds for which an unreferenced file is retained: a worker may be about to refer to it."""


@config_table("gc")
class RetentionConfig:
    """What `remine gc` keeps."""

    keep: Annotated[int, Field(ge=1)] = 8
    """How many of the last versions. The pinned version, the served one, versions that are being
    read and the last finished one are always kept.
    """
    days: Annotated[float, Field(ge=0, le=36_500), Unit("days")] = 14.0
    """How long results that belong to no version (of a comparison or a killed run) are kept after
    their last use.
    """


@dataclass(frozen=True, kw_only=True)
class CollectionPlan:
    """What a collection removes.

    Attributes:
        reasons: Why each version is retained, by number.
        versions: The numbers of the versions to remove.
        receipts: Names of files in receipts/.
        objects: Bytes of files in objects/, by name.
        folders: Views and scratch folders.
    """

    reasons: dict[int, str]
    versions: list[int] = field(default_factory=list)
    receipts: list[str] = field(default_factory=list)
    objects: dict[str, int] = field(default_factory=dict)
    folders: list[Path] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        """The size of all objects to remove."""
        return sum(self.objects.values())


def plan_collection(store: Store, retention: RetentionConfig) -> CollectionPlan:
    """Plan a collection without removing anything."""
    versions = {version.number: version for version in store.versions()}
    reasons = retention_reasons(store, versions, retention)
    old_versions = [version for number, version in versions.items() if number not in reasons]
    old_versions += _retired_only(store, versions)
    return _plan(store, {n: versions[n] for n in reasons}, reasons, old_versions, retention)


def collect(store: Store, retention: RetentionConfig) -> CollectionPlan:
    """Remove what need not be retained, under the write lock; returns what was removed."""
    with store.lock():
        first = plan_collection(store, retention)
        # Step 1; a version that a killed collection has already moved is only in retired/.
        for number in first.versions:
            if number in store.numbers():
                store.place.move(_manifest(number), _manifest(number, "retired"))
        _restore_used_versions(store)
        # Plan again, because a version may have been restored for a reader.
        versions = {version.number: version for version in store.versions()}
        old_versions = _retired_only(store, versions)
        reasons = {number: first.reasons.get(number, "read") for number in versions}
        final = _plan(store, versions, reasons, old_versions, retention)
        _remove(store, final)
        if versions:
            store.place.write("CURRENT", f"{max(versions)}\n".encode())
        store.log("gc", versions=final.versions, files=len(final.objects), bytes=final.bytes)
    return final


def retention_reasons(
    store: Store, versions: dict[int, Version], retention: RetentionConfig
) -> dict[int, str]:
    """The reason why each version is retained, by number, ascending; others can be removed."""
    numbers = sorted(versions)
    last_finished = max((n for n in numbers if versions[n].finished), default=0)
    # A cycle of no rounds only embeds new items. Drift is measured from the last trained version.
    last_trained = max(
        (n for n in numbers if versions[n].finished and versions[n].rounds), default=0
    )
    numbers_in_use, pin = store.place.versions_in_use(), pinned_version(store)
    if pin and pin not in versions:
        raise StoreError(f"version {pin} is pinned but does not exist: `remine index use --newest`")
    chosen_numbers = _chosen_numbers(store, versions, {max(numbers, default=0), last_finished})
    reasons: dict[int, str] = {}
    # The first reason that applies is the one that `remine gc` prints.
    for number in numbers:
        if number == pin:
            reasons[number] = "pinned"
        elif number in numbers_in_use:
            reasons[number] = "read"
        elif number in numbers[-retention.keep :]:
            reasons[number] = f"one of the last {retention.keep}"
        elif number in chosen_numbers:
            reasons[number] = "served, or the start of the next cycle"
        elif number == last_finished:
            reasons[number] = "the last finished cycle's end"
        elif number == last_trained:
            reasons[number] = "the last trained cycle's end"
        elif number > last_finished:
            reasons[number] = "the cycle is not finished"
    return reasons


def _chosen_numbers(store: Store, versions: dict[int, Version], choosers: set[int]) -> set[int]:
    """The numbers of the versions that those with the numbers `choosers` choose to serve."""
    return {chosen_version(store, versions[n]).number for n in choosers if n in versions}


def _plan(
    store: Store,
    versions: dict[int, Version],
    reasons: dict[int, str],
    old_versions: list[Version],
    retention: RetentionConfig,
) -> CollectionPlan:
    """Plan the removal of `old_versions`, and of files that none of `versions` refers to."""
    references = {name for version in versions.values() for name in version.files}
    dispensable_files = {name for version in old_versions for name in version.files} - references
    newest = versions[max(versions)] if versions else None
    in_cycle = newest is not None and not newest.finished
    # During a cycle no result is too old: the rest of the cycle may need it.
    oldest = 0.0 if in_cycle else time.time() - retention.days * DAY
    linked_objects, folders = _views(store, {version.number for version in old_versions}, oldest)
    references |= linked_objects
    # A receipt goes with any of its files, or when it is too old and nothing else refers to one of
    # its files. Otherwise it protects its files.
    receipts = []
    for name, entry in store.place.entries("receipts").items():
        files = {file.object for file in _receipt(store, name).files}
        if files & dispensable_files or (files - references and entry.time < oldest):
            receipts.append(name)
        else:
            references |= files
    objects = {}
    grace_start = time.time() - GRACE
    for name, entry in store.place.entries("objects").items():
        path = f"objects/{name}"
        if path not in references and (path in dispensable_files or entry.time < grace_start):
            objects[name] = entry.bytes
    return CollectionPlan(
        reasons=reasons,
        versions=sorted(version.number for version in old_versions),
        receipts=sorted(receipts),
        objects=objects,
        folders=folders + _unused_folders(store.root / "work", oldest),
    )


def _remove(store: Store, plan: CollectionPlan) -> None:
    """Remove everything in the plan: receipts before their files, so that none is left broken."""
    place = store.place
    place.check_lock()
    place.remove(*(f"receipts/{name}" for name in plan.receipts))
    place.check_lock()
    place.remove(*(f"objects/{name}" for name in plan.objects))
    # No fsync: a folder that reappears after a power cut is removed by the next collection.
    for folder in plan.folders:
        shutil.rmtree(folder, ignore_errors=True)
    place.remove(*(f"retired/{name}" for name in place.entries("retired")))


def _restore_used_versions(store: Store) -> None:
    """Move the manifests of retired versions back that are read or pinned."""
    numbers_in_use = {*store.place.versions_in_use(), pinned_version(store)}
    for version in _retired_versions(store):
        if version.number in numbers_in_use and version.number not in store.numbers():
            store.place.move(_manifest(version.number, "retired"), _manifest(version.number))


def _retired_only(store: Store, versions: dict[int, Version]) -> list[Version]:
    """The versions in retired/ that are not, after a kill during a move, also in versions/."""
    return [version for version in _retired_versions(store) if version.number not in versions]


def _retired_versions(store: Store) -> list[Version]:
    """The versions in retired/ without damaged ones, whose files go as unreferenced files."""
    versions = []
    for name in store.place.entries("retired"):
        with suppress(StoreError, FileNotFoundError):
            body = unseal(store.place.read(f"retired/{name}"), name)
            versions.append(Version.from_json(body))
    return versions


def _receipt(store: Store, name: str) -> Artifact:
    """A receipt; an empty one if it is damaged, because `Store.recall` ignores such a receipt."""
    with suppress(StoreError, FileNotFoundError):
        return store.receipt(name.removesuffix(".json"))
    return Artifact(kind="damaged", files=())


def _views(store: Store, old_versions: set[int], oldest: float) -> tuple[set[str], list[Path]]:
    """The objects that retained views link to, and the views to remove.

    The view of a version is removed with the version. The view of a comparison, which has no
    version, is removed when it is older than `oldest` and `latest` does not link to it.
    """
    latest = (store.root / "latest").resolve()
    linked_objects: set[str] = set()
    folders = []
    for view in sorted((store.root / "views").iterdir()):
        if view.name.isdigit():
            if int(view.name) in old_versions:
                folders.append(view)
        elif view == latest or view.resolve() == latest or view.stat().st_mtime >= oldest:
            links = [path for path in view.rglob("*") if path.is_symlink()]
            linked_objects |= {f"objects/{Path(link.readlink()).name}" for link in links}
        else:
            folders.append(view)
    return linked_objects, folders


def _unused_folders(folder: Path, oldest: float) -> list[Path]:
    """The folders that nothing was written to since `oldest` (seconds since 1970)."""
    return sorted(path for path in folder.iterdir() if path.stat().st_mtime < oldest)


def _manifest(number: int, folder: str = "versions") -> str:
    return f"{folder}/{number:08d}.json"
