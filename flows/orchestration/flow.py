"""The cycle as a Prefect flow, its stages as tasks.

`remine.flows.orchestration.flow.cycle` is the entrypoint of every deployment. Importing this module
imports Prefect, which takes a second; call `flows.jobs.environment.set_environment` first.
"""

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import flow, get_client, get_run_logger, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.events.clients import NullEventsClient
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogHandler
from prefect.states import Cancelled, Crashed

from remine.data.errors import StoreBusyError, machine_line
from remine.data.store.records import Artifact, Version
from remine.data.store.store import Store
from remine.flows.config.settings import Config, load_config
from remine.flows.cycle.cycle import (
    PreparedRun,
    finished_without_page,
    prepared_if_needed,
    run_cycle,
)
from remine.flows.cycle.refresh import Decision
from remine.flows.jobs.beam import beam_execute
from remine.flows.jobs.console import Console
from remine.flows.jobs.job import Execute
from remine.flows.jobs.run_context import Run
from remine.flows.jobs.termination import LINE, ending_at_once, is_interruptible
from remine.flows.orchestration import crashed_runs
from remine.flows.orchestration.artifacts import PrefectArtifacts
from remine.flows.report.cycle_page import write_report
from remine.train.monitor.health import RoundStoppedError

RETRY_SECONDS = [10.0, 60.0]
"""Waiting times before a scheduled stage is tried again after a fault of the machine."""

STAGES_PER_ROUND, STAGES_BEYOND_ROUNDS = 5, 3
"""Stages of a round, and those of the last evaluation; for the progress bar, so about right."""

STAGE_TITLES = {"build": "index"}
"""Names of stages on the console, where they differ from the function's name."""

FLOW_DESCRIPTION = """\
One cycle of remine: embed, index and evaluate, then mine and train, round by round. The next run
resumes a run that was killed. A run that falls due while another one works on the store is skipped.
"""


def _end_with_runner(runner_process: Any) -> None:
    """In the process of a scheduled cycle: end when the runner ends, and only then."""
    # Ctrl-C reaches every process of the terminal's group; the runner decides what to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        multiprocessing.connection.wait([runner_process.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


# At import, because Prefect's runner starts a process that imports this module to load the flow.
if parent_process := multiprocessing.parent_process():
    _end_with_runner(parent_process)


def _is_worth_a_retry(_task: Any, _run: Any, state: State[Any]) -> bool:
    """Whether a scheduled stage failed by a fault of the machine; bad input stays bad."""
    if not runtime.deployment.id:
        return False
    try:
        state.result()
    except OSError as error:
        return machine_line(error) is not None
    except Exception:  # noqa: BLE001 - any other error would happen again
        return False
    return False


@task(
    name="stage",
    cache_policy=NO_CACHE,
    retries=len(RETRY_SECONDS),
    retry_delay_seconds=RETRY_SECONDS,
    retry_condition_fn=_is_worth_a_retry,
)
def stage_task(work: Callable[[], Artifact]) -> Artifact:
    """Run one stage of a round."""
    return work()


@flow(name="remine-cycle", description=FLOW_DESCRIPTION, log_prints=False, persist_result=False)
def cycle(config: str | None = None, overrides: list[str] | None = None) -> int | State[Any]:
    """Run one cycle and return the number of its last version.

    Args:
        config: Path of the TOML file on the machine that runs the cycle. Without one the cycle
            runs on the embedded glyphs.
        overrides: Settings that override the file's, each table.key=value, for example
            train.steps=100.

    """
    settings = load_config(Path(config) if config else None, overrides or ())
    console = Console(on_line=_log_line)
    try:
        engine = partial(open_engine, settings)
        on_decision = partial(_say_decision, console)
        with prepared_if_needed(settings, engine, console, on_decision) as (ready, decision):
            if ready is None:
                newest = Store(settings.store).current()
                return newest.number if newest else 0
            return _finish(ready, decision, config, overrides or [])
    except StoreBusyError as error:
        if not runtime.deployment.id:
            raise
        # A scheduled run that falls due during another cycle is no failure.
        console.say(f"skipped: {error}")
        return Cancelled(message=f"skipped: {error}")


def run_prepared(
    ready: PreparedRun,
    decision: Decision | None,
    config: str | None,
    overrides: list[str],
    *,
    has_events: bool = True,
) -> int:
    """Run the cycle of a prepared store now, shown by Prefect like a scheduled one.

    Args:
        ready: The locked run, the items and the inputs.
        decision: Why the cycle runs; None if it was not asked whether it is needed.
        config: Path of the TOML file, for Prefect's pages.
        overrides: Settings that override the file's, for Prefect's pages.
        has_events: Whether the server stores events. One without services does not, and after its
            end the sender would try to reach it for minutes.

    Returns:
        The number of the last version. Prefect's queued logs and events are sent.

    """

    @flow(name="remine-cycle", description=FLOW_DESCRIPTION, persist_result=False)
    def run_now(config: str | None, overrides: list[str]) -> int:
        ready[0].console.on_line = _log_line
        farewell = partial(_leave, ready[0].store, UUID(runtime.flow_run.id))
        with ending_at_once(farewell) if is_command else nullcontext():
            return _finish(ready, decision, config, overrides)

    is_command = is_interruptible()  # asked before Prefect takes SIGTERM for itself
    if not has_events:
        EventsWorker.set_client_override(NullEventsClient)
    try:
        return run_now(config, overrides)
    finally:
        APILogHandler().flush()
        # In a thread of its own: where an event loop runs, as in a notebook, Prefect would return
        # a coroutine and send nothing.
        sender = threading.Thread(target=EventsWorker.drain_all, kwargs={"timeout": 5})
        sender.start()
        sender.join()
        if not has_events:
            EventsWorker.set_client_override(None)


def _leave(store: Store, flow_run: UUID) -> None:
    """Give back the store's lock, and say in Prefect's pages that a run was interrupted."""
    store.release_lock()
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(flow_run, Crashed(message=LINE), force=True)


def open_engine(settings: Config) -> Execute:
    """Open the Beam runner that the settings name."""
    return beam_execute(settings.beam.runner, settings.beam.options)


def _log_line(line: str) -> None:
    """Write a line of the console into the flow run's log."""
    get_run_logger().info(line.strip())


def _say_decision(console: Console, decision: Decision) -> None:
    console.say(decision.line())


def _finish(
    ready: PreparedRun, decision: Decision | None, config: str | None, overrides: Sequence[str]
) -> int:
    """Run the cycle in a prepared store; returns the number of its last version."""
    run, items, inputs = ready
    _mark_orphaned_runs(run.config)
    artifacts = PrefectArtifacts(run.store)
    version = _run_stages(run, items, inputs, artifacts, decision)
    artifacts.show_report(version, write_report(run.store, version), config, overrides)
    run.store.log("cycle", cycle=version.cycle, version=version.number)
    return version.number


def _mark_orphaned_runs(settings: Config) -> None:
    """Mark earlier runs of this deployment whose process is gone; the lock is ours.

    A schedule does so when it starts, but in a work pool no schedule ever starts again.
    """
    if runtime.deployment.id:
        with suppress(Exception):  # a wrong state in Prefect's pages must not end a cycle
            crashed_runs.mark_orphaned_runs(
                UUID(runtime.deployment.id), settings.store, holder=UUID(runtime.flow_run.id)
            )


def _run_stages(
    run: Run,
    items: Artifact,
    inputs: Artifact,
    artifacts: PrefectArtifacts,
    decision: Decision | None,
) -> Version:
    """Run the cycle's stages as tasks; returns its last version."""
    total = STAGES_PER_ROUND * run.config.run.rounds + STAGES_BEYOND_ROUNDS
    stage_count = 0

    def call(stage: Callable[..., Artifact], *args: Any) -> Artifact:
        nonlocal stage_count
        title = STAGE_TITLES.get(stage.__name__, stage.__name__)
        # The name that Prefect's page shows in the run's timeline.
        named_task = stage_task.with_options(task_run_name=f"{run.console.round} {title}")
        artifact = named_task(lambda: stage(*args))
        stage_count += 1
        artifacts.show_progress(stage_count, total)
        return artifact

    try:
        return finished_without_page(run, items) or run_cycle(
            run, items, inputs, call, artifacts.show_rounds, decision
        )
    except RoundStoppedError:
        if current := run.store.current():
            write_report(run.store, current)  # the page says why the round was stopped
        raise
