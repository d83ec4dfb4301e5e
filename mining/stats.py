"""Counts that describe a set of mined triplets and add up over blocks of anchors."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

MAPPINGS = ("kinds", "answered", "none_exists", "not_found")


@dataclass(frozen=True, kw_only=True)
class MiningStats:
    """Counts over anchors and pairs; the field names are the keys of the card.

    Attributes:
        anchors: Anchors mined.
        singletons: Anchors without a positive.
        pairs: (anchor, positive) pairs for which negatives were searched.
        capped: Triplets removed by the hub cap.
        positive_copies: Triplets whose negative has exactly the vector of the positive, before the
            hub cap.
        kinds: Triplets by kind.
        answered: Negatives found by strategy, at most per_pair for each pair.
        none_exists: By strategy the negatives missing because the whole gallery holds no more.
        not_found: By strategy the negatives missing from an approximate search; they may exist.
    """

    anchors: int = 0
    singletons: int = 0
    pairs: int = 0
    capped: int = 0
    positive_copies: int = 0
    kinds: Mapping[str, int] = field(default_factory=dict)
    answered: Mapping[str, int] = field(default_factory=dict)
    none_exists: Mapping[str, int] = field(default_factory=dict)
    not_found: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, block_stats: Self) -> Self:
        """The sums of all counts."""
        sums = {name: _sum(getattr(self, name), getattr(block_stats, name)) for name in MAPPINGS}
        return type(self)(
            anchors=self.anchors + block_stats.anchors,
            singletons=self.singletons + block_stats.singletons,
            pairs=self.pairs + block_stats.pairs,
            capped=self.capped + block_stats.capped,
            positive_copies=self.positive_copies + block_stats.positive_copies,
            **sums,
        )

    def after_cap(self, remaining: int) -> Self:
        """The counts after a hub cap that left `remaining` triplets."""
        return replace(self, capped=self.triplets - remaining)

    @property
    def triplets(self) -> int:
        """The number of negatives found, before the hub cap."""
        return sum(self.answered.values())

    def copies_line(self) -> str:
        """One line for people about copies of positives, empty if there are none."""
        if not self.positive_copies:
            return ""
        return (
            f"{self.positive_copies:,} of {self.triplets:,} negatives have exactly the vector of"
            " the positive, so the same item is there under two ids:"
            " mining.positive_duplicate = 1e-6 passes over such copies"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


def _sum(first: Mapping[str, int], second: Mapping[str, int]) -> dict[str, int]:
    return {k: first.get(k, 0) + second.get(k, 0) for k in sorted({*first, *second})}
