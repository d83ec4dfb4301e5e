"""`remine triplets`: what was mined."""

from typing import Annotated

import typer

from flows.commands.options import (
    ConfigOption,
    RoundOption,
    StoreOption,
    VersionOption,
    opened,
)

app = typer.Typer(help="Look into the mined triplets.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def head(
    rows: Annotated[int, typer.Option("-n", help="How many.")] = 10,
    round_: RoundOption = -1,
    config: ConfigOption = None,
    store: StoreOption = None,
    number: VersionOption = 0,
) -> None:
    """The first triplets, with their labels."""
    from flows.inspect import print_head

    found, version = opened(store, config, number)
    print_head(found, version, round_, rows)


@app.command()
def counts(
    config: ConfigOption = None, store: StoreOption = None, number: VersionOption = 0
) -> None:
    """Pairs asked, triplets by kind, and pairs for which none exists, by round."""
    from flows.inspect import print_counts

    _, version = opened(store, config, number)
    print_counts(version)


@app.command()
def histogram(
    column: Annotated[
        str, typer.Argument(help="d_ap, d_an, margin (d_an - d_ap) or negative_rank.")
    ] = "d_an",
    round_: RoundOption = -1,
    config: ConfigOption = None,
    store: StoreOption = None,
    number: VersionOption = 0,
) -> None:
    """The distribution of a column, by kind."""
    from flows.inspect import print_histogram

    found, version = opened(store, config, number)
    print_histogram(found, version, round_, column)
