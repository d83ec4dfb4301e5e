"""What a run that failed leaves in the store's log: nobody reads the output of a schedule."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from remine.data.errors import StoreBusyError, machine_line
from remine.data.store.store import Store, store_exists
from remine.flows.config.settings import Config

LONGEST = 1000


@contextmanager
def failures_noted(config: Config) -> Iterator[None]:
    """Log why what runs inside fails, where there is a store; a busy store is no failure."""
    try:
        yield
    except StoreBusyError:
        raise
    except Exception as error:
        with suppress(Exception):  # a full disk takes no line more, and the error is what counts
            if store_exists(config.store):
                Store(config.store).log("failed", why=_line(error))
        raise


def _line(error: Exception) -> str:
    told = machine_line(error) if isinstance(error, OSError) else None
    said = told or str(error) or type(error).__name__
    return said.splitlines()[0][:LONGEST]


def last_failure(events: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The log's line of the last run's failure; None where it did not fail, or still runs well."""
    for event in reversed(events):
        kind = event.get("event")
        if kind == "failed":
            return dict(event)
        if kind in ("cycle", "publish") or (kind == "decision" and event["what"] == "nothing"):
            return None
    return None


def last_well(events: Sequence[dict[str, Any]]) -> float | None:
    """When a run last ended as it should, with a cycle or with nothing to do; seconds since 1970.

    A run that is killed each time fails without a word: this gets old.
    """
    for event in reversed(events):
        nothing = event.get("event") == "decision" and event["what"] == "nothing"
        if event.get("event") == "cycle" or nothing:
            return float(event["time"])
    return None
