"""`remine mine`, `remine plan`: mining on vectors of the user's own, and what it will cost."""

from pathlib import Path
from typing import Annotated

import typer

from remine.data.errors import InputError
from remine.flows.cli.options import ConfigOption, SetOption, settings_of
from remine.flows.jobs.termination import interrupt_on_sigterm


def mine(
    embeddings: Annotated[
        Path,
        typer.Option(help="Parquet with columns vector, label and perhaps id; or .npy (n, d)."),
    ],
    out: Annotated[Path, typer.Option(help="A new folder for the Parquet shards and _card.json.")],
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
    """Mine triplets from your own vectors.

    No model and no cycle are needed. Strategies, guards and engine are the table [mining] of the
    config, which `remine init` explains. A label may be a list: items that share one are positives.
    """
    interrupt_on_sigterm()
    from remine.flows.api.mine_file import Files, mine_files
    from remine.flows.jobs.console import Console

    files = Files(
        embeddings=embeddings, labels=labels, queries=queries, positives=positives, index=index
    )
    folder = mine_files(files, out, settings_of(config, overrides), Console())
    from remine.flows.query.terminal import print_card

    print_card(folder)


def plan(
    embeddings: Annotated[
        Path | None, typer.Option(help="Plan for `remine mine` on this file; default: the store.")
    ] = None,
    items: Annotated[
        int, typer.Option(help="Plan for this many training items (with --dimensions).")
    ] = 0,
    dimensions: Annotated[int, typer.Option(help="Dimensions of the embeddings.")] = 0,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Forecast mining: engine, time and memory."""
    from remine.flows.api.mine_file import count_pairs, plan_lines, sizes_of

    settings = settings_of(config, overrides)
    if items < 0 or dimensions < 0 or (items > 0) != (dimensions > 0):
        raise InputError("--items and --dimensions go together, and are above 0")
    is_sized = bool(items and dimensions)
    n, d = (items, dimensions) if is_sized else sizes_of(settings, embeddings)
    pairs = None if is_sized else count_pairs(settings, embeddings)
    typer.echo("\n".join(plan_lines(n, d, settings, pairs)))
