"""Where a store's files lie: a folder, or a prefix of an object store (data.store.bucket).

A place knows names and bytes, nothing of versions. What it promises is all that data.store builds
on: a name shows a whole file or none; `create` gives a name to one of many who ask for it; what
returned is safe from a power cut.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from remine.data.store.records import FileRef

Address = Path | str
"""A folder's path, or a URL such as s3://bucket/prefix."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A file of a place: how long it is, and when it was written or last used (epoch seconds)."""

    bytes: int
    time: float


class Place(Protocol):
    """Where a store's files lie. Names are relative, with slashes."""

    @property
    def address(self) -> Address:
        """What opens this place again, also in another process."""

    @property
    def local(self) -> Path:
        """The folder on this machine for what is under way and for what people look at."""

    def made(self) -> bool:
        """Whether a store was made here."""

    def check(self) -> None:
        """Refuse a place where no store can be made."""

    def make(self, marker: bytes) -> None:
        """Make an empty store; refuses where something else lies."""

    def read(self, name: str) -> bytes:
        """A file's bytes; FileNotFoundError where there is none."""

    def entries(self, folder: str) -> dict[str, Entry]:
        """The files of one folder by their names in it; none where there is no such folder."""

    def exists(self, name: str) -> bool:
        """Whether a file lies there."""

    def write(self, name: str, content: bytes) -> None:
        """Put a small file there, over what was there."""

    def create(self, name: str, content: bytes) -> bytes:
        """Put a small file where none is; what lies there now: `content`, or what was first."""

    def keep(self, temp: Path, ref: FileRef) -> None:
        """Move the finished file `temp` to where `ref` says, over what was there."""

    def fetch(self, ref: FileRef) -> Path:
        """Where the file can be read on this machine; StoreError where it is missing."""

    def sha256(self, ref: FileRef) -> str:
        """The hash of what lies there now; FileNotFoundError where nothing does."""

    def touch(self, name: str) -> None:
        """Note that a file was used; may do nothing."""

    def move(self, name: str, target: str) -> None:
        """Rename a small file; both names may be there if it is cut short, never neither."""

    def remove(self, *names: str) -> None:
        """Remove files; they may be gone."""

    def lock(self) -> AbstractContextManager[None]:
        """Hold the place for writing; StoreBusyError when another process holds it."""

    def holder(self) -> str | None:
        """Who holds the place for writing, of those that live; never takes the lock."""

    def check_lock(self) -> None:
        """LostLockError where the lock that this process took was lost meanwhile."""

    def hold(self, number: int) -> Callable[[], None]:
        """Tell that version `number` is being read; until the function is called, or a kill."""

    def held(self) -> set[int]:
        """The versions that are being read by a process that lives."""
