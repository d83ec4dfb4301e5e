"""The two ways in which remine refuses: bad input, and a store that cannot be trusted."""


class InputError(ValueError):
    """What the user gave is wrong. The message is one line: file, row or field, and what to do."""


class StoreError(RuntimeError):
    """Stored files are missing, corrupt or in use. The message is one line that names the file."""


class UnansweredError(StoreError):
    """An object store did not answer: what was asked for may have happened or not."""


class StoreBusyError(StoreError):
    """Another process holds the store for writing."""
