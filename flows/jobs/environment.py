"""What must stand in the environment before the engines are imported."""

import importlib.util
import logging
import os
from importlib.metadata import PackageNotFoundError, version

from remine.data.errors import InputError

DEFAULTS = {
    # Offline, Prefect's telemetry blocks its own database.
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # A slow machine needs more than the 20 s that Prefect gives its own server to start.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    # The console is ours; the run's log on the server keeps every line.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    # Workers must not import a stray train.py or data/ from the folder that they start in.
    "PYTHONSAFEPATH": "1",
}


def set_environment() -> None:
    """Set what the user has not; refuse an installation with two FAISS packages or none."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    # Without a handler on the root, Beam's first warning would install one that prints all.
    logging.getLogger().addHandler(logging.NullHandler())
    _check_faiss()


def _check_faiss() -> None:
    """faiss-cpu and faiss-gpu install the same module, and the last one silently wins."""
    if len([name for name in ("faiss-cpu", "faiss-gpu") if _installed(name)]) == 2:
        raise InputError(
            "faiss-cpu and faiss-gpu are both installed and overwrite each other; repair with:"
            " pip uninstall -y faiss-cpu faiss-gpu && pip install faiss-cpu  (or faiss-gpu)"
        )
    if importlib.util.find_spec("faiss") is None:
        raise InputError("FAISS is not installed: pip install faiss-cpu  (or faiss-gpu)")


def _installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True
