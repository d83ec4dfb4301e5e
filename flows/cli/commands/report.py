"""`remine report`: the page of a cycle."""

import typer

from remine.flows.cli.options import ConfigOption, StoreOption, VersionOption, opened


def report(
    config: ConfigOption = None, store: StoreOption = None, number: VersionOption = 0
) -> None:
    """Write the page of a cycle again."""
    from remine.data.store.views import lay_out
    from remine.flows.report.cycle_page import write_report

    opened_store, version = opened(store, config, number)
    if not number:
        lay_out(opened_store, version)
    typer.echo(write_report(opened_store, version))
