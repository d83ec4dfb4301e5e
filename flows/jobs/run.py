"""What the stages of a cycle share."""

import hashlib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from remine.data import schemas
from remine.data.store.records import Artifact, digest
from remine.data.store.store import Store
from remine.flows.config.settings import Config
from remine.flows.jobs.console import Console
from remine.flows.jobs.job import Execute


@dataclass(frozen=True, kw_only=True)
class Run:
    """What every stage needs: the settings, the store, a way to run units, a console."""

    config: Config
    store: Store
    execute: Execute
    console: Console = field(default_factory=Console)


@cache
def code_hash(*packages: str) -> str:
    """A hash of our own source in `packages` and data: other code, other results."""
    root = Path(__file__).parent.parent
    whole = hashlib.sha256()
    for package in sorted({"data", *packages}):
        for path in sorted((root / package).rglob("*.py")):
            whole.update(
                path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0"
            )
    return whole.hexdigest()


def embedding_recipe(checkpoint: Artifact, batch: int) -> str:
    """What decides an item's vector beside its input: weights, batch, our code."""
    weights = [checkpoint.card["encoder"], checkpoint.files[0].sha256]
    return digest([weights, batch, code_hash("index", "train")])


def put_table(
    store: Store, table: Any, kind: str, number: int, provenance: dict[str, Any]
) -> Artifact:
    """Store one Parquet shard."""
    with store.temporary(".parquet") as temp:
        schemas.write(table, temp, schema=f"{kind}/1", provenance=provenance)
        file = store.put(temp, name=f"part-{number:05d}.parquet", rows=len(table))
    return Artifact(kind=kind, files=(file,))
