"""The two ways in which remine refuses: bad input, and a store that cannot be trusted."""

import errno
import os


class InputError(ValueError):
    """What the user gave is wrong. The message is one line: file, row or field, and what to do."""


class StoreError(RuntimeError):
    """Stored files are missing, corrupt or in use. The message is one line that names the file."""


class UnansweredError(StoreError):
    """An object store did not answer: what was asked for may have happened or not."""


class StoreBusyError(StoreError):
    """Another process holds the store for writing."""


class LostLockError(StoreError):
    """Another process took the store over while this one could not renew its lock."""


ADVICE = {
    errno.ENOSPC: "free space there, then run the same command again: it resumes",
    errno.EDQUOT: "the quota is used up: free space, then run the same command again: it resumes",
    errno.EIO: "the disk fails: look at the system's log (dmesg); on a sound one the same command"
    " resumes",
    errno.EROFS: "make the disk writable (a disk with errors is often made read-only by itself)",
    errno.EACCES: "give this user the right to read and write there",
    errno.EPERM: "give this user the right to read and write there",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "close other programs: the system is out of open files",
    errno.ENOMEM: "free memory, then run the same command again: it resumes",
    errno.EFBIG: "raise the limit of a file's size (ulimit -f)",
    errno.ESTALE: "mount the network disk again, then run the same command again: it resumes",
}


def machine_line(error: OSError) -> str | None:
    """What a fault of the machine (a full disk, say) is and what to do; None for others."""
    if error.errno is None and " requested and " in str(error):  # numpy keeps the number to itself
        return f"a file could not be written whole; {ADVICE[errno.ENOSPC]}"
    if error.errno not in ADVICE:
        return None
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{os.strerror(error.errno).lower()}; {ADVICE[error.errno]}"


def first_line(error: Exception) -> str:
    """What an error says first."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
