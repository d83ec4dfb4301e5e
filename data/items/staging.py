"""Where new shards lie until every row was found sound; a kill leaves no more than one folder."""

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
    """An empty folder in `place`, or for it in the nearest folder above it that exists.

    Its name follows from `place`, so that the next run finds and empties what a kill left.
    """
    place = place.absolute()
    near = next(p for p in (place, *place.parents) if p.is_dir())
    folder = near / _name(place)
    with _held(folder) as handle:
        for left in folder.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        try:
            yield folder
        finally:
            if _is(handle, folder):  # another may have cleared it, and laid its own
                shutil.rmtree(folder, ignore_errors=True)


def clear_beside(place: Path) -> None:
    """Remove what a kill left above `place` just when that was made; not what is in use."""
    place = place.absolute()
    for above in place.parents:
        folder = above / _name(place)
        if folder.is_dir():
            with suppress(StoreBusyError, OSError), _held(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _name(place: Path) -> str:
    return f".remine-{place.name}-{digest(str(place))[:8]}"


@contextmanager
def _held(folder: Path) -> Iterator[int]:
    """A handle of the folder, made if need be, in the hands of this process alone."""
    folder.mkdir(exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        if not _locked(handle, folder):
            raise StoreBusyError(f"{folder} is in use: another run checks the same data")
        yield handle
    finally:
        os.close(handle)


def _locked(handle: int, folder: Path) -> bool:
    """Whether the opened folder is ours now, and is still the one under its name."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return _is(handle, folder)


def _is(handle: int, folder: Path) -> bool:
    """Whether what stands under the name is what was opened."""
    try:
        return os.path.samestat(os.fstat(handle), folder.stat())
    except FileNotFoundError:
        return False
