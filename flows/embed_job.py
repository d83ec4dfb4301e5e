"""Embedding: every item's vector, as a Beam job over the shards; what is known is not done again.

The vectors of the version before are taken where the weights, the batch and our code are the same
and the item has the same id and content. A shard without a change is the same file. In the others
only the new items go through the encoder, in batches of their own: their vectors equal those of a
whole embedding up to the rounding that a batch's size makes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from data import schemas
from data.changes import read_hashes, rows_of
from data.errors import StoreError
from data.inputs import Inputs
from data.store import Artifact, FileRef, Store, digest
from data.types import Embeddings, Float32, Int64
from flows.features import device, features, load_trained
from flows.jobs import Unit, run_job, units_of_files
from flows.run import Run, code_hash, embedding_recipe, put_table
from index.embed import embed_rows


@dataclass(frozen=True, kw_only=True)
class Before:
    """What an earlier version holds: its items and inputs, and their embeddings."""

    items: Artifact
    inputs: Artifact
    embeddings: Artifact

    @classmethod
    def of(cls, artifacts: Mapping[str, Artifact]) -> "Before":
        """From the artifacts of a version."""
        return cls(**{name: artifacts[name] for name in ("items", "inputs", "embeddings")})


def embed(
    run: Run,
    checkpoint: Artifact,
    items: Artifact,
    inputs: Artifact,
    before: Before | None = None,
) -> Artifact:
    """Every item's embedding. before: a version whose vectors may be taken."""
    recipe = embedding_recipe(checkpoint, run.config.index.batch)
    if before and not _serves(run.store, before, recipe, inputs):
        before = None
    kept = _kept(items, inputs, before) if before else {}
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


def _serves(store: Store, before: Before, recipe: str, inputs: Artifact) -> bool:
    """Whether vectors of `before` are what this encoder makes of the same contents, and sound."""
    made = before.embeddings.card.get("recipe"), before.inputs.card.get("recipe")
    if made != (recipe, inputs.card.get("recipe")) or None in made:
        return False
    try:  # damaged ones are made again
        store.paths(before.items)
        store.paths(before.embeddings)
    except StoreError:
        return False
    return bool(before.inputs.card["shape"] == inputs.card["shape"])


def _kept(items: Artifact, inputs: Artifact, before: Before) -> dict[int, FileRef]:
    """Shards whose items and inputs are the very files of before, by number: their vectors."""
    known = {
        (who.sha256, what.sha256): vectors
        for who, what, vectors in zip(
            before.items.files, before.inputs.files, before.embeddings.files, strict=False
        )
    }
    found = {}
    for number, (who, what) in enumerate(zip(items.files, inputs.files, strict=False)):
        if vectors := known.get((who.sha256, what.sha256)):
            found[number] = replace(vectors, name=f"part-{number:05d}.parquet")
    return found


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
        taken = [self.before.items.digest, self.before.embeddings.digest] if self.before else []
        code = code_hash("index", "train")
        return digest(["embed", weights, shard, unit, self.batch, taken, code])

    def open(self, store: Store) -> Callable[[Unit], Artifact]:
        """Load the encoder."""
        encoder = load_trained(store, self.checkpoint, self.base).to(device())
        known = Known(store, self.before) if self.before else None

        def work(unit: Unit) -> Artifact:
            number, start, stop = unit
            inputs = Inputs([store.path(self.inputs.files[number])])
            columns = ["id", "label_code", "content_hash"]
            items = schemas.read(
                [store.path(self.items.files[number])], schema="items/1", columns=columns
            )
            ids = items["id"].to_numpy()
            if known:
                hashes = np.array(items["content_hash"].to_pylist(), "S32")
                vectors, todo = known.vectors(ids, hashes)
            else:
                vectors, todo = np.empty((stop - start, 0), np.float32), np.arange(stop - start)
            if len(todo):
                made = embed_rows(encoder, inputs, todo, self.batch, device())
                if not known:
                    vectors = made
                vectors[todo] = made
            embeddings = Embeddings(
                ids=ids, label_codes=items["label_code"].to_numpy(), vectors=vectors
            )
            return put_table(
                store,
                schemas.embeddings_table(embeddings),
                "embeddings",
                number,
                {"checkpoint": self.checkpoint.digest, "inputs": self.inputs.digest},
            )

        return work


class Known:
    """The vectors of an earlier version by id and content; shards are read as they are needed."""

    def __init__(self, store: Store, before: Before) -> None:
        """Read who is there."""
        self.store, self.before = store, before
        shards = store.paths(before.items)[:-1]
        self.ids: Int64 = schemas.read(shards, schema="items/1", columns=["id"])["id"].to_numpy()
        self.hashes = read_hashes(store, before.items)
        self.starts = np.cumsum([0, *(file.rows for file in before.embeddings.files)])
        self.d = schemas.dimensions(store.path(before.embeddings.files[0]))

    def vectors(self, ids: Int64, hashes: np.ndarray) -> tuple[Float32, Int64]:
        """(m, d) vectors of the items, and the rows among them that are not known."""
        rows = rows_of(ids, self.ids)
        known = (rows >= 0) & (self.hashes[rows] == hashes)
        out = np.zeros((len(ids), self.d), np.float32)
        shard = np.where(known, np.searchsorted(self.starts, rows, side="right") - 1, -1)
        for number in np.unique(shard[known]).tolist():
            part = schemas.read_embeddings([self.store.path(self.before.embeddings.files[number])])
            here = shard == number
            out[here] = part.vectors[rows[here] - self.starts[number]]
        return out, np.flatnonzero(~known)
