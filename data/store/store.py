"""The artifact store: immutable files under their content hash, published together or not at all.

    objects/<sha256>.<ext>    every file, read-only, named by what it holds
    receipts/<key>.json       what a finished stage or shard left; the key hashes all that went in
    versions/00000042.json    one published state of everything; claimed once, never changed
    CURRENT, PIN              the newest version's number, a hint; the pinned one's (`pins`)
    retired/, readers/        versions whose files are going (`gc`); who reads which version
    views/, latest            the current version as a tree of links, for people only
    work/, tmp/, log.jsonl    what is under way, and when things happened

Where all this lies is a place's business (`place`): a folder, or an object store. Each JSON
file carries its own digest; each object is hashed before its first use in a process.
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
from remine.data.store.records import Artifact, FileRef, Version, file_sha256, sealed, unsealed

FORMAT = "remine-store/1"


def place_of(address: Address) -> Place:
    """The place that an address names."""
    if isinstance(address, str) and "://" in address:
        if not address.startswith("s3://"):
            raise InputError(f"{address}: a store is a folder or s3://bucket/prefix")
        from remine.data.store.bucket import Bucket

        return Bucket(address)
    return Folder(Path(address))


def made(address: Address) -> bool:
    """Whether there is a store at `address`."""
    return place_of(address).made()


class Store:
    """One store. Many may read; `lock` lets one write versions at a time."""

    def __init__(self, address: Address, *, create: bool = False) -> None:
        """Open the store at `address`; with `create`, make it when it is not there."""
        self.place = place_of(address)
        self.address, self.root = self.place.address, self.place.local
        self._verified: set[tuple[str, int, int, int]] = set()
        if create and not self.place.made():
            self.place.make(f"{FORMAT}\n".encode())
        try:
            have = self.place.read("FORMAT").decode(errors="replace").strip()
        except FileNotFoundError:
            raise InputError(f"no store at {address}: `remine run` makes one") from None
        if have != FORMAT:
            raise StoreError(f"{self.address}/FORMAT says {have!r}; this remine reads {FORMAT!r}")

    @property
    def remote(self) -> bool:
        """Whether other machines share it, which do not see what lies in `root`."""
        return self.root != self.address

    # Files ---------------------------------------------------------------------------------

    def temporary(self, suffix: str = "") -> AbstractContextManager[Path]:
        """A path to write to, on the store's disk; what still lies there at the end goes."""
        return disk.temporary(self.root / "tmp", suffix)

    def put(self, temp: Path, *, name: str, rows: int = 0) -> FileRef:
        """Move the finished file `temp` under its content hash."""
        ref = FileRef(name=name, sha256=file_sha256(temp), bytes=temp.stat().st_size, rows=rows)
        self.place.keep(temp, ref)
        with suppress(FileNotFoundError):  # a cache may have let it go
            self._verified.add(_seen(ref, (self.root / ref.object).stat()))
        return ref

    def put_bytes(self, content: bytes, *, name: str, rows: int = 0) -> FileRef:
        """Store `content` as a file."""
        with self.temporary() as temp:
            disk.write(temp, content)
            return self.put(temp, name=name, rows=rows)

    def path(self, ref: FileRef) -> Path:
        """Where `ref` lies on this machine, after its bytes were checked against its hash."""
        path = self.place.fetch(ref)
        status = path.stat()
        seen = _seen(ref, status)
        if seen not in self._verified:
            if status.st_size != ref.bytes or file_sha256(path) != ref.sha256:
                raise StoreError(f"{path} ({ref.name}) is corrupt: its bytes do not match its hash")
            self._verified.add(seen)
        return path

    def paths(self, artifact: Artifact) -> list[Path]:
        """Where the files of `artifact` lie, each checked."""
        return [self.path(file) for file in artifact.files]

    # Receipts ------------------------------------------------------------------------------

    def remember(self, key: str, artifact: Artifact) -> Artifact:
        """Note that the work `key` is done and left `artifact`."""
        self.place.write(f"receipts/{key}.json", sealed(asdict(artifact)))
        return artifact

    def done(self, key: str) -> bool:
        """Whether a receipt for `key` lies there (its output is not looked at)."""
        return self.place.exists(f"receipts/{key}.json")

    def receipt(self, key: str) -> Artifact:
        """What the work `key` left; FileNotFoundError where it is not done."""
        name = f"receipts/{key}.json"
        body = unsealed(self.place.read(name), f"{self.address}/{name}")
        return Artifact.from_json(body)

    def recall(self, key: str) -> Artifact | None:
        """What the work `key` left, if it is done and every file of it is still sound."""
        try:
            artifact = self.receipt(key)
            self.paths(artifact)
        except UnansweredError:
            raise
        except (FileNotFoundError, StoreError):
            return None  # not done, or damaged: the work is done again and mends it
        self.place.touch(f"receipts/{key}.json")
        return artifact

    # Versions ------------------------------------------------------------------------------

    def numbers(self) -> list[int]:
        """The numbers of all published versions, ascending; old ones may be gone."""
        names = self.place.entries("versions")
        stems = [name.removesuffix(".json") for name in names if name.endswith(".json")]
        return sorted(int(stem) for stem in stems if stem.isascii() and stem.isdigit())

    def current(self) -> Version | None:
        """The newest published version."""
        numbers = self.numbers()
        return self.version(numbers[-1]) if numbers else None

    def version(self, number: int) -> Version:
        """The published version `number`."""
        name = f"versions/{number:08d}.json"
        try:
            content = self.place.read(name)
        except FileNotFoundError:
            raise InputError(f"no version {number} in {self.address}") from None
        version = Version.from_json(unsealed(content, f"{self.address}/{name}"))
        if version.number != number:
            raise StoreError(f"{self.address}/{name} is corrupt: it is version {version.number}")
        return version

    def publish(self, version: Version) -> None:
        """Make `version` the current one; its number must be the next free one."""
        self.place.check_lock()
        body, name = sealed(asdict(version)), f"versions/{version.number:08d}.json"
        numbers = self.numbers()
        if version.number not in numbers and version.number != max(numbers, default=0) + 1:
            raise StoreError(f"version {version.number} does not follow the newest one")
        if self.place.create(name, body) != body:
            raise StoreError(f"{self.address}/{name} was published by another run")
        self.place.write("CURRENT", f"{version.number}\n".encode())

    def versions(self) -> Iterator[Version]:
        """All published versions, newest first."""
        for number in reversed(self.numbers()):
            yield self.version(number)

    def hold(self, version: Version) -> Callable[[], None]:
        """Keep `version` from going while it is read; the function that is returned ends it."""
        release = self.place.hold(version.number)
        try:
            self.version(version.number)
        except InputError:
            release()
            raise
        return release

    # Work ----------------------------------------------------------------------------------

    def lock(self) -> AbstractContextManager[None]:
        """Hold the store for writing; refuses at once when another process holds it."""
        return self.place.lock()

    def holder(self) -> str | None:
        """Who holds the store for writing now, for people; never takes the lock."""
        return self.place.holder()

    def scratch(self, key: str) -> Path:
        """A folder for what the work `key` wants to find again if it is killed."""
        path = self.root / "work" / key
        path.mkdir(exist_ok=True)
        return path

    def clear_scratch(self, key: str) -> None:
        """Forget the scratch of finished work."""
        shutil.rmtree(self.root / "work" / key, ignore_errors=True)

    def log(self, event: str, **fields: object) -> None:
        """Append a line of JSON with the time to log.jsonl."""
        line = json.dumps({"time": round(time.time(), 3), "event": event, **fields})
        disk.append(self.root / "log.jsonl", f"{line}\n".encode())

    def events(self) -> list[dict[str, Any]]:
        """The log, oldest first; lines that a kill cut short are left out."""
        found: list[dict[str, Any]] = []
        path = self.root / "log.jsonl"
        for line in path.read_bytes().splitlines() if path.exists() else ():
            with suppress(ValueError):
                found.append(json.loads(line))
        return [event for event in found if isinstance(event, dict)]


def _seen(ref: FileRef, status: os.stat_result) -> tuple[str, int, int, int]:
    """What tells a file that was looked at from one that came since."""
    return ref.object, status.st_size, status.st_mtime_ns, status.st_ino
