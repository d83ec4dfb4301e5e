"""Runs of a deployment that Prefect's server still counts as under way, or as due, wrongly.

The server never hears of a killed process, or of a machine without power. The store's lock tells:
who holds it is the only cycle at work on the store. Only runs of the own deployment are touched:
its machine, folder and store are ours, while the parameters of others may mean another machine's.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.states import Cancelled, Crashed
from prefect.types import DateTime

from remine.data.errors import StoreBusyError
from remine.data.store.place import Address
from remine.data.store.store import Store, store_exists
from remine.flows.config.settings import load_config

BEGINS_WITHIN = timedelta(minutes=5)
"""How long a run may take to reach the lock, or to say that it was skipped there."""

UNDER_WAY = [StateType.RUNNING, StateType.CANCELLING, StateType.PENDING]
PAGE = 100

BY_SCHEDULE = "auto-scheduled"
"""The tag that the server gives to runs that no person started."""


def mark_crashed(deployment: UUID, store: Address) -> int:
    """Mark the runs that should be at work on `store` while nobody is; how many.

    Without a store there is no lock that could tell: a first run may be checking its data.
    """
    if not store_exists(store):
        return 0
    try:
        with Store(store).lock():
            return mark_left(deployment, store)
    except StoreBusyError:
        return 0


def mark_left(deployment: UUID, store: Address, holder: UUID | None = None) -> int:
    """Mark what stands under way on `store`, whose lock the caller holds; how many.

    holder: the caller's own run. Others may have begun since, and are about to be skipped.
    """
    marked = 0
    with get_client(sync_client=True) as client:
        for run in list(_runs(client, deployment, _in(UNDER_WAY))):
            if run.id == holder or store_of(run) != store or _begins(run, beside=bool(holder)):
                continue
            crashed: State[Any] = Crashed(message="its process is gone; the next run resumes")
            client.set_flow_run_state(run.id, crashed, force=True)
            marked += 1
    return marked


def catch_up_once(deployment: UUID) -> None:
    """Of the runs whose time passed while nothing served them, only the latest is made up for."""
    missed = _in([StateType.SCHEDULED])
    missed.expected_start_time = FlowRunFilterExpectedStartTime(before_=DateTime.now(UTC))
    with get_client(sync_client=True) as client:
        found = [run for run in _runs(client, deployment, missed) if BY_SCHEDULE in run.tags]
        for run in found[1:]:
            state: State[Any] = Cancelled(message="missed; a later one is made up for")
            client.set_flow_run_state(run.id, state, force=True)


def store_of(run: FlowRun) -> Address | None:
    """The store that a run's parameters name; None where they can no longer be read."""
    given = run.parameters
    try:
        path = given.get("config")
        return load_config(Path(path) if path else None, given.get("overrides") or ()).store
    except Exception:  # noqa: BLE001 - anything may have been typed into Prefect's form
        return None


def _runs(client: SyncPrefectClient, deployment: UUID, wanted: FlowRunFilter) -> Iterator[FlowRun]:
    """The latest first; the server gives a page at a time."""
    of = DeploymentFilter(id=DeploymentFilterId(any_=[deployment]))
    offset = 0
    while page := client.read_flow_runs(
        deployment_filter=of,
        flow_run_filter=wanted,
        sort=FlowRunSort.EXPECTED_START_TIME_DESC,
        limit=PAGE,
        offset=offset,
    ):
        yield from page
        offset += len(page)


def _in(states: list[StateType]) -> FlowRunFilter:
    return FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=states)))


def _begins(run: FlowRun, *, beside: bool) -> bool:
    """Whether its process may not have come to the lock yet; `beside` one that has it."""
    assert run.state is not None
    recent = datetime.now(UTC) - run.state.timestamp < BEGINS_WITHIN
    return recent and (beside or run.state.is_pending())
