"""`remine schedule`: cycles, again and again."""

import asyncio
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Annotated

import typer

from remine.data.errors import InputError
from remine.flows.cli.options import ConfigOption, SetOption

LONGEST_INTERVAL = timedelta(days=3650)
CRON_NAMES = ("@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually")
CRON_FIELDS = "minute hour day month weekday"
SHOWN_RUNS = 3


def schedule(
    config: ConfigOption = None,
    overrides: SetOption = None,
    cron: Annotated[
        str | None, typer.Option(help='Cron line in UTC, for example "0 3 * * *" or "@daily".')
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
    start = datetime.now(UTC)
    if cron is not None:
        runs = cron_runs(cron, start)
    else:
        assert interval is not None
        runs = [start + n * interval for n in range(1, SHOWN_RUNS + 1)]
    typer.echo("next runs:")
    for run in runs:
        typer.echo(f"  {run_text(run)}")

    from remine.flows.orchestration.prefect_server import server

    with server() as prefect_server:
        typer.echo(f"Prefect: {prefect_server.url.removesuffix('/api')}")
        # Only now: Prefect reads its settings when it is imported.
        from remine.flows.orchestration.schedule import serve

        file = str(path.absolute()) if path else None
        serve(file, overrides or [], prefect_server, cron=cron, interval=interval)


def cron_runs(text: str, start: datetime, count: int = SHOWN_RUNS) -> list[datetime]:
    """The first runs of a cron line in UTC, from `start` on.

    Raises:
        InputError: The line does not have exactly five fields, is not a name such as "@daily", or
            names a day that never comes. Six fields mean different things to different programs.
    """
    from prefect.server.schemas.schedules import CronSchedule

    count_of_fields = len(text.split())
    if count_of_fields != 5 and text.strip() not in CRON_NAMES:
        raise InputError(
            f"--cron {text!r} has {count_of_fields} field{'s' * (count_of_fields != 1)}; write five"
            f" ({CRON_FIELDS}), such as '0 3 * * *', or one of {', '.join(CRON_NAMES)}"
        )
    try:
        schedule = CronSchedule(cron=text.strip(), timezone="UTC")
        dates = asyncio.run(schedule.get_dates(count, start))  # February 31 never comes
    except ValueError:
        raise InputError(f"--cron {text!r} is not a cron line, such as '0 3 * * *'") from None
    return [datetime.fromisoformat(date.isoformat()) for date in dates]


def run_text(run: datetime, zone: tzinfo | None = None) -> str:
    """A time in UTC and in local time, or in `zone`."""
    form = "%Y-%m-%d %H:%M:%S %Z"
    return f"{run.astimezone(UTC):{form}} = {run.astimezone(zone):{form}}"


def parse_interval(text: str) -> timedelta:
    """The length of time that, for example, "90s", "30m", "6h" or "2d" names."""
    units = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
    number, unit = text[:-1], units.get(text[-1:])
    if unit is None or not (number.isascii() and number.isdigit()) or int(number[:12]) < 1:
        raise InputError(f"--every {text!r}: write a number and s, m, h or d, for example 6h")
    if len(number) > 9 or (interval := timedelta(**{unit: int(number)})) > LONGEST_INTERVAL:
        raise InputError(f"--every {text!r}: at most {LONGEST_INTERVAL.days}d")
    return interval
