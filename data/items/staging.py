"""The temporary folder for new shards until every row has been checked.

A killed run leaves at most one such folder, which the next run empties.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from remine.data.errors import StoreBusyError
from remine.data.store.records import digest


@contextmanager
def staging_folder(place: Path) -> Iterator[Path]:
    """An empty folder in `place`, or in its nearest ancestor that exists; removed at the end.

    The name is derived from `place`, so that the next run finds what a killed run left behind.

    Raises:
        StoreBusyError: Another process uses the folder.
    """
    place = place.absolute()
    parent = next(p for p in (place, *place.parents) if p.is_dir())
    folder = parent / _name(place)
    with _lock(folder) as handle:
        for leftover in folder.iterdir():
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        try:
            yield folder
        finally:
            # Another process may have removed the folder and made its own under the same name.
            if _is_same_folder(handle, folder):
                shutil.rmtree(folder, ignore_errors=True)


def clear_beside(place: Path) -> None:
    """Remove staging folders of `place` in its ancestors, unless a process uses them.

    A run that was killed just after it made `place` leaves one there.
    """
    place = place.absolute()
    for above in place.parents:
        folder = above / _name(place)
        if folder.is_dir():
            with suppress(StoreBusyError, OSError), _lock(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _name(place: Path) -> str:
    return f".remine-{place.name}-{digest(str(place))[:8]}"


@contextmanager
def _lock(folder: Path) -> Iterator[int]:
    """Make the folder if it does not exist and lock it; yields its file descriptor."""
    folder.mkdir(exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        if not _acquire(handle, folder):
            raise StoreBusyError(f"{folder} is in use: another run checks the same data")
        yield handle
    finally:
        os.close(handle)


def _acquire(handle: int, folder: Path) -> bool:
    """Lock the opened folder; False if it is locked or was replaced in the meantime."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return _is_same_folder(handle, folder)


def _is_same_folder(handle: int, folder: Path) -> bool:
    """Whether the path still names the folder that was opened."""
    try:
        return os.path.samestat(os.fstat(handle), folder.stat())
    except FileNotFoundError:
        return False
