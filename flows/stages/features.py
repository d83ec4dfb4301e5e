"""What a frozen backbone makes of every item: computed once, as a Beam job over the shards.

Training and embedding then read features where they would read inputs, and run only the head.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from remine.data import schemas
from remine.data.items.inputs import Inputs
from remine.data.store.records import Artifact, digest
from remine.data.store.store import Store
from remine.flows.jobs.job import Unit, run_job, units_of_files
from remine.flows.jobs.run import Run, code_hash
from remine.flows.stages.reuse import Before, Known
from remine.index.embed import embed_rows
from remine.train.checkpoint import load_encoder
from remine.train.encoders.design import Design, build_backbone, build_trained, whole
from remine.train.encoders.encoder import Encoder


def features(
    run: Run,
    checkpoint: Artifact,
    inputs: Artifact,
    items: Artifact | None = None,
    before: Before | None = None,
) -> Artifact:
    """What the trained part of `checkpoint`'s encoder reads: the inputs, or kept features.

    Features are .npy shards of (rows, d) float32, one a shard of inputs. items, before: who the
    inputs are of, and a version whose features of unchanged items are taken. Who asks for the same
    features again gets these.
    """
    design = Design.from_json(checkpoint.card["encoder"])
    if not design.config.frozen:
        return inputs
    backbone = {"name": design.config.name, **design.backbone}
    recipe = digest([backbone, run.config.index.batch, code_hash("index", "train")])
    key = digest(["features of", recipe, inputs.digest])
    if found := run.store.recall(key):
        return found
    if before and not (items and before.serves(run.store, recipe, inputs)):
        before = None
    kept = before.kept(inputs) if before else {}
    job = FeaturesJob(
        design=design,
        inputs=inputs,
        batch=run.config.index.batch,
        base=run.config.base,
        items=items if before else None,
        before=before,
    )
    units = [unit for unit in units_of_files(inputs.files) if unit[0] not in kept]
    rows = sum(stop - start for _, start, stop in units)
    if all(run.store.recall(job.key(unit)) for unit in units):
        shards = run_job(run.store, job, units, run.execute, lambda _done, _units: None)
    else:
        with run.console.stage("features", "items") as bar:
            shards = run_job(
                run.store,
                job,
                units,
                run.execute,
                lambda done, count: bar.update(rows * done // count, rows),
            )
    made = {unit[0]: shard.files[0] for unit, shard in zip(units, shards, strict=True)}
    files = tuple(file for _, file in sorted({**kept, **made}.items()))
    card = {
        "shape": [design.given],
        "dtype": "float32",
        "inputs": inputs.digest,
        "backbone": backbone,
        "recipe": recipe,
    }
    return run.store.remember(key, Artifact(kind="features", files=files, card=card))


@dataclass(frozen=True, kw_only=True)
class FeaturesJob:
    """One shard of inputs through the backbone a unit. base: where an own module lies."""

    design: Design
    inputs: Artifact
    batch: int
    base: Path
    items: Artifact | None = None
    before: Before | None = None

    def key(self, unit: Unit) -> str:
        """Depends on the backbone, this shard and what is taken: not on the head or the steps."""
        backbone = [self.design.config.name, dict(self.design.backbone)]
        shard = self.inputs.files[unit[0]].sha256
        code = code_hash("index", "train")
        taken = self.before.digests if self.before else []
        return digest(["features", backbone, shard, unit, self.batch, taken, code])

    def open(self, store: Store) -> Callable[[Unit], Artifact]:
        """Load the backbone."""
        backbone = build_backbone(self.design, self.base).to(device())

        known = Known(store, self.before) if self.before else None
        old = Inputs(store.paths(self.before.made)) if self.before else None

        def work(unit: Unit) -> Artifact:
            number, start, stop = unit
            inputs = Inputs([store.path(self.inputs.files[number])])
            rows = np.full(stop - start, -1)
            if known and self.items:
                shard = self.items.files[number]
                columns = ["id", "content_hash"]
                items = schemas.read([store.path(shard)], schema="items/1", columns=columns)
                rows = known.rows(items)
            found = np.empty((len(rows), self.design.given), np.float32)
            if old:
                found[rows >= 0] = old[rows[rows >= 0]]
            if len(todo := np.flatnonzero(rows < 0)):
                found[todo] = embed_rows(
                    lambda block: backbone(block).float(), inputs, todo, self.batch, device()
                )
            with store.temporary(".npy") as temp:
                np.save(temp, found)
                file = store.put(temp, name=f"part-{number:05d}.npy", rows=stop - start)
            return Artifact(kind="features", files=(file,))

        return work


def load_trained(store: Store, checkpoint: Artifact, base: Path) -> Encoder:
    """What of a checkpoint's encoder was trained, ready for use: it reads `features`."""
    encoder = build_trained(Design.from_json(checkpoint.card["encoder"]), base)
    load_encoder(encoder, store.path(checkpoint.files[0]))
    return encoder.eval()


def load_checkpoint(store: Store, checkpoint: Artifact, base: Path = Path()) -> Encoder:
    """The whole encoder of a checkpoint, ready for inputs; own modules are sought in `base`."""
    design = Design.from_json(checkpoint.card["encoder"])
    return whole(load_trained(store, checkpoint, base), design, base)


def device() -> torch.device:
    """The first GPU, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
