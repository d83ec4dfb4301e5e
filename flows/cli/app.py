"""The command line. Heavy libraries are imported by the command that needs them."""

import asyncio
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console as RichConsole

from remine.data.errors import InputError, StoreError, machine_line
from remine.data.store.store import Store
from remine.flows.cli.commands import index, triplets
from remine.flows.cli.commands.search import search
from remine.flows.cli.commands.serve import serve
from remine.flows.cli.commands.status import status
from remine.flows.cli.commands.store import gc, history, verify
from remine.flows.cli.commands.suspects import suspects
from remine.flows.cli.options import ConfigOption, SetOption, StoreOption, VersionOption, opened
from remine.flows.jobs.environment import set_environment

if TYPE_CHECKING:
    from remine.flows.config.settings import Config

# Typer carries Click inside and exports only the leaves of its exceptions.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]

INTERRUPTED = 130
LONGEST_LINE = 1000
LONGEST = timedelta(days=3650)

app = typer.Typer(
    name="remine",
    help="Offline hard and semi-hard triplet mining over the whole dataset, as the model changes.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command()(search)
app.command()(suspects)
app.command()(serve)
app.command()(history)
app.command()(verify)
app.command()(gc)
app.command()(status)
app.add_typer(index.app, name="index")
app.add_typer(triplets.app, name="triplets")


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="The file to write.")] = Path("remine.toml"),
) -> None:
    """Write a commented config with every setting at its default."""
    from remine.flows.config.template import config_text

    if path.exists():
        raise InputError(f"{path} exists: name another file or remove it")
    try:
        path.write_text(config_text())
    except OSError as error:
        raise InputError(
            f"{path}: {error.strerror}; name a file in a folder that is there"
        ) from None
    typer.echo(f"wrote {path}: edit it, then `remine run --config {path}`")


@app.command()
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
        bool, typer.Option("--if-needed", help="Only what [refresh] finds worth it.")
    ] = False,
) -> None:
    """Run one cycle: embed, index, evaluate, mine, train, R rounds; or resume a killed one.

    Training starts from the last cycle's checkpoint. A second `remine run` on a finished store
    is the next cycle. On several devices: `torchrun --nproc-per-node=N -m remine run ...`.
    """
    from remine.flows.jobs.torchrun import processes

    when = "needed" if if_needed else "always"
    changes = [*(overrides or []), *_beam_overrides(runner, beam_options), f"refresh.when={when}"]
    if if_needed and _nothing_to_do(config, changes):
        return
    with processes() as first:
        if first:
            _run(config, changes)


def _nothing_to_do(config: Path | None, changes: list[str]) -> bool:
    """Whether a run is not worth it; says why. Before any engine starts, so that it is cheap."""
    from remine.flows.cycle.refresh import NOTHING, decide

    decision = decide(_settings(config, changes))
    said = "nothing to do" if decision.what == NOTHING else f"{decision.what} needed"
    typer.echo(f"{said}: {decision.why}")
    return decision.what == NOTHING


def _run(config: Path | None, changes: list[str]) -> None:
    from remine.flows.config.settings import find_config, load_config
    from remine.flows.cycle.cycle import prepared
    from remine.flows.jobs.beam import beam_execute
    from remine.flows.jobs.console import Console
    from remine.flows.report.rounds_table import round_table

    path = find_config(config)
    settings = load_config(path, changes)
    # Checked and laid down before an engine starts, so that bad data costs seconds.
    execute = beam_execute(settings.beam.runner, settings.beam.options)
    with prepared(settings, execute, Console()):
        pass

    from remine.flows.orchestration.prefect_server import server

    with server(schedules=False):
        from remine.flows.orchestration.flow import run_once

        number = run_once(str(path.absolute()) if path else None, changes)
    wide = None if sys.stdout.isatty() else 120
    store = Store(settings.store)
    RichConsole(width=wide).print(round_table(store.version(number)))
    typer.echo(f"report: {store.root / 'latest' / 'report.html'}")


@app.command()
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
    """Serve cycles on a schedule until interrupted; one at a time, later ones are skipped."""
    from remine.flows.config.settings import find_config, load_config

    if (cron is None) == (every is None):
        raise InputError("give one of --cron and --every")
    path = find_config(config)
    load_config(path, overrides or ()).check_cycle()
    interval = _interval(every) if every is not None else None
    if cron is not None:
        _check_cron(cron)

    from remine.flows.orchestration.prefect_server import server

    with server() as lent:
        typer.echo(f"Prefect: {lent.url.removesuffix('/api')}")
        from remine.flows.orchestration.schedule import serve

        file = str(path.absolute()) if path else None
        serve(file, overrides or [], lent, cron=cron, interval=interval)


@app.command()
def mine(
    embeddings: Annotated[
        Path,
        typer.Option(help="Parquet with columns vector, label and perhaps id; or .npy (n, d)."),
    ],
    out: Annotated[Path, typer.Option(help="A new folder for the Parquet shards and card.json.")],
    labels: Annotated[
        Path | None, typer.Option(help="n labels for an .npy: an .npy or a text file, a line each.")
    ] = None,
    queries: Annotated[
        Path | None, typer.Option(help="Anchors that are not in the gallery: Parquet or .npy.")
    ] = None,
    positives: Annotated[
        Path | None,
        typer.Option(help="For --queries: Parquet or CSV of ids, columns query and positive."),
    ] = None,
    index: Annotated[
        Path | None, typer.Option(help="A FAISS index that answers with the ids, to mine through.")
    ] = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Mine triplets from vectors of your own: no model, no cycle.

    Strategies, guards and engine are the table [mining] of the config: `remine init` explains them.
    A label may be a list: items that share one are positives.
    """
    from remine.flows.jobs.console import Console
    from remine.flows.stages.mine_file import Files, mine_files

    files = Files(
        embeddings=embeddings, labels=labels, queries=queries, positives=positives, index=index
    )
    folder = mine_files(files, out, _settings(config, overrides), Console())
    from remine.flows.query.terminal import print_card

    print_card(folder / "card.json")


@app.command()
def plan(
    embeddings: Annotated[
        Path | None, typer.Option(help="Plan for `remine mine` on this file; default: the store.")
    ] = None,
    items: Annotated[
        int, typer.Option(help="Plan for so many training items (with --dimensions).")
    ] = 0,
    dimensions: Annotated[int, typer.Option(help="Of the embeddings.")] = 0,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """What mining would do, how long it would take and how much memory, before doing it."""
    from remine.flows.stages.mine_file import plan_lines, sizes_of

    settings = _settings(config, overrides)
    if items < 0 or dimensions < 0 or (items > 0) != (dimensions > 0):
        raise InputError("--items and --dimensions go together, and are above 0")
    n, d = (items, dimensions) if items and dimensions else sizes_of(settings, embeddings)
    typer.echo("\n".join(plan_lines(n, d, settings)))


@app.command()
def report(
    config: ConfigOption = None, store: StoreOption = None, number: VersionOption = 0
) -> None:
    """Write the cycle's page again and print where it is."""
    from remine.data.store.views import lay_out
    from remine.flows.report.cycle_page import write_report

    found, version = opened(store, config, number)
    if not number:
        lay_out(found, version)
    typer.echo(write_report(found, version))


@app.command()
def compare(config: ConfigOption = None, overrides: SetOption = None) -> None:
    """Does offline mining beat in-batch online mining on this data? Arms at equal budget.

    The table [compare] of the config says which arms, how many seeds and which budget. A killed
    comparison goes on where it was. Everything goes into a store of its own, NAME-compare, beside
    the config's; its folder `latest` holds compare.html and the Parquet that it is drawn from.
    """
    from remine.flows.compare.arms import load_arms
    from remine.flows.config.settings import find_config

    settings, arms = load_arms(find_config(config), overrides or ())

    from remine.flows.compare.comparison_page import read_comparison, summary, write_page
    from remine.flows.compare.experiment import compare as run_comparison
    from remine.flows.jobs.console import Console

    folder = run_comparison(settings, arms, Console())
    page, found = write_page(folder), read_comparison(folder)
    wide = None if sys.stdout.isatty() else 120
    RichConsole(width=wide).print(summary(found))
    typer.echo("\n".join(found.verdict()))
    typer.echo(f"page: {page}")


@app.command()
def losses() -> None:
    """Every loss, miner and synthesis to train with: a line each, and its settings."""
    from remine.flows.config.loss_catalogue import catalogue_text

    typer.echo(catalogue_text())


def main() -> None:
    """Run the command line: bad input is one line and exit code 2, a broken store exit code 1."""
    try:
        set_environment()
        if (code := app(standalone_mode=False)) != INTERRUPTED:
            sys.exit(code)
        _interrupted()  # Typer answers Ctrl-C with a code and no word
    except InputError as error:
        _fail(str(error), 2)
    except UsageError as error:
        _misused(error)
    except StoreError as error:
        _fail(str(error), 1)
    except OSError as error:
        if (line := machine_line(error)) is None:
            raise
        _fail(line, 1)
    except (KeyboardInterrupt, typer.Abort):
        _interrupted()


def _misused(error: Any) -> None:
    """Typer's own refusals name the option; no command at all is a question for help."""
    if "NoArgsIsHelp" in type(error).__name__:
        sys.stderr.write(f"{error.format_message()}\n")
        sys.exit(2)
    _fail(error.format_message(), 2)


def _interrupted() -> None:
    _fail("interrupted; the same command resumes", INTERRUPTED)


def _fail(message: str, code: int) -> None:
    if len(message) > LONGEST_LINE:  # a cell of the data may be a book
        message = f"{message[: LONGEST_LINE - 200]} ... {message[-200:]}"
    sys.stderr.write(f"remine: {message}\n")
    sys.stderr.flush()
    os._exit(code) if code == INTERRUPTED else sys.exit(code)


def _settings(config: Path | None, overrides: list[str] | None) -> "Config":
    """The settings that were named."""
    from remine.flows.config.settings import find_config, load_config

    return load_config(find_config(config), overrides or ())


def _beam_overrides(runner: str | None, options: list[str] | None) -> list[str]:
    changes = [f'beam.runner="{runner}"'] if runner else []
    if options:
        changes.append("beam.options=[" + ", ".join(f'"{o}"' for o in options) + "]")
    return changes


def _check_cron(text: str) -> None:
    from prefect.server.schemas.schedules import CronSchedule

    try:
        asyncio.run(CronSchedule(cron=text).get_dates(1))  # February 31 never comes
    except ValueError:
        raise InputError(f"--cron {text!r} is not a cron line, such as '0 3 * * *'") from None


def _interval(text: str) -> timedelta:
    units = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
    number, unit = text[:-1], units.get(text[-1:])
    if unit is None or not (number.isascii() and number.isdigit()) or int(number[:12]) < 1:
        raise InputError(f"--every {text!r}: write a number and s, m, h or d, for example 6h")
    if len(number) > 9 or (interval := timedelta(**{unit: int(number)})) > LONGEST:
        raise InputError(f"--every {text!r}: at most {LONGEST.days}d")
    return interval


if __name__ == "__main__":  # for torchrun; `remine` is the same
    main()
