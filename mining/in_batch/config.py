"""Configuration of mining inside a batch."""

from typing import Literal, get_args

from remine.data.config_table import UnsquaredDistance, config_table
from remine.data.errors import InputError

Miner = Literal["batch_all", "batch_hard", "semi_hard", "distance_weighted", "random"]
MINERS: tuple[Miner, ...] = get_args(Miner)


@config_table("online")
class OnlineConfig:
    """Settings of the miners that select triplets inside a batch; see train.miner."""

    fallback: Literal["skip", "farthest", "random"] = "skip"
    """Of the miner "semi_hard": what a pair without a semi-hard negative gets.
    skip: nothing, so that the batch has fewer triplets
    farthest: the farthest negative (as in TensorFlow Addons)
    random: a random negative (Roth et al. 2020)
    """
    nearest: UnsquaredDistance = 0.5
    """Of the miner "distance_weighted": nearer negatives weigh as much as one at this distance."""
    farthest: UnsquaredDistance = 1.4
    """Of the miner "distance_weighted": negatives at this distance or beyond are not selected."""

    def __post_init__(self) -> None:
        if self.nearest >= self.farthest:
            raise InputError(
                f"online.nearest is {self.nearest} and online.farthest {self.farthest}; the first"
                " must be smaller"
            )
