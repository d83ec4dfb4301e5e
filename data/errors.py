"""The exceptions of remine: bad input, and a store that is damaged, busy or unreachable."""

import errno
import os


class InputError(ValueError):
    """Input from the user is invalid.

    The message is one line: the file, row or field, what is wrong, and what to do.
    """


class StoreError(RuntimeError):
    """Stored files are missing, corrupt or in use. The message is one line that names the file."""


class UnansweredError(StoreError):
    """An object store did not answer, so the request may or may not have taken effect."""


class StoreBusyError(StoreError):
    """Another process holds the write lock of the store."""


class LostLockError(StoreError):
    """Another process took over the write lock because this one could not renew it in time."""


ADVICE = {
    errno.ENOSPC: "free space there, then run the same command again: it resumes",
    errno.EDQUOT: "the quota is used up: free space, then run the same command again: it resumes",
    errno.EIO: "the disk is failing: see the system log (dmesg); on a healthy disk the same"
    " command resumes",
    errno.EROFS: "make the disk writable (the system remounts a disk with errors read-only)",
    errno.EACCES: "give this user permission to read and write there",
    errno.EPERM: "give this user permission to read and write there",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.ENFILE: "close other programs: the system has too many open files",
    errno.ENOMEM: "free memory, then run the same command again: it resumes",
    errno.EFBIG: "raise the limit on file size (ulimit -f)",
    errno.ESTALE: "mount the network disk again, then run the same command again: it resumes",
}
"""What to do about an operating system error that is not remine's fault, by its number."""


def machine_line(error: OSError) -> str | None:
    """One line about a fault of the machine, such as a full disk; None for any other error."""
    # numpy reports a short write without an error number.
    if error.errno is None and " requested and " in str(error):
        return f"a file could not be written whole; {ADVICE[errno.ENOSPC]}"
    if error.errno not in ADVICE:
        return None
    prefix = f"{error.filename}: " if error.filename else ""
    return f"{prefix}{os.strerror(error.errno).lower()}; {ADVICE[error.errno]}"


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its class name if it has no message."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
