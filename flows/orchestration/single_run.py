"""One cycle, run now: by `remine run`, and from Python."""

from collections.abc import Callable
from pathlib import Path

from remine.flows.config.settings import Config
from remine.flows.cycle.cycle import prepared_if_needed
from remine.flows.cycle.refresh import Decision
from remine.flows.jobs.beam import beam_execute
from remine.flows.jobs.console import Console
from remine.flows.jobs.job import Execute


def run_now(
    config: Config,
    console: Console,
    path: Path | None = None,
    overrides: list[str] | None = None,
    on_decision: Callable[[Decision], None] = lambda _decision: None,
) -> int | None:
    """Run the next cycle, or the rest of one that was killed, as a flow in Prefect's pages.

    The data are checked and laid down before an engine or a server starts, so that bad data costs
    seconds. The store is locked throughout.

    Args:
        config: Settings. With refresh.when = "needed" the cycle runs only if it is worth it.
        console: Where stages report.
        path: The TOML file that the settings come from, to be shown in Prefect's pages.
        overrides: Settings that override the file's, to be shown in Prefect's pages.
        on_decision: Called with the decision whether the cycle is needed, if that was asked.

    Returns:
        The number of the last version, None if nothing was to do.

    Raises:
        InputError: The data or the settings cannot be used; nothing was written.
        StoreBusyError: Another cycle holds the lock.
        RoundStoppedError: The embedding collapsed; the versions before stay.

    """

    def engine() -> Execute:
        return beam_execute(config.beam.runner, config.beam.options)

    with prepared_if_needed(config, engine, console, on_decision) as (ready, decision):
        if ready is None:
            return None
        from remine.flows.orchestration.prefect_server import server

        with server(schedules=False) as prefect_server:
            # Only now: Prefect reads its settings when it is imported.
            from remine.flows.orchestration.flow import run_prepared

            shown_path = str(path.absolute()) if path else None
            return run_prepared(
                ready,
                decision,
                shown_path,
                overrides or [],
                has_events=not prefect_server.is_temporary,
            )
