"""Progress of the stages: a live bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console as RichConsole
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

PLAIN_SECONDS = 10.0
"""Seconds between two plain progress lines of a stage."""
FIRST_SECONDS = 3.0
"""Seconds before the first one."""


@dataclass
class Bar:
    """The progress of one stage.

    show: Called with count, total and a note at each update.
    """

    show: Callable[[int, int, str], None]
    count: int = 0
    total: int = 0
    partial: bool = False
    """Whether part of the result was reused, so that the time is not that of a full stage."""

    def update(self, count: int, total: int, note: str = "") -> None:
        """Show that `count` of `total` units are finished."""
        self.count, self.total = count, total
        self.show(count, total, note)


@dataclass
class Console:
    """Prints the stages of a run to standard error.

    quiet: Print nothing; the callbacks are still called.
    round: Put before each line.
    seconds: Time spent in each stage so far, by name.
    on_stage_end: Called with name, bar and seconds of each finished stage.
    on_line: Called with each line, even if quiet.
    """

    quiet: bool = False
    round: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    on_stage_end: Callable[[str, Bar, float], None] = lambda _stage, _bar, _seconds: None
    on_line: Callable[[str], None] = lambda _line: None
    out: RichConsole = field(default_factory=lambda: RichConsole(file=sys.stderr, highlight=False))

    def say(self, text: str) -> None:
        """Print a line."""
        self.on_line(text)
        if not self.quiet:
            self.out.print(text, markup=False, soft_wrap=True)

    @contextmanager
    def stage(self, name: str, unit: str) -> Iterator[Bar]:
        """Show a stage that counts in `unit`, and print a line with its time at the end."""
        start = time.monotonic()
        with (
            self._live(name)
            if self.out.is_terminal and not self.quiet
            else self._plain(name, unit) as bar
        ):
            yield bar
        seconds = time.monotonic() - start
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds
        self.on_stage_end(name, bar, seconds)
        self.say(f"{self.round:<9} {name:<9} {bar.count:>10,} {unit:<8} {seconds:7.1f} s")

    @contextmanager
    def _live(self, name: str) -> Iterator[Bar]:
        columns = (
            SpinnerColumn(),
            TextColumn(f"{self.round:<9} {name:<9}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )
        with Progress(*columns, console=self.out, transient=True) as progress:
            task = progress.add_task(name, total=None, note="")

            def show(count: int, total: int, note: str) -> None:
                progress.update(task, completed=count, total=total, note=note)

            yield Bar(show)

    @contextmanager
    def _plain(self, name: str, unit: str) -> Iterator[Bar]:
        # The first line comes soon, so that a long stage is seen to move.
        last_time = time.monotonic() - PLAIN_SECONDS + FIRST_SECONDS

        def show(count: int, total: int, note: str) -> None:
            nonlocal last_time
            if time.monotonic() - last_time > PLAIN_SECONDS and count < total:
                last_time = time.monotonic()
                share = f"{count / total:4.0%}" if total else ""
                self.say(f"{self.round:<9} {name:<9} {count:>10,} {unit:<8} {share} {note}")

        yield Bar(show)
