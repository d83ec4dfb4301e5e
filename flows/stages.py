"""The stages of a cycle as plain functions: artifacts in, artifacts out.

Each names its work by a hash of all that goes in (inputs, settings, our own code) and looks in the
store first, so what is done is not done again, and a killed cycle goes on where it stopped. No
Prefect here; Beam only behind `run.execute`.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from data import schemas
from data.errors import InputError
from data.inputs import Inputs
from data.prepare import read_catalogue
from data.store import Artifact, Store, digest
from data.types import SPLITS, Embeddings
from flows.features import device, features, load_trained
from flows.jobs import Unit, run_job, units_of_files
from flows.run import Run, code_hash, put_table
from index.build import build_index
from index.embed import embed_rows
from index.metrics import retrieval_metrics
from train.checkpoint import encoder_bytes
from train.design import Design, build_trained, design

TEST = SPLITS.index("test")


def first_checkpoint(run: Run, items: Artifact, inputs: Artifact) -> Artifact:
    """A fresh encoder."""
    wanted = _design(run, items, inputs)
    key = digest(["init", wanted.to_json(), run.config.run.seed, code_hash("train")])
    if found := run.store.recall(key):
        return found
    encoder = build_trained(wanted, run.config.base, run.config.run.seed)
    weights = run.store.put_bytes(encoder_bytes(encoder), name="encoder.safetensors")
    card = {"encoder": wanted.to_json(), "steps": 0, "parent": None}
    return run.store.remember(key, Artifact(kind="checkpoint", files=(weights,), card=card))


def fits(run: Run, checkpoint: Artifact, items: Artifact, inputs: Artifact) -> bool:
    """Whether `checkpoint` is of the encoder that the settings and the data ask for."""
    return bool(checkpoint.card["encoder"] == _design(run, items, inputs).to_json())


def embed(run: Run, checkpoint: Artifact, items: Artifact, inputs: Artifact) -> Artifact:
    """Every item's embedding, as a Beam job over the shards."""
    job = EmbedJob(
        checkpoint=checkpoint,
        items=items,
        inputs=features(run, checkpoint, inputs),
        batch=run.config.index.batch,
        base=run.config.base,
    )
    with run.console.stage("embed", "items") as bar:
        shards = run_job(
            run.store,
            job,
            units_of_files(inputs.files),
            run.execute,
            lambda done, units: bar.update(inputs.rows * done // units, inputs.rows),
        )
    files = tuple(file for shard in shards for file in shard.files)
    card = {"checkpoint": checkpoint.digest, "items": items.digest, "inputs": inputs.digest}
    return Artifact(kind="embeddings", files=files, card=card)


@dataclass(frozen=True, kw_only=True)
class EmbedJob:
    """Embeds one shard of inputs, or of a frozen backbone's features, a unit."""

    checkpoint: Artifact
    items: Artifact
    inputs: Artifact
    batch: int
    base: Path

    def key(self, unit: Unit) -> str:
        """Depends on the weights and on this shard alone, so unchanged shards are reused."""
        shard = [self.items.files[unit[0]].sha256, self.inputs.files[unit[0]].sha256]
        weights = [self.checkpoint.card["encoder"], self.checkpoint.files[0].sha256]
        return digest(["embed", weights, shard, unit, self.batch, code_hash("index", "train")])

    def open(self, store: Store) -> Callable[[Unit], Artifact]:
        """Load the encoder."""
        encoder = load_trained(store, self.checkpoint, self.base).to(device())

        def work(unit: Unit) -> Artifact:
            number, start, stop = unit
            inputs = Inputs([store.path(self.inputs.files[number])])
            vectors = embed_rows(encoder, inputs, range(stop - start), self.batch, device())
            columns = ["id", "label_code"]
            items = schemas.read(
                [store.path(self.items.files[number])], schema="items/1", columns=columns
            )
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


def build(run: Run, embeddings: Artifact) -> Artifact:
    """The FAISS index of all items."""
    config = run.config.index
    given = [embeddings.digest, config.factory, config.recall, config.memory]
    key = digest(["build", given, code_hash("index")])
    if found := run.store.recall(key):
        return found
    with run.console.stage("index", "items") as bar:
        import faiss

        start = time.monotonic()
        vectors = schemas.read_embeddings(run.store.paths(embeddings))
        index, card = build_index(vectors, config)
        with run.store.temporary() as temp:
            faiss.write_index(index, str(temp))
            file = run.store.put(temp, name="index.faiss", rows=len(vectors))
        bar.update(len(vectors), len(vectors))
    # Seconds differ from run to run: they go to the log, not into what is hashed.
    seconds = round(time.monotonic() - start, 3)
    run.store.log("index", sha256=file.sha256, seconds=seconds)
    note = {"embeddings": embeddings.digest, "checkpoint": embeddings.card["checkpoint"]}
    whole = {**card.to_json(), **note, "bytes": file.bytes}
    return run.store.remember(key, Artifact(kind="index", files=(file,), card=whole))


def evaluate(run: Run, embeddings: Artifact, items: Artifact) -> Artifact:
    """Retrieval among the test items."""
    queries = run.config.index.queries
    key = digest(["evaluate", embeddings.digest, items.digest, queries, code_hash("index")])
    if found := run.store.recall(key):
        return found
    with run.console.stage("evaluate", "queries") as bar:
        vectors = split_of(run.store, embeddings, items, TEST)
        metrics = retrieval_metrics(vectors, queries=queries)
        if not metrics["queries"]:
            raise InputError("no test class has two items: retrieval cannot be measured")
        bar.update(int(metrics["queries"]), int(metrics["queries"]))
    body = json.dumps(metrics, indent=1, sort_keys=True).encode()
    file = run.store.put_bytes(body, name="metrics.json")
    card = {**metrics, "embeddings": embeddings.digest}
    return run.store.remember(key, Artifact(kind="metrics", files=(file,), card=card))


def split_of(store: Store, embeddings: Artifact, items: Artifact, split: int) -> Embeddings:
    """The embeddings of one split's items."""
    vectors = schemas.read_embeddings(store.paths(embeddings))
    return vectors.take(read_catalogue(store, items).splits == split)


def _design(run: Run, items: Artifact, inputs: Artifact) -> Design:
    """The encoder that the settings and the data ask for."""
    card = inputs.card
    content = items.card["content"]
    return design(run.config.encoder, content, card["shape"], card["dtype"], run.config.base)
