"""Evaluation: retrieval among the test items."""

import json
from typing import TYPE_CHECKING

from remine.data.errors import InputError
from remine.data.store.records import Artifact, digest
from remine.data.types import SPLITS
from remine.flows.jobs.stage_code import code_hash
from remine.flows.stages.split import read_split
from remine.index.metrics import retrieval_metrics

if TYPE_CHECKING:
    from remine.flows.jobs.run_context import Run

TEST = SPLITS.index("test")


def evaluate(run: "Run", embeddings: Artifact, items: Artifact) -> Artifact:
    """Measure retrieval among the test items.

    Raises:
        InputError: No test class has two items.

    """
    queries = run.config.index.queries
    key = digest(["evaluate", embeddings.digest, items.digest, queries, code_hash(__name__)])
    if artifact := run.store.recall(key):
        return artifact
    with run.console.stage("evaluate", "queries") as bar:
        test = read_split(run.store, embeddings, items, TEST)
        metrics = retrieval_metrics(test, queries=queries)
        if not metrics["queries"]:
            raise InputError("no test class has two items: retrieval cannot be measured")
        bar.update(int(metrics["queries"]), int(metrics["queries"]))
    body = json.dumps(metrics, indent=1, sort_keys=True).encode()
    file = run.store.put_bytes(body, name="metrics.json")
    card = {**metrics, "embeddings": embeddings.digest}
    return run.store.remember(key, Artifact(kind="metrics", files=(file,), card=card))
