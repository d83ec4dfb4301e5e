"""Runs of a deployment that Prefect's server wrongly counts as running or as due.

The server is never told of a killed process, or of a machine without power. The store's lock knows
better: only the holder of the lock can be at work on the store. Only runs of the deployment itself
are touched: it belongs to this machine, folder and store, while the parameters of other deployments
may refer to another machine.
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

STARTUP_TIME = timedelta(minutes=5)
"""How long a run may take until it holds the lock, or until it is skipped because another does."""

ACTIVE_STATES = [StateType.RUNNING, StateType.CANCELLING, StateType.PENDING]
PAGE_SIZE = 100

AUTO_SCHEDULED_TAG = "auto-scheduled"
"""The server's tag for runs that its scheduler created."""


def mark_crashed_runs(deployment_id: UUID, store: Address) -> int:
    """Mark active runs on `store` as crashed if nobody holds its lock; returns their number.

    Before the store exists there is no lock to ask: a first run may be checking its data.
    """
    if not store_exists(store):
        return 0
    try:
        with Store(store).lock():
            return mark_orphaned_runs(deployment_id, store)
    except StoreBusyError:
        return 0


def mark_orphaned_runs(deployment_id: UUID, store: Address, holder: UUID | None = None) -> int:
    """Mark active runs on `store`, whose lock the caller holds; returns their number.

    Args:
        deployment_id: Only runs of this deployment are marked.
        store: Address of the locked store.
        holder: The caller's own run, if it is one. Runs that started after it are left alone:
            they will meet the lock and be skipped.

    """
    count = 0
    with get_client(sync_client=True) as client:
        for run in list(_runs(client, deployment_id, _state_filter(ACTIVE_STATES))):
            is_starting = _is_starting(run, beside_holder=holder is not None)
            if run.id == holder or store_of(run) != store or is_starting:
                continue
            state: State[Any] = Crashed(message="the process has ended; the next run resumes")
            client.set_flow_run_state(run.id, state, force=True)
            count += 1
    return count


def cancel_older_missed_runs(deployment_id: UUID) -> None:
    """Of the runs that fell due while nothing served them, cancel all but the latest."""
    run_filter = _state_filter([StateType.SCHEDULED])
    run_filter.expected_start_time = FlowRunFilterExpectedStartTime(before_=DateTime.now(UTC))
    with get_client(sync_client=True) as client:
        due_runs = _runs(client, deployment_id, run_filter)
        missed_runs = [run for run in due_runs if AUTO_SCHEDULED_TAG in run.tags]
        for run in missed_runs[1:]:
            state: State[Any] = Cancelled(message="missed; a later run takes its place")
            client.set_flow_run_state(run.id, state, force=True)


def store_of(run: FlowRun) -> Address | None:
    """The store that a run's parameters refer to; None if they cannot be read any more."""
    try:
        path = run.parameters.get("config")
        overrides = run.parameters.get("overrides") or ()
        return load_config(Path(path) if path else None, overrides).store
    except Exception:  # noqa: BLE001 - a user may have typed anything into Prefect's form
        return None


def _runs(
    client: SyncPrefectClient, deployment_id: UUID, run_filter: FlowRunFilter
) -> Iterator[FlowRun]:
    """Runs of the deployment, the latest first; the server returns a page at a time."""
    offset = 0
    while page := client.read_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment_id])),
        flow_run_filter=run_filter,
        sort=FlowRunSort.EXPECTED_START_TIME_DESC,
        limit=PAGE_SIZE,
        offset=offset,
    ):
        yield from page
        offset += len(page)


def _state_filter(states: list[StateType]) -> FlowRunFilter:
    return FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=states)))


def _is_starting(run: FlowRun, *, beside_holder: bool) -> bool:
    """Whether the run's process may not have reached the lock yet.

    beside_holder: another run holds the lock, so that even a running one may be about to be
    skipped there; without a holder only a pending run may still start.
    """
    assert run.state is not None
    is_recent = datetime.now(UTC) - run.state.timestamp < STARTUP_TIME
    return is_recent and (beside_holder or run.state.is_pending())
