"""Embedding: the vector of every item, as a Beam job over the shards.

Vectors of the version before are used again if the weights, the batch and the code are the same
and the item has the same id and content. A shard without a change is the same file. In other shards
only the new items pass through the encoder, in batches of their own: their vectors equal those of
embedding everything, up to rounding that depends on the size of a batch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from remine.data import schemas
from remine.data.items.inputs import Inputs
from remine.data.store.records import Artifact, digest
from remine.data.types import Embeddings, Float32, Int64
from remine.flows.jobs.job import Unit
from remine.flows.jobs.partial_rows import PartialRows
from remine.flows.stages.embedding_recipe import embedding_recipe
from remine.flows.stages.encoder import device, load_trained
from remine.flows.stages.features import features
from remine.flows.stages.reuse import EarlierOutput, EarlierRows
from remine.flows.stages.shard import put_table, run_shards
from remine.index.embed import embed_rows
from remine.index.micro_batches import Rows

if TYPE_CHECKING:
    from remine.data.store.store import Store
    from remine.flows.jobs.run_context import Run


def embed(
    run: "Run",
    checkpoint: Artifact,
    items: Artifact,
    inputs: Artifact,
    earlier: EarlierOutput | None = None,
) -> Artifact:
    """Embed every item.

    Args:
        run: Settings, store, the way to run units.
        checkpoint: The encoder.
        items: Ids and labels.
        inputs: What the encoder reads, row by row of the items.
        earlier: A version whose vectors of unchanged items may be used again.

    Returns:
        The embeddings, one shard for each shard of inputs.

    """
    recipe = embedding_recipe(checkpoint, run.config.index.batch)
    if earlier and not earlier.is_usable(run.store, recipe, inputs):
        earlier = None
    job = EmbedJob(
        checkpoint=checkpoint,
        items=items,
        inputs=features(run, checkpoint, inputs),
        batch=run.config.index.batch,
        base=run.config.base,
        earlier=earlier,
    )
    unchanged_files = earlier.unchanged_shards(inputs, items) if earlier else {}
    with run.console.stage("embed", "items") as bar:
        bar.partial = earlier is not None
        files = run_shards(run, job, inputs.files, unchanged_files, bar.update)
    card = {"checkpoint": checkpoint.digest, "items": items.digest, "inputs": inputs.digest}
    return Artifact(kind="embeddings", files=files, card={**card, "recipe": recipe})


def embed_now(run: "Run", checkpoint: Artifact, inputs: Artifact, rows: Rows) -> Float32:
    """Embed some rows of the inputs in this process, without a job and without keeping them.

    Returns:
        Unit vectors (m, d), float32, of the m rows.

    """
    encoder = load_trained(run.store, checkpoint, run.config.base).to(device())
    read = Inputs(run.store.paths(features(run, checkpoint, inputs)))
    return embed_rows(encoder, read, rows, run.config.index.batch, device())


@dataclass(frozen=True, kw_only=True)
class EmbedJob:
    """Embeds one shard a unit: of inputs, or of the features of a frozen backbone."""

    checkpoint: Artifact
    items: Artifact
    inputs: Artifact
    batch: int
    base: Path
    earlier: EarlierOutput | None = None

    def key(self, unit: Unit) -> str:
        """Hash of the weights, the shard, the vectors that may be used again and the code."""
        shard = [self.items.files[unit[0]].sha256, self.inputs.files[unit[0]].sha256]
        recipe = embedding_recipe(self.checkpoint, self.batch)
        return digest(["embed", recipe, shard, unit, self.earlier and self.earlier.digests])

    def open(self, store: "Store") -> Callable[[Unit], Artifact]:
        """Load the encoder."""
        encoder = load_trained(store, self.checkpoint, self.base).to(device())
        earlier = EarlierVectors(store, self.earlier) if self.earlier else None

        def embedded(inputs: Inputs, rows: Rows, partial: PartialRows) -> Float32:
            return embed_rows(encoder, inputs, rows, self.batch, device(), partial)

        def work(unit: Unit) -> Artifact:
            number, start, stop = unit
            partial = PartialRows(store, self.key(unit))
            inputs = Inputs([store.path(self.inputs.files[number])])
            items = schemas.read(
                [store.path(self.items.files[number])],
                schema=schemas.ITEMS,
                columns=["id", "label_code", "content_hash"],
            )
            if earlier:
                vectors, new_rows = earlier.vectors(items)
                if len(new_rows):
                    vectors[new_rows] = embedded(inputs, new_rows, partial)
            else:
                vectors = embedded(inputs, range(stop - start), partial)
            embeddings = Embeddings(
                ids=items["id"].to_numpy(),
                label_codes=items["label_code"].to_numpy(),
                vectors=vectors,
            )
            artifact = put_table(
                store,
                schemas.embeddings_table(embeddings),
                "embeddings",
                number,
                {"checkpoint": self.checkpoint.digest, "inputs": self.inputs.digest},
            )
            partial.clear()
            return artifact

        return work


class EarlierVectors:
    """The vectors of an earlier version; its shards are read as they are needed."""

    def __init__(self, store: "Store", earlier: EarlierOutput) -> None:
        """Load the earlier items' ids and content hashes."""
        self.store, self.files = store, earlier.output.files
        self.earlier_rows = EarlierRows(store, earlier)
        self.starts = np.cumsum([0, *(file.rows for file in self.files)])
        self.d = schemas.dimensions(store.path(self.files[0]))

    def vectors(self, items: pa.Table) -> tuple[Float32, Int64]:
        """Vectors (m, d) of a shard of items, and the rows in it that are new, whose are 0."""
        rows = self.earlier_rows.rows(items)
        vectors = np.zeros((len(rows), self.d), np.float32)
        shard = np.where(rows >= 0, np.searchsorted(self.starts, rows, side="right") - 1, -1)
        for number in np.unique(shard[rows >= 0]).tolist():
            part = schemas.read_embeddings([self.store.path(self.files[number])])
            in_part = shard == number
            vectors[in_part] = part.vectors[rows[in_part] - self.starts[number]]
        return vectors, np.flatnonzero(rows < 0)
