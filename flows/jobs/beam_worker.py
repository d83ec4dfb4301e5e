"""The one Beam function; in a module of its own, because importing Beam takes a second."""

from collections.abc import Callable, Iterator

import apache_beam as beam
from apache_beam.metrics.metric import Metrics

from remine.data.store.place import Address
from remine.data.store.records import Artifact
from remine.data.store.store import Store
from remine.flows.jobs.job import Job, Unit


class RunUnit(beam.DoFn):
    """Does units of a job; each writes its own shard and receipt."""

    def __init__(self, store: Address, job: Job) -> None:
        """Only what can be pickled: the store's place and the job."""
        self.address, self.job = store, job
        self.work: Callable[[Unit], Artifact] | None = None
        self.rows = Metrics.counter("remine", "rows")

    def setup(self) -> None:
        """Open the store and load what all units share, once a worker."""
        self.store = Store(self.address)
        self.work = self.job.open(self.store)

    def process(self, unit: Unit) -> Iterator[int]:
        """Do one unit; pass on its rows."""
        assert self.work is not None
        artifact = self.store.remember(self.job.key(unit), self.work(unit))
        self.rows.inc(artifact.rows)
        yield artifact.rows
