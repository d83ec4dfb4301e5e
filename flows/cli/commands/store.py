"""`remine history`, `remine verify`, `remine gc`: what a store holds, is it sound, what may go."""

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
    """Every version: cycle, round, when, recall@1, its size and what it added to the disk."""
    from rich.table import Table

    from remine.data.store.history import history as rows_of
    from remine.flows.query.terminal import wide_console

    table = Table("version", "cycle", "round", "published", "recall@1", "MB", "new MB", "")
    for row in rows_of(store_of(store, config)):
        when = row.published_at.astimezone().strftime("%Y-%m-%d %H:%M") if row.published_at else ""
        metric = "" if row.metric is None else f"{row.metric:.4f}"
        sizes = (f"{row.bytes / 1e6:,.1f}", f"{row.new / 1e6:,.1f}")
        place = f"{row.round} of {row.rounds}"
        table.add_row(str(row.number), str(row.cycle), place, when, metric, *sizes, row.notes)
    wide_console().print(table)


def verify(
    *,
    number: Annotated[int, typer.Option("--version", help="One version only; 0: all.")] = 0,
    compare: CompareOption = False,
    config: ConfigOption = None,
    store: StoreOption = None,
) -> None:
    """Hash every file of every version; a line per damaged file and exit code 1 if there is one."""
    from remine.data.store.integrity import verify as verified
    from remine.flows.jobs.console import Console

    opened = _compared(store_of(store, config), compare=compare)
    with Console().stage("verify", "bytes") as bar:
        found = verified(opened, bar.update, number)
    for line in found.faults:
        typer.echo(f"damaged: {line}")
    for line in found.notes:
        typer.echo(f"note: {line}")
    counts = f"{len(found.versions)} versions, {found.receipts} receipts, {found.files} files"
    typer.echo(f"{counts}, {found.bytes:,} bytes: {len(found.faults) or 'none'} damaged")
    if found.faults:
        raise typer.Exit(1)


def gc(
    *,
    keep: Keep = None,
    days: Days = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; else it is only told.")] = False,
    compare: CompareOption = False,
    config: ConfigOption = None,
    overrides: SetOption = None,
    store: StoreOption = None,
) -> None:
    """Remove old versions: not the last N, what is pinned, is read, or the next cycle needs."""
    from remine.data.store.gc import Keeping, collect, plan_collection
    from remine.flows.config.settings import find_config, load_config

    given = load_config(find_config(config), overrides or ()).gc
    keeping = Keeping(
        keep=given.keep if keep is None else keep, days=given.days if days is None else days
    )
    opened = _compared(store_of(store, config), compare=compare)
    found = collect(opened, keeping) if yes else plan_collection(opened, keeping)
    for number, why in found.reasons.items():
        typer.echo(f"version {number} stays: {why}")
    done = "went" if yes else "would go"
    for number in found.versions:
        typer.echo(f"version {number} {done}")
    counts = f"{len(found.objects)} files, {found.bytes:,} bytes"
    typer.echo(f"{counts}, {len(found.receipts)} receipts {done}{'' if yes else ': add --yes'}")


def _compared(store: Store, *, compare: bool) -> Store:
    if not compare:
        return store
    address = f"{store.address}-compare"
    if not store_exists(address):
        raise InputError(f"no store at {address}: `remine compare` makes one")
    return Store(address)
