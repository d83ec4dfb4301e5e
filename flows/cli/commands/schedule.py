"""`remine schedule`: cycles, again and again."""

import asyncio
from datetime import timedelta
from typing import Annotated

import typer

from remine.data.errors import InputError
from remine.flows.cli.options import ConfigOption, SetOption

LONGEST_INTERVAL = timedelta(days=3650)


def schedule(
    config: ConfigOption = None,
    overrides: SetOption = None,
    cron: Annotated[
        str | None, typer.Option(help='Cron line in UTC, for example "0 3 * * *".')
    ] = None,
    every: Annotated[
        str | None, typer.Option(help="Interval: 90s, 30m, 6h or 2d.", metavar="INTERVAL")
    ] = None,
) -> None:
    """Run cycles on a schedule until interrupted.

    One at a time: a run that falls due during another one is skipped.
    """
    from remine.flows.config.settings import find_config, load_config

    if (cron is None) == (every is None):
        raise InputError("give one of --cron and --every")
    path = find_config(config)
    load_config(path, overrides or ()).check_cycle()
    interval = parse_interval(every) if every is not None else None
    if cron is not None:
        _check_cron(cron)

    from remine.flows.orchestration.prefect_server import server

    with server() as prefect_server:
        typer.echo(f"Prefect: {prefect_server.url.removesuffix('/api')}")
        # Only now: Prefect reads its settings when it is imported.
        from remine.flows.orchestration.schedule import serve

        file = str(path.absolute()) if path else None
        serve(file, overrides or [], prefect_server, cron=cron, interval=interval)


def _check_cron(text: str) -> None:
    from prefect.server.schemas.schedules import CronSchedule

    try:
        asyncio.run(CronSchedule(cron=text).get_dates(1))  # February 31 never comes
    except ValueError:
        raise InputError(f"--cron {text!r} is not a cron line, such as '0 3 * * *'") from None


def parse_interval(text: str) -> timedelta:
    """The length of time that, for example, "90s", "30m", "6h" or "2d" names."""
    units = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
    number, unit = text[:-1], units.get(text[-1:])
    if unit is None or not (number.isascii() and number.isdigit()) or int(number[:12]) < 1:
        raise InputError(f"--every {text!r}: write a number and s, m, h or d, for example 6h")
    if len(number) > 9 or (interval := timedelta(**{unit: int(number)})) > LONGEST_INTERVAL:
        raise InputError(f"--every {text!r}: at most {LONGEST_INTERVAL.days}d")
    return interval
