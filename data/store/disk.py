"""The changes to a disk that a local store is made of, one function each.

Nothing else in data/ changes a store's files, so tests can count the changes, end the process at
each of them, and replay them on a model of a disk that loses what was not synced.
"""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def write(path: Path, content: bytes) -> None:
    """Write a whole new file; not yet safe from a power cut."""
    path.write_bytes(content)


def append(path: Path, content: bytes) -> None:
    """Add lines to a file; a line that a kill or a full disk cut short is ended first."""
    with path.open("a+b") as file:
        if file.tell() and os.pread(file.fileno(), 1, file.tell() - 1) != b"\n":
            content = b"\n" + content
        file.write(content)


def sync(path: Path) -> None:
    """Force a file's bytes, or a folder's entries, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def rename(path: Path, target: Path) -> None:
    """Move a file over `target`, in one step for those who look."""
    path.replace(target)


def link(path: Path, target: Path) -> None:
    """Give a file a second name; fails where the name is taken."""
    os.link(path, target)


def unlink(path: Path) -> None:
    """Remove a name; it may be gone."""
    with suppress(FileNotFoundError):
        path.unlink()


def chmod(path: Path, mode: int) -> None:
    """Set a file's permissions."""
    path.chmod(mode)


def mkdir(path: Path) -> None:
    """Make a folder and those above it."""
    path.mkdir(parents=True, exist_ok=True)


@contextmanager
def temporary(folder: Path, suffix: str = "") -> Iterator[Path]:
    """A path in `folder` to write to; what still lies there at the end goes."""
    path = folder / f"{secrets.token_hex(8)}{suffix}"
    try:
        yield path
    finally:
        unlink(path)
