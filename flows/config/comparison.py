"""Configuration of `remine compare`."""

from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import Field

from remine.data.config_table import config_table


@config_table("compare")
class CompareConfig:
    """A comparison of arms (ways to select what is trained on) at equal budget, over several seeds.

    All arms of a seed start from the same weights.
    """

    budget: Literal["steps", "forwards", "seconds"] = "steps"
    """What is equal for all arms.
    steps: optimizer steps
    forwards: items that pass through the encoder, including those embedded for mining
    seconds: wall-clock time, including embedding and mining
    """
    amount: Annotated[int, Field(ge=1, le=10**12)] = 600
    """Size of the budget, in its unit."""
    items: Annotated[int, Field(ge=6, le=65_536)] = 96
    """Items per step of every arm, three per triplet. It replaces train.batch."""
    evaluate_every: Annotated[int, Field(ge=1, le=10_000_000)] = 100
    """Steps between evaluations on the validation and test splits."""
    seeds: Annotated[int, Field(ge=1, le=100)] = 3
    """Number of seeds."""
    select: Literal["recall@1", "map@r", "r_precision"] = "map@r"
    """Metric on the validation split that selects checkpoints and arms."""
    arms: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The arms: a table per arm, [compare.arms.NAME.train], .mining or .online, with the settings
    that it changes. An arm's train.steps are its steps between two minings. Empty for nine standard
    arms.
    """
