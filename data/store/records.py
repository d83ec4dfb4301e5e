"""The records of a store: files, artifacts (groups of files) and versions (groups of artifacts).

Records are read from files that anybody may have written, so every record is checked when it is
constructed: one that names a path outside the store or has another shape raises StoreError.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Self

from remine.data.errors import StoreError

LONGEST_PART = 100
"""Bytes of one component of a path; file systems allow 255, and names of ours are put around it."""
LONGEST_NAME = 500
"""Characters of a whole name."""
HEX = frozenset("0123456789abcdef")


def canonical(value: object) -> bytes:
    """Canonical JSON of `value`: sorted keys, no spaces; NaN raises ValueError."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode()


def digest(value: object) -> str:
    """SHA-256 of the canonical JSON of `value`, in hex."""
    return hashlib.sha256(canonical(value)).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of the bytes of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_name(name: object, noun: str) -> None:
    """Raise StoreError unless `name` is a plain relative path that stays in its folder.

    Args:
        name: The value to check.
        noun: What the name is of, for the message.
    """
    text = name if isinstance(name, str) else ""
    parts = PurePosixPath(text)
    if parts.is_absolute() or ".." in parts.parts or not parts.name:
        raise StoreError(f"{noun} {_short(name)} leaves its artifact's folder")
    if not text.isprintable() or "\\" in text:
        raise StoreError(f"{noun} {_short(name)} holds a character that no file name needs")
    if len(text) > LONGEST_NAME or max(len(part.encode()) for part in parts.parts) > LONGEST_PART:
        raise StoreError(f"{noun} {_short(name)} is too long")


@dataclass(frozen=True, kw_only=True)
class FileRef:
    """One stored file: its name in the artifact, SHA-256 in hex, length in bytes, and rows."""

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
        """The path of the file, relative to the root of the store."""
        return f"objects/{self.sha256}{PurePosixPath(self.name).suffix}"


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """Files that belong together, and a card of plain JSON that describes them."""

    kind: str
    files: tuple[FileRef, ...]
    card: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_name(self.kind, "kind")
        if "/" in self.kind or not isinstance(self.card, Mapping):
            raise StoreError(f"an artifact of kind {self.kind!r} is not of this store's shape")

    @property
    def digest(self) -> str:
        """The hash of the whole record, by which other artifacts refer to it as their input."""
        return digest(asdict(self))

    @property
    def rows(self) -> int:
        """The total number of rows of all files."""
        return sum(file.rows for file in self.files)

    @property
    def bytes(self) -> int:
        """The total size of all files in bytes."""
        return sum(file.bytes for file in self.files)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Parse an artifact from the JSON that `asdict` gives."""
        try:
            files = tuple(FileRef(**file) for file in value["files"])
            return cls(kind=value["kind"], files=files, card=value["card"])
        except (TypeError, KeyError, AttributeError) as error:
            raise StoreError(f"an artifact is not of this store's shape: {error}") from None


@dataclass(frozen=True, kw_only=True)
class Version:
    """One published state: the checkpoint, embeddings, index, triplets... that belong together.

    It holds no times and no host names, so that the same input gives the same bytes.

    Attributes:
        number: Counts from 1.
        parent: The digest of the version before; None for the first.
        cycle: Counts from 1.
        round: Counts from 0 (before any training) to `rounds`, which ends the cycle.
        rounds: Rounds of training in the cycle.
        config: The settings of the cycle, as JSON.
        artifacts: The artifacts by name, such as `embeddings` or `triplets/round=0`.
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
            raise StoreError(f"{_short(self.number)} is not the number of a version")
        for name in self.artifacts:
            check_name(name, "artifact")

    @property
    def digest(self) -> str:
        """The hash of the whole record."""
        return digest(asdict(self))

    @property
    def finished(self) -> bool:
        """Whether this version ends its cycle."""
        return self.round == self.rounds

    @property
    def files(self) -> dict[str, FileRef]:
        """All files by path in the store; a file that two artifacts share occurs once."""
        return {file.object: file for part in self.artifacts.values() for file in part.files}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Parse a version from the JSON that `asdict` gives."""
        try:
            artifacts = {k: Artifact.from_json(v) for k, v in value["artifacts"].items()}
            return cls(**{**value, "artifacts": artifacts})
        except (TypeError, KeyError, AttributeError) as error:
            raise StoreError(f"a version is not of this store's shape: {error}") from None


def seal(body: Mapping[str, Any]) -> bytes:
    """JSON text of `body` together with its digest."""
    return json.dumps({"sha256": digest(body), "body": body}, indent=1, sort_keys=True).encode()


def unseal(content: bytes, address: object) -> dict[str, Any]:
    """The body of a text that `seal` wrote.

    Args:
        content: The text.
        address: Where it was read from, for the message.

    Raises:
        StoreError: The text is not byte for byte what `seal` gives for its body.
    """
    try:
        body: dict[str, Any] = json.loads(content)["body"]
        # Comparing the whole text also detects changes outside the body, in white space, say.
        is_intact = content == seal(body)
    except (ValueError, KeyError, TypeError, RecursionError):
        is_intact = False
    if not is_intact:
        raise StoreError(f"{address} is corrupt: its body does not match its digest")
    return body


def _short(value: object) -> str:
    """The repr of a value, cut to 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
