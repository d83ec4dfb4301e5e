"""Runs that Prefect's server still counts as under way, or as due, though no process is there.

The server hears of a killed process, or of a machine without power, never. The store's lock tells:
who holds it is the only cycle at work on the store.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.states import Cancelled, Crashed
from prefect.types import DateTime

from data.errors import InputError, StoreBusyError
from data.place import Address
from data.store import Store, made
from flows.config import load_config

BEGINS_WITHIN = timedelta(minutes=5)
"""How long a run may take to reach the lock, or to say that it was skipped there."""

UNDER_WAY = (StateType.RUNNING, StateType.CANCELLING, StateType.PENDING)


def mark_crashed(flow: str, store: Address) -> int:
    """Mark the runs of `flow` that should be at work on `store` while nobody is; how many."""
    if not made(store):
        return mark_left(flow, store)
    try:
        with Store(store).lock():
            return mark_left(flow, store)
    except StoreBusyError:
        return 0


def mark_left(flow: str, store: Address, holder: UUID | None = None) -> int:
    """Mark what stands under way on `store`, whose lock the caller holds; how many.

    holder: the caller's own run. Others may have begun since, and are about to be skipped.
    """
    marked = 0
    with get_client(sync_client=True) as client:
        for run in client.read_flow_runs(flow_filter=_named(flow), flow_run_filter=_in(UNDER_WAY)):
            if run.id == holder or store_of(run) != store or _begins(run, beside=bool(holder)):
                continue
            crashed: State[Any] = Crashed(message="its process is gone; the next run resumes")
            client.set_flow_run_state(run.id, crashed, force=True)
            marked += 1
    return marked


def catch_up_once(flow: str, store: Address) -> None:
    """Of the runs whose time passed while nothing served them, only the latest is made up for."""
    missed = _in([StateType.SCHEDULED])
    missed.expected_start_time = FlowRunFilterExpectedStartTime(before_=DateTime.now(UTC))
    newest_first = FlowRunSort.EXPECTED_START_TIME_DESC
    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(
            flow_filter=_named(flow), flow_run_filter=missed, sort=newest_first
        )
        for run in [r for r in found if r.auto_scheduled and store_of(r) == store][1:]:
            state: State[Any] = Cancelled(message="missed; a later one is made up for")
            client.set_flow_run_state(run.id, state, force=True)


def store_of(run: FlowRun) -> Address | None:
    """The store that a run's parameters name; None where they can no longer be read."""
    given = run.parameters
    try:
        path = given.get("config")
        return load_config(Path(path) if path else None, given.get("overrides") or ()).store
    except (InputError, OSError, TypeError):
        return None


def _named(flow: str) -> FlowFilter:
    return FlowFilter(name=FlowFilterName(any_=[flow]))


def _in(states: list[StateType] | tuple[StateType, ...]) -> FlowRunFilter:
    of = FlowRunFilterStateType(any_=list(states))
    return FlowRunFilter(state=FlowRunFilterState(type=of))


def _begins(run: FlowRun, *, beside: bool) -> bool:
    """Whether its process may not have come to the lock yet; `beside` one that has it."""
    assert run.state is not None
    recent = datetime.now(UTC) - run.state.timestamp < BEGINS_WITHIN
    return recent and (beside or run.state.is_pending())
