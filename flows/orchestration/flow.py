"""The cycle as a Prefect flow, and the schedule that serves it.

Importing this module imports Prefect, which takes a second; flows.jobs.environment must come first.
"""

import asyncio
import multiprocessing
import multiprocessing.connection
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, cast
from uuid import UUID

from prefect import flow, get_run_logger, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogHandler
from prefect.runner import Runner
from prefect.states import Cancelled
from prefect.types.entrypoint import EntrypointType

from remine.data.errors import StoreBusyError, machine_line
from remine.data.store.records import Artifact, digest
from remine.flows.config.settings import Config, load_config
from remine.flows.cycle.cycle import finished_without_page, prepared, run_cycle
from remine.flows.cycle.failures import failures_noted
from remine.flows.cycle.refresh import decide, standing
from remine.flows.jobs.beam import beam_execute
from remine.flows.jobs.console import Console
from remine.flows.orchestration import crashed_runs
from remine.flows.orchestration.artifacts import Artifacts
from remine.flows.orchestration.prefect_server import Server
from remine.flows.report.cycle_page import write_report
from remine.train.monitor.health import RoundStoppedError

CHILD_SECONDS = 3
"""How long an interrupted cycle may take to end by itself."""

RETRY_SECONDS = [10.0, 60.0]
"""How long a scheduled stage waits before it is tried again after a fault of the machine."""

GONE_EVERY, GONE_ASKED = 5.0, 6
"""Seconds between two looks whether the server is there, and how many may find nothing."""

STAGES_A_ROUND = 5
NAMES = {"build": "index"}
"""What the console calls a stage, where its function has another name."""

ABOUT = """\
One cycle of remine: embed, index and evaluate, then mine and train, round by round. A run that was
killed is resumed by the next one; a run that is due while another works on the store is skipped.
"""


def _follow(parent: Any) -> None:
    """In the process of a scheduled cycle: end when the runner ends, and only then."""
    # Ctrl-C reaches a terminal's whole group; the runner passes on what this process must know.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if runner_process := multiprocessing.parent_process():
    _follow(runner_process)


def _worth_another_try(_task: Any, _run: Any, state: State[Any]) -> bool:
    """A scheduled stage is tried again after a fault of the machine; bad input stays bad."""
    if not runtime.deployment.id:
        return False
    try:
        state.result()
    except OSError as error:
        return machine_line(error) is not None
    except Exception:  # noqa: BLE001 - whatever else it is, it would come again
        return False
    return False


@task(
    name="stage",
    cache_policy=NO_CACHE,
    retries=len(RETRY_SECONDS),
    retry_delay_seconds=RETRY_SECONDS,
    retry_condition_fn=_worth_another_try,
)
def stage_task(work: Callable[[], Artifact]) -> Artifact:
    """One stage of a round."""
    return work()


@flow(name="remine-cycle", description=ABOUT, log_prints=False, persist_result=False)
def cycle(config: str | None = None, overrides: list[str] | None = None) -> int | State[Any]:
    """Run one cycle; the number of the version that it ends with.

    Args:
        config: Path of the TOML file on the machine that runs the cycle; none for the embedded
            glyphs.
        overrides: Settings that win over the file's, each table.key=value, such as
            train.steps=100.

    """
    settings = load_config(Path(config) if config else None, overrides or ())
    logger = get_run_logger()
    console = Console(also=lambda line: logger.info(line.strip()))
    try:
        return _cycle(settings, console, config, overrides or [])
    except StoreBusyError as error:
        if not runtime.deployment.id:
            raise
        console.say(f"skipped: {error}")  # due while another cycle runs
        return Cancelled(message=f"skipped: {error}")


def _cycle(settings: Config, console: Console, config: str | None, overrides: list[str]) -> int:
    decision = decide(settings) if settings.refresh.when == "needed" else None
    if decision and (served := standing(settings, decision)):
        console.say(f"nothing to do: {decision.why}")
        return served
    with failures_noted(settings):
        execute = beam_execute(settings.beam.runner, settings.beam.options)
    with prepared(settings, execute, console) as (run, items, inputs):
        if runtime.deployment.id:  # it may be that no schedule starts again here: a work pool
            with suppress(Exception):  # how it looks in a page must not end a cycle
                own, here = UUID(runtime.flow_run.id), UUID(runtime.deployment.id)
                crashed_runs.mark_left(here, settings.store, own)
        shown, done = Artifacts(), 0

        def call(stage: Callable[..., Artifact], *args: Any) -> Artifact:
            nonlocal done
            name = f"{console.round} {NAMES.get(stage.__name__, stage.__name__)}"
            artifact = stage_task.with_options(task_run_name=name)(lambda: stage(*args))
            done += 1
            shown.progress(done, STAGES_A_ROUND * settings.run.rounds + 3)
            return artifact

        try:
            version = finished_without_page(run) or run_cycle(
                run, items, inputs, call, shown.rounds, decision
            )
        except RoundStoppedError:
            if current := run.store.current():
                write_report(run.store, current)
            raise
        shown.report(version, write_report(run.store, version), config, overrides)
        run.store.log("cycle", cycle=version.cycle, version=version.number)
    return version.number


def run_once(config: str | None, overrides: list[str]) -> int:
    """Run the cycle now; what Prefect still wants to tell its server is told when this returns."""
    try:
        return int(cycle(config, overrides))  # type: ignore[arg-type]  # a State only when served
    finally:
        APILogHandler().flush()
        EventsWorker.drain_all(timeout=5)


def deployment_name(config: Config) -> str:
    """A name of the store's own: schedules of several datasets share a server.

    Under one name the later would take the earlier's place, whose store no run would reach again.
    """
    store = config.store
    address, host = str(store), ""
    if isinstance(store, Path):  # which another machine may have under the same path
        address, host = str(store.resolve()), socket.gethostname()
    plain = re.sub(r"[^\w.-]", "-", address.rstrip("/").rpartition("/")[2])
    return f"{plain}-{digest([host, address])[:6]}"


def serve(
    config: str | None,
    overrides: list[str],
    server: Server,
    *,
    cron: str | None,
    every: timedelta | None,
) -> None:
    """Serve the cycle on a schedule until SIGINT or SIGTERM; ends with KeyboardInterrupt.

    The process ends with exit code 1 where a `server` that passes has gone: nothing would ever run
    again.
    """
    # Two, so that a run that falls due during a cycle starts, meets the store's lock and is
    # skipped; with one they would wait in line. Never Prefect's own limit for all: a killed
    # schedule does not give its lease back, and no run would ever start again.
    runner = _Runner(name="remine", limit=2)
    settings = load_config(Path(config) if config else None, overrides)
    added = runner.add_flow(
        cycle,
        name=deployment_name(settings),
        cron=cron,
        interval=every,
        parameters={"config": config, "overrides": overrides},
        tags=["remine"],
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    deployment = cast("UUID", added)  # it says Coroutine for those who call from one
    crashed_runs.mark_crashed(deployment, settings.store)
    crashed_runs.catch_up_once(deployment)
    asyncio.run(_until_interrupted(runner, server))
    raise KeyboardInterrupt


class _Runner(Runner):
    """Takes SIGTERM as an interrupt: Prefect's own handler waits for the loop that it stops."""

    def handle_sigterm(self, *_args: Any, **_kwargs: Any) -> None:
        signal.raise_signal(signal.SIGINT)


async def _until_interrupted(runner: Runner, server: Server) -> None:
    serving = asyncio.create_task(runner.start(webserver=False))
    loop = asyncio.get_running_loop()

    def stop(*_: object) -> None:
        loop.call_soon_threadsafe(serving.cancel)
        threading.Thread(target=_stop_children, daemon=True).start()

    signal.signal(signal.SIGINT, stop)
    watching = asyncio.create_task(_until_gone(server))
    await asyncio.wait((serving, watching), return_when=asyncio.FIRST_COMPLETED)
    if watching.done():
        _stop_children()
        sys.stderr.write(
            f"remine: Prefect's server at {server.url} has gone, with the schedule that it was"
            " started for: start this one again, or keep a server for all and set"
            " PREFECT_API_URL\n"
        )
        sys.stderr.flush()
        os._exit(1)  # the runner would ask that server for minutes how to end
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await serving


async def _until_gone(server: Server) -> None:
    """Until `server` did not answer so many times in a row."""
    missed = 0
    while missed < GONE_ASKED:
        await asyncio.sleep(GONE_EVERY)
        missed = 0 if await asyncio.to_thread(server.answers) else missed + 1


def _stop_children() -> None:
    """End the cycles that run; a kill costs them nothing, the next run resumes."""
    for child in multiprocessing.active_children():
        child.terminate()
    time.sleep(CHILD_SECONDS)
    for child in multiprocessing.active_children():
        child.kill()
