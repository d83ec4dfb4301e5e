"""What Prefect and Beam add to the demo's cycle, compared with the same stages as functions."""

import os
import tempfile
from pathlib import Path

from benchmarks.common import seconds, show
from remine.flows.config.settings import load_config
from remine.flows.cycle.cycle import prepared, run_cycle
from remine.flows.jobs.console import Console
from remine.flows.jobs.environment import set_environment
from remine.flows.jobs.job import run_plain


def main() -> None:
    """One demo cycle each way, in fresh stores; Prefect's server is started beforehand."""
    set_environment()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PREFECT_HOME"] = f"{folder}/prefect"
        from remine.flows.orchestration.prefect_server import server

        with server():
            from remine.flows.orchestration.flow import cycle

            warm = ["data.glyphs.characters=50", "run.rounds=1", "train.steps=2", "train.batch=8"]
            cycle(None, [f'run.store="{folder}/warm"', *warm])
            plain = seconds(lambda: plain_cycle(f"{folder}/plain"))
            engines = seconds(lambda: cycle(None, [f'run.store="{folder}/engines"']))
    show(
        "One demo cycle",
        [
            ["", "seconds", "ratio"],
            ["plain functions", f"{plain:.1f}", "1.00"],
            ["Prefect + Beam, with the report", f"{engines:.1f}", f"{engines / plain:.2f}"],
        ],
    )


def plain_cycle(store: str) -> None:
    """The stages one after the other."""
    config = load_config(None, [f'run.store="{Path(store)}"'])
    with prepared(config, run_plain, Console(quiet=True)) as prepared_run:
        run_cycle(*prepared_run)


if __name__ == "__main__":
    main()
