"""What a round trains on: mined triplets, the confusable classes, or labels alone.

Nothing is mined that the round does not read.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa

from remine.data import schemas
from remine.data.items.catalogue import read_catalogue
from remine.data.store.records import Artifact, digest
from remine.data.store.store import Store
from remine.data.types import SPLITS, Int64
from remine.flows.jobs.run import Run, code_hash, put_table
from remine.flows.stages.evaluate import split_of
from remine.flows.stages.mine import mine
from remine.mining.confusion import NEIGHBOURS, Confusion, confusion
from remine.train.config import TrainConfig

Call = Callable[..., Artifact]


def settings_of(run: Run, checkpoint: Artifact) -> TrainConfig:
    """The training settings of the round that starts from `checkpoint`: warm-up, or as they are."""
    return run.config.train.at(checkpoint.card.get("rounds", 0))


def material(
    run: Run,
    checkpoint: Artifact,
    embeddings: Artifact,
    items: Artifact,
    seed: int,
    call: Call,
) -> dict[str, Artifact]:
    """What the next round trains on, by the name that versions give it; empty for PK batches."""
    batches = settings_of(run, checkpoint).batches
    if batches == "triplets":
        return {"triplets": call(mine, run, embeddings, items, seed)}
    if batches == "confusable":
        return {"classes": call(confuse, run, embeddings, items)}
    return {}


def confuse(run: Run, embeddings: Artifact, items: Artifact) -> Artifact:
    """The most confusable classes of each training class, as Parquet."""
    key = digest(["confuse", embeddings.digest, items.digest, NEIGHBOURS, code_hash("mining")])
    if found := run.store.recall(key):
        return found
    with run.console.stage("confuse", "classes") as bar:
        whole = split_of(run.store, embeddings, items, SPLITS.index("train"))
        graph = confusion(whole, NEIGHBOURS)
        labels = read_catalogue(run.store, items).labels
        note = {"embeddings": embeddings.digest, "items": items.digest}
        table = classes_table(graph, labels)
        shard = put_table(run.store, table, "classes", 0, note)
        bar.update(len(graph.codes), len(graph.codes))
    card = {**note, "classes": len(graph.codes), "neighbours": graph.neighbours.shape[1]}
    card["nearest"] = float(graph.distances[:, 0].mean())
    return run.store.remember(key, Artifact(kind="classes", files=shard.files, card=card))


def classes_table(graph: Confusion, labels: Sequence[str]) -> pa.Table:
    """A row for each class and each of its neighbours, by class and rank; labels by label code."""
    c, m = graph.neighbours.shape
    codes, near = np.repeat(graph.codes, m), graph.codes[graph.neighbours.reshape(-1)]
    names = pa.array(labels, pa.string())
    return pa.table(
        {
            "label_code": codes,
            "neighbour_code": near,
            "rank": np.tile(np.arange(m, dtype=np.int32), c),
            "distance": graph.distances.reshape(-1),
            "label": pa.DictionaryArray.from_arrays(pa.array(codes), names),
            "neighbour": pa.DictionaryArray.from_arrays(pa.array(near), names),
        }
    )


def read_neighbours(store: Store, classes: Artifact) -> Int64:
    """(c, m) class numbers (as training counts them) of each class's most confusable ones."""
    table = schemas.read(
        store.paths(classes), schema="classes/1", columns=["label_code", "neighbour_code"]
    )
    codes = table["label_code"].to_numpy().reshape(classes.card["classes"], -1)[:, 0]
    near = table["neighbour_code"].to_numpy().reshape(len(codes), -1)
    numbers: Int64 = np.searchsorted(codes, near)
    return numbers
