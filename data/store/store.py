"""The artifact store: immutable files under their content hash, published together as versions.

    objects/<sha256>.<ext>    every file, read-only, named by its content
    receipts/<key>.json       the artifact of a finished stage or shard; the key hashes its inputs
    versions/00000042.json    the manifest of a published version, written once, never changed
    CURRENT, PIN              the number of the newest version (a hint) and the pinned one (`pins`)
    retired/, readers/        versions that are being removed (`gc`), and registered readers
    views/, latest, served    versions as trees of links with plain names (`views`)
    work/, tmp/, log.jsonl    unfinished work, and the log of events with their times

A place (`place`) reads and writes the files in a folder or an object store. Each JSON file contains
its own digest, and each object is hashed before its first use in a process.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from remine.data.errors import InputError, StoreError, UnansweredError
from remine.data.store import disk
from remine.data.store.folder import Folder
from remine.data.store.place import Address, Place
from remine.data.store.records import Artifact, FileRef, Version, file_sha256, seal, unseal

FORMAT = "remine-store/1"


def place_of(address: Address) -> Place:
    """The place at an address; see `place` for how to add another kind."""
    if isinstance(address, str) and "://" in address:
        if not address.startswith("s3://"):
            raise InputError(f"{address}: a store is a folder or s3://bucket/prefix")
        from remine.data.store.bucket import Bucket

        return Bucket(address)
    return Folder(Path(address))


def store_exists(address: Address) -> bool:
    """Whether there is a store at `address`."""
    return place_of(address).has_store()


class Store:
    """A store. Any number of processes may read it; `lock` lets one at a time write versions."""

    def __init__(self, address: Address, *, create: bool = False) -> None:
        """Open the store at `address`, or make it if it does not exist and `create` is true.

        Raises:
            InputError: There is no store, or none can be made there.
            StoreError: The store has another format.
        """
        self.place = place_of(address)
        self.address, self.root = self.place.address, self.place.local
        self._verified: set[tuple[str, int, int, int]] = set()
        if create and not self.place.has_store():
            self.place.make(f"{FORMAT}\n".encode())
        try:
            stored_format = self.place.read("FORMAT").decode(errors="replace").strip()
        except FileNotFoundError:
            raise InputError(f"no store at {address}: `remine run` makes one") from None
        if stored_format != FORMAT:
            raise StoreError(
                f"{self.address}/FORMAT says {stored_format!r}; this remine reads {FORMAT!r}"
            )

    @property
    def remote(self) -> bool:
        """Whether the store is not in a folder, so that other machines do not see `root`."""
        return self.root != self.address

    # Files ---------------------------------------------------------------------------------

    def temporary(self, suffix: str = "") -> AbstractContextManager[Path]:
        """A path to write to, on the disk of the store; a file left there is removed."""
        return disk.temporary(self.root / "tmp", suffix)

    def put(self, temp: Path, *, name: str, rows: int = 0) -> FileRef:
        """Move the finished file `temp` into the store under its content hash."""
        ref = FileRef(name=name, sha256=file_sha256(temp), bytes=temp.stat().st_size, rows=rows)
        self.place.add_object(temp, ref)
        with suppress(FileNotFoundError):  # the cache may have evicted it
            self._verified.add(_identity(ref, (self.root / ref.object).stat()))
        return ref

    def put_bytes(self, content: bytes, *, name: str, rows: int = 0) -> FileRef:
        """Store `content` as a file."""
        with self.temporary() as temp:
            disk.write(temp, content)
            return self.put(temp, name=name, rows=rows)

    def path(self, ref: FileRef) -> Path:
        """The path of a file on this machine.

        At its first use in a process, and whenever it changed since, it is verified.

        Raises:
            StoreError: The file is missing or does not match its hash.
        """
        path = self.place.fetch(ref)
        status = path.stat()
        identity = _identity(ref, status)
        if identity not in self._verified:
            if status.st_size != ref.bytes or file_sha256(path) != ref.sha256:
                raise StoreError(f"{path} ({ref.name}) is corrupt: its bytes do not match its hash")
            self._verified.add(identity)
        return path

    def paths(self, artifact: Artifact) -> list[Path]:
        """The paths of the files of an artifact, each verified."""
        return [self.path(file) for file in artifact.files]

    # Receipts ------------------------------------------------------------------------------

    def remember(self, key: str, artifact: Artifact) -> Artifact:
        """Write the receipt that the work `key` is finished and gave `artifact`; returns it."""
        self.place.write(f"receipts/{key}.json", seal(asdict(artifact)))
        return artifact

    def has_receipt(self, key: str) -> bool:
        """Whether the work `key` has a receipt; its files are not verified."""
        return self.place.exists(f"receipts/{key}.json")

    def receipt(self, key: str) -> Artifact:
        """The artifact of the work `key`; FileNotFoundError if it is not finished."""
        name = f"receipts/{key}.json"
        body = unseal(self.place.read(name), f"{self.address}/{name}")
        return Artifact.from_json(body)

    def recall(self, key: str) -> Artifact | None:
        """The artifact of the work `key`, or None if it is not finished or a file is damaged."""
        try:
            artifact = self.receipt(key)
            self.paths(artifact)
        except UnansweredError:  # a StoreError, but not a sign of damage
            raise
        except (FileNotFoundError, StoreError):
            return None  # the caller repeats the work, which also replaces a damaged file
        self.place.touch(f"receipts/{key}.json")
        return artifact

    def adopt(self, key: str, artifact: Artifact, other: "Store") -> Artifact:
        """Copy the artifact of the work `key` from another store; returns it."""
        for file in artifact.files:
            with self.temporary() as temp:
                shutil.copyfile(other.path(file), temp)
                self.put(temp, name=file.name, rows=file.rows)
        return self.remember(key, artifact)

    # Versions ------------------------------------------------------------------------------

    def numbers(self) -> list[int]:
        """The numbers of all published versions, ascending; `gc` may have removed old ones."""
        names = self.place.entries("versions")
        stems = [name.removesuffix(".json") for name in names if name.endswith(".json")]
        return sorted(int(stem) for stem in stems if stem.isascii() and stem.isdigit())

    def current(self) -> Version | None:
        """The newest published version, or None."""
        numbers = self.numbers()
        return self.version(numbers[-1]) if numbers else None

    def version(self, number: int) -> Version:
        """Read the published version `number`.

        Raises:
            InputError: It does not exist.
            StoreError: Its manifest is damaged.
        """
        name = f"versions/{number:08d}.json"
        try:
            content = self.place.read(name)
        except FileNotFoundError:
            raise InputError(f"no version {number} in {self.address}") from None
        version = Version.from_json(unseal(content, f"{self.address}/{name}"))
        if version.number != number:
            raise StoreError(f"{self.address}/{name} is corrupt: it is version {version.number}")
        return version

    def publish(self, version: Version) -> None:
        """Publish `version`, whose number must follow that of the newest version.

        Publishing the same version again has no effect.

        Raises:
            StoreError: Another run published a different version of this number.
            LostLockError: Another process has taken over the write lock.
        """
        self.place.check_lock()
        body, name = seal(asdict(version)), f"versions/{version.number:08d}.json"
        numbers = self.numbers()
        if version.number not in numbers and version.number != max(numbers, default=0) + 1:
            raise StoreError(f"version {version.number} does not follow the newest one")
        # The content is deterministic, so equal bytes mean that it was published before a kill.
        if self.place.create(name, body) != body:
            raise StoreError(f"{self.address}/{name} was published by another run")
        self.place.write("CURRENT", f"{version.number}\n".encode())

    def versions(self) -> Iterator[Version]:
        """All published versions, newest first."""
        for number in reversed(self.numbers()):
            yield self.version(number)

    def register_reader(self, version: Version) -> Callable[[], None]:
        """Protect `version` from garbage collection while it is read.

        Returns:
            A function that ends the protection.

        Raises:
            InputError: The version has been removed.
        """
        release = self.place.register_reader(version.number)
        try:
            # It may have been removed before the registration, which then protects nothing.
            self.version(version.number)
        except InputError:
            release()
            raise
        return release

    # Work ----------------------------------------------------------------------------------

    def lock(self) -> AbstractContextManager[None]:
        """Hold the write lock; StoreBusyError if another process holds it."""
        return self.place.lock()

    def release_lock(self) -> None:
        """Give back the write lock that this process holds, if it would outlive the process."""
        self.place.release_lock()

    def lock_holder(self) -> str | None:
        """The process that holds the write lock, as text for people, or None."""
        return self.place.lock_holder()

    def scratch(self, key: str) -> Path:
        """A folder for files that the work `key` needs to resume after a kill."""
        path = self.root / "work" / key
        path.mkdir(exist_ok=True)
        return path

    def clear_scratch(self, key: str) -> None:
        """Remove the scratch folder of finished work."""
        shutil.rmtree(self.root / "work" / key, ignore_errors=True)

    def log(self, event: str, **fields: object) -> None:
        """Append an event with the current time to log.jsonl."""
        line = json.dumps({"time": round(time.time(), 3), "event": event, **fields})
        disk.append(self.root / "log.jsonl", f"{line}\n".encode())

    def events(self) -> list[dict[str, Any]]:
        """The events of the log, oldest first; lines that a kill cut off are skipped."""
        lines: list[Any] = []
        path = self.root / "log.jsonl"
        for line in path.read_bytes().splitlines() if path.exists() else ():
            with suppress(ValueError):
                lines.append(json.loads(line))
        return [event for event in lines if isinstance(event, dict)]


def _identity(ref: FileRef, status: os.stat_result) -> tuple[str, int, int, int]:
    """Values that change if the file is replaced or written to after it was verified."""
    return ref.object, status.st_size, status.st_mtime_ns, status.st_ino
