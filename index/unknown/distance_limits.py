"""Limits on the distance of the nearest item, by the wished rate of false alarms.

A false alarm is a query of a known class that is rejected. If val queries are like the later ones,
the k-th smallest of n distances with k = ceil((n + 1)(1 - rate)) rejects no more than the rate of
them, for every distribution of distances (split conformal prediction: Vovk et al. 2005, Lei et al.
2018). Below 1 / (n + 1) there is no such limit: nothing can be promised.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from remine.data.errors import InputError, StoreError
from remine.data.types import Float32

RATES = (
    *(0.001, 0.002, 0.003, 0.005, 0.007, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08),
    *(0.1, 0.125, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
)
"""Rates of false alarms whose limits are stored; between two of them a limit is interpolated."""


@dataclass(frozen=True, kw_only=True)
class DistanceLimits:
    """Squared distances beyond which a query is unknown.

    Attributes:
        queries: Number of val queries that they were measured on.
        rates: Rates of false alarms, ascending, each within (0, 1).
        distances: The limit for each rate, descending.
    """

    queries: int
    rates: tuple[float, ...]
    distances: tuple[float, ...]

    @classmethod
    def measured(cls, distances: Float32) -> Self | None:
        """The limits that squared distances (n,) of known queries give; None of too few."""
        n, ascending = len(distances), np.sort(distances)
        places = [math.ceil((n + 1) * (1 - rate)) for rate in RATES]
        pairs = [
            (rate, float(ascending[place - 1]))
            for rate, place in zip(RATES, places, strict=True)
            if 1 <= place <= n
        ]
        if not pairs:
            return None
        rates, limits = zip(*pairs, strict=True)
        return cls(queries=n, rates=rates, distances=limits)

    def at(self, rate: float) -> float:
        """The limit for a rate of false alarms.

        Raises:
            InputError: No limit can be given for this rate.
        """
        if not 0 < rate < 1:
            raise InputError(f"reject is {rate}; give a rate of false alarms above 0 and below 1")
        if rate < self.rates[0]:
            raise InputError(
                f"reject is {rate}; {self.queries:,} val items allow rates of false alarms from"
                f" {self.rates[0]:g}"
            )
        return float(np.interp(rate, self.rates, self.distances))

    def to_json(self) -> dict[str, Any]:
        """As stored in a card."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The limits that `to_json` wrote.

        Raises:
            StoreError: The value has another shape.
        """
        try:
            rates, distances = (tuple(map(float, value[k])) for k in ("rates", "distances"))
            return cls(queries=int(value["queries"]), rates=rates, distances=distances)
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(
                f"limits of distances are not of this store's shape: {error}"
            ) from None
