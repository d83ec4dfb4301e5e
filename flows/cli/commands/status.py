"""`remine status`: where a store stands."""

import json
from typing import Annotated

import typer

from remine.flows.cli.options import ConfigOption, SetOption


def status(
    config: ConfigOption = None,
    overrides: SetOption = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
) -> None:
    """Show what is served and what is stale.

    And what the next run would do and cost. Changes nothing.
    """
    from remine.flows.config.settings import find_config, load_config
    from remine.flows.cycle.status import lines
    from remine.flows.cycle.status import status as status_of

    report = status_of(load_config(find_config(config), overrides or ()))
    typer.echo(json.dumps(report, indent=1) if as_json else "\n".join(lines(report)))
