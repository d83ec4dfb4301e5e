"""What it costs to query many triplets: `remine triplets stats` and sorted pages."""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.common import show
from remine.data import schemas
from remine.data.measures import triplet_kinds
from remine.data.store.records import Artifact, FileRef, Version
from remine.data.store.store import Store
from remine.data.types import Triplets
from remine.flows.query.triplet_stats import compare, stats
from remine.flows.query.triplets import TripletQuery, TripletTable
from remine.flows.stages.shard import put_table

SHARD, ITEMS = 1_000_000, 1_000_000


def shard(number: int, shards: int) -> Triplets:
    """A million triplets of a block of anchors; some items serve as negatives far more often."""
    rng = np.random.default_rng(number)
    d_ap = rng.gamma(4, 0.15, SHARD).clip(0, 4).astype(np.float32)
    d_an = (d_ap + rng.normal(0.02, 0.1, SHARD)).clip(0, 4).astype(np.float32)
    bounds = number * ITEMS // shards, (number + 1) * ITEMS // shards
    return Triplets(
        anchor_id=np.sort(rng.integers(*bounds, SHARD)),
        positive_id=rng.integers(0, ITEMS, SHARD),
        negative_id=(rng.beta(1, 4, SHARD) * ITEMS).astype(np.int64),
        d_ap=d_ap,
        d_an=d_an,
        kind=triplet_kinds(d_ap, d_an, 0.2),
        negative_rank=rng.geometric(0.003, SHARD).astype(np.int32),
    )


def items(store: Store) -> Artifact:
    """A million items of 50,000 classes."""
    codes = np.arange(ITEMS, dtype=np.int32) // 20
    names = [f"class {code}" for code in range(ITEMS // 20)]
    columns = {
        "id": np.arange(ITEMS),
        "label": pa.array(names).take(pa.array(codes)),
        "label_code": codes,
        "split": pa.array(["train"]).take(pa.array(np.zeros(ITEMS, np.int32))),
        "group": pa.nulls(ITEMS, pa.string()),
    }
    part = put_table(store, pa.table(columns), "items", 0, {}).files
    labels: FileRef = store.put_bytes(json.dumps(names).encode(), name="_labels.json")
    return Artifact(kind="items", files=(*part, labels), card={"content": "text"})


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--shards", type=int, default=10, help="Of a million triplets each.")
    shards = parser.parse_args().shards
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "store", create=True)
        files = [
            put_table(store, schemas.triplets_table(shard(n, shards)), "triplets", n, {}).files[0]
            for n in range(shards)
        ]
        triplets = Artifact(kind="triplets", files=tuple(files))
        artifacts = {"items": items(store), "triplets/round=0": triplets}
        version = Version(
            number=1, parent=None, cycle=1, round=1, rounds=1, config={}, artifacts=artifacts
        )
        page = TripletQuery(sort="margin", kinds=("hard",), limit=50)
        work: dict[str, Callable[[TripletTable], object]] = {
            "stats": lambda m: stats(m, 0),
            "compare with itself": lambda m: compare(m, 0, 0),
            "the 50 of least margin": lambda m: m.page(page),
            "50 of one item": lambda m: m.page(TripletQuery(item=ITEMS // 2)),
        }
        rows: list[list[object]] = [["", "CPU-seconds", "seconds"]]
        for name, ask in work.items():
            # A store of its own: each hashes the files and reads the items, as a command does.
            start, cpu = time.perf_counter(), time.process_time()
            ask(TripletTable(Store(store.root), version))
            cpu, start = time.process_time() - cpu, time.perf_counter() - start
            rows.append([name, f"{cpu:.1f}", f"{start:.1f}"])
        show(f"{shards} million triplets, {sum(f.bytes for f in files) / 1e6:.0f} MB", rows)


if __name__ == "__main__":
    main()
