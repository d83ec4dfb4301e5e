"""How good a retrieval is: recall@k, precision@1, R-precision, MAP@R, and the spread."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from remine.data.types import Embeddings

BLOCK = 32_000_000


def retrieval_metrics(
    embeddings: Embeddings, *, ks: Sequence[int] = (1, 2, 4, 8), queries: int = 0, seed: int = 0
) -> dict[str, float]:
    """Every item as a query against all the others (Musgrave et al. 2020, section 3).

    recall@k: share of queries with one of their class among the k nearest. precision@1 is
    recall@1. R-precision: share of their class among the R nearest, R the number of others of
    the class. MAP@R: mean over i <= R of the precision at i, 0 where the i-th is of another class.
    Items without another of their class are no queries. `queries` > 0 asks a sample of so many.
    """
    codes = embeddings.label_codes
    others = np.bincount(codes)[codes] - 1
    rows = np.flatnonzero(others > 0)
    asked = rows
    if queries and len(rows) > queries:
        asked = np.sort(np.random.default_rng(seed).choice(rows, queries, replace=False))
    depth = min(max([*ks, int(others.max(initial=1))]), len(embeddings) - 1)
    sums: dict[str, float] = dict.fromkeys([*(f"recall@{k}" for k in ks), "r_precision"], 0.0)
    sums["map@r"] = 0.0
    vectors, labels = torch.from_numpy(embeddings.vectors), torch.from_numpy(codes)
    step = max(1, BLOCK // max(1, len(embeddings)))
    for start in range(0, len(asked), step):
        block = torch.from_numpy(asked[start : start + step])
        hits = _hits(vectors, labels, block, depth)
        counts = torch.from_numpy(others[asked[start : start + step]])
        for name, value in _sums(hits, counts, ks).items():
            sums[name] += value
    result = {name: value / max(1, len(asked)) for name, value in sums.items()}
    result["precision@1"] = result.get("recall@1", float("nan"))
    result["queries"] = float(len(asked))
    result["spread"] = spread(vectors)
    return result


def spread(vectors: Tensor) -> float:
    """Mean squared distance of two different items, in [0, 4]; 0 is a collapsed embedding.

    From the mean vector alone: (n, d) unit vectors have sum of pair distances 2 n^2 (1 - |mean|^2).
    """
    n = len(vectors)
    mean = vectors.double().mean(dim=0)
    return float(2 * (1 - mean.square().sum()) * n / max(1, n - 1))


def _hits(vectors: Tensor, labels: Tensor, rows: Tensor, depth: int) -> Tensor:
    """(b, depth) bool: whether the i-th nearest of each row, itself aside, is of its class."""
    scores = vectors[rows] @ vectors.T
    scores[torch.arange(len(rows)), rows] = -torch.inf
    nearest = scores.topk(depth, dim=1).indices
    return labels[nearest] == labels[rows, None]


def _sums(hits: Tensor, others: Tensor, ks: Sequence[int]) -> dict[str, float]:
    """The metrics of a block, summed over its queries."""
    places = torch.arange(1, hits.shape[1] + 1)
    within = hits & (places <= others[:, None])
    precision = within.cumsum(dim=1) / places
    found = {f"recall@{k}": float(hits[:, :k].any(dim=1).sum()) for k in ks}
    found["r_precision"] = float((within.sum(dim=1) / others).double().sum())
    found["map@r"] = float(((precision * within).sum(dim=1) / others).double().sum())
    return found
