"""Seconds of indexing, evaluating and mining: by counts and dimensions, on random vectors."""

import time
from typing import TYPE_CHECKING

import numpy as np

from remine.data.types import Embeddings, Int64
from remine.index.build import HELD_OUT, HELD_OUT_EVERY, build_index
from remine.index.config import IndexConfig
from remine.index.factory_choice import FLAT_LIMIT, choose_factory
from remine.index.metrics import query_scores
from remine.mining.engines.engine_choice import Forecast, PairForecast, expect, product_rate

if TYPE_CHECKING:
    from remine.mining.config import MiningConfig

SAMPLE = 4000
"""Vectors that are indexed and evaluated."""
KMEANS_PASSES, KMEANS_POINTS = 10, 256
"""Of FAISS's clustering of an index with lists; points for each list."""
TRIPLET_BYTES = 20
"""Of a triplet in the store."""


def index_costs(n: int, d: int, config: IndexConfig) -> tuple[float, float]:
    """Seconds and bytes of an index over n vectors of d dimensions."""
    name = config.factory
    size = float(n * (4 * d + 8))
    if name == "auto":
        choice = choose_factory(n, d, config.memory)
        name, size = choice.factory, float(choice.bytes)
    m = min(n, SAMPLE)
    flat = IndexConfig(factory="Flat", recall=config.recall)
    build_index(_vectors(np.zeros(10, np.int64), d), flat)  # FAISS starts its threads
    start = time.perf_counter()
    build_index(_vectors(np.zeros(m, np.int64), d), flat)
    seconds = (time.perf_counter() - start) * _products(n) / _products(m)
    if n > FLAT_LIMIT:
        lists = float(np.sqrt(n))
        passes = KMEANS_PASSES * min(n, KMEANS_POINTS * lists) + n
        seconds += 2 * d * lists * passes / product_rate()
    return seconds, size


def _products(n: int) -> float:
    """Vectors that are compared where the recall of an index over n is measured."""
    return float(n * max(1, min(HELD_OUT, n // HELD_OUT_EVERY)))


def evaluation_seconds(codes: Int64, d: int, queries: int) -> float:
    """Seconds to score up to `queries` items of classes `codes` (n,) among themselves."""
    n = len(codes)
    if n < 2:
        return 0.0
    m = min(n, SAMPLE)
    start = time.perf_counter()
    query_scores(_vectors(codes[:m], d))
    seconds = time.perf_counter() - start
    return seconds * n * min(n, queries or n) / (m * m)


def mining_costs(codes: Int64, d: int, config: "MiningConfig") -> tuple[Forecast, float]:
    """Cost of mining among items of classes `codes` (n,), and the number of triplets at most."""
    sizes = np.unique(codes, return_counts=True)[1]
    limit = config.max_positives or (0 if config.positives == "all" else 1)
    most = np.minimum(sizes - 1, limit) if limit else sizes - 1
    pairs = PairForecast(
        pairs=int((sizes * most).sum()),
        classmates=int((sizes * (sizes - 1)).sum()),
        largest=int(sizes.max(initial=1)) - 1,
    )
    n = len(codes)
    triplets = float(pairs.pairs * len(config.negatives) * config.per_pair)
    return expect(n, n, d, config, product_rate(), pairs), triplets


def _vectors(codes: Int64, d: int) -> Embeddings:
    """Random unit vectors of items of classes `codes` (m,)."""
    vectors = np.random.default_rng(0).normal(size=(len(codes), d)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Embeddings(
        ids=np.arange(len(codes)), label_codes=codes.astype(np.int32), vectors=vectors
    )
