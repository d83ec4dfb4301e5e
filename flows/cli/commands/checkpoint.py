"""`remine checkpoint`: the trained encoder, for use without remine."""

from pathlib import Path
from typing import Annotated

import typer

from remine.flows.cli.options import ConfigOption, ServedOption, StoreOption, base_of, opened_served

app = typer.Typer(help="Export the trained encoder.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def main() -> None:
    """Export the trained encoder."""


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(help="A new folder.")],
    to: Annotated[
        str, typer.Option("--to", help="sentence-transformers, transformers, torch or onnx.")
    ],
    config: ConfigOption = None,
    store: StoreOption = None,
    number: ServedOption = 0,
) -> None:
    """Write the encoder of a version as a folder that another library loads.

    The folder's README.md says how it is loaded, on what it was trained and how good it is.
    """
    from remine.flows.query.export.checkpoint_export import export as write
    from remine.flows.query.snapshot import Snapshot

    root, version = opened_served(store, config, number)
    files = write(Snapshot(root, version, base_of(config)), to, folder)
    typer.echo(f"wrote {folder}: version {version.number} for {to} ({', '.join(files)})")
