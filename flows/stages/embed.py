"""Embedding: every item's vector, as a Beam job over the shards; what is known is not done again.

The vectors of the version before are taken where the weights, the batch and our code are the same
and the item has the same id and content. A shard without a change is the same file. In the others
only the new items go through the encoder, in batches of their own: their vectors equal those of a
whole embedding up to the rounding that a batch's size makes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from remine.data import schemas
from remine.data.items.inputs import Inputs
from remine.data.store.records import Artifact, digest
from remine.data.store.store import Store
from remine.data.types import Embeddings, Float32, Int64
from remine.flows.jobs.job import Unit, run_job, units_of_files
from remine.flows.jobs.run import Run, code_hash, embedding_recipe, put_table
from remine.flows.stages.features import device, features, load_trained
from remine.flows.stages.reuse import Before, Known
from remine.index.embed import embed_rows


def embed(
    run: Run,
    checkpoint: Artifact,
    items: Artifact,
    inputs: Artifact,
    before: Before | None = None,
) -> Artifact:
    """Every item's embedding. before: a version whose vectors may be taken."""
    recipe = embedding_recipe(checkpoint, run.config.index.batch)
    if before and not before.serves(run.store, recipe, inputs):
        before = None
    kept = before.kept(inputs, items) if before else {}
    job = EmbedJob(
        checkpoint=checkpoint,
        items=items,
        inputs=features(run, checkpoint, inputs),
        batch=run.config.index.batch,
        base=run.config.base,
        before=before,
    )
    units = [unit for unit in units_of_files(inputs.files) if unit[0] not in kept]
    rows = sum(stop - start for _, start, stop in units)
    with run.console.stage("embed", "items") as bar:
        bar.partial = before is not None
        shards = run_job(
            run.store,
            job,
            units,
            run.execute,
            lambda done, count: bar.update(rows * done // max(1, count), rows),
        )
    made = {unit[0]: shard.files[0] for unit, shard in zip(units, shards, strict=True)}
    files = tuple(file for _, file in sorted({**kept, **made}.items()))
    card = {"checkpoint": checkpoint.digest, "items": items.digest, "inputs": inputs.digest}
    return Artifact(kind="embeddings", files=files, card={**card, "recipe": recipe})


@dataclass(frozen=True, kw_only=True)
class EmbedJob:
    """Embeds one shard of inputs, or of a frozen backbone's features, a unit."""

    checkpoint: Artifact
    items: Artifact
    inputs: Artifact
    batch: int
    base: Path
    before: Before | None = None

    def key(self, unit: Unit) -> str:
        """Depends on the weights, on this shard, and on the vectors that it may take."""
        shard = [self.items.files[unit[0]].sha256, self.inputs.files[unit[0]].sha256]
        weights = [self.checkpoint.card["encoder"], self.checkpoint.files[0].sha256]
        taken = self.before.digests if self.before else []
        code = code_hash("index", "train")
        return digest(["embed", weights, shard, unit, self.batch, taken, code])

    def open(self, store: Store) -> Callable[[Unit], Artifact]:
        """Load the encoder."""
        encoder = load_trained(store, self.checkpoint, self.base).to(device())
        known = Taken(store, self.before) if self.before else None

        def work(unit: Unit) -> Artifact:
            number, start, stop = unit
            inputs = Inputs([store.path(self.inputs.files[number])])
            items = schemas.read(
                [store.path(self.items.files[number])],
                schema="items/1",
                columns=["id", "label_code", "content_hash"],
            )
            if known:
                vectors, todo = known.vectors(items)
                if len(todo):
                    vectors[todo] = embed_rows(encoder, inputs, todo, self.batch, device())
            else:
                vectors = embed_rows(encoder, inputs, range(stop - start), self.batch, device())
            embeddings = Embeddings(
                ids=items["id"].to_numpy(),
                label_codes=items["label_code"].to_numpy(),
                vectors=vectors,
            )
            return put_table(
                store,
                schemas.embeddings_table(embeddings),
                "embeddings",
                number,
                {"checkpoint": self.checkpoint.digest, "inputs": self.inputs.digest},
            )

        return work


class Taken:
    """The vectors of an earlier version; shards are read as they are needed."""

    def __init__(self, store: Store, before: Before) -> None:
        """Read who is there."""
        self.store, self.files, self.known = store, before.made.files, Known(store, before)
        self.starts = np.cumsum([0, *(file.rows for file in self.files)])
        self.d = schemas.dimensions(store.path(self.files[0]))

    def vectors(self, items: pa.Table) -> tuple[Float32, Int64]:
        """(m, d) vectors of a shard of items, and the rows in it that are not known."""
        rows = self.known.rows(items)
        out = np.zeros((len(rows), self.d), np.float32)
        shard = np.where(rows >= 0, np.searchsorted(self.starts, rows, side="right") - 1, -1)
        for number in np.unique(shard[rows >= 0]).tolist():
            part = schemas.read_embeddings([self.store.path(self.files[number])])
            here = shard == number
            out[here] = part.vectors[rows[here] - self.starts[number]]
        return out, np.flatnonzero(rows < 0)
