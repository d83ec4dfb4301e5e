"""The cycle as a Prefect flow, and the schedule that serves it.

Importing this module imports Prefect, which takes a second; flows.environment must come first.
"""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.types.entrypoint import EntrypointType

from data.store import Artifact, Version
from flows.config import load_config
from flows.console import Console
from flows.cycle import prepared, run_cycle
from flows.jobs import beam_execute
from flows.report import write_report
from flows.table import round_rows


@task(name="stage", cache_policy=NO_CACHE)
def stage_task(work: Callable[[], Artifact]) -> Artifact:
    """One stage of a round."""
    return work()


@flow(name="remine-cycle", log_prints=False, persist_result=False)
def cycle(config: str | None = None, overrides: list[str] | None = None) -> int:
    """Run one cycle; the number of the version that it ends with.

    config: path of the TOML file, None for the embedded glyphs. overrides: `table.key=value`s.
    """
    settings = load_config(Path(config) if config else None, overrides or ())
    console = Console()
    execute = beam_execute(settings.beam.runner, settings.beam.options)
    with prepared(settings, execute, console) as (run, items, inputs):

        def call(stage: Callable[..., Artifact], *args: Any) -> Artifact:
            name = f"{console.round} {stage.__name__}"
            return stage_task.with_options(task_run_name=name)(lambda: stage(*args))

        def published(version: Version) -> None:
            create_table_artifact(
                key="remine-rounds",
                table=round_rows(version),
                description=f"cycle {version.cycle}, round by round",
            )

        version = run_cycle(run, items, inputs, call, published)
        page = write_report(run.store, version)
        create_markdown_artifact(key="remine-report", markdown=f"Report: `{page}`")
        run.store.log("cycle", cycle=version.cycle, version=version.number)
    return version.number


def serve(
    config: str | None, overrides: list[str], *, cron: str | None, every: timedelta | None
) -> None:
    """Serve the cycle on a schedule until interrupted; one run at a time, later ones skipped."""
    cycle.serve(
        name="remine",
        cron=cron,
        interval=every,
        parameters={"config": config, "overrides": overrides},
        limit=1,
        global_limit=ConcurrencyLimitConfig(
            limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW
        ),
        entrypoint_type=EntrypointType.MODULE_PATH,
        print_starting_message=True,
    )
