"""How well a distance tells same-class pairs from others: ROC, EER, true accepts at false accepts.

All pairs of items count. They are stored as histograms of squared distances, so memory does not
grow with the pairs; a bin of the histogram, 4 / BINS, is the resolution of every threshold.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from remine.data.types import Embeddings

BINS = 1 << 16
BLOCK = 16_000_000  # pairs compared at a time
RATES = (1e-3, 1e-2)  # false accept rates


@dataclass(frozen=True, kw_only=True)
class PairHistograms:
    """Histograms of squared distances. Bin b holds distances in [4 b / BINS, 4 (b + 1) / BINS).

    Attributes:
        genuine: (BINS,) int64, pairs of the same class.
        impostor: (BINS,) int64, pairs of different classes.
    """

    genuine: NDArray[np.int64]
    impostor: NDArray[np.int64]

    @property
    def false_accept_rates(self) -> NDArray[np.float64]:
        """(BINS,) false accept rate (FAR) if pairs up to and including bin b are accepted."""
        return self.impostor.cumsum() / max(1, int(self.impostor.sum()))

    @property
    def true_accept_rates(self) -> NDArray[np.float64]:
        """(BINS,) true accept rate (TAR) if pairs up to and including bin b are accepted."""
        return self.genuine.cumsum() / max(1, int(self.genuine.sum()))


def pair_distances(embeddings: Embeddings) -> PairHistograms:
    """The histograms of all n (n - 1) / 2 pairs of items."""
    vectors = torch.from_numpy(embeddings.vectors)
    codes = torch.from_numpy(embeddings.label_codes)
    n = len(vectors)
    genuine, all_pairs = np.zeros(BINS, np.int64), np.zeros(BINS, np.int64)
    step = max(1, BLOCK // max(1, n))
    for start in range(0, n, step):
        rows = torch.arange(start, min(start + step, n))
        bins = (2 - 2 * vectors[rows] @ vectors[start:].T).mul_(BINS / 4).int().clamp_(0, BINS - 1)
        is_pair = torch.arange(start, n)[None] > rows[:, None]
        is_genuine = (codes[rows, None] == codes[None, start:]) & is_pair
        genuine += np.bincount(bins[is_genuine].numpy(), minlength=BINS)
        all_pairs += np.bincount(bins[is_pair].numpy(), minlength=BINS)
    return PairHistograms(genuine=genuine, impostor=all_pairs - genuine)


def equal_error_rate(pairs: PairHistograms) -> float:
    """The rate at which false accepts equal false rejects, linear between two bins."""
    # Starting from the threshold below the first bin, which accepts nothing.
    false_accepts, false_rejects = (
        np.concatenate([[0], pairs.false_accept_rates]),
        np.concatenate([[1], 1 - pairs.true_accept_rates]),
    )
    after = int(np.argmax(false_accepts >= false_rejects))
    gap = false_rejects - false_accepts
    share = gap[after - 1] / (gap[after - 1] - gap[after])
    return float(
        false_accepts[after - 1] + share * (false_accepts[after] - false_accepts[after - 1])
    )


def threshold_at(pairs: PairHistograms, rate: float) -> int:
    """The last bin that can be accepted with at most `rate` false accepts; -1 if none can."""
    return int(np.searchsorted(pairs.false_accept_rates, rate, side="right")) - 1


def verification_metrics(
    test: PairHistograms, val: PairHistograms, rates: Sequence[float] = RATES
) -> dict[str, float]:
    """The EER of `test`, and its TAR and FAR at the threshold that `val` gives for each rate.

    The threshold comes from val, as it would in use; far@ shows how well the rate holds on classes
    on which the threshold was not chosen.
    """
    metrics = {"eer": equal_error_rate(test)}
    for rate in rates:
        threshold = threshold_at(val, rate)
        metrics[f"tar@far={rate:g}"] = (
            float(test.true_accept_rates[threshold]) if threshold >= 0 else 0.0
        )
        metrics[f"far@far={rate:g}"] = (
            float(test.false_accept_rates[threshold]) if threshold >= 0 else 0.0
        )
    return metrics


def roc(
    pairs: PairHistograms, points: int = 120
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """False and true accept rates at `points` false accept rates, evenly in the logarithm."""
    false_accept_rates = pairs.false_accept_rates
    floor = 1 / max(1, int(pairs.impostor.sum()))
    rates = np.geomspace(max(floor, 1e-6), 1, points)
    bins = np.searchsorted(false_accept_rates, rates, side="right") - 1
    return rates, np.where(bins >= 0, pairs.true_accept_rates[bins], 0.0)
