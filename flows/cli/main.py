"""The command line: `remine COMMAND`, one module a command.

Heavy libraries are imported by the command that needs them.
"""

import os
import sys
from typing import Any

import typer

from remine.data.errors import InputError, StoreError, machine_line
from remine.flows.cli.commands import checkpoint, index, triplets
from remine.flows.cli.commands.check import check
from remine.flows.cli.commands.compare import compare
from remine.flows.cli.commands.embed import embed
from remine.flows.cli.commands.init import init
from remine.flows.cli.commands.losses import losses
from remine.flows.cli.commands.mine import mine, plan
from remine.flows.cli.commands.report import report
from remine.flows.cli.commands.run import run
from remine.flows.cli.commands.schedule import schedule
from remine.flows.cli.commands.search import search
from remine.flows.cli.commands.serve import serve
from remine.flows.cli.commands.status import status
from remine.flows.cli.commands.store import gc, history, verify
from remine.flows.cli.commands.suspects import suspects
from remine.flows.jobs.environment import set_environment
from remine.flows.jobs.termination import INTERRUPTED, LINE

# Typer carries Click inside and exports only the leaves of its exceptions.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]

LONGEST_LINE = 1000
"""Longest message in characters; a cell of the data may be a book."""

app = typer.Typer(
    name="remine",
    help="Offline hard and semi-hard triplet mining over the whole dataset, as the model changes.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command()(init)
app.command()(check)
app.command()(run)
app.command()(schedule)
app.command()(mine)
app.command()(plan)
app.command()(report)
app.command()(compare)
app.command()(losses)
app.command()(search)
app.command()(suspects)
app.command()(embed)
app.command()(serve)
app.command()(history)
app.command()(verify)
app.command()(gc)
app.command()(status)
app.add_typer(checkpoint.app, name="checkpoint")
app.add_typer(index.app, name="index")
app.add_typer(triplets.app, name="triplets")


def main() -> None:
    """Run the command line: bad input is one line and exit code 2, a broken store exit code 1."""
    try:
        set_environment()
        if (code := app(standalone_mode=False)) != INTERRUPTED:
            sys.exit(code)
        _interrupted()  # Typer answers Ctrl-C with a code and prints nothing
    except InputError as error:
        _fail(str(error), 2)
    except UsageError as error:
        _misused(error)
    except StoreError as error:
        _fail(str(error), 1)
    except OSError as error:
        if (line := machine_line(error)) is None:
            raise
        _fail(line, 1)
    except (KeyboardInterrupt, typer.Abort):
        _interrupted()


def _misused(error: Any) -> None:
    """Show Typer's own message, which names the option; without any command, the help."""
    if "NoArgsIsHelp" in type(error).__name__:
        sys.stderr.write(f"{error.format_message()}\n")
        sys.exit(2)
    _fail(error.format_message(), 2)


def _interrupted() -> None:
    _fail(LINE, INTERRUPTED)


def _fail(message: str, code: int) -> None:
    if len(message) > LONGEST_LINE:
        message = f"{message[: LONGEST_LINE - 200]} ... {message[-200:]}"
    sys.stderr.write(f"remine: {message}\n")
    sys.stderr.flush()
    os._exit(code) if code == INTERRUPTED else sys.exit(code)
