"""The learning rate of each step of a round."""

import math
from collections.abc import Sequence

import torch

from remine.train.recipe import Recipe


def rate_share(recipe: Recipe, step: int) -> float:
    """The rate at `step`, 1 to recipe.steps, as a share of the highest one, above 0 to 1.

    It rises in equal parts over the warm-up, the first of them above 0; after it the first step has
    the highest rate. No step has a rate of 0, since it would be one that trains nothing.
    """
    warmup = recipe.warmup_steps
    if step <= warmup:
        return step / (warmup + 1)
    remaining = (recipe.steps - step + 1) / (recipe.steps - warmup)
    if recipe.schedule == "linear":
        return remaining
    if recipe.schedule == "cosine":
        return (1 - math.cos(math.pi * remaining)) / 2
    return 1.0


def set_rates(optimizer: torch.optim.Optimizer, highest: Sequence[float], share: float) -> None:
    """Set the rate of each group of `optimizer` to its highest one times `share`."""
    for group, rate in zip(optimizer.param_groups, highest, strict=True):
        group["lr"] = rate * share
