"""The features that a frozen backbone computes of every item: once, as a Beam job over the shards.

Training and embedding then read features in place of inputs, and run only the head.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from remine.data import schemas
from remine.data.items.inputs import Inputs
from remine.data.store.records import Artifact, FileRef, digest
from remine.data.types import Int64
from remine.flows.jobs.job import Unit, units_of_files
from remine.flows.jobs.partial_rows import PartialRows
from remine.flows.jobs.stage_code import code_hash
from remine.flows.stages.encoder import device
from remine.flows.stages.reuse import EarlierOutput, EarlierRows
from remine.flows.stages.shard import run_shards
from remine.index.embed import embed_rows
from remine.train.encoders.design import Design, build_backbone

if TYPE_CHECKING:
    from remine.data.store.store import Store
    from remine.flows.jobs.run_context import Run


def features(
    run: "Run",
    checkpoint: Artifact,
    inputs: Artifact,
    items: Artifact | None = None,
    earlier: EarlierOutput | None = None,
) -> Artifact:
    """What the trained part of an encoder reads: the inputs, or features of its frozen backbone.

    Args:
        run: Settings, store, the way to run units.
        checkpoint: The encoder.
        inputs: What the whole encoder reads.
        items: Ids of the inputs' rows; needed for `earlier`.
        earlier: A version whose features of unchanged items may be used again.

    Returns:
        `inputs`, or .npy shards of (rows, d) float32, one for each shard of inputs. A second call
        with the same inputs and backbone returns the same artifact.

    """
    design = Design.from_json(checkpoint.card["encoder"])
    if not design.config.frozen:
        return inputs
    backbone = {"name": design.config.name, **design.backbone}
    recipe = digest([backbone, run.config.index.batch, code_hash(__name__)])
    key = digest(["features of", recipe, inputs.digest])
    if artifact := run.store.recall(key):
        return artifact
    if earlier and not (items and earlier.is_usable(run.store, recipe, inputs)):
        earlier = None
    job = FeaturesJob(
        design=design,
        inputs=inputs,
        batch=run.config.index.batch,
        base=run.config.base,
        items=items if earlier else None,
        earlier=earlier,
    )
    card = {
        "shape": [design.feature_dimensions],
        "dtype": "float32",
        "inputs": inputs.digest,
        "backbone": backbone,
        "recipe": recipe,
    }
    files = _run(run, job, inputs, earlier.unchanged_shards(inputs) if earlier else {})
    return run.store.remember(key, Artifact(kind="features", files=files, card=card))


def adopt_features(run: "Run", checkpoint: Artifact, inputs: Artifact, other: "Store") -> int:
    """Copy the features of a frozen backbone that another store has of the same inputs.

    Returns:
        The number of items whose features were copied; the rest is computed when it is needed.

    """
    design, count = Design.from_json(checkpoint.card["encoder"]), 0
    if not design.config.frozen:
        return 0
    batch, base = run.config.index.batch, run.config.base
    job = FeaturesJob(design=design, inputs=inputs, batch=batch, base=base)
    for unit in units_of_files(inputs.files):
        key = job.key(unit)
        if not run.store.has_receipt(key) and (artifact := other.recall(key)):
            count += run.store.adopt(key, artifact, other).rows
    return count


def _run(
    run: "Run", job: "FeaturesJob", inputs: Artifact, unchanged_files: dict[int, FileRef]
) -> tuple[FileRef, ...]:
    """The files of all shards; a stage on the console only if something is left to compute."""
    units = [unit for unit in units_of_files(inputs.files) if unit[0] not in unchanged_files]
    if all(run.store.recall(job.key(unit)) for unit in units):
        return run_shards(run, job, inputs.files, unchanged_files, lambda _count, _items: None)
    with run.console.stage("features", "items") as bar:
        return run_shards(run, job, inputs.files, unchanged_files, bar.update)


@dataclass(frozen=True, kw_only=True)
class FeaturesJob:
    """Passes one shard of inputs through the backbone a unit.

    base: the folder of the user's own encoder modules.
    """

    design: Design
    inputs: Artifact
    batch: int
    base: Path
    items: Artifact | None = None
    earlier: EarlierOutput | None = None

    def key(self, unit: Unit) -> str:
        """Hash of the backbone, the shard, the features that may be used again and the code.

        Not of the head or of the number of training steps.
        """
        backbone = [self.design.config.name, dict(self.design.backbone)]
        shard = self.inputs.files[unit[0]].sha256
        earlier = self.earlier and self.earlier.digests
        return digest(["features", backbone, shard, unit, self.batch, earlier, code_hash(__name__)])

    def open(self, store: "Store") -> Callable[[Unit], Artifact]:
        """Load the backbone."""
        backbone = build_backbone(self.design, self.base).to(device())
        earlier_rows = EarlierRows(store, self.earlier) if self.earlier else None
        earlier_features = Inputs(store.paths(self.earlier.output)) if self.earlier else None

        def rows_of_shard(number: int, count: int) -> Int64:
            if not (earlier_rows and self.items):
                return np.full(count, -1)
            shard = store.path(self.items.files[number])
            items = schemas.read([shard], schema=schemas.ITEMS, columns=["id", "content_hash"])
            return earlier_rows.rows(items)

        def work(unit: Unit) -> Artifact:
            number, start, stop = unit
            inputs = Inputs([store.path(self.inputs.files[number])])
            rows = rows_of_shard(number, stop - start)
            features = np.empty((len(rows), self.design.feature_dimensions), np.float32)
            if earlier_features:
                features[rows >= 0] = earlier_features[rows[rows >= 0]]
            partial = PartialRows(store, self.key(unit))
            if len(new_rows := np.flatnonzero(rows < 0)):
                features[new_rows] = embed_rows(
                    backbone, inputs, new_rows, self.batch, device(), partial
                )
            with store.temporary(".npy") as path:
                np.save(path, features)
                file = store.put(path, name=f"part-{number:05d}.npy", rows=stop - start)
            partial.clear()
            return Artifact(kind="features", files=(file,))

        return work
