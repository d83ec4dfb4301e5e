"""Environment variables that must be set before Prefect, Beam and FAISS are imported."""

import importlib.util
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version

from remine.data.errors import InputError

DEFAULTS = {
    # Without network, Prefect's telemetry blocks its own database.
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # Prefect gives its own server 20 s to start, which is too short on a slow machine.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    # remine prints its own progress; the run's log on the server keeps every line.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    # Workers must not import modules from the folder that they happen to start in.
    "PYTHONSAFEPATH": "1",
}


_ENVIRONMENT_LOCK = threading.RLock()
"""The environment belongs to the process, so only one thread may change it at a time."""


@contextmanager
def engine_environment() -> Iterator[None]:
    """The variables of `set_environment`, for as long as the context lasts.

    For use inside a user's process, whose own child processes must not inherit them. Other threads
    that want the same wait.
    """
    with _ENVIRONMENT_LOCK:
        before = {name: os.environ.get(name) for name in DEFAULTS}
        try:
            set_environment()
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


def set_environment() -> None:
    """Set the variables that the user has not set, and check that FAISS is installed once.

    Raises:
        InputError: If no FAISS package is installed, or two that overwrite each other.

    """
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    # Without a handler on the root logger, Beam's first warning installs one that prints
    # everything.
    if not logging.getLogger().handlers:
        logging.getLogger().addHandler(logging.NullHandler())
    _check_faiss()


def _check_faiss() -> None:
    """Refuse both packages together: they install one module, and the last one silently wins."""
    if len([name for name in ("faiss-cpu", "faiss-gpu") if _is_installed(name)]) == 2:
        raise InputError(
            "faiss-cpu and faiss-gpu are both installed and overwrite each other; repair with:"
            " pip uninstall -y faiss-cpu faiss-gpu && pip install faiss-cpu  (or faiss-gpu)"
        )
    if importlib.util.find_spec("faiss") is None:
        raise InputError("FAISS is not installed: pip install faiss-cpu  (or faiss-gpu)")


def _is_installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True
