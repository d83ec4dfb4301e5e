"""What the user says about a comparison."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from remine.data.errors import InputError

BUDGETS = ("steps", "forwards", "seconds")
SELECT = ("recall@1", "map@r", "r_precision")


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """Arms (ways to choose what is trained on) at equal budget, over several seeds.

    budget: what each arm gets `amount` of: "steps" of the optimizer, "forwards" (items that pass
    through the encoder, those embedded for mining too) or "seconds" (embedding and mining too).
    items: items in a step of every arm, three to a triplet; it takes the place of train.batch.
    evaluate_every: steps between evaluations on val and test. seeds: how many; each starts all
    arms from the same weights. select: what of val chooses checkpoints and arms.
    arms: by name, tables of what each changes of [train], [mining] and [online]; train.steps are
    its steps between two minings. Leave out for the standard arms.
    """

    budget: str = "steps"
    amount: int = 600
    items: int = 96
    evaluate_every: int = 100
    seeds: int = 3
    select: str = "map@r"
    arms: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.budget not in BUDGETS:
            raise InputError(f"compare.budget is {self.budget!r}; known: {', '.join(BUDGETS)}")
        for name, low, high in (
            ("amount", 1, 10**12),
            ("items", 6, 65_536),
            ("evaluate_every", 1, 10_000_000),
            ("seeds", 1, 100),
        ):
            if not low <= (value := getattr(self, name)) <= high:
                raise InputError(f"compare.{name} is {value}; it must be {low} to {high}")
        if self.select not in SELECT:
            raise InputError(f"compare.select is {self.select!r}; known: {', '.join(SELECT)}")
