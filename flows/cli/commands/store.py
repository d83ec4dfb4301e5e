"""`remine history`, `remine verify`, `remine gc`: what a store holds, checked and cleaned up."""

from pathlib import Path
from typing import Annotated

import typer

from remine.data.errors import InputError
from remine.data.store.store import Store, store_exists
from remine.flows.cli.options import ConfigOption, SetOption, StoreOption, store_of

Keep = Annotated[int | None, typer.Option(help="Versions to keep; default: gc.keep.")]
Days = Annotated[
    float | None, typer.Option(help="Days that unnamed work is kept; default: gc.days.")
]
CompareOption = Annotated[
    bool, typer.Option("--compare", help="The store of `remine compare`: NAME-compare.")
]


def history(*, config: ConfigOption = None, store: StoreOption = None) -> None:
    """List the versions of the store.

    Cycle, round, time, recall@1, size, and what each added to the disk.
    """
    from rich.table import Table

    from remine.data.store.history import history as rows_of
    from remine.flows.query.terminal import wide_console

    table = Table("version", "cycle", "round", "published", "recall@1", "MB", "new MB", "")
    for row in rows_of(store_of(store, config)):
        time = row.published_at.astimezone().strftime("%Y-%m-%d %H:%M") if row.published_at else ""
        metric = "" if row.metric is None else f"{row.metric:.4f}"
        sizes = (f"{row.bytes / 1e6:,.1f}", f"{row.new / 1e6:,.1f}")
        place = f"{row.round} of {row.rounds}"
        table.add_row(str(row.number), str(row.cycle), place, time, metric, *sizes, row.notes)
    wide_console().print(table)


def verify(
    *,
    number: Annotated[int, typer.Option("--version", help="One version only; 0: all.")] = 0,
    compare: CompareOption = False,
    config: ConfigOption = None,
    store: StoreOption = None,
) -> None:
    """Check every file against its hash.

    Prints damaged files, and exits with 1 if there are any.
    """
    from remine.data.store.integrity import verify as verified
    from remine.flows.jobs.console import Console

    opened_store = _named_store(store, config, compare=compare)
    with Console().stage("verify", "bytes") as bar:
        report = verified(opened_store, bar.update, number)
    for line in report.faults:
        typer.echo(f"damaged: {line}")
    for line in report.notes:
        typer.echo(f"note: {line}")
    counts = f"{len(report.versions)} versions, {report.receipts} receipts, {report.files} files"
    typer.echo(f"{counts}, {report.bytes:,} bytes: {len(report.faults) or 'none'} damaged")
    if report.faults:
        raise typer.Exit(1)


def gc(
    *,
    keep: Keep = None,
    days: Days = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Remove; else only show what would be removed.")
    ] = False,
    compare: CompareOption = False,
    config: ConfigOption = None,
    overrides: SetOption = None,
    store: StoreOption = None,
) -> None:
    """Remove old versions.

    Except the last N, pinned ones, those that are read and those that the next cycle needs.
    """
    from remine.data.store.gc import RetentionConfig, collect, plan_collection
    from remine.flows.config.settings import find_config, load_config

    settings = load_config(find_config(config), overrides or ()).gc
    retention = RetentionConfig(
        keep=settings.keep if keep is None else keep, days=settings.days if days is None else days
    )
    opened_store = _named_store(store, config, compare=compare)
    plan = collect(opened_store, retention) if yes else plan_collection(opened_store, retention)
    for number, reason in plan.reasons.items():
        typer.echo(f"version {number} stays: {reason}")
    verb = "was removed" if yes else "would be removed"
    for number in plan.versions:
        typer.echo(f"version {number} {verb}")
    counts = f"{len(plan.objects)} files, {plan.bytes:,} bytes, {len(plan.receipts)} receipts"
    typer.echo(f"{counts} {verb.replace('was', 'were')}{'' if yes else ': add --yes'}")


def _named_store(root: str | None, config: Path | None, *, compare: bool) -> Store:
    """The store of --store or the config, or that of its comparisons."""
    store = store_of(root, config)
    if not compare:
        return store
    address = f"{store.address}-compare"
    if not store_exists(address):
        raise InputError(f"no store at {address}: `remine compare` creates one")
    return Store(address)
