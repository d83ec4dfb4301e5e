"""What every stage of a cycle is given."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

from remine.data.store.store import Store
from remine.flows.config.settings import Config
from remine.flows.jobs.console import Console
from remine.flows.jobs.job import Execute
from remine.flows.jobs.trackers import Trackers


def alone(_run: "Run", _arguments: tuple[Any, ...]) -> None:
    """Announce a round of training to nobody."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """The settings, the store, a way to run units of a job, and the console.

    announce: tells the other processes of torchrun to train a round, too.
    trackers: get the curves of training and evaluation.
    """

    config: Config
    store: Store
    execute: Execute
    console: Console = field(default_factory=Console)
    announce: Callable[[Self, tuple[Any, ...]], None] = alone
    trackers: Trackers = field(default_factory=Trackers)
