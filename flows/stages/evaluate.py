"""Evaluation: retrieval among the test and val items, and the rejection of unknown queries."""

import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from remine.data import schemas
from remine.data.errors import InputError
from remine.data.items.catalogue import TEST, TRAIN, VAL, read_catalogue
from remine.data.measures import spread
from remine.data.store.records import Artifact, digest
from remine.flows.jobs.stage_code import code_hash
from remine.index.metrics import mean_scores, query_scores
from remine.index.unknown.rejection import measure_rejection

if TYPE_CHECKING:
    from remine.flows.jobs.run_context import Run

VAL_SCORES = "val_scores.parquet"
"""The file with the scores of each val query: `label_code` and one column for each metric."""


def evaluate(run: "Run", embeddings: Artifact, items: Artifact) -> Artifact:
    """Measure retrieval among the test items and among the val items.

    Returns:
        Metrics. Their card has the means over the test items, and under `val` those over the val
        items, if these have any query; under `rejection` what `measure_rejection` returns.

    Raises:
        InputError: No test item has another one of its class to be found.

    """
    queries, gallery_name = run.config.index.queries, run.config.run.gallery
    conditions = [embeddings.digest, items.digest, queries, gallery_name]
    key = digest(["evaluate", conditions, code_hash(__name__)])
    if artifact := run.store.recall(key):
        return artifact
    with run.console.stage("evaluate", "queries") as bar:
        vectors = schemas.read_embeddings(run.store.paths(embeddings))
        splits = read_catalogue(run.store, items).splits
        gallery = vectors.take(splits == TRAIN) if gallery_name == "train" else None
        test, val = vectors.take(splits == TEST), vectors.take(splits == VAL)
        metrics: dict[str, Any] = mean_scores(query_scores(test, queries=queries, gallery=gallery))
        if not metrics["queries"]:
            raise InputError(_lack(gallery_name))
        metrics["spread"] = spread(test.vectors)
        scores = query_scores(val, queries=queries, gallery=gallery) if len(val) else {}
        val_count = len(scores["rows"]) if scores else 0
        if val_count:
            metrics["val"] = mean_scores(scores)
        metrics["rejection"] = measure_rejection(vectors, splits, queries)
        count = int(metrics["queries"]) + val_count
        bar.update(count, count)
    body = json.dumps(metrics, indent=1, sort_keys=True).encode()
    files = [run.store.put_bytes(body, name="metrics.json")]
    if val_count:
        table = _table(scores, val.label_codes)
        files.append(run.store.put_bytes(table, name=VAL_SCORES, rows=val_count))
    card = {**metrics, "embeddings": embeddings.digest, "gallery": gallery_name}
    return run.store.remember(key, Artifact(kind="metrics", files=tuple(files), card=card))


def _lack(gallery: str) -> str:
    """Why no test item is a query."""
    if gallery == "train":
        return (
            'run.gallery is "train", but no class of the test items is trained on: remove it, so'
            " that test items are searched among themselves"
        )
    return "no test class has two items: retrieval cannot be measured"


def _table(scores: dict[str, NDArray[Any]], label_codes: NDArray[np.int32]) -> bytes:
    """The scores of val queries as Parquet."""
    frame = pd.DataFrame({name: values for name, values in scores.items() if name != "rows"})
    frame.insert(0, "label_code", label_codes[scores["rows"]])
    body = io.BytesIO()
    frame.to_parquet(body, index=False)
    return body.getvalue()
