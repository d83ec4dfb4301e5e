"""Mined triplets without remine: pandas, DuckDB and PyArrow on the plain files of a store.

    python examples/read_triplets.py runs/glyphs

It runs as a script, and as a notebook in editors that know the marks `# %%`. Nothing of remine is
imported.
"""

# %% The current version is a tree of links under plain names.
import sys
from pathlib import Path

store = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/glyphs")
latest = store / "latest"
shards = sorted(latest.glob("triplets/round=*/*.parquet"))
if not shards:
    raise SystemExit(f"no triplets in {latest}: run `remine run` first")
print(f"{len(shards)} shards in {len({shard.parent for shard in shards})} rounds")

# %% A file's metadata: schema name, hash of the embeddings it was mined from, settings.
import json

import pyarrow.parquet as pq

metadata = json.loads(pq.read_schema(shards[0]).metadata[b"remine"])
print(
    metadata["schema"],
    "of embeddings",
    metadata["embeddings"][:12],
    metadata["settings"]["negatives"],
)

# %% pandas: one round, only the columns that are needed.
import pandas as pd

last = shards[-1].parent
triplets = pd.read_parquet(last, columns=["d_ap", "d_an", "kind"])
triplets["margin"] = triplets.d_an - triplets.d_ap
print(triplets.groupby("kind", observed=True).margin.describe().round(4))

# %% DuckDB: the labels of both sides: which classes are confused most often.
import duckdb

print(
    duckdb.sql(f"""
        SELECT a.label AS anchor, n.label AS negative, count(*) AS triplets
        FROM '{last}/*.parquet' AS t
        JOIN '{latest}/items/*.parquet' AS a ON a.id = t.anchor_id
        JOIN '{latest}/items/*.parquet' AS n ON n.id = t.negative_id
        WHERE t.kind = 'hard' GROUP BY ALL ORDER BY triplets DESC, anchor LIMIT 5
    """)
)

# %% PyArrow: all rounds as one table, `round` from the folders' names, a batch at a time.
import pyarrow.dataset as ds

all_rounds = ds.dataset(latest / "triplets", partitioning="hive")
semi_hard = all_rounds.scanner(
    columns=["anchor_id", "positive_id", "negative_id", "round"],
    filter=ds.field("kind") == "semi_hard",
    batch_size=65_536,
)
rows = sum(len(batch) for batch in semi_hard.to_batches())
print(f"{rows:,} of {all_rounds.count_rows():,} triplets are semi-hard")

# %% Arrays to train on: positions in id order, the indices_tuple of pytorch-metric-learning.
import numpy as np

ids = ds.dataset(latest / "items", format="parquet", exclude_invalid_files=True)
ids = np.sort(ids.to_table(columns=["id"])["id"].to_numpy())
batch = pd.read_parquet(last, columns=["anchor_id", "positive_id", "negative_id"]).head(1000)
anchors, positives, negatives = (np.searchsorted(ids, batch[name]) for name in batch.columns)
print("positions of the first triplet:", anchors[0], positives[0], negatives[0])
