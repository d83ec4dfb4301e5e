"""Measures a round while it trains, on a fixed sample of items and triplets.

The sample follows from the seed, so that a resumed round measures the same; nothing that is
measured touches the weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from remine.data import schemas
from remine.data.items.inputs import Inputs
from remine.data.types import KINDS, Float32, Int64, Triplets
from remine.train.monitor import health
from remine.train.monitor.config import HealthConfig
from remine.train.monitor.health import Reading, RoundStoppedError

GROUPS = 8
BATCH = 256


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What is measured: the items at `rows` (n,) of the inputs, and t of the round's triplets.

    margin: mining's, which tells semi-hard from easy. classes: how many are trained on. triplets:
    None where a round has none.
    """

    config: HealthConfig
    rows: Int64
    classes: int
    triplets: Triplets | None = None
    margin: float = 0.2

    def due(self, step: int, steps: int) -> bool:
        """Whether to measure after `step` of at most `steps` steps."""
        return step % self.config.every == 0 or step == steps

    def baseline(
        self, encoder: torch.nn.Module, inputs: Inputs, device: torch.device
    ) -> "Baseline":
        """Where the sample lies when the round begins."""
        return Baseline(self, encoder, inputs, device)


class Baseline:
    """A probe, and the sample's embeddings at the round's start, which all is compared with."""

    def __init__(
        self, probe: Probe, encoder: torch.nn.Module, inputs: Inputs, device: torch.device
    ) -> None:
        """Embed the sample with `encoder`, which must be as the round was given it."""
        self.probe, self._encoder, self._inputs, self._device = probe, encoder, inputs, device
        self._start = self._embed(probe.rows)
        self._near = health.nearest(self._start)

    def read(
        self, step: int, active: Sequence[float] = (), losses: Sequence[float] = ()
    ) -> Reading:
        """Measure now; active, losses: those of the steps since the last measurement."""
        now = self._embed(self.probe.rows)
        if not np.isfinite(now).all():
            raise RoundStoppedError(f"step {step}: the embeddings are not finite numbers")
        return Reading(
            step=step,
            stale=self._stale(),
            drift=health.drift(self._start, now),
            overlap=health.overlap(self._near, health.nearest(now)),
            spread=health.spread(now),
            effective_rank=health.effective_rank(now),
            active=float(np.mean(active)) if len(active) else None,
            loss=float(np.mean(losses)) if len(losses) else None,
        )

    def _stale(self) -> float | None:
        given = self.probe.triplets
        if given is None:
            return None
        vectors = self._embed(self._distinct[0])[self._distinct[1]]
        anchors, positives, negatives = vectors.reshape(3, len(given), -1)
        now = health.kinds(anchors, positives, negatives, self.probe.margin)
        return float((now != given.kind).mean())

    @cached_property
    def _distinct(self) -> tuple[Int64, Int64]:
        """The rows that the triplets name, each once, and where each of 3 t ids is among them."""
        given = self.probe.triplets
        assert given is not None
        rows = np.concatenate([given.anchor_id, given.positive_id, given.negative_id])
        return np.unique(rows, return_inverse=True)

    def _embed(self, rows: Int64) -> Float32:
        blocks = (rows[i : i + BATCH] for i in range(0, len(rows), BATCH))
        return np.concatenate(
            [
                health.in_use(self._encoder, torch.from_numpy(self._inputs[block]).to(self._device))
                for block in blocks
            ]
        )


def sample_rows(labels: Int64, size: int, seed: int) -> Int64:
    """(size,) rows, ascending, drawn from the items that are trained on (labels >= 0)."""
    rows = np.flatnonzero(labels >= 0)
    drawn = np.random.default_rng([seed, 1]).choice(rows, min(size, len(rows)), replace=False)
    return np.sort(drawn)


def sample_triplets(
    paths: Sequence[Path], wanted: Sequence[str], size: int, seed: int, ids: Int64
) -> Triplets | None:
    """Up to `size` triplets of the kinds `wanted` from the shards, with rows in place of ids.

    From 8 row groups (of 65,536 rows) drawn at random, so that a large set is not read for it; from
    all of them where there are no more. ids: (n,) int64 ascending. None where there is no triplet.
    """
    rng = np.random.default_rng([seed, 2])
    files = [pq.ParquetFile(path) for path in paths]
    groups = [(f, g) for f in files for g in range(f.metadata.num_row_groups)]
    drawn = sorted(rng.choice(len(groups), min(GROUPS, len(groups)), replace=False).tolist())
    parts = []
    for place in drawn:
        file, group = groups[place]
        part = schemas.triplets_from(file.read_row_group(group))
        parts.append(part.take(np.isin(part.kind, [KINDS.index(kind) for kind in wanted])))
    if not sum(map(len, parts)):
        return None
    found = Triplets.concatenate(parts)
    chosen = found.take(np.sort(rng.choice(len(found), min(size, len(found)), replace=False)))
    a, p, n = (
        np.searchsorted(ids, one)
        for one in (chosen.anchor_id, chosen.positive_id, chosen.negative_id)
    )
    return replace(chosen, anchor_id=a, positive_id=p, negative_id=n)
