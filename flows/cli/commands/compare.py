"""`remine compare`: offline against online mining."""

import sys

import typer
from rich.console import Console as RichConsole

from remine.flows.cli.options import ConfigOption, SetOption
from remine.flows.jobs.termination import ending_at_once, interrupt_on_sigterm


def compare(config: ConfigOption = None, overrides: SetOption = None) -> None:
    """Compare offline with in-batch mining.

    Does offline mining pay on this data, at equal budget?

    The table [compare] of the config says which arms, how many seeds and which budget. A killed
    comparison goes on where it was. Everything goes into a store of its own, NAME-compare, beside
    the config's; its folder `latest` holds compare.html and the Parquet that it is drawn from.
    """
    from remine.flows.compare.arms import load_arms
    from remine.flows.config.settings import find_config

    interrupt_on_sigterm()
    settings, arms = load_arms(find_config(config), overrides or ())

    from remine.flows.compare.comparison_page import read_comparison, summary, write_page
    from remine.flows.compare.experiment import compare as run_comparison
    from remine.flows.jobs.console import Console

    with ending_at_once():
        folder = run_comparison(settings, arms, Console())
    page, comparison = write_page(folder), read_comparison(folder)
    width = None if sys.stdout.isatty() else 120
    RichConsole(width=width).print(summary(comparison))
    typer.echo("\n".join(comparison.verdict()))
    typer.echo(f"page: {page}")
