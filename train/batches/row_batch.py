"""Batches as rows of the inputs: what passes through the encoder together."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from remine.data.types import Int64
from remine.train.batches.pk_sampler import PKSampler
from remine.train.batches.triplet_loader import TripletLoader


@dataclass(frozen=True, kw_only=True)
class RowBatch:
    """One batch.

    rows: (m,) rows of the inputs. triplets: (3, t), and partners: (t,), places within `rows`.
    """

    rows: Int64
    triplets: Tensor | None = None
    partners: Tensor | None = None


def row_batches(loader: TripletLoader | PKSampler, ids: Int64, start: int) -> Iterator[RowBatch]:
    """Yield the batches of `loader` from number `start` on.

    Args:
        loader: mined triplets (ids) or PK batches (rows).
        ids: (n,) int64 ascending, the id of each row of the inputs.
        start: number of the first batch.

    """
    for batch in loader.batches(start):
        if isinstance(loader, PKSampler):
            yield RowBatch(rows=batch)
        else:
            yield _triplet_batch(batch, ids)


def _triplet_batch(batch: Int64, ids: Int64) -> RowBatch:
    """The rows of (3, t) ids, or (4, t) with partners: anchors, positives, negatives, partners."""
    t = batch.shape[1]
    rows = np.searchsorted(ids, batch[:3].reshape(-1))
    triplets = torch.arange(3 * t).view(3, t)
    if len(batch) == 3:
        return RowBatch(rows=rows, triplets=triplets)
    # A negative without a partner is its own partner, so no further row is embedded for it.
    has_partner = batch[3] >= 0
    partner_places = 3 * t - 1 + np.cumsum(has_partner)
    partners = np.where(has_partner, partner_places, np.arange(2 * t, 3 * t))
    rows = np.concatenate([rows, np.searchsorted(ids, batch[3][has_partner])])
    return RowBatch(rows=rows, triplets=triplets, partners=torch.from_numpy(partners))
