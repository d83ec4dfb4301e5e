"""The file system calls by which a store in a folder changes files, one function each.

Almost nothing else in `data/store` changes a file, so that tests can count the changes, end the
process at each of them, and replay them on a model of a disk that loses what was not synced.
"""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def write(path: Path, content: bytes) -> None:
    """Write a whole new file; it survives a power cut only after `sync`."""
    path.write_bytes(content)


def append(path: Path, content: bytes) -> None:
    """Append lines to a file, after a line break if a kill or full disk cut off the last line."""
    with path.open("a+b") as file:
        if file.tell() and os.pread(file.fileno(), 1, file.tell() - 1) != b"\n":
            content = b"\n" + content
        file.write(content)


def sync(path: Path) -> None:
    """Flush the bytes of a file, or the entries of a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def rename(path: Path, target: Path) -> None:
    """Move a file over `target`, atomically for readers."""
    path.replace(target)


def link(path: Path, target: Path) -> None:
    """Give a file a second name; FileExistsError if the name is in use."""
    os.link(path, target)


def unlink(path: Path) -> None:
    """Remove a file; it need not exist."""
    with suppress(FileNotFoundError):
        path.unlink()


def chmod(path: Path, mode: int) -> None:
    """Set the permissions of a file."""
    path.chmod(mode)


def mkdir(path: Path) -> None:
    """Make a folder and its ancestors; it may exist."""
    path.mkdir(parents=True, exist_ok=True)


@contextmanager
def temporary(folder: Path, suffix: str = "") -> Iterator[Path]:
    """A path in `folder` to write to; a file that is still there at the end is removed."""
    path = folder / f"{secrets.token_hex(8)}{suffix}"
    try:
        yield path
    finally:
        unlink(path)
