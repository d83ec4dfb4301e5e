"""Measures a round while it trains, on a fixed sample of items and triplets.

The sample follows from the seed, so that a resumed round measures the same one. Measuring never
changes the weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from remine.data import schemas
from remine.data.items.inputs import Inputs
from remine.data.items.tensors import as_tensors
from remine.data.measures import mean_overlap, spread
from remine.data.types import KINDS, Float32, Int64, Triplets
from remine.train.batches.triplet_loader import row_groups
from remine.train.monitor import health
from remine.train.monitor.config import HealthConfig
from remine.train.monitor.health import Reading, RoundStoppedError

GROUPS = 8
"""Row groups that the sample of triplets is drawn from."""
BATCH = 256
"""Items embedded at a time."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """The sample: the items at `rows` (n,) of the inputs, and t triplets of the round.

    classes: number of training classes. triplets: with rows of the inputs in place of ids; None if
    the round has none. margin: of mining, a squared distance, between semi-hard and easy.
    """

    config: HealthConfig
    rows: Int64
    classes: int
    triplets: Triplets | None = None
    margin: float = 0.2

    def is_due(self, step: int, steps: int) -> bool:
        """Whether to measure after `step` of at most `steps` steps."""
        return step % self.config.every == 0 or step == steps

    def baseline(
        self, encoder: torch.nn.Module, inputs: Inputs, device: torch.device
    ) -> "Baseline":
        """Embed the sample at the start of the round."""
        return Baseline(self, encoder, inputs, device)


class Baseline:
    """A probe with the sample's embeddings at the round's start, for comparison."""

    def __init__(
        self, probe: Probe, encoder: torch.nn.Module, inputs: Inputs, device: torch.device
    ) -> None:
        """Embed the sample with `encoder`, whose weights must be those of the round's start."""
        self.probe, self._encoder, self._inputs, self._device = probe, encoder, inputs, device
        self._start = self._embed(probe.rows)
        self._start_neighbours = health.nearest_neighbours(self._start)

    def read(
        self, step: int, active: Sequence[float] = (), losses: Sequence[float] = ()
    ) -> Reading:
        """Measure the encoder as it is.

        Args:
            step: number of steps so far.
            active: active fractions of the steps since the last measurement.
            losses: losses of the same steps.

        Raises:
            RoundStoppedError: the embeddings are not finite.

        """
        vectors = self._embed(self.probe.rows)
        if not np.isfinite(vectors).all():
            raise RoundStoppedError(f"step {step}: the embeddings are not finite numbers")
        return Reading(
            step=step,
            stale=self._stale(),
            drift=health.drift(self._start, vectors),
            overlap=mean_overlap(self._start_neighbours, health.nearest_neighbours(vectors)),
            spread=spread(vectors),
            effective_rank=health.effective_rank(vectors),
            active=float(np.mean(active)) if len(active) else None,
            loss=float(np.mean(losses)) if len(losses) else None,
        )

    def _stale(self) -> float | None:
        """Share of the sampled triplets whose kind has changed."""
        triplets = self.probe.triplets
        if triplets is None:
            return None
        rows, places = self._triplet_rows
        vectors = self._embed(rows)[places]
        anchors, positives, negatives = vectors.reshape(3, len(triplets), -1)
        kinds = health.kinds(anchors, positives, negatives, self.probe.margin)
        return float((kinds != triplets.kind).mean())

    @cached_property
    def _triplet_rows(self) -> tuple[Int64, Int64]:
        """Distinct rows in the triplets, and the place (3 t,) among them of each triplet's rows."""
        triplets = self.probe.triplets
        assert triplets is not None
        rows = np.concatenate([triplets.anchor_id, triplets.positive_id, triplets.negative_id])
        # Triplets share many rows, and embedding is the expensive part.
        return np.unique(rows, return_inverse=True)

    def _embed(self, rows: Int64) -> Float32:
        return embed_sample(self._encoder, self._inputs, rows, self._device)


def embed_sample(
    encoder: torch.nn.Module, inputs: Inputs, rows: Int64, device: torch.device
) -> Float32:
    """(r, d) embeddings of some rows (r,) of the inputs as mining sees them, block by block."""
    blocks = (rows[i : i + BATCH] for i in range(0, len(rows), BATCH))
    block_inputs = (as_tensors(inputs[block], device) for block in blocks)
    return np.concatenate([health.embed_for_evaluation(encoder, block) for block in block_inputs])


def sample_rows(labels: Int64, size: int, seed: int) -> Int64:
    """Draw up to `size` rows, ascending, from the items that are trained on (labels >= 0)."""
    rows = np.flatnonzero(labels >= 0)
    sample = np.random.default_rng([seed, 1]).choice(rows, min(size, len(rows)), replace=False)
    return np.sort(sample)


def sample_triplets(
    paths: Sequence[Path], kinds: Sequence[str], size: int, seed: int, ids: Int64
) -> Triplets | None:
    """Draw up to `size` triplets of `kinds` from the shards, with rows in place of ids.

    At most 8 random row groups (of 65,536 rows) are read, so that the cost does not grow with the
    number of triplets.

    Args:
        paths: Parquet shards of triplets.
        kinds: names of the kinds to draw from.
        size: number of triplets.
        seed: of the draw.
        ids: (n,) int64 ascending, the id of each row of the inputs.

    Returns:
        The triplets, or None if there is none of these kinds.

    """
    rng = np.random.default_rng([seed, 2])
    groups = row_groups(paths)
    places = sorted(rng.choice(len(groups), min(GROUPS, len(groups)), replace=False).tolist())
    codes = [KINDS.index(kind) for kind in kinds]
    parts = []
    for file, group in (groups[place] for place in places):
        part = schemas.triplets_from(file.read_row_group(group))
        parts.append(part.take(np.isin(part.kind, codes)))
    if not sum(map(len, parts)):
        return None
    pool = Triplets.concatenate(parts)
    sample = pool.take(np.sort(rng.choice(len(pool), min(size, len(pool)), replace=False)))
    a, p, n = (
        np.searchsorted(ids, column)
        for column in (sample.anchor_id, sample.positive_id, sample.negative_id)
    )
    return replace(sample, anchor_id=a, positive_id=p, negative_id=n)
