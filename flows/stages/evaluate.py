"""The stages of a cycle as plain functions: artifacts in, artifacts out.

Each names its work by a hash of all that goes in (inputs, settings, our own code) and looks in the
store first, so what is done is not done again, and a killed cycle goes on where it stopped. No
Prefect here; Beam only behind `run.execute`.
"""

import json

from remine.data import schemas
from remine.data.errors import InputError
from remine.data.items.catalogue import read_catalogue
from remine.data.store.records import Artifact, digest
from remine.data.store.store import Store
from remine.data.types import SPLITS, Embeddings
from remine.flows.jobs.run import Run, code_hash
from remine.index.metrics import retrieval_metrics
from remine.train.checkpoint import encoder_bytes
from remine.train.encoders.design import Design, build_trained, design

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
