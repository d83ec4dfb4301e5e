"""How well one distance tells "same class" from "another": ROC, EER, true accepts at false accepts.

Every pair of items counts, as a histogram of squared distances, so memory does not grow with the
pairs; a step of the histogram, 4 / BINS, is the resolution of every threshold.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from remine.data.types import Embeddings

BINS = 1 << 16
BLOCK = 16_000_000
RATES = (1e-3, 1e-2)


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """genuine, impostor: (BINS,) int64, pairs of one class and of two, by squared distance.

    Bin b holds distances in [4 b / BINS, 4 (b + 1) / BINS).
    """

    genuine: NDArray[np.int64]
    impostor: NDArray[np.int64]

    @property
    def far(self) -> NDArray[np.float64]:
        """(BINS,) false accept rate when pairs up to and with bin b are accepted."""
        return self.impostor.cumsum() / max(1, int(self.impostor.sum()))

    @property
    def tar(self) -> NDArray[np.float64]:
        """(BINS,) true accept rate, likewise."""
        return self.genuine.cumsum() / max(1, int(self.genuine.sum()))


def pair_distances(embeddings: Embeddings) -> Pairs:
    """Histograms over all n (n - 1) / 2 pairs of the items."""
    vectors = torch.from_numpy(embeddings.vectors)
    codes = torch.from_numpy(embeddings.label_codes)
    n = len(vectors)
    genuine, whole = np.zeros(BINS, np.int64), np.zeros(BINS, np.int64)
    step = max(1, BLOCK // max(1, n))
    for start in range(0, n, step):
        rows = torch.arange(start, min(start + step, n))
        bins = (2 - 2 * vectors[rows] @ vectors[start:].T).mul_(BINS / 4).int().clamp_(0, BINS - 1)
        later = torch.arange(start, n)[None] > rows[:, None]
        same = (codes[rows, None] == codes[None, start:]) & later
        genuine += np.bincount(bins[same].numpy(), minlength=BINS)
        whole += np.bincount(bins[later].numpy(), minlength=BINS)
    return Pairs(genuine=genuine, impostor=whole - genuine)


def equal_error_rate(pairs: Pairs) -> float:
    """Where the false accepts equal the false refusals; linear between two bins."""
    # Before the first bin nothing is accepted.
    false, missed = np.concatenate([[0], pairs.far]), np.concatenate([[1], 1 - pairs.tar])
    after = int(np.argmax(false >= missed))
    gap = missed - false
    share = gap[after - 1] / (gap[after - 1] - gap[after])
    return float(false[after - 1] + share * (false[after] - false[after - 1]))


def threshold_at(pairs: Pairs, rate: float) -> int:
    """The last bin that may be accepted with at most `rate` false accepts; -1 where none may."""
    return int(np.searchsorted(pairs.far, rate, side="right")) - 1


def verification_metrics(
    test: Pairs, val: Pairs, rates: Sequence[float] = RATES
) -> dict[str, float]:
    """The EER of test, and its TAR and FAR at the threshold that `val` gives for each rate.

    The threshold comes from val, as it would in use; far@ says how well the rate then holds on
    classes that it was not chosen on.
    """
    found = {"eer": equal_error_rate(test)}
    for rate in rates:
        chosen = threshold_at(val, rate)
        found[f"tar@far={rate:g}"] = float(test.tar[chosen]) if chosen >= 0 else 0.0
        found[f"far@far={rate:g}"] = float(test.far[chosen]) if chosen >= 0 else 0.0
    return found


def roc(pairs: Pairs, points: int = 120) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """False and true accept rates at `points` false accept rates, evenly in the logarithm."""
    far = pairs.far
    floor = 1 / max(1, int(pairs.impostor.sum()))
    rates = np.geomspace(max(floor, 1e-6), 1, points)
    chosen = np.searchsorted(far, rates, side="right") - 1
    return rates, np.where(chosen >= 0, pairs.tar[chosen], 0.0)
