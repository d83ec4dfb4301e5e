"""What a person sees while stages run: a live bar on a terminal, plain lines elsewhere."""

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

PLAIN_EVERY = 10.0


@dataclass
class Bar:
    """The progress of one stage."""

    show: Callable[[int, int, str], None]
    done: int = 0
    total: int = 0
    partial: bool = False
    """Whether part of the answer was taken from before: its time is not that of a whole stage."""

    def update(self, done: int, total: int, note: str = "") -> None:
        """`done` of `total` units are done."""
        self.done, self.total = done, total
        self.show(done, total, note)


@dataclass
class Console:
    """Prints stages; `quiet` prints nothing. `round` is put before each line.

    also: gets each line too, printed or not.
    """

    quiet: bool = False
    round: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    finished: Callable[[str, Bar, float], None] = lambda _stage, _bar, _seconds: None
    also: Callable[[str], None] = lambda _line: None
    out: RichConsole = field(default_factory=lambda: RichConsole(file=sys.stderr, highlight=False))

    def say(self, text: str) -> None:
        """Print a line."""
        self.also(text)
        if not self.quiet:
            self.out.print(text, markup=False, soft_wrap=True)

    @contextmanager
    def stage(self, name: str, what: str) -> Iterator[Bar]:
        """Show a stage that counts `what`; a line with its time when it is done."""
        start = time.monotonic()
        with (
            self._live(name)
            if self.out.is_terminal and not self.quiet
            else self._plain(name, what) as bar
        ):
            yield bar
        seconds = time.monotonic() - start
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds
        self.finished(name, bar, seconds)
        self.say(f"{self.round:<9} {name:<9} {bar.done:>10,} {what:<8} {seconds:7.1f} s")

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

            def show(done: int, total: int, note: str) -> None:
                progress.update(task, completed=done, total=total, note=note)

            yield Bar(show)

    @contextmanager
    def _plain(self, name: str, what: str) -> Iterator[Bar]:
        last = time.monotonic()

        def show(done: int, total: int, note: str) -> None:
            nonlocal last
            if time.monotonic() - last > PLAIN_EVERY and done < total:
                last = time.monotonic()
                share = f"{done / total:4.0%}" if total else ""
                self.say(f"{self.round:<9} {name:<9} {done:>10,} {what:<8} {share} {note}")

        yield Bar(show)
