"""What the user says about mining."""

from dataclasses import dataclass

from data.errors import InputError


@dataclass(frozen=True, kw_only=True)
class MiningConfig:
    """Which triplets to mine.

    kinds: "hard" (the nearest negative of all, where it is no farther than the positive) and
    "semi_hard" (the nearest negative farther than the positive and within `margin` of it), one
    triplet of each kind per pair, where such a negative exists. margin: squared distance.
    max_positives: pairs per anchor at most, chosen by hash; 0 for all. unit_anchors: anchors in a
    shard, the unit of work.
    """

    kinds: tuple[str, ...] = ("semi_hard", "hard")
    margin: float = 0.2
    max_positives: int = 8
    unit_anchors: int = 8192

    def __post_init__(self) -> None:
        if not self.kinds or not set(self.kinds) <= {"hard", "semi_hard"}:
            raise InputError(f"mining.kinds is {list(self.kinds)}; known: hard, semi_hard")
        if len(set(self.kinds)) < len(self.kinds):
            raise InputError(f"mining.kinds is {list(self.kinds)}; each kind is named once")
        if not 0 < self.margin <= 4:
            raise InputError(
                f"mining.margin is {self.margin}; it is a squared distance, above 0 and up to 4"
            )
        if self.max_positives < 0:
            raise InputError(f"mining.max_positives is {self.max_positives}; it must be 0 or more")
        if not 64 <= self.unit_anchors <= 1_000_000:
            raise InputError(
                f"mining.unit_anchors is {self.unit_anchors}; it must be 64 to 1000000"
            )
