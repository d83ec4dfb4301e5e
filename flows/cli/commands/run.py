"""`remine run`: one cycle, now."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console as RichConsole

from remine.flows.cli.options import ConfigOption, SetOption
from remine.flows.jobs.termination import interrupt_on_sigterm


def run(
    config: ConfigOption = None,
    overrides: SetOption = None,
    runner: Annotated[
        str | None, typer.Option(help="Beam runner, for example DirectRunner or DaskRunner.")
    ] = None,
    beam_options: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- BEAM OPTIONS]", help="Beam's own flags, after `--`."),
    ] = None,
    *,
    if_needed: Annotated[
        bool, typer.Option("--if-needed", help="Run only if the source or the settings changed.")
    ] = False,
) -> None:
    """Run one cycle, or resume a killed one.

    A cycle is R rounds of embed, index, evaluate, mine and train. Training starts from the last
    cycle's checkpoint. A second `remine run` on a finished store is the next cycle. On several
    devices: `torchrun --nproc-per-node=N -m remine run ...`.
    """
    from remine.flows.jobs.torchrun import processes

    interrupt_on_sigterm()
    changes = [*(overrides or []), *_beam_overrides(runner, beam_options)]
    with processes() as is_first:
        if is_first:
            run_one_cycle(config, changes, if_needed=if_needed)


def run_one_cycle(config: Path | None, overrides: list[str], *, if_needed: bool = False) -> None:
    """Run the cycle, always or if it is needed, and print the table of its rounds."""
    from remine.data.store.store import Store
    from remine.flows.config.settings import find_config, load_config
    from remine.flows.jobs.console import Console
    from remine.flows.orchestration.single_run import run_now
    from remine.flows.report.rejection import rejection_line
    from remine.flows.report.rounds_table import round_table

    path = find_config(config)
    settings = load_config(path, overrides).with_refresh(if_needed=if_needed)
    number = run_now(
        settings, Console(), path, overrides, lambda decision: typer.echo(decision.line())
    )
    if number is None:
        return
    width = None if sys.stdout.isatty() else 150
    store = Store(settings.store)
    version = store.version(number)
    RichConsole(width=width).print(round_table(version))
    if line := rejection_line(version):
        typer.echo(line)
    typer.echo(f"report: {store.root / 'latest' / 'report.html'}")


def _beam_overrides(runner: str | None, options: list[str] | None) -> list[str]:
    changes = [f'beam.runner="{runner}"'] if runner else []
    if options:
        changes.append("beam.options=[" + ", ".join(f'"{o}"' for o in options) + "]")
    return changes
