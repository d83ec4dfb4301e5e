"""The artifact store: immutable files under their content hash, published together or not at all.

    objects/<sha256>.<ext>    every file, read-only, named by what it holds
    receipts/<key>.json       what a finished stage or shard left; the key hashes all that went in
    versions/00000042.json    one published state of everything; claimed once, never changed
    CURRENT                   the newest version's number; a hint, the versions decide
    views/, latest            the current version as a tree of links, for people only
    work/, tmp/, log.jsonl    what is under way, and when things happened

A file appears by temp -> fsync -> rename -> fsync of its folder: a reader sees all of it or none.
Each JSON file carries its own digest; each object is hashed before its first use in a process.
"""

import fcntl
import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Self

from data.errors import InputError, StoreBusyError, StoreError

FORMAT = "remine-store/1"
FOLDERS = ("objects", "receipts", "versions", "views", "work", "tmp")


def canonical(value: object) -> bytes:
    """The one JSON text of `value`: sorted keys, no spaces, no NaN."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode()


def digest(value: object) -> str:
    """SHA-256 of the canonical JSON of `value`, in hex."""
    return hashlib.sha256(canonical(value)).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True, kw_only=True)
class FileRef:
    """One stored file: its name in the artifact, what it holds, how long it is."""

    name: str
    sha256: str
    bytes: int
    rows: int = 0

    def __post_init__(self) -> None:
        parts = PurePosixPath(self.name)
        if parts.is_absolute() or ".." in parts.parts or not parts.name:
            raise StoreError(f"file name {self.name!r} leaves its artifact's folder")
        if len(self.sha256) != 64 or not set(self.sha256) <= set("0123456789abcdef"):
            raise StoreError(f"file {self.name!r} has no SHA-256: {self.sha256!r}")

    @property
    def object(self) -> str:
        """Where the bytes lie, relative to the store's root."""
        return f"objects/{self.sha256}{PurePosixPath(self.name).suffix}"


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """Files that belong together, and a card of plain JSON that says what they are."""

    kind: str
    files: tuple[FileRef, ...]
    card: Mapping[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """The hash of everything in it; what other artifacts name as their input."""
        return digest(asdict(self))

    @property
    def rows(self) -> int:
        """Rows of all files together."""
        return sum(file.rows for file in self.files)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The artifact that `asdict` wrote."""
        files = tuple(FileRef(**file) for file in value["files"])
        return cls(kind=value["kind"], files=files, card=value["card"])


@dataclass(frozen=True, kw_only=True)
class Version:
    """One published state: which checkpoint, embeddings, index, triplets... belong together.

    number counts from 1. parent is the digest of the version before. round counts from 0 (before
    any training) to rounds, so round == rounds ends the cycle. No times and no host names: the
    same input gives the same bytes.
    """

    number: int
    parent: str | None
    cycle: int
    round: int
    rounds: int
    config: Mapping[str, Any]
    artifacts: Mapping[str, Artifact]

    @property
    def digest(self) -> str:
        """The hash of the whole version."""
        return digest(asdict(self))

    @property
    def finished(self) -> bool:
        """Whether this version ends its cycle."""
        return self.round == self.rounds

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The version that `asdict` wrote."""
        artifacts = {k: Artifact.from_json(v) for k, v in value["artifacts"].items()}
        return cls(**{**value, "artifacts": artifacts})


class Store:
    """One store on a local disk. Many may read; `lock` lets one write versions at a time."""

    def __init__(self, root: Path, *, create: bool = False) -> None:
        """Open the store at `root`; with `create`, make it when it is not there."""
        self.root = root.absolute()
        self._verified: set[tuple[str, int, int]] = set()
        marker = self.root / "FORMAT"
        if create and not marker.exists():
            check_place(root)
            # Folders without FORMAT are what a kill leaves between the two steps below.
            for name in FOLDERS:
                (self.root / name).mkdir(parents=True, exist_ok=True)
            self._write(marker, f"{FORMAT}\n".encode())
        if not marker.exists():
            raise InputError(f"no store at {root}: `remine run` makes one")
        if (have := marker.read_text(errors="replace").strip()) != FORMAT:
            raise StoreError(f"{marker} says {have!r}; this remine reads {FORMAT!r}")

    # Files ---------------------------------------------------------------------------------

    @contextmanager
    def temporary(self, suffix: str = "") -> Iterator[Path]:
        """A path to write to, on the store's disk; what still lies there at the end goes."""
        path = self.root / "tmp" / f"{secrets.token_hex(8)}{suffix}"
        try:
            yield path
        finally:
            with suppress(FileNotFoundError):
                path.unlink()

    def put(self, temp: Path, *, name: str, rows: int = 0) -> FileRef:
        """Move the finished file `temp` under its content hash."""
        ref = FileRef(name=name, sha256=file_sha256(temp), bytes=temp.stat().st_size, rows=rows)
        temp.chmod(0o444)
        sync(temp)
        # Replacing an object changes nothing but its inode, and mends a damaged one.
        target = self.root / ref.object
        temp.replace(target)
        sync(target.parent)
        return ref

    def put_bytes(self, content: bytes, *, name: str, rows: int = 0) -> FileRef:
        """Store `content` as a file."""
        with self.temporary() as temp:
            temp.write_bytes(content)
            return self.put(temp, name=name, rows=rows)

    def path(self, ref: FileRef) -> Path:
        """Where `ref` lies, after its bytes were checked against its hash."""
        path = self.root / ref.object
        try:
            stat = path.stat()
        except FileNotFoundError:
            raise StoreError(f"{path} ({ref.name}) is missing") from None
        seen = (ref.object, stat.st_mtime_ns, stat.st_ino)
        if seen not in self._verified:
            if stat.st_size != ref.bytes or file_sha256(path) != ref.sha256:
                raise StoreError(f"{path} ({ref.name}) is corrupt: its bytes do not match its hash")
            self._verified.add(seen)
        return path

    def paths(self, artifact: Artifact) -> list[Path]:
        """Where the files of `artifact` lie, each checked."""
        return [self.path(file) for file in artifact.files]

    # Receipts ------------------------------------------------------------------------------

    def remember(self, key: str, artifact: Artifact) -> Artifact:
        """Note that the work `key` is done and left `artifact`."""
        self._write(self.root / "receipts" / f"{key}.json", _sealed(asdict(artifact)))
        return artifact

    def done(self, key: str) -> bool:
        """Whether a receipt for `key` lies there (its output is not looked at)."""
        return (self.root / "receipts" / f"{key}.json").exists()

    def recall(self, key: str) -> Artifact | None:
        """What the work `key` left, if it is done and every file of it is still sound."""
        path = self.root / "receipts" / f"{key}.json"
        try:
            artifact = Artifact.from_json(_unsealed(path))
            self.paths(artifact)
        except (FileNotFoundError, StoreError):
            return None  # not done, or damaged: the work is done again and mends it
        return artifact

    # Versions ------------------------------------------------------------------------------

    def current(self) -> Version | None:
        """The newest published version."""
        number = 0
        with suppress(FileNotFoundError, ValueError):
            number = int((self.root / "CURRENT").read_text())
        if not self._manifest(number).exists():
            number = 0
        while self._manifest(number + 1).exists():
            number += 1
        return self.version(number) if number else None

    def version(self, number: int) -> Version:
        """The published version `number`."""
        path = self._manifest(number)
        try:
            return Version.from_json(_unsealed(path))
        except FileNotFoundError:
            raise InputError(f"no version {number} in {self.root}") from None

    def publish(self, version: Version) -> None:
        """Make `version` the current one; its number must be the next free one."""
        body = _sealed(asdict(version))
        target = self._manifest(version.number)
        if version.number > 1 and not self._manifest(version.number - 1).exists():
            raise StoreError(f"version {version.number} does not follow the newest one")
        with self.temporary() as temp:
            temp.write_bytes(body)
            sync(temp)
            try:
                os.link(temp, target)
            except FileExistsError:
                if target.read_bytes() != body:
                    raise StoreError(f"{target} was published by another run") from None
            sync(target.parent)
        self._write(self.root / "CURRENT", f"{version.number}\n".encode())

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the store for writing; refuses at once when another process holds it."""
        with (self.root / "lock").open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                holder = file.read().strip()
                raise StoreBusyError(
                    f"{self.root} is in use by {holder}: one cycle at a time"
                ) from None
            file.truncate(0)
            file.write(f"process {os.getpid()}\n")
            file.flush()
            for left in (self.root / "tmp").iterdir():
                shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
            yield
            file.truncate(0)

    def versions(self) -> Iterator[Version]:
        """All published versions, newest first."""
        current = self.current()
        for number in range(current.number if current else 0, 0, -1):
            yield self.version(number)

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
        with (self.root / "log.jsonl").open("a") as file:
            file.write(line + "\n")

    # ---------------------------------------------------------------------------------------

    def _manifest(self, number: int) -> Path:
        return self.root / "versions" / f"{number:08d}.json"

    def _write(self, path: Path, content: bytes) -> None:
        with self.temporary() as temp:
            temp.write_bytes(content)
            sync(temp)
            temp.replace(path)
            sync(path.parent)


def check_place(root: Path) -> None:
    """Refuse a place where no store can be made."""
    if root.exists() and not root.is_dir():
        raise InputError(f"{root} is a file: name an empty or a new folder")
    if root.exists() and {p.name for p in root.iterdir()} - set(FOLDERS):
        raise InputError(f"{root} holds other files: name an empty or a new folder")


def sync(path: Path) -> None:
    """Force a file's bytes, or a folder's entries, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sealed(body: Mapping[str, Any]) -> bytes:
    """`body` as JSON beside its own digest."""
    return json.dumps({"sha256": digest(body), "body": body}, indent=1, sort_keys=True).encode()


def _unsealed(path: Path) -> dict[str, Any]:
    """The body of a file that `_sealed` wrote; refuses any other byte."""
    content = path.read_bytes()
    try:
        body: dict[str, Any] = json.loads(content)["body"]
        sound = content == _sealed(body)
    except (ValueError, KeyError, TypeError):
        sound = False
    if not sound:
        raise StoreError(f"{path} is corrupt: its body does not match its digest")
    return body
