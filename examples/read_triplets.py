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
print(f"{len(shards)} shards in {len({shard.parent for shard in shards})} rounds")

# %% What a file says of itself: its schema's name, the embeddings it was mined from, the settings.
import json

import pyarrow.parquet as pq

note = json.loads(pq.read_schema(shards[0]).metadata[b"remine"])
print(note["schema"], "of embeddings", note["embeddings"][:12], note["settings"]["negatives"])

# %% pandas: one round, only the columns that are needed.
import pandas as pd

last = shards[-1].parent
triplets = pd.read_parquet(last, columns=["d_ap", "d_an", "kind"])
triplets["margin"] = triplets.d_an - triplets.d_ap
print(triplets.groupby("kind", observed=True).margin.describe().round(4))

# %% DuckDB: the labels of both sides, the classes that are taken for one another.
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

whole = ds.dataset(latest / "triplets", partitioning="hive")
semi_hard = whole.scanner(
    columns=["anchor_id", "positive_id", "negative_id", "round"],
    filter=ds.field("kind") == "semi_hard",
    batch_size=65_536,
)
rows = sum(len(batch) for batch in semi_hard.to_batches())
print(f"{rows:,} of {whole.count_rows():,} triplets are semi-hard")

# %% Arrays to train on: places of items, as pytorch-metric-learning's indices_tuple wants them.
import numpy as np

ids = ds.dataset(latest / "items", format="parquet", exclude_invalid_files=True)
ids = np.sort(ids.to_table(columns=["id"])["id"].to_numpy())
batch = pd.read_parquet(last, columns=["anchor_id", "positive_id", "negative_id"]).head(1000)
anchors, positives, negatives = (np.searchsorted(ids, batch[name]) for name in batch.columns)
print("the first triplet's places:", anchors[0], positives[0], negatives[0])
