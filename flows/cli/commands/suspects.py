"""`remine suspects`: which labels are probably wrong."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from remine.flows.cli.options import ConfigOption, ServedOption, StoreOption, base_of, opened_served


def suspects(
    *,
    rows: Annotated[int, typer.Option("-n", help="How many to print.")] = 20,
    margin: Annotated[
        float,
        typer.Option(help="How much nearer (squared distance) another class's centroid must be."),
    ] = 0.4,
    out: Annotated[
        Path | None, typer.Option(help="Write all as .parquet or .csv, or .html with pictures.")
    ] = None,
    judge: Annotated[
        Literal["auto", "start", "served"],
        typer.Option(
            help="Embeddings that judge labels: those before training, the served ones, or the"
            " better of both."
        ),
    ] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    config: ConfigOption = None,
    store: StoreOption = None,
    number: ServedOption = 0,
) -> None:
    """List labels that are probably wrong.

    Items that are probably mislabelled, or the same under two labels; the worst first.

    An item is suspected when it lies clearly nearer to another class's centroid than to that of its
    own class without it. Training may learn wrong labels: if it has, the embeddings before it
    judge, and the output says which did.
    """
    from remine.flows.jobs.console import Console
    from remine.flows.query.answers import check_output_path
    from remine.flows.query.snapshot import Snapshot
    from remine.flows.query.suspects import (
        SUFFIXES,
        find_suspects,
        print_json,
        print_suspects,
        write_suspects,
    )
    from remine.mining.suspects import SuspectConfig

    settings = SuspectConfig(margin=margin)
    root, version = opened_served(store, config, number)
    check_output_path(out, SUFFIXES)
    snapshot = Snapshot(root, version, base_of(config))
    with Console(quiet=as_json).stage("suspects", "items") as bar:
        suspect_report = find_suspects(snapshot, settings, bar.update, judge)
    (print_json if as_json else print_suspects)(suspect_report, rows)
    if out:
        write_suspects(snapshot, suspect_report, out)
        typer.echo(f"wrote {out}", err=as_json)
