"""Mine hard negatives from embeddings that you already have: no model, no store, no cycle.

    python examples/mine_your_vectors.py

It runs as a script, and as a notebook in editors that know the marks `# %%`. A few seconds on one
core.
"""

# %% Vectors and labels. Here 5,000 points around 250 class centres; replace them by your own.
import numpy as np

rng = np.random.default_rng(0)
labels = np.repeat([f"class-{number:03}" for number in range(250)], 20)
centres = rng.normal(size=(250, 64))
vectors = np.repeat(centres, 20, axis=0) + rng.normal(scale=0.9, size=(5000, 64))
vectors = vectors.astype(np.float32)  # any length: `mine` scales each to 1

# %% For each of at most 4 pairs an item: the nearest negative, and the nearest semi-hard one.
from remine.mining import MiningConfig, mine

config = MiningConfig(negatives=("hard", "semi_hard"), max_positives=4)
mining_result = mine(vectors, labels, config=config)
triplets = mining_result.triplets
print(f"{len(triplets):,} triplets; the first: {triplets.anchor_id[0]}", end=" ")
print(f"{triplets.positive_id[0]} {triplets.negative_id[0]}, d_ap {triplets.d_ap[0]:.3f}", end=" ")
print(f"d_an {triplets.d_an[0]:.3f}")

# %% The card counts what was asked and answered. "none" means: no such negative exists.
card = mining_result.card()
print(card["engine"], {kind: card["kinds"][kind] for kind in ("hard", "semi_hard")})

# %% As a table: pandas, or any library that takes arrays.
import pandas as pd

from remine.data.types import KINDS

table = pd.DataFrame(triplets.columns()).replace({"kind": dict(enumerate(KINDS))})
print(table.groupby("kind")[["d_ap", "d_an", "negative_rank"]].median().round(3))

# %% Guards against false negatives: labels are never complete. Pass over the two nearest, and keep
# the negative's cosine below 95 % of the positive's.
guarded_config = MiningConfig(
    negatives=("hardest",), max_positives=4, skip_ranks=2, relative_margin=0.95, hub_cap=50
)
safer = mine(vectors, labels, config=guarded_config)
print(f"guarded: {len(safer.triplets):,} triplets")

# %% Queries against a corpus: positives are named by id instead of by label.
queries = vectors[:3] + rng.normal(scale=0.1, size=(3, 64)).astype(np.float32)
answers = {0: [1, 2], 1: [0], 2: [0, 1]}
from_queries = mine(vectors, queries=queries, positives=answers, config=config)
print(f"queries: {len(from_queries.triplets)} triplets for {len(answers)} queries")

# %% Several negatives a pair, as contrastive losses with n negatives take them.
several = MiningConfig(negatives=("rank_band",), band=(10, 50), per_pair=5, max_positives=1)
tuples = mine(vectors, labels, config=several).triplets
print(f"5 negatives a pair: {len(tuples):,} rows, sorted by anchor")
