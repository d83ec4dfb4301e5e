"""The protocol of a place, the location of a store's files: a folder or an object store.

A place knows names and bytes, not versions. `remine.data.store.store` relies on three promises: a
reader sees a whole file or none; of several callers that `create` the same name exactly one
succeeds; a call that returned survives a power cut.

To support another kind of storage (Azure Blob Storage, say), write a class with the methods of
`Place`, taking `bucket` as the model: its conditional `put` (If-None-Match, If-Match) is all that
`create`, and the lock and readers of `lease`, are built on. Then choose the class by the scheme of
the URL in `store.place_of`, and run the tests of `tests/data/store/test_bucket.py` on it.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from remine.data.store.records import FileRef

Address = Path | str
"""The path of a folder, or a URL such as s3://bucket/prefix."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A file of a place: its length, and when it was written or last used (seconds since 1970)."""

    bytes: int
    time: float


class Place(Protocol):
    """The location of a store's files. Names are relative paths with slashes."""

    @property
    def address(self) -> Address:
        """The address that opens this place again, also in another process."""

    @property
    def local(self) -> Path:
        """The folder on this machine for unfinished work, views and the log."""

    def has_store(self) -> bool:
        """Whether there is a store."""

    def check(self) -> None:
        """Raise InputError if no store can be made here."""

    def make(self, marker: bytes) -> None:
        """Make an empty store with `marker` as its file FORMAT; InputError if that cannot be."""

    def read(self, name: str) -> bytes:
        """The bytes of a file; FileNotFoundError if it does not exist."""

    def entries(self, folder: str) -> dict[str, Entry]:
        """The files of a folder by their names in it; empty if the folder does not exist."""

    def exists(self, name: str) -> bool:
        """Whether the file exists."""

    def write(self, name: str, content: bytes) -> None:
        """Write a small file, replacing any earlier one."""

    def create(self, name: str, content: bytes) -> bytes:
        """Write a small file unless it exists.

        Returns:
            The content of the file afterwards: `content`, or that of an earlier caller.
        """

    def add_object(self, temp: Path, ref: FileRef) -> None:
        """Move the finished file `temp` to the path of `ref`, replacing any earlier one."""

    def fetch(self, ref: FileRef) -> Path:
        """The path of the file on this machine; StoreError if it is missing."""

    def sha256(self, ref: FileRef) -> str:
        """The hash of the bytes stored now; FileNotFoundError if the file does not exist."""

    def touch(self, name: str) -> None:
        """Set the time of last use to now; may do nothing."""

    def move(self, name: str, target: str) -> None:
        """Rename a small file. If interrupted, both names may exist, but never neither."""

    def remove(self, *names: str) -> None:
        """Remove files; they need not exist."""

    def lock(self) -> AbstractContextManager[None]:
        """Hold the write lock; StoreBusyError if another process holds it."""

    def release_lock(self) -> None:
        """Give back the write lock that this process holds, if it would outlive the process."""

    def lock_holder(self) -> str | None:
        """The process that holds the write lock, or None; does not take the lock."""

    def check_lock(self) -> None:
        """Raise LostLockError if this process has lost the write lock that it took."""

    def register_reader(self, number: int) -> Callable[[], None]:
        """Register this process as a reader of a version.

        Returns:
            A function that ends the registration. It also ends with the process.
        """

    def versions_in_use(self) -> set[int]:
        """The versions with a registered reader that is alive."""
