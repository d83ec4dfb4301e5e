"""The classes that are easily confused, over the whole dataset: who meets in a batch."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from remine.data import schemas
from remine.data.items.catalogue import read_catalogue
from remine.data.store.records import Artifact, digest
from remine.data.types import SPLITS, Int64
from remine.flows.jobs.stage_code import code_hash
from remine.flows.stages.shard import put_table
from remine.flows.stages.split import read_split
from remine.mining.confusion import NEIGHBOURS, Confusion, confusion

if TYPE_CHECKING:
    from remine.data.store.store import Store
    from remine.flows.jobs.run_context import Run


def confuse(run: "Run", embeddings: Artifact, items: Artifact) -> Artifact:
    """The most confusable classes of each training class, as Parquet."""
    key = digest(["confuse", embeddings.digest, items.digest, NEIGHBOURS, code_hash(__name__)])
    if artifact := run.store.recall(key):
        return artifact
    with run.console.stage("confuse", "classes") as bar:
        train = read_split(run.store, embeddings, items, SPLITS.index("train"))
        graph = confusion(train, NEIGHBOURS)
        labels = read_catalogue(run.store, items).labels
        provenance = {"embeddings": embeddings.digest, "items": items.digest}
        table = classes_table(graph, labels)
        shard = put_table(run.store, table, "classes", 0, provenance)
        bar.update(len(graph.codes), len(graph.codes))
    card = {**provenance, "classes": len(graph.codes), "neighbours": graph.neighbours.shape[1]}
    card["nearest"] = float(graph.distances[:, 0].mean())
    return run.store.remember(key, Artifact(kind="classes", files=shard.files, card=card))


def classes_table(graph: Confusion, labels: Sequence[str]) -> pa.Table:
    """One row for each class and each of its neighbours, by class and rank.

    Args:
        graph: Confusable classes, by label code.
        labels: Label of each label code.

    """
    c, m = graph.neighbours.shape
    codes = np.repeat(graph.codes, m)
    neighbour_codes = graph.codes[graph.neighbours.reshape(-1)]
    names = pa.array(labels, pa.string())
    return pa.table(
        {
            "label_code": codes,
            "neighbour_code": neighbour_codes,
            "rank": np.tile(np.arange(m, dtype=np.int32), c),
            "distance": graph.distances.reshape(-1),
            "label": pa.DictionaryArray.from_arrays(pa.array(codes), names),
            "neighbour": pa.DictionaryArray.from_arrays(pa.array(neighbour_codes), names),
        }
    )


def read_neighbours(store: "Store", classes: Artifact) -> Int64:
    """Class numbers (c, m), as training counts them, of the m classes most like each of c."""
    table = schemas.read(
        store.paths(classes), schema="classes/1", columns=["label_code", "neighbour_code"]
    )
    codes = table["label_code"].to_numpy().reshape(classes.card["classes"], -1)[:, 0]
    neighbour_codes = table["neighbour_code"].to_numpy().reshape(len(codes), -1)
    numbers: Int64 = np.searchsorted(codes, neighbour_codes)
    return numbers
