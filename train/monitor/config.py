"""What the user says about measuring a round while it trains."""

from dataclasses import dataclass

from remine.data.errors import InputError


@dataclass(frozen=True, kw_only=True)
class HealthConfig:
    """Staleness and health, measured while a round trains; and when it has collapsed.

    every: steps between measurements, 0 for none. sample: training items, and triplets: triplets
    of the round, that each measurement embeds with the weights as they are.
    The round stops when at two measurements in a row, or at its end, the spread (mean squared
    distance of two items, 0 to 4) is below min_spread, or the effective rank (dimensions in use)
    below min_rank, or either of them below min_share of its value at the round's start.
    """

    every: int = 50
    sample: int = 256
    triplets: int = 200
    min_spread: float = 0.01
    min_rank: float = 1.5
    min_share: float = 0.1

    def __post_init__(self) -> None:
        for name, low, high in (
            ("every", 0, 10_000_000),
            ("sample", 16, 8192),
            ("triplets", 16, 65_536),
        ):
            if not low <= (value := getattr(self, name)) <= high:
                raise InputError(f"health.{name} is {value}; it must be {low} to {high}")
        for name, top in (("min_spread", 4.0), ("min_rank", 8192.0), ("min_share", 1.0)):
            if not 0 <= (value := getattr(self, name)) <= top:
                raise InputError(f"health.{name} is {value}; it must be 0 to {top:g}")
