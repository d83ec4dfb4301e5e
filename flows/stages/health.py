"""Health of a round of training: the sample that is measured, the record, and the advice."""

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
    from remine.flows.jobs.run_context import Run

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
    run: "Run", material: Artifact | None, labels: Int64, ids: Int64, seed: int
) -> Probe | None:
    """The probe that measures a round while it trains; None if health.every is 0.

    Args:
        run: Settings and store.
        material: What the round trains on; triplets are sampled, too.
        labels: Class numbers (n,) of the items; -1 for those that are not trained on.
        ids: Ids (n,) of the items.
        seed: Decides the sample.

    """
    config, triplets = run.config.health, None
    if not config.every:
        return None
    if material is not None and material.kind == "triplets":
        paths, kinds = run.store.paths(material), run.config.train.kinds
        triplets = sample_triplets(paths, kinds, config.triplets, seed, ids)
    return Probe(
        config=config,
        rows=sample_rows(labels, config.sample, seed),
        classes=int(labels.max()) + 1,
        triplets=triplets,
        margin=run.config.mining.margin,
    )


def put_history(run: "Run", history: Mapping[str, Any]) -> list[FileRef]:
    """Store history.json, step by step, and health.parquet, the measurements, if there are any."""
    files = [run.store.put_bytes(json.dumps(history).encode(), name="history.json")]
    if readings := history["readings"]:
        table = pa.Table.from_pylist(readings, schema=READINGS)
        with run.store.temporary(".parquet") as path:
            schemas.write(table, path, schema="health/1", provenance={})
            files.append(run.store.put(path, name="health.parquet", rows=len(table)))
    return files


def overlap(run: "Run", before: Artifact, after: Artifact) -> Artifact:
    """Measure the share of nearest neighbours that two versions' embeddings have in common."""
    key = digest(["overlap", before.digest, after.digest, SAMPLE, code_hash(__name__)])
    if artifact := run.store.recall(key):
        return artifact
    old, new = (schemas.read_embeddings(run.store.paths(one)) for one in (before, after))
    share, sample = neighbour_overlap(old, new, sample=SAMPLE, seed=run.config.run.seed)
    card: dict[str, Any] = {"overlap": share, "sampled": sample, "depth": DEPTH}
    card |= {"before": before.digest, "after": after.digest}
    body = json.dumps(card, indent=1, sort_keys=True).encode()
    file = run.store.put_bytes(body, name="overlap.json")
    return run.store.remember(key, Artifact(kind="overlap", files=(file,), card=card))


def advice(config: "Config") -> str:
    """What to change after a collapse, as a half-sentence."""
    train, hints = config.train, []
    hardest = {"hard", "hardest"} & set(config.mining.negatives) and "hard" in train.kinds
    if train.batches == "triplets" and train.miner == "auto" and hardest:
        hints.append('mining.negatives = ["semi_hard"] with train.kinds = ["semi_hard"]')
    if train.miner == "batch_hard":
        hints.append('train.miner = "semi_hard"')
    hints.append(f"a smaller train.learning_rate than {train.learning_rate:g}")
    return " or ".join(hints)
