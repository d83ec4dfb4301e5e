"""Failed runs in the store's log, since nobody reads the output of a schedule."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from remine.data.errors import StoreBusyError, machine_line
from remine.data.store.store import Store, store_exists
from remine.flows.config.settings import Config

LONGEST_LINE = 1000


@contextmanager
def failures_logged(config: Config) -> Iterator[None]:
    """Log why a run fails, if there is a store; that another cycle holds it is no failure."""
    try:
        yield
    except StoreBusyError:
        raise
    except Exception as error:
        # A full disk takes no further line, and the error itself is what counts.
        with suppress(Exception):
            if store_exists(config.store):
                Store(config.store).log("failed", why=_line(error))
        raise


def _line(error: Exception) -> str:
    advice = machine_line(error) if isinstance(error, OSError) else None
    text = advice or str(error) or type(error).__name__
    return text.splitlines()[0][:LONGEST_LINE]


def last_failure(events: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The log's event of the last run's failure; None if the last run succeeded or still runs."""
    for event in reversed(events):
        kind = event.get("event")
        if kind == "failed":
            return dict(event)
        if kind in ("cycle", "publish") or _found_nothing_to_do(event):
            return None
    return None


def last_success(events: Sequence[dict[str, Any]]) -> float | None:
    """When a run last ended with a finished cycle or with nothing to do; seconds since 1970.

    A run that is killed logs no failure, so an old time is the sign of runs that are killed.
    """
    for event in reversed(events):
        if event.get("event") == "cycle" or _found_nothing_to_do(event):
            return float(event["time"])
    return None


def _found_nothing_to_do(event: dict[str, Any]) -> bool:
    return event.get("event") == "decision" and bool(event["what"] == "nothing")
