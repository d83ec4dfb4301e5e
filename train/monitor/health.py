"""How stale a round's triplets are, and whether its embedding is still one: the measures."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from remine.data.errors import StoreError
from remine.data.types import EASY, HARD, SEMI_HARD, Float32, Int8
from remine.train.monitor.config import HealthConfig

DEPTH = 10


class RoundStoppedError(StoreError):
    """The round cannot go on: the embedding collapsed, or the loss is no number.

    history: the round's until then, as plain values; set where the round is run.
    """

    history: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One measurement, after `step` steps of the round.

    stale: the share of sampled triplets of another kind than when they were mined; None where the
    round has no triplets. drift: mean squared distance of the sampled items to where they were at
    the round's start. overlap: the share of each one's 10 nearest of the sample that were so at the
    round's start. spread, effective_rank: of the sample now. active, loss: means of the steps since
    the last measurement; None before the first step.
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
    """(t,) codes into KINDS of triplets of (t, d) unit vectors, as mining names them."""
    d_ap = np.square(anchors - positives, dtype=np.float64).sum(axis=1)
    d_an = np.square(anchors - negatives, dtype=np.float64).sum(axis=1)
    far = np.where(d_an < d_ap + margin, SEMI_HARD, EASY)
    return np.where(d_an <= d_ap, HARD, far).astype(np.int8)


def drift(before: Float32, after: Float32) -> float:
    """Mean squared distance of (n, d) unit vectors to where they were, 0 to 4."""
    return float(np.square(after - before, dtype=np.float64).sum(axis=1).mean())


def nearest(vectors: Float32, depth: int = DEPTH) -> np.ndarray:
    """(n, k) rows of the k nearest others of each of (n, d) vectors; of equals the first rows."""
    wide = vectors.astype(np.float64)
    scores = wide @ wide.T
    np.fill_diagonal(scores, -np.inf)
    return np.argsort(-scores, axis=1, kind="stable")[:, : min(depth, len(vectors) - 1)]


def overlap(before: np.ndarray, after: np.ndarray) -> float:
    """The mean share of the entries of each row of `after` (n, k) that its row of `before` has."""
    return float((before[:, :, None] == after[:, None, :]).any(axis=1).mean())


def spread(vectors: Float32) -> float:
    """Mean squared distance of two different ones of (n, d) unit vectors, 0 to 4."""
    n = len(vectors)
    mean = vectors.mean(axis=0, dtype=np.float64)
    return float(2 * (1 - np.square(mean).sum()) * n / max(1, n - 1))


def effective_rank(vectors: Float32) -> float:
    """How many dimensions (n, d) vectors use: exp of the entropy of their covariance's spectrum.

    Roy & Vetterli 2007, "The effective rank", definition 1, of the covariance matrix, whose
    singular values are its eigenvalues. 1 to min(n - 1, d); 0 where all vectors are the same.
    """
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    values = np.square(np.linalg.svd(centred, compute_uv=False))
    total = values.sum()
    if total < 1e-12 * len(vectors):
        return 0.0
    shares = values[values > 0] / total
    return float(np.exp(-(shares * np.log(shares)).sum()))


def collapsed(first: Reading, now: Reading, config: HealthConfig, classes: int) -> str:
    """Why the embedding of `now` counts as collapsed, compared with the round's first; or "".

    c classes that are told apart perfectly use c - 1 dimensions: a rank above half of that is
    never a collapse.
    """
    low = max(config.min_spread, config.min_share * first.spread)
    if now.spread < low:
        return _fell("spread", first.spread, now.spread, low)
    rank = max(config.min_rank, config.min_share * first.effective_rank)
    rank = min(rank, (classes - 1) / 2)
    if now.effective_rank < rank:
        return _fell("effective rank", first.effective_rank, now.effective_rank, rank)
    return ""


def _fell(name: str, first: float, now: float, low: float) -> str:
    return f"the {name} of the embedding went from {first:.4g} to {now:.4g}, below {low:.4g}"


def in_use(encoder: torch.nn.Module, inputs: Tensor) -> Float32:
    """(m, d) embeddings of inputs as mining would see them; the encoder stays as it was.

    In evaluation mode, so that batch statistics are read and not moved, and without gradients.
    """
    was = encoder.training
    encoder.eval()
    with torch.no_grad():
        vectors: Float32 = encoder(inputs).float().cpu().numpy()
    encoder.train(was)
    return vectors
