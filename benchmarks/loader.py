"""How fast triplets stream from Parquet shards to shuffled batches of ids."""

import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.common import show
from remine.data import schemas
from remine.data.types import HARD, SEMI_HARD, Triplets
from remine.train.batches.triplet_loader import TripletLoader

ROWS, SHARDS, BATCH = 8_000_000, 8, 1024


def main() -> None:
    """Stream one epoch of 8 M triplets, all kinds and then one of two kinds."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [write_shard(Path(folder), shard) for shard in range(SHARDS)]
        size = sum(path.stat().st_size for path in paths) / ROWS
        rows = [["", "rows a CPU-second"]]
        for kinds in (("hard", "semi_hard"), ("semi_hard",)):
            loader = TripletLoader(paths=paths, kinds=kinds, batch=BATCH, seed=0)
            share = len(kinds) / 2
            batches = loader.batches()
            count = int(ROWS * share) // BATCH
            start = time.process_time()
            for _ in range(count):
                next(batches)
            spent = time.process_time() - start
            rows.append([" and ".join(kinds), f"{count * BATCH / spent / 1e6:.1f} M"])
    show(f"Streaming {ROWS / 1e6:.0f} M triplets ({size:.1f} bytes a row on disk)", rows)


def write_shard(folder: Path, shard: int) -> Path:
    """A shard as mining writes it: sorted by anchor, kinds in turn."""
    t = ROWS // SHARDS
    rng = np.random.default_rng(shard)
    d_ap = rng.random(t, np.float32)
    triplets = Triplets(
        anchor_id=shard * t // 16 + np.arange(t) // 16,
        positive_id=rng.integers(0, ROWS // 16, t),
        negative_id=rng.integers(0, ROWS // 16, t),
        d_ap=d_ap,
        d_an=d_ap + rng.random(t, np.float32) / 10,
        kind=np.where(np.arange(t) % 2, HARD, SEMI_HARD).astype(np.int8),
        negative_rank=rng.integers(0, 1000, t).astype(np.int32),
    )
    path = folder / f"part-{shard}.parquet"
    schemas.write(schemas.triplets_table(triplets), path, schema="triplets/1", provenance={})
    return path


if __name__ == "__main__":
    main()
