"""`remine losses`: what can be trained with."""

import typer


def losses() -> None:
    """List losses, miners and syntheses."""
    from remine.flows.config.loss_catalogue import catalogue_text

    typer.echo(catalogue_text())
