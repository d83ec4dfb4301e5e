"""Validation while a round trains: a fixed sample of items of the split val, embedded and scored.

The score is passed in, since training knows no index: the higher the better. Validating never
changes the weights.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from remine.data.items.inputs import Inputs
from remine.data.types import Float32, Int64
from remine.train.monitor.health import RoundStoppedError
from remine.train.monitor.probe import embed_sample

LEAST_ITEMS = 4
"""Items of a class in the sample, where it has so many."""


@dataclass(frozen=True, kw_only=True)
class Validation:
    """The items at `rows` (v,) of the inputs.

    every: steps between two validations. score: from their embeddings (v, d), in the order of the
    rows, to a number.
    """

    rows: Int64
    every: int
    score: Callable[[Float32], float]

    def is_due(self, step: int, steps: int) -> bool:
        """Whether to validate after `step` of at most `steps` steps."""
        return step % self.every == 0 or step == steps

    def measure(self, encoder: torch.nn.Module, inputs: Inputs, device: torch.device) -> float:
        """The score of the encoder as it is.

        Raises:
            RoundStoppedError: the embeddings are not finite.

        """
        vectors = embed_sample(encoder, inputs, self.rows, device)
        if not np.isfinite(vectors).all():
            raise RoundStoppedError("in validation the embeddings are not finite numbers")
        return self.score(vectors)


def class_sample(labels: Int64, size: int, seed: int) -> Int64:
    """Rows, ascending, of up to `size` items: as many classes as possible, about equally often.

    Retrieval is the harder the more classes there are, so that a few whole classes would say little
    of all. At least four items of a class are taken where it has them, since of two or three a rank
    is nearly all or nothing; classes of one item have no pair.

    Args:
        labels: (n,) int64 class numbers; -1 for items that are not of the split.
        size: Items at most, 2 or more.
        seed: Of the draws.
    """
    rng = np.random.default_rng([seed, 3])
    counts = np.bincount(labels[labels >= 0], minlength=1)
    classes = rng.permutation(np.flatnonzero(counts >= 2))
    share = max(min(LEAST_ITEMS, size), size // max(1, len(classes)))
    draws = (
        rng.permutation(np.flatnonzero(labels == label))[:share]
        for label in classes[: size // share]
    )
    return np.sort(np.concatenate([np.empty(0, np.int64), *draws]))
