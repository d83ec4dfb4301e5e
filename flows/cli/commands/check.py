"""`remine check`: what a source holds, before anything is made."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from remine.flows.cli.options import ConfigOption, SetOption, settings_of


def check(
    source: Annotated[
        Path | None, typer.Argument(help="A file or folder of items; default: the config's.")
    ] = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Describe a source of items.

    Reads and decodes everything, and writes nothing: items, splits, classes, sizes, copies, what is
    unusual, and what cannot be read (exit code 2 if that refuses the source). Else a forecast of
    what a first cycle takes.
    """
    from remine.flows.api.source_check import check_source
    from remine.flows.cycle.forecast.lines import forecast_lines
    from remine.flows.cycle.status import first_forecast
    from remine.flows.jobs.console import Console

    settings = settings_of(config, overrides)
    if source:
        data = replace(settings.data, source=str(source))
        settings = replace(settings, data=data, base=Path.cwd())
    with Console().stage("check", "items") as bar:
        report = check_source(settings, bar.update)
    typer.echo("\n".join(report.lines))
    if report.n_faults and settings.data.bad == "refuse":
        raise typer.Exit(2)
    typer.echo("\n".join(forecast_lines(first_forecast(settings))))
