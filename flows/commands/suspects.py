"""`remine suspects`: which labels are probably wrong."""

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.options import ConfigOption, ServedOption, StoreOption, opened_served


def suspects(
    *,
    rows: Annotated[int, typer.Option("-n", help="How many to print.")] = 20,
    neighbours: Annotated[int, typer.Option(help="How many nearest items vote.")] = 10,
    agree: Annotated[
        float, typer.Option(help="Share of them that must carry one other label.")
    ] = 0.4,
    own: Annotated[float, typer.Option(help="Share that may at most carry the item's own.")] = 0.1,
    out: Annotated[
        Path | None, typer.Option(help="Write all as .parquet or .csv, or .html with pictures.")
    ] = None,
    config: ConfigOption = None,
    store: StoreOption = None,
    number: ServedOption = 0,
) -> None:
    """Items that are probably mislabelled, or the same under two labels; the worst first.

    An item is suspected when its nearest items nearly all carry one other label. Best after a
    cycle or two; an encoder that has been trained for long has learned the errors too.
    """
    from flows.console import Console
    from flows.snapshot import Snapshot
    from flows.suspects import check_out, find_suspects, print_suspects, write_suspects
    from mining.suspects import SuspectConfig

    settings = SuspectConfig(neighbours=neighbours, agree=agree, own=own)
    root, version = opened_served(store, config, number)
    check_out(out)
    snapshot = Snapshot(root, version)
    with Console().stage("vote", "items") as bar:
        found = find_suspects(snapshot, settings, bar.update)
    print_suspects(found, rows)
    if out:
        write_suspects(snapshot, found, out)
        typer.echo(f"wrote {out}")
