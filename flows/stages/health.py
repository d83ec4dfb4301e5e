"""Health around the training stage: what is sampled, what is kept, and what a collapse leaves."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from remine.data import schemas
from remine.data.store.records import Artifact, FileRef, digest
from remine.data.types import Int64
from remine.flows.jobs.stage_code import code_hash
from remine.index.overlap import DEPTH, neighbour_overlap
from remine.train.monitor.probe import Probe, sample_rows, sample_triplets

if TYPE_CHECKING:
    from remine.flows.config.settings import Config
    from remine.flows.jobs.run import Run

READINGS = pa.schema(
    [
        ("step", pa.int64()),
        *(
            (name, pa.float64())
            for name in ("stale", "drift", "overlap", "spread", "effective_rank", "active", "loss")
        ),
    ]
)
SAMPLE = 1000


def probe_of(
    run: "Run", mined: Artifact | None, labels: Int64, ids: Int64, seed: int
) -> Probe | None:
    """What is measured while a round trains; None where nothing is. labels: -1 if untrained on."""
    config, triplets = run.config.health, None
    if not config.every:
        return None
    if mined is not None and mined.kind == "triplets":
        paths, wanted = run.store.paths(mined), run.config.train.kinds
        triplets = sample_triplets(paths, wanted, config.triplets, seed, ids)
    return Probe(
        config=config,
        rows=sample_rows(labels, config.sample, seed),
        classes=int(labels.max()) + 1,
        triplets=triplets,
        margin=run.config.mining.margin,
    )


def put_history(run: "Run", history: Mapping[str, Any]) -> list[FileRef]:
    """history.json, step by step, and health.parquet, the measurements, where there are any."""
    files = [run.store.put_bytes(json.dumps(history).encode(), name="history.json")]
    if readings := history["readings"]:
        table = pa.Table.from_pylist(readings, schema=READINGS)
        with run.store.temporary(".parquet") as temp:
            schemas.write(table, temp, schema="health/1", provenance={})
            files.append(run.store.put(temp, name="health.parquet", rows=len(table)))
    return files


def overlap(run: "Run", before: Artifact, after: Artifact) -> Artifact:
    """How many nearest neighbours two index versions share: {"overlap": ..., "sampled": ...}."""
    key = digest(["overlap", before.digest, after.digest, SAMPLE, code_hash(__name__)])
    if found := run.store.recall(key):
        return found
    old, new = (schemas.read_embeddings(run.store.paths(one)) for one in (before, after))
    share, sampled = neighbour_overlap(old, new, sample=SAMPLE, seed=run.config.run.seed)
    card: dict[str, Any] = {"overlap": share, "sampled": sampled, "depth": DEPTH}
    card |= {"before": before.digest, "after": after.digest}
    body = json.dumps(card, indent=1, sort_keys=True).encode()
    file = run.store.put_bytes(body, name="overlap.json")
    return run.store.remember(key, Artifact(kind="overlap", files=(file,), card=card))


def advice(config: "Config") -> str:
    """What to change after a collapse."""
    train, hints = config.train, []
    hardest = {"hard", "hardest"} & set(config.mining.negatives) and "hard" in train.kinds
    if train.batches == "triplets" and train.miner == "auto" and hardest:
        hints.append('mining.negatives = ["semi_hard"] with train.kinds = ["semi_hard"]')
    if train.miner == "batch_hard":
        hints.append('train.miner = "semi_hard"')
    hints.append(f"a smaller train.learning_rate than {train.learning_rate:g}")
    return " or ".join(hints)
