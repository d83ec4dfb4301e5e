"""`remine embed`: vectors of new data by the served encoder."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from remine.flows.cli.options import (
    ConfigOption,
    ServedOption,
    SetOption,
    StoreOption,
    base_of,
    opened_served,
)


def embed(
    source: Annotated[
        str, typer.Argument(help="What to embed: a table, a folder of pictures or an .npy file.")
    ],
    out: Annotated[Path, typer.Option("--out", help="A .parquet file for ids and vectors.")],
    config: ConfigOption = None,
    overrides: SetOption = None,
    store: StoreOption = None,
    number: ServedOption = 0,
) -> None:
    """Embed a source with the encoder of a version.

    Labels are not needed; if there are any, they are written, too. The columns are found as
    [data] of the config says.
    """
    from remine.data.sources.unlabelled import open_unlabelled
    from remine.flows.config.settings import find_config, load_config
    from remine.flows.jobs.console import Console
    from remine.flows.query.answers import check_output_path
    from remine.flows.query.snapshot import Snapshot
    from remine.flows.query.source_embedding import embed_source

    check_output_path(out, (".parquet",))
    settings = load_config(find_config(config), overrides or ())
    has_labels = settings.data.source == source  # only then do data.labels belong to it
    labels = settings.data.labels if has_labels else ""
    data = replace(settings.data, source=source, labels=labels)
    contents = open_unlabelled(data, Path.cwd())
    root, version = opened_served(store, config, number)
    console = Console()
    for line in contents.notes:
        console.say(line)
    with console.stage("embed", "items") as bar:
        lines = embed_source(Snapshot(root, version, base_of(config)), contents, out, bar.update)
    for line in lines:
        console.say(line)
    typer.echo(f"wrote {out}: {bar.count:,} vectors by version {version.number}")
