"""`remine init`: a config with every setting explained."""

from pathlib import Path
from typing import Annotated

import typer

from remine.data.errors import InputError


def init(
    path: Annotated[Path, typer.Argument(help="The file to write.")] = Path("remine.toml"),
) -> None:
    """Write a config with every setting explained."""
    from remine.flows.config.template import config_text

    if path.exists():
        raise InputError(f"{path} exists: name another file or remove it")
    try:
        path.write_text(config_text())
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; name a file in an existing folder") from None
    typer.echo(f"wrote {path}: edit it, then `remine run --config {path}`")
