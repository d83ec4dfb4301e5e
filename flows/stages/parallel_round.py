"""A round of training with the other processes of torchrun, if there are any."""

from contextlib import suppress
from typing import Any

from remine.data.store.place import Address
from remine.data.store.store import Store
from remine.flows.config.settings import Config
from remine.flows.jobs.console import Console
from remine.flows.jobs.job import run_plain
from remine.flows.jobs.run_context import Run
from remine.flows.jobs.torchrun import announce
from remine.flows.stages.rounds.making import make_training
from remine.train.monitor.health import RoundStoppedError


def announce_round(run: Run, arguments: tuple[Any, ...]) -> None:
    """Make the other processes train a round. arguments: of `make_training`."""
    announce((_assist, (run.store.address, run.config, arguments)))


def _assist(address: Address, config: Config, arguments: tuple[Any, ...]) -> None:
    """In one of the other processes: train the same round."""
    run = Run(config=config, store=Store(address), execute=run_plain, console=Console(quiet=True))
    # Process 0 stops at the same step, and says why.
    with suppress(RoundStoppedError):
        make_training(run, *arguments).run(config.train, lambda _step, _loss, _active: None)
