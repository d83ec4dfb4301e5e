"""What a store holds, as plain records: files, artifacts of files, versions of artifacts.

They are read from files that anybody may have written: a record that names a path outside the
store, or that is not of this shape, is refused when it is made.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Self

from remine.data.errors import StoreError

LONGEST_PART = 100
LONGEST_NAME = 500
HEX = frozenset("0123456789abcdef")


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


def check_name(name: object, what: str) -> None:
    """Refuse a name that is no plain relative path: it may lead out of its folder, or nowhere."""
    text = name if isinstance(name, str) else ""
    parts = PurePosixPath(text)
    if parts.is_absolute() or ".." in parts.parts or not parts.name:
        raise StoreError(f"{what} {_short(name)} leaves its artifact's folder")
    if not text.isprintable() or "\\" in text:
        raise StoreError(f"{what} {_short(name)} holds a character that no file name needs")
    if len(text) > LONGEST_NAME or max(len(part.encode()) for part in parts.parts) > LONGEST_PART:
        raise StoreError(f"{what} {_short(name)} is too long")


@dataclass(frozen=True, kw_only=True)
class FileRef:
    """One stored file: its name in the artifact, what it holds, how long it is."""

    name: str
    sha256: str
    bytes: int
    rows: int = 0

    def __post_init__(self) -> None:
        check_name(self.name, "file name")
        text = self.sha256 if isinstance(self.sha256, str) else ""
        if len(text) != 64 or not set(text) <= HEX:
            raise StoreError(f"file {self.name!r} has no SHA-256: {_short(self.sha256)}")
        for count in (self.bytes, self.rows):
            if type(count) is not int or count < 0:
                raise StoreError(f"file {self.name!r} has no length: {_short(count)}")

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

    def __post_init__(self) -> None:
        check_name(self.kind, "kind")
        if "/" in self.kind or not isinstance(self.card, Mapping):
            raise StoreError(f"an artifact of kind {self.kind!r} is not of this store's shape")

    @property
    def digest(self) -> str:
        """The hash of everything in it; what other artifacts name as their input."""
        return digest(asdict(self))

    @property
    def rows(self) -> int:
        """Rows of all files together."""
        return sum(file.rows for file in self.files)

    @property
    def bytes(self) -> int:
        """Bytes of all files together."""
        return sum(file.bytes for file in self.files)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The artifact that `asdict` wrote."""
        try:
            files = tuple(FileRef(**file) for file in value["files"])
            return cls(kind=value["kind"], files=files, card=value["card"])
        except (TypeError, KeyError, AttributeError) as error:
            raise StoreError(f"an artifact is not of this store's shape: {error}") from None


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

    def __post_init__(self) -> None:
        counts = (self.number, self.cycle, self.round, self.rounds)
        if not all(type(count) is int and count >= 0 for count in counts) or self.number < 1:
            raise StoreError(f"a version of number {_short(self.number)} is none")
        for name in self.artifacts:
            check_name(name, "artifact")

    @property
    def digest(self) -> str:
        """The hash of the whole version."""
        return digest(asdict(self))

    @property
    def finished(self) -> bool:
        """Whether this version ends its cycle."""
        return self.round == self.rounds

    @property
    def files(self) -> dict[str, FileRef]:
        """Every file of it, by where it lies; what two artifacts share is there once."""
        return {file.object: file for part in self.artifacts.values() for file in part.files}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The version that `asdict` wrote."""
        try:
            artifacts = {k: Artifact.from_json(v) for k, v in value["artifacts"].items()}
            return cls(**{**value, "artifacts": artifacts})
        except (TypeError, KeyError, AttributeError) as error:
            raise StoreError(f"a version is not of this store's shape: {error}") from None


def sealed(body: Mapping[str, Any]) -> bytes:
    """`body` as JSON beside its own digest."""
    return json.dumps({"sha256": digest(body), "body": body}, indent=1, sort_keys=True).encode()


def unsealed(content: bytes, where: object) -> dict[str, Any]:
    """The body of a text that `sealed` wrote; refuses any other byte."""
    try:
        body: dict[str, Any] = json.loads(content)["body"]
        sound = content == sealed(body)
    except (ValueError, KeyError, TypeError, RecursionError):
        sound = False
    if not sound:
        raise StoreError(f"{where} is corrupt: its body does not match its digest")
    return body


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
