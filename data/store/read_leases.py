"""Registration of readers in a folder: one file per reader, locked with flock while it reads.

The kernel releases the lock when the process ends, however it ends, so no registration outlives
its reader. A reader first registers and then checks that its version still exists. Garbage
collection first moves the manifest away and then checks for readers. So at least one of the two
notices the other.
"""

import fcntl
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def register_reader(folder: Path, number: int) -> Callable[[], None]:
    """Register a reader of version `number`; returns a function that ends the registration.

    If the folder is not writable, nothing is registered: a process with read permission only
    depends on the versions being retained long enough.
    """
    try:
        folder.mkdir(exist_ok=True)
        while True:
            path = folder / f"{number:08d}-{secrets.token_hex(8)}"
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            fcntl.flock(handle, fcntl.LOCK_SH)
            # Between the two calls `versions_in_use` may have removed the file as a dead reader's.
            if os.fstat(handle).st_nlink:
                break
            os.close(handle)
    except OSError:
        return lambda: None

    def release() -> None:
        with suppress(OSError):
            path.unlink(missing_ok=True)
        os.close(handle)

    return release


def versions_in_use(folder: Path) -> set[int]:
    """The versions with a living reader; files of dead readers are removed."""
    numbers: set[int] = set()
    for path in folder.iterdir() if folder.is_dir() else ():
        number = path.name.partition("-")[0]
        if not number.isdigit():
            continue
        with suppress(FileNotFoundError):
            # Over NFS an exclusive lock needs a file that is open for writing.
            handle = os.open(path, os.O_RDWR if os.access(path, os.W_OK) else os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                with suppress(PermissionError):
                    path.unlink()
            except BlockingIOError:
                numbers.add(int(number))
            finally:
                os.close(handle)
    return numbers
