"""Measures of a round: staleness of its triplets, drift and collapse of its embedding."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from remine.data.errors import StoreError
from remine.data.items.tensors import Tensors
from remine.data.measures import row_distances, triplet_kinds
from remine.data.types import Float32, Int8
from remine.train.monitor.config import HealthConfig
from remine.train.optimization.modes import evaluating

DEPTH = 10
"""Number of nearest neighbours that `overlap` is measured on."""


class RoundStoppedError(StoreError):
    """The round cannot continue: the embedding collapsed, or the loss is not finite.

    history: the round's history so far, as plain values; set by `Training.run`.
    """

    history: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One measurement, after `step` steps of the round.

    stale: the share of sampled triplets whose kind has changed since they were mined; None if the
        round has no triplets.
    drift: mean squared distance of the sampled items to their embeddings at the round's start.
    overlap: the share of each item's 10 nearest neighbours in the sample that were among its
        nearest at the round's start.
    spread, effective_rank: of the sample.
    active, loss: means of the steps since the last measurement; None before the first step.
    """

    step: int
    stale: float | None
    drift: float
    overlap: float
    spread: float
    effective_rank: float
    active: float | None = None
    loss: float | None = None


def kinds(anchors: Float32, positives: Float32, negatives: Float32, margin: float) -> Int8:
    """(t,) codes into KINDS of triplets of (t, d) unit vectors, as mining decides them."""
    d_ap, d_an = row_distances(anchors, positives), row_distances(anchors, negatives)
    return triplet_kinds(d_ap, d_an, margin)


def drift(before: Float32, after: Float32) -> float:
    """Mean squared distance between (n, d) unit vectors before and after, 0 to 4."""
    return float(np.square(after - before, dtype=np.float64).sum(axis=1).mean())


def nearest_neighbours(vectors: Float32, depth: int = DEPTH) -> np.ndarray:
    """(n, k) rows of the k nearest neighbours of each of (n, d) unit vectors, itself excluded.

    Ties are broken by row; k is `depth`, or n - 1 if that is less.
    """
    # In float64, so that rounding does not order near ties.
    precise_vectors = vectors.astype(np.float64)
    scores = precise_vectors @ precise_vectors.T
    np.fill_diagonal(scores, -np.inf)
    return np.argsort(-scores, axis=1, kind="stable")[:, : min(depth, len(vectors) - 1)]


def effective_rank(vectors: Float32) -> float:
    """How many dimensions (n, d) vectors use: exp of the entropy of their covariance's spectrum.

    Roy & Vetterli 2007, "The effective rank", definition 1, applied to the covariance matrix, whose
    singular values are its eigenvalues. 1 to min(n - 1, d); 0 if all vectors are equal.
    """
    deviations = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    values = np.square(np.linalg.svd(deviations, compute_uv=False))
    total = values.sum()
    # All vectors are equal up to rounding, and the spectrum is noise.
    if total < 1e-12 * len(vectors):
        return 0.0
    shares = values[values > 0] / total
    return float(np.exp(-(shares * np.log(shares)).sum()))


def collapse_reason(first: Reading, current: Reading, config: HealthConfig, classes: int) -> str:
    """Why the embedding counts as collapsed, compared with the round's first reading; else "".

    c perfectly separated classes use c - 1 dimensions, so an effective rank above half of that
    never counts as a collapse.
    """
    limit = max(config.min_spread, config.min_share * first.spread)
    if current.spread < limit:
        return _decline("spread", first.spread, current.spread, limit)
    limit = max(config.min_rank, config.min_share * first.effective_rank)
    limit = min(limit, (classes - 1) / 2)
    if current.effective_rank < limit:
        return _decline("effective rank", first.effective_rank, current.effective_rank, limit)
    return ""


def _decline(name: str, first: float, current: float, limit: float) -> str:
    return f"the {name} of the embedding went from {first:.4g} to {current:.4g}, below {limit:.4g}"


def embed_for_evaluation(encoder: torch.nn.Module, inputs: Tensors) -> Float32:
    """(m, d) embeddings of inputs (m, ...) as mining sees them; the encoder does not change.

    Evaluation mode, so that batch statistics are used and not updated, and no gradients.
    """
    with evaluating(encoder):
        vectors: Float32 = encoder(inputs).float().cpu().numpy()
    return vectors
