"""`remine index`: the versions of the index."""

from typing import Annotated

import typer

from remine.data.errors import InputError
from remine.flows.cli.options import ConfigOption, StoreOption, opened_served, store_of

app = typer.Typer(
    help="Show, choose and check index versions.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
NumberArgument = Annotated[int, typer.Argument(help="A published version; 0: the served one.")]


@app.command(name="list")
def list_(config: ConfigOption = None, store: StoreOption = None) -> None:
    """List every version and its index, newest first."""
    from remine.flows.query.index_check import print_versions

    print_versions(store_of(store, config))


@app.command()
def show(
    number: NumberArgument = 0, config: ConfigOption = None, store: StoreOption = None
) -> None:
    """Show an index: kind and reason, recall by setting, origin."""
    from remine.flows.query.index_check import print_version

    print_version(*opened_served(store, config, number))


@app.command()
def use(
    number: Annotated[int | None, typer.Argument(help="The version to serve from now on.")] = None,
    config: ConfigOption = None,
    store: StoreOption = None,
    *,
    newest: Annotated[
        bool, typer.Option("--newest", help="Serve the newest again, as it is published.")
    ] = False,
) -> None:
    """Choose the version that is served.

    Searches and the server use it; published files never change.
    """
    from remine.data.store.pins import pin, unpin

    if (number is None) != newest:
        raise InputError("give a version's number, or --newest")
    named_store = store_of(store, config)
    if number is None:
        unpin(named_store)
        typer.echo("the newest version is served")
    else:
        version = pin(named_store, number)
        typer.echo(f"version {version.number} is served until `remine index use --newest`")


@app.command()
def verify(
    number: NumberArgument = 0, config: ConfigOption = None, store: StoreOption = None
) -> None:
    """Check a version's files, and measure its recall again."""
    from remine.flows.query.index_check import verify as verified

    verified(*opened_served(store, config, number), typer.echo)
