"""Quality of retrieval: recall@k, precision@1, R-precision, MAP@R, and the spread."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from remine.data.measures import spread
from remine.data.types import Embeddings

KS = (1, 2, 4, 8)
"""The k of recall@k."""
BLOCK = 32_000_000
"""Scores (queries x items) held at a time."""


def retrieval_metrics(
    embeddings: Embeddings,
    *,
    ks: Sequence[int] = KS,
    queries: int = 0,
    seed: int = 0,
    gallery: Embeddings | None = None,
) -> dict[str, float]:
    """Every item as a query against all others (Musgrave et al. 2020, section 3).

    Items without another item of their class to be found are not queries.

    Args:
        embeddings: The items.
        ks: The k of recall@k.
        queries: Size of a random sample of queries; 0 for all.
        seed: Of the sample.
        gallery: Other items to search among; None for the items themselves.

    Returns:
        recall@k: Share of queries with an item of their class among the k nearest.
        precision@1: The same as recall@1.
        r_precision: Share of the query's class among the R nearest, R the number of items of the
            class that can be found.
        map@r: Mean over i <= R of the precision at i, counted as 0 where the i-th nearest is of
            another class.
        queries: How many queries there were.
        spread: See `measures.spread`.
    """
    scores = query_scores(embeddings, ks=ks, queries=queries, seed=seed, gallery=gallery)
    return mean_scores(scores) | {"spread": spread(embeddings.vectors)}


def mean_scores(scores: Mapping[str, NDArray[Any]]) -> dict[str, float]:
    """The means of what `query_scores` returns, and the number of queries."""
    count = len(scores["rows"])
    means = {
        name: float(values.mean()) if count else 0.0
        for name, values in scores.items()
        if name != "rows"
    }
    means["precision@1"] = means.get("recall@1", float("nan"))
    return means | {"queries": float(count)}


def query_scores(
    embeddings: Embeddings,
    *,
    ks: Sequence[int] = KS,
    queries: int = 0,
    seed: int = 0,
    gallery: Embeddings | None = None,
) -> dict[str, NDArray[Any]]:
    """The terms of `retrieval_metrics` for each of its q queries, with the same arguments.

    Returns:
        rows: (q,) int64, the query's row in `embeddings`.
        recall@k, r_precision, map@r: (q,) float64, each 0 to 1.
    """
    others = embeddings if gallery is None else gallery
    classes = max(
        int(codes.max(initial=-1)) for codes in (embeddings.label_codes, others.label_codes)
    )
    sizes = np.bincount(others.label_codes, minlength=classes + 1)
    class_mates = sizes[embeddings.label_codes] - (1 if gallery is None else 0)
    rows = np.flatnonzero(class_mates > 0)
    if queries and len(rows) > queries:
        rows = np.sort(np.random.default_rng(seed).choice(rows, queries, replace=False))
    most = len(others) - (1 if gallery is None else 0)
    depth = min(max([*ks, int(class_mates.max(initial=1))]), most)
    vectors, labels = torch.from_numpy(others.vectors), torch.from_numpy(others.label_codes)
    step = max(1, BLOCK // max(1, len(others)))
    parts = [_block_scores(torch.empty((0, depth), dtype=torch.bool), torch.empty(0), ks)]
    for start in range(0, len(rows), step):
        block = rows[start : start + step]
        products = torch.from_numpy(embeddings.vectors[block]) @ vectors.T
        if gallery is None:
            products[torch.arange(len(block)), torch.from_numpy(block)] = -torch.inf
        nearest = products.topk(depth, dim=1).indices
        hits = labels[nearest] == torch.from_numpy(embeddings.label_codes[block])[:, None]
        parts.append(_block_scores(hits, torch.from_numpy(class_mates[block]), ks))
    return {"rows": rows, **{name: np.concatenate([p[name] for p in parts]) for name in parts[0]}}


def _block_scores(hits: Tensor, class_mates: Tensor, ks: Sequence[int]) -> dict[str, NDArray[Any]]:
    """The scores of a block of b queries by name, each (b,) float64.

    Args:
        hits: (b, depth) bool, whether the i-th nearest is of the query's class.
        class_mates: (b,) number of items of the query's class that can be found.
        ks: The k of recall@k.
    """
    places = torch.arange(1, hits.shape[1] + 1)
    within_r = hits & (places <= class_mates[:, None])
    precision = within_r.cumsum(dim=1) / places
    scores = {f"recall@{k}": hits[:, :k].any(dim=1).double() for k in ks}
    scores["r_precision"] = within_r.sum(dim=1).double() / class_mates
    scores["map@r"] = (precision * within_r).sum(dim=1).double() / class_mates
    return {name: values.numpy() for name, values in scores.items()}
