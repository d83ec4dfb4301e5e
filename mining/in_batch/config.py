"""What the user says about mining inside a batch."""

from dataclasses import dataclass

from remine.data.errors import InputError

MINERS = {
    "batch_all": "every valid triplet or pair; a triplet loss takes the mean over active ones",
    "batch_hard": "per anchor the farthest positive and the nearest negative",
    "semi_hard": "per pair the nearest negative beyond the positive and within the margin",
    "distance_weighted": "per pair a negative drawn by the inverse density of its distance",
    "random": "per pair any negative",
}
FALLBACKS = ("skip", "farthest", "random")


@dataclass(frozen=True, kw_only=True)
class OnlineConfig:
    """How train.miner picks triplets inside a batch.

    fallback: of "semi_hard", for a pair with no negative in its window: "skip" it (and see fewer
    triplets), take the "farthest" negative (TensorFlow Addons) or a "random" one (Roth et al.).
    nearest, farthest: of "distance_weighted", unsquared distances, 0 to 2: nearer negatives weigh
    as much as one at `nearest`, those at `farthest` or beyond nothing.
    """

    fallback: str = "skip"
    nearest: float = 0.5
    farthest: float = 1.4

    def __post_init__(self) -> None:
        if self.fallback not in FALLBACKS:
            raise InputError(f"online.fallback is {self.fallback!r}; known: {', '.join(FALLBACKS)}")
        if not 0 < self.nearest < self.farthest <= 2:
            raise InputError(
                f"online.nearest is {self.nearest} and online.farthest {self.farthest}; they are"
                " unsquared distances, 0 to 2, the first the smaller"
            )
