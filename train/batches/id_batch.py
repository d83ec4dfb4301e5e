"""From a stream of ids to rows that pass through the encoder together, and their parts."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from remine.data.types import Int64
from remine.train.batches.pk_sampler import PKSampler
from remine.train.batches.triplet_loader import TripletLoader


@dataclass(frozen=True, kw_only=True)
class Picked:
    """One batch: (m,) rows of the inputs; (3, t) triplets and (t,) partners number these rows."""

    rows: Int64
    triplets: Tensor | None = None
    partners: Tensor | None = None


def picked(loader: TripletLoader | PKSampler, ids: Int64, start: int) -> Iterator[Picked]:
    """The batches of `loader` from number `start` on; ids: (n,) int64 ascending."""
    for batch in loader.batches(start):
        if isinstance(loader, PKSampler):
            yield Picked(rows=batch)
        else:
            yield _triplets(batch, ids)


def _triplets(batch: Int64, ids: Int64) -> Picked:
    """Of (3, t) ids, or (4, t) with partners: anchors, then positives, negatives, partners."""
    t = batch.shape[1]
    rows = np.searchsorted(ids, batch[:3].reshape(-1))
    triplets = torch.arange(3 * t).view(3, t)
    if len(batch) == 3:
        return Picked(rows=rows, triplets=triplets)
    # A negative without a partner stands for itself, and nothing more is embedded for it.
    has = batch[3] >= 0
    partners = np.where(has, 3 * t - 1 + np.cumsum(has), np.arange(2 * t, 3 * t))
    rows = np.concatenate([rows, np.searchsorted(ids, batch[3][has])])
    return Picked(rows=rows, triplets=triplets, partners=torch.from_numpy(partners))
