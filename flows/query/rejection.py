"""Queries that are rejected as unknown: the limit of a version, and what is said of it."""

from dataclasses import dataclass
from typing import Self

from remine.data.errors import InputError
from remine.data.store.records import Version
from remine.flows.query.snapshot import Answers, Filter
from remine.index.unknown.distance_limits import DistanceLimits


@dataclass(frozen=True, kw_only=True)
class Rejection:
    """A wished rate of false alarms and the squared distance beyond which a query is unknown.

    A false alarm is a query of a known class that is rejected.
    """

    rate: float
    limit: float

    @classmethod
    def of(cls, version: Version, rate: float) -> Self:
        """The limit that was set when a version was evaluated.

        Args:
            version: The version.
            rate: The wished rate of false alarms, above 0 and below 1.

        Raises:
            InputError: The rate is out of range, or the version has no limit for it.
        """
        return cls(rate=rate, limit=_limits(version).at(rate))

    def line(self, unknown: int, queries: int, item_filter: Filter) -> str:
        """What was rejected, in one line of text."""
        limit = f"limit {self.limit:.4f} for {self.rate:g} false alarms"
        text = f"{unknown:,} of {queries:,} queries are unknown ({limit})"
        if item_filter == Filter():
            return text
        return f"{text}; it was set for searches among all items: filters make more unknown"

    def heading(self, answers: Answers, place: int) -> str:
        """A line above the neighbours of query `place` if it is unknown; else empty."""
        if not answers.unknown(self.limit)[place]:
            return ""
        distance = answers.distances[place, 0]
        return f"unknown: the nearest item is at {distance:.4f}, beyond the limit {self.limit:.4f}"


def _limits(version: Version) -> DistanceLimits:
    metrics = version.artifacts.get(f"metrics/round={version.round}")
    card = metrics.card.get("rejection") if metrics else None
    if card is None:
        raise InputError(
            f"reject: version {version.number} has no limits, because an older remine made it;"
            " `remine run` publishes one that has"
        )
    if "limits" not in card:
        raise InputError(
            f"reject: version {version.number} has no limits: they are set on val items whose class"
            " has others, and there are none; set data.val_share or data.val_from_train"
        )
    return DistanceLimits.from_json(card["limits"])
