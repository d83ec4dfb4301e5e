"""Serves the cycle on a schedule: one deployment for each store, in this process, until stopped."""

import asyncio
import multiprocessing
import os
import re
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, cast
from uuid import UUID

from prefect.runner import Runner
from prefect.types.entrypoint import EntrypointType

from remine.data.store.records import digest
from remine.flows.config.settings import Config, load_config
from remine.flows.orchestration.crashed_runs import cancel_older_missed_runs, mark_crashed_runs
from remine.flows.orchestration.flow import cycle
from remine.flows.orchestration.prefect_server import Server

GRACE_SECONDS = 3
"""How long an interrupted cycle may take to end by itself."""

CHECK_SECONDS, MAX_FAILED_CHECKS = 5.0, 6
"""Seconds between two checks of the server, and failed checks in a row until it counts as gone."""


def serve(
    config: str | None,
    overrides: list[str],
    server: Server,
    *,
    cron: str | None,
    interval: timedelta | None,
) -> None:
    """Serve the cycle on a schedule until SIGINT or SIGTERM; ends with KeyboardInterrupt.

    The deployment is created, or updated if the store has one from before, whatever its entrypoint.
    If a temporary `server` stops, no run would ever start again, so the process ends with exit
    code 1.

    Args:
        config: Path of the TOML file, None for the embedded glyphs.
        overrides: Settings that override the file's, each table.key=value.
        server: The Prefect server to register with.
        cron: A cron line in UTC; None if `interval` is given.
        interval: Time between two runs; None if `cron` is given.

    """
    # Two, so that a run that falls due during a cycle starts, meets the store's lock and is
    # skipped; with one they would wait in line. Prefect's own limit for all runners is no choice:
    # a killed schedule does not give its lease back, and no run would ever start again.
    runner = _Runner(name="remine", limit=2)
    settings = load_config(Path(config) if config else None, overrides)
    added_id = runner.add_flow(
        cycle,
        name=deployment_name(settings),
        cron=cron,
        interval=interval,
        parameters={"config": config, "overrides": overrides},
        tags=["remine"],
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    deployment_id = cast("UUID", added_id)  # typed as a coroutine, for callers that are one
    mark_crashed_runs(deployment_id, settings.store)
    cancel_older_missed_runs(deployment_id)
    asyncio.run(_run_until_interrupted(runner, server))
    raise KeyboardInterrupt


def deployment_name(config: Config) -> str:
    """A name that only this store has: schedules of several datasets share a server.

    Under one name a second schedule would replace the first, and no run would reach the first
    store again.
    """
    store = config.store
    address, host = str(store), ""
    if isinstance(store, Path):
        # Another machine may have a different store under the same path.
        address, host = str(store.resolve()), socket.gethostname()
    last_part = re.sub(r"[^\w.-]", "-", address.rstrip("/").rpartition("/")[2])
    return f"{last_part}-{digest([host, address])[:6]}"


class _Runner(Runner):
    """Takes SIGTERM as an interrupt: Prefect's own handler waits for the loop that it stops."""

    def handle_sigterm(self, *_args: Any, **_kwargs: Any) -> None:
        signal.raise_signal(signal.SIGINT)


async def _run_until_interrupted(runner: Runner, server: Server) -> None:
    """Start due runs until SIGINT; end the process if `server` stops before."""
    runner_task = asyncio.create_task(runner.start(webserver=False))
    loop = asyncio.get_running_loop()

    def stop(*_: object) -> None:
        # In a thread: a signal handler must not wait for the children.
        loop.call_soon_threadsafe(runner_task.cancel)
        threading.Thread(target=_stop_children, daemon=True).start()

    signal.signal(signal.SIGINT, stop)
    watch_task = asyncio.create_task(_wait_until_gone(server))
    await asyncio.wait((runner_task, watch_task), return_when=asyncio.FIRST_COMPLETED)
    if watch_task.done():
        _exit_without_server(server)
    watch_task.cancel()
    with suppress(asyncio.CancelledError):
        await runner_task


async def _wait_until_gone(server: Server) -> None:
    """Return when `server` has failed MAX_FAILED_CHECKS checks in a row."""
    failed_checks = 0
    while failed_checks < MAX_FAILED_CHECKS:
        await asyncio.sleep(CHECK_SECONDS)
        is_alive = await asyncio.to_thread(server.is_alive)
        failed_checks = 0 if is_alive else failed_checks + 1


def _exit_without_server(server: Server) -> None:
    """Stop the cycles and end the process with exit code 1."""
    _stop_children()
    sys.stderr.write(
        f"remine: the Prefect server at {server.url} has stopped, together with the schedule that"
        " started it: start this schedule again, or run one permanent server for all schedules and"
        " set PREFECT_API_URL\n"
    )
    sys.stderr.flush()
    os._exit(1)  # a regular end would have the runner ask that server for minutes


def _stop_children() -> None:
    """End the cycles that run; a kill costs them nothing, the next run resumes."""
    for child in multiprocessing.active_children():
        child.terminate()
    time.sleep(GRACE_SECONDS)
    for child in multiprocessing.active_children():
        child.kill()
