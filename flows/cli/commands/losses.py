"""`remine losses`: what can be trained with."""

import typer


def losses() -> None:
    """Every loss, miner and synthesis to train with: a line each, and its settings."""
    from remine.flows.config.loss_catalogue import catalogue_text

    typer.echo(catalogue_text())
