"""A stage's output shard by shard: one unit of work and one file for each shard of its inputs."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from remine.data import schemas
from remine.data.store.records import Artifact, FileRef
from remine.flows.jobs.job import Job, Progress, run_job, units_of_files

if TYPE_CHECKING:
    from remine.data.store.store import Store
    from remine.flows.jobs.run_context import Run


def put_table(
    store: "Store", table: pa.Table, kind: str, number: int, provenance: Mapping[str, Any]
) -> Artifact:
    """Store one Parquet shard.

    Args:
        store: Where it goes.
        table: Its rows, in the columns of the schema `kind`/1.
        kind: Kind of the artifact.
        number: Number of the shard, which decides its name.
        provenance: What it was made from; kept in the file's metadata.

    Returns:
        An artifact of one file.

    """
    with store.temporary(".parquet") as path:
        schemas.write(table, path, schema=f"{kind}/1", provenance=provenance)
        file = store.put(path, name=f"part-{number:05d}.parquet", rows=len(table))
    return Artifact(kind=kind, files=(file,))


def run_shards(
    run: "Run",
    job: Job,
    inputs: Sequence[FileRef],
    unchanged_files: Mapping[int, FileRef],
    progress: Progress,
) -> tuple[FileRef, ...]:
    """Run a job whose units are the shards of its inputs.

    Args:
        run: The store and the way to run units.
        job: Each unit of it leaves an artifact of one file.
        inputs: Shards of the inputs.
        unchanged_files: Output of shards that need not be computed, by number.
        progress: Called with the number of items that are done and of those to do.

    Returns:
        A file for each shard, in order.

    """
    units = [unit for unit in units_of_files(inputs) if unit[0] not in unchanged_files]
    outputs = run_job(run.store, job, units, run.execute, progress)
    new_files = {unit[0]: output.files[0] for unit, output in zip(units, outputs, strict=True)}
    return tuple(file for _, file in sorted({**unchanged_files, **new_files}.items()))
