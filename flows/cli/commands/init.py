"""`remine init`: a config with every setting explained, or a short one for a kind of items."""

from pathlib import Path
from typing import Annotated

import typer

from remine.data.errors import InputError
from remine.flows.config.starters import STARTERS, Purpose


def init(
    path: Annotated[Path, typer.Argument(help="The file to write.")] = Path("remine.toml"),
    purpose: Annotated[
        Purpose | None,
        typer.Option(
            "--for",
            help="A short config for items of this kind and a pretrained network, in place of one"
            " with every setting.",
        ),
    ] = None,
) -> None:
    """Write a config with every setting explained, or a short one to start from."""
    from remine.flows.config.template import config_text

    if path.exists():
        raise InputError(f"{path} exists: name another file or remove it")
    try:
        path.write_text(STARTERS[purpose] if purpose else config_text())
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; name a file in an existing folder") from None
    typer.echo(f"wrote {path}: edit it, then `remine run --config {path}`")
