"""Configuration of the measurements during a round of training."""

from typing import Annotated

from pydantic import Field

from remine.data.config_table import Share, Unit, config_table


@config_table("health")
class HealthConfig:
    """Measurements during a round: how stale its triplets are, and whether the embedding collapses.

    The spread is the mean squared distance of two items; the effective rank is the number of
    dimensions in use. A round stops when at two measurements in a row, or at its end, one of them
    is below a limit.
    """

    every: Annotated[int, Field(ge=0, le=10_000_000)] = 50
    """Steps between two measurements; 0 switches them off."""
    sample: Annotated[int, Field(ge=16, le=8192)] = 256
    """Training items per measurement."""
    triplets: Annotated[int, Field(ge=16, le=65_536)] = 200
    """Triplets of the round per measurement."""

    min_spread: Annotated[float, Field(ge=0, le=4), Unit("squared Euclidean distance")] = 0.01
    """# When a round stops; 0 switches each off

    Smallest spread.
    """
    min_rank: Annotated[float, Field(ge=0, le=8192)] = 1.5
    """Smallest effective rank."""
    min_share: Share = 0.1
    """Smallest share of its value at the start of the round, for spread and rank alike."""
