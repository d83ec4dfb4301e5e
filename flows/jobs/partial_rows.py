"""Rows of a unit that are finished before the unit is: counted for progress, saved for a restart.

A unit may take many minutes. Its finished rows are saved every SECONDS, so that a kill loses no
more. Progress is known at once in the process that works, and from the saves elsewhere.
"""

import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

from remine.data.store import disk
from remine.data.store.store import Store
from remine.data.types import Float32

SECONDS = 15.0
"""Seconds between two saves."""

_counts: dict[str, int] = {}
_lock = threading.Lock()


class PartialRows:
    """The finished rows of one unit."""

    def __init__(self, store: Store, key: str) -> None:
        """`key`: of the unit, on which all depends that decides its rows."""
        self._store, self._key = store, key
        self._last_save = time.monotonic()

    def load(self) -> Float32 | None:
        """The rows that a killed process saved last; None if there are none or they are damaged."""
        for path in reversed(_saves(self._store, self._key)):
            with suppress(OSError, ValueError, EOFError):
                rows: Float32 = np.load(path, allow_pickle=False)
                if len(rows) == int(path.stem):
                    _set(self._key, len(rows))
                    return rows
        return None

    def keep(self, parts: list[Float32]) -> None:
        """Count the rows of all parts, and save them if the last save is old."""
        count = sum(map(len, parts))
        _set(self._key, count)
        if time.monotonic() - self._last_save >= SECONDS:
            self._save(np.concatenate(parts))
            self._last_save = time.monotonic()

    def clear(self) -> None:
        """Remove the saves: the unit is finished."""
        self._store.clear_scratch(self._key)
        with _lock:
            _counts.pop(self._key, None)

    def _save(self, rows: Float32) -> None:
        folder = self._store.scratch(self._key)
        earlier_saves = _saves(self._store, self._key)
        # The name appears when the file is whole; a kill leaves the save before it.
        path = folder / f"{len(rows):012d}.npy"
        temp = folder / "saving"
        with temp.open("wb") as file:
            np.save(file, rows)
        disk.sync(temp)
        temp.rename(path)
        for save in earlier_saves:
            save.unlink(missing_ok=True)


def rows_in_progress(store: Store, key: str) -> int:
    """How many rows of an unfinished unit are finished."""
    with _lock:
        if key in _counts:
            return _counts[key]
    saves = _saves(store, key)
    return int(saves[-1].stem) if saves else 0


def _saves(store: Store, key: str) -> list[Path]:
    """The saves of a unit, oldest first, without making its folder."""
    return sorted((store.root / "work" / key).glob("[0-9]*.npy"))


def _set(key: str, count: int) -> None:
    with _lock:
        _counts[key] = count
