"""Who reads which version: a file a reader, locked (flock, shared) for as long as it reads.

The kernel drops the lock with the process, however it ends, so nothing that is held by no one
stays held. A reader registers first and then looks whether its version is still there; who retires
versions moves the manifest away first and then looks who registered. One of the two sees the other.
"""

import fcntl
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def hold(folder: Path, number: int) -> Callable[[], None]:
    """Register a reader of version `number`; the function that is returned ends it.

    Where the folder cannot be written to, nothing is held: who may only read must trust that the
    versions that it reads are kept.
    """
    try:
        folder.mkdir(exist_ok=True)
        while True:
            path = folder / f"{number:08d}-{secrets.token_hex(8)}"
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            fcntl.flock(handle, fcntl.LOCK_SH)
            if os.fstat(handle).st_nlink:
                break
            os.close(handle)  # taken for a dead reader's between the two calls
    except OSError:
        return lambda: None

    def release() -> None:
        with suppress(OSError):
            path.unlink(missing_ok=True)
        os.close(handle)

    return release


def held(folder: Path) -> set[int]:
    """The versions with a living reader; what dead ones left is removed."""
    found: set[int] = set()
    for path in folder.iterdir() if folder.is_dir() else ():
        number = path.name.partition("-")[0]
        if not number.isdigit():
            continue
        with suppress(FileNotFoundError):
            # Over NFS an exclusive lock asks for a file that is open for writing.
            handle = os.open(path, os.O_RDWR if os.access(path, os.W_OK) else os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                with suppress(PermissionError):
                    path.unlink()
            except BlockingIOError:
                found.add(int(number))
            finally:
                os.close(handle)
    return found
