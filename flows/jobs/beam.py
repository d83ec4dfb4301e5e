"""Jobs on Apache Beam: one linear chain, whatever the runner.

Create(units) | Reshuffle | ParDo(RunUnit)
"""

from collections.abc import Sequence
from typing import Any

from remine.data.errors import InputError
from remine.data.store.store import Store
from remine.flows.jobs.job import Execute, Job, Unit


def beam_execute(runner: str, options: Sequence[str]) -> Execute:
    """The units on Beam's `runner`; `options` are Beam's own flags."""
    parsed = parse_options(runner, options)

    def execute(store: Store, job: Job, units: Sequence[Unit]) -> None:
        import apache_beam as beam

        from remine.flows.jobs.beam_worker import RunUnit

        with beam.Pipeline(options=parsed) as pipeline:
            _ = (
                pipeline
                | beam.Create(list(units), reshuffle=False)
                | beam.Reshuffle()
                | beam.ParDo(RunUnit(store.address, job))
            )

    return execute


def parse_options(runner: str, options: Sequence[str]) -> Any:
    """Beam's PipelineOptions; refuses a runner or flags that Beam does not know."""
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.runners.runner import create_runner

    try:
        create_runner(runner)
    except (ValueError, ImportError, AttributeError) as error:
        raise InputError(f"beam.runner: {str(error).splitlines()[0]}") from None
    parsed = PipelineOptions([f"--runner={runner}", *options])
    known = parsed.get_all_options(drop_default=False)
    for flag in options:
        name = flag.removeprefix("--").split("=")[0].replace("-", "_")
        if flag.startswith("--") and name not in known and name.removeprefix("no_") not in known:
            raise InputError(f"Beam has no option {flag.split('=')[0]}")
    return parsed
