"""Jobs on Apache Beam: one linear chain, whatever the runner.

Create(units) | Reshuffle | ParDo(RunUnit)
"""

from collections.abc import Sequence
from typing import Any

from remine.data.errors import InputError
from remine.data.store.store import Store
from remine.flows.jobs.job import Execute, Job, Unit


def beam_execute(runner: str, options: Sequence[str]) -> Execute:
    """Run units on a Beam runner.

    Args:
        runner: Name of the runner, as Beam has it.
        options: Beam's own flags.

    Raises:
        InputError: Beam does not know the runner or a flag.

    """
    pipeline_options = parse_options(runner, options)

    def execute(store: Store, job: Job, units: Sequence[Unit]) -> None:
        import apache_beam as beam

        from remine.flows.jobs.beam_worker import RunUnit

        with beam.Pipeline(options=pipeline_options) as pipeline:
            _ = (
                pipeline
                | beam.Create(list(units), reshuffle=False)
                | beam.Reshuffle()
                | beam.ParDo(RunUnit(store.address, job))
            )

    return execute


def parse_options(runner: str, options: Sequence[str]) -> Any:
    """Parse Beam's flags to its PipelineOptions.

    Raises:
        InputError: Beam does not know the runner or a flag.

    """
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.runners.runner import create_runner

    try:
        create_runner(runner)
    except (ValueError, ImportError, AttributeError) as error:
        raise InputError(f"beam.runner: {str(error).splitlines()[0]}") from None
    pipeline_options = PipelineOptions([f"--runner={runner}", *options])
    flags = pipeline_options.get_all_options(drop_default=False)
    for flag in options:
        name = flag.removeprefix("--").split("=")[0].replace("-", "_")
        if flag.startswith("--") and name not in flags and name.removeprefix("no_") not in flags:
            raise InputError(f"Beam has no option {flag.split('=')[0]}")
    return pipeline_options
