"""Evaluation of the checkpoints of a comparison, recalled from the store where it was done before.

Apart from the training, so that a key covers the code that measures and nothing else.
"""

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from remine.data.errors import InputError
from remine.data.items.catalogue import Catalogue, read_catalogue
from remine.data.store.records import Artifact, digest
from remine.data.types import SPLITS, Embeddings
from remine.flows.jobs.run_context import Run
from remine.flows.jobs.stage_code import code_hash
from remine.flows.stages.embed import embed_now
from remine.index.clustering import clustering_metrics
from remine.index.metrics import retrieval_metrics
from remine.index.roc import pair_distances, roc, verification_metrics

EVALUATION_SPLITS = ("val", "test")


def measure(
    run: Run, checkpoint: Artifact, items: Artifact, inputs: Artifact
) -> dict[str, dict[str, float]]:
    """Retrieval metrics among the val items and among the test items, by split."""

    def work(by_split: dict[str, Embeddings]) -> dict[str, Any]:
        queries = run.config.index.queries
        return {split: retrieval_metrics(part, queries=queries) for split, part in by_split.items()}

    key_parts = [run.config.index.queries, run.config.index.batch]
    return _recalled(run, "measure", checkpoint, items, inputs, key_parts, work)


def measure_fully(
    run: Run, checkpoint: Artifact, items: Artifact, inputs: Artifact
) -> dict[str, Any]:
    """The slower measurements of the test items.

    Returns:
        metrics: Clustering, and verification at the thresholds of val. far, tar: The ROC curve,
        false and true accept rates.

    """

    def work(by_split: dict[str, Embeddings]) -> dict[str, Any]:
        pairs = {split: pair_distances(part) for split, part in by_split.items()}
        false_accepts, true_accepts = roc(pairs["test"])
        metrics = clustering_metrics(by_split["test"])
        metrics |= verification_metrics(pairs["test"], pairs["val"])
        return {"metrics": metrics, "far": false_accepts.tolist(), "tar": true_accepts.tolist()}

    return _recalled(run, "measure fully", checkpoint, items, inputs, [], work)


def embeddings_of(
    run: Run, checkpoint: Artifact, catalogue: Catalogue, inputs: Artifact, split: str
) -> Embeddings:
    """Compute the embeddings of one split's items, without the store."""
    rows = np.flatnonzero(catalogue.splits == SPLITS.index(split))
    vectors = embed_now(run, checkpoint, inputs, rows)
    return Embeddings(
        ids=catalogue.ids[rows], label_codes=catalogue.label_codes[rows], vectors=vectors
    )


def check_splits(items: Artifact) -> None:
    """Refuse items without val classes."""
    if not items.card["splits"]["val"]["classes"]:
        raise InputError(
            "no val classes: a comparison selects checkpoints, arms and thresholds on val;"
            " set data.val_from_train = 0.1, or data.val_share if the data has no split column"
        )


def _recalled(
    run: Run,
    name: str,
    checkpoint: Artifact,
    items: Artifact,
    inputs: Artifact,
    key_parts: list[Any],
    work: Callable[[dict[str, Embeddings]], dict[str, Any]],
) -> dict[str, Any]:
    """The result of `work` on the embeddings by split; from the store if it was computed before."""
    weights = [checkpoint.card["encoder"], checkpoint.files[0].sha256]
    code = code_hash(__name__)
    key = digest([name, weights, items.digest, inputs.digest, key_parts, code])
    if receipt := run.store.recall(key):
        return json.loads(run.store.path(receipt.files[0]).read_bytes())  # type: ignore[no-any-return]
    catalogue = read_catalogue(run.store, items)
    by_split = {
        split: embeddings_of(run, checkpoint, catalogue, inputs, split)
        for split in EVALUATION_SPLITS
    }
    result = work(by_split)
    file = run.store.put_bytes(json.dumps(result).encode(), name="metrics.json")
    run.store.remember(key, Artifact(kind="metrics", files=(file,)))
    return result
