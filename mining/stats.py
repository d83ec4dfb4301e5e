"""What a mined set looks like, in counts that add up over blocks."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

COUNTED = ("kinds", "answered", "none_exists", "not_found")


@dataclass(frozen=True, kw_only=True)
class MiningStats:
    """Counts over anchors and pairs; `kinds` is by kind of triplet, the later mappings by strategy.

    singletons: anchors with no positive. pairs: (anchor, positive) pairs asked. answered: negatives
    found, at most per_pair a pair. none_exists: negatives missing because the whole gallery holds
    no further one. not_found: missing within the lists that a search was cut short to. capped:
    triplets left out because their negative had served often enough.
    """

    anchors: int = 0
    singletons: int = 0
    pairs: int = 0
    capped: int = 0
    kinds: Mapping[str, int] = field(default_factory=dict)
    answered: Mapping[str, int] = field(default_factory=dict)
    none_exists: Mapping[str, int] = field(default_factory=dict)
    not_found: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: Self) -> Self:
        """The counts of both."""
        both = {name: _sum(getattr(self, name), getattr(other, name)) for name in COUNTED}
        return type(self)(
            anchors=self.anchors + other.anchors,
            singletons=self.singletons + other.singletons,
            pairs=self.pairs + other.pairs,
            capped=self.capped + other.capped,
            **both,
        )

    @property
    def triplets(self) -> int:
        """Negatives found, before any cap."""
        return sum(self.answered.values())

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


def _sum(some: Mapping[str, int], others: Mapping[str, int]) -> dict[str, int]:
    return {k: some.get(k, 0) + others.get(k, 0) for k in sorted({*some, *others})}
