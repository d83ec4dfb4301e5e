"""Settings of the engines that must stand in the environment before they are imported."""

import logging
import os

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
    """Set what the user has not."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    # Without a handler on the root, Beam's first warning would install one that prints all.
    logging.getLogger().addHandler(logging.NullHandler())
