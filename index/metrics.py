"""Quality of retrieval: recall@k, precision@1, R-precision, MAP@R, and the spread."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from remine.data.measures import spread
from remine.data.types import Embeddings

BLOCK = 32_000_000
"""Scores (queries x items) held at a time."""


def retrieval_metrics(
    embeddings: Embeddings, *, ks: Sequence[int] = (1, 2, 4, 8), queries: int = 0, seed: int = 0
) -> dict[str, float]:
    """Every item as a query against all others (Musgrave et al. 2020, section 3).

    Items that are alone in their class are not queries.

    Args:
        embeddings: The items.
        ks: The k of recall@k.
        queries: Size of a random sample of queries; 0 for all.
        seed: Of the sample.

    Returns:
        recall@k: Share of queries with an item of their class among the k nearest.
        precision@1: The same as recall@1.
        r_precision: Share of the query's class among the R nearest, R the number of others in the
            class.
        map@r: Mean over i <= R of the precision at i, counted as 0 where the i-th nearest is of
            another class.
        queries: How many queries there were.
        spread: See `measures.spread`.
    """
    codes = embeddings.label_codes
    class_mates = np.bincount(codes)[codes] - 1
    rows = np.flatnonzero(class_mates > 0)
    query_rows = rows
    if queries and len(rows) > queries:
        query_rows = np.sort(np.random.default_rng(seed).choice(rows, queries, replace=False))
    depth = min(max([*ks, int(class_mates.max(initial=1))]), len(embeddings) - 1)
    sums: dict[str, float] = dict.fromkeys([*(f"recall@{k}" for k in ks), "r_precision"], 0.0)
    sums["map@r"] = 0.0
    vectors, labels = torch.from_numpy(embeddings.vectors), torch.from_numpy(codes)
    step = max(1, BLOCK // max(1, len(embeddings)))
    for start in range(0, len(query_rows), step):
        block = torch.from_numpy(query_rows[start : start + step])
        hits = _hits(vectors, labels, block, depth)
        counts = torch.from_numpy(class_mates[query_rows[start : start + step]])
        for name, value in _sums(hits, counts, ks).items():
            sums[name] += value
    result = {name: value / max(1, len(query_rows)) for name, value in sums.items()}
    result["precision@1"] = result.get("recall@1", float("nan"))
    result["queries"] = float(len(query_rows))
    result["spread"] = spread(embeddings.vectors)
    return result


def _hits(vectors: Tensor, labels: Tensor, rows: Tensor, depth: int) -> Tensor:
    """(b, depth) bool: whether the i-th nearest of each row, itself excluded, is of its class."""
    scores = vectors[rows] @ vectors.T
    scores[torch.arange(len(rows)), rows] = -torch.inf
    nearest = scores.topk(depth, dim=1).indices
    return labels[nearest] == labels[rows, None]


def _sums(hits: Tensor, class_mates: Tensor, ks: Sequence[int]) -> dict[str, float]:
    """The metrics of a block, summed over its queries."""
    places = torch.arange(1, hits.shape[1] + 1)
    within_r = hits & (places <= class_mates[:, None])
    precision = within_r.cumsum(dim=1) / places
    sums = {f"recall@{k}": float(hits[:, :k].any(dim=1).sum()) for k in ks}
    sums["r_precision"] = float((within_r.sum(dim=1) / class_mates).double().sum())
    sums["map@r"] = float(((precision * within_r).sum(dim=1) / class_mates).double().sum())
    return sums
