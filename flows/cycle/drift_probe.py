"""The drift probe: a sample is embedded again, and the neighbours that stay are counted."""

import numpy as np

from remine.data import schemas
from remine.data.items.inputs import Inputs
from remine.data.store.records import Version
from remine.data.store.store import Store
from remine.data.types import Embeddings
from remine.flows.config.settings import Config
from remine.flows.stages.encoder import device, load_checkpoint
from remine.index.embed import embed_rows
from remine.index.overlap import neighbour_overlap


def probe(config: Config, store: Store, version: Version) -> float:
    """Share of the 10 nearest neighbours, within a sample, that a new embedding keeps."""
    old = schemas.read_embeddings(store.paths(version.artifacts["embeddings"]))
    rng = np.random.default_rng(config.run.seed)
    count = min(config.refresh.sample, len(old))
    rows = np.sort(rng.choice(len(old), count, replace=False))
    encoder = load_checkpoint(store, version.artifacts["checkpoint"], config.base).to(device())
    inputs = Inputs(store.paths(version.artifacts["inputs"]))
    vectors = embed_rows(encoder, inputs, rows, config.index.batch, device())
    before = old.take(rows)
    after = Embeddings(ids=before.ids, label_codes=before.label_codes, vectors=vectors)
    return neighbour_overlap(before, after, sample=count, seed=config.run.seed)[0]
