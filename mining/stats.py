"""What a mined set looks like, in counts that add up over blocks."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass(frozen=True, kw_only=True)
class MiningStats:
    """Counts over anchors and pairs.

    singletons: anchors with no other item of their class. pairs: (anchor, positive) pairs asked.
    answered: per kind, the pairs that got a triplet; for all others no such negative exists in
    the whole gallery.
    """

    anchors: int = 0
    singletons: int = 0
    pairs: int = 0
    answered: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: Self) -> Self:
        """The counts of both."""
        answered = Counter(self.answered)
        answered.update(other.answered)
        return type(self)(
            anchors=self.anchors + other.anchors,
            singletons=self.singletons + other.singletons,
            pairs=self.pairs + other.pairs,
            answered=dict(answered),
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, with the pairs for which none exists."""
        none = {kind: self.pairs - count for kind, count in sorted(self.answered.items())}
        return {
            "anchors": self.anchors,
            "singletons": self.singletons,
            "pairs": self.pairs,
            "answered": dict(sorted(self.answered.items())),
            "none_exists": none,
        }
