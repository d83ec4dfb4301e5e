"""AdamW over an encoder: rates by layer and for the head, and decay of matrices alone."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from remine.train.config import TrainConfig
from remine.train.optimization.modes import head_of
from remine.train.recipe import recipe_of

BOTTOM, TOP = "bottom", "top"


def make_optimizer(encoder: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW over all parameters of the encoder.

    Settings that are "auto" are those of a network from scratch: pass `recipe.resolved` ones.
    Groups have `places`, the number of each parameter among `encoder.parameters()`.
    """
    recipe = recipe_of(config)
    is_fused = all(parameter.is_floating_point() for parameter in encoder.parameters())
    return torch.optim.AdamW(
        parameter_groups(encoder, config), lr=recipe.learning_rate, fused=is_fused
    )


def parameter_groups(encoder: nn.Module, config: TrainConfig) -> list[dict[str, Any]]:
    """Groups of parameters with the same rate and decay.

    Parameters of one dimension (biases, norms) have no decay, since decay would only shift or
    scale what they are there to set.
    """
    recipe = recipe_of(config)
    factors = rate_factors(encoder, config)
    members: dict[tuple[float, float], list[tuple[int, nn.Parameter]]] = defaultdict(list)
    for place, (name, parameter) in enumerate(encoder.named_parameters()):
        decay = recipe.weight_decay if parameter.dim() > 1 else 0.0
        members[factors[name], decay].append((place, parameter))
    return [
        {
            "params": [parameter for _, parameter in group],
            "places": [place for place, _ in group],
            "lr": recipe.learning_rate * factor,
            "weight_decay": decay,
        }
        for (factor, decay), group in members.items()
    ]


def rate_factors(encoder: nn.Module, config: TrainConfig) -> dict[str, float]:
    """The rate of each parameter, by name, as a multiple of the learning rate.

    The head has `head_factor`, the top layer below it 1, and each layer `layer_decay` times that of
    the layer above it.
    """
    parts = head_of(encoder)
    head_names = set(_names(encoder, parts.head)) if parts else set()
    names = [name for name, _ in encoder.named_parameters() if name not in head_names]
    layers = layers_of(names)
    factors = {name: config.layer_decay ** (max(layers.values()) - layers[name]) for name in names}
    return factors | dict.fromkeys(head_names, config.head_factor)


def layers_of(names: list[str]) -> dict[str, int]:
    """The layer of each parameter, 0 for the lowest.

    A layer is what shares a name up to its first number, such as encoder.layer.3, in order of the
    modules. What comes before the first of them, such as embeddings, is the lowest layer together,
    and what comes after them and has no number, such as a last norm, the highest.
    """
    layers: dict[str, int] = {}
    numbers: dict[str, int] = {}
    for name in names:
        parts = name.split(".")
        place = next((i for i, part in enumerate(parts) if part.isdigit()), None)
        has_lower = bool(set(numbers) - {BOTTOM})
        unnumbered = TOP if has_lower else BOTTOM
        layer = unnumbered if place is None else ".".join(parts[: place + 1])
        layers[name] = numbers.setdefault(layer, len(numbers))
    return layers


def _names(encoder: nn.Module, part: nn.Module) -> Iterator[str]:
    members = {id(parameter) for parameter in part.parameters()}
    return (name for name, parameter in encoder.named_parameters() if id(parameter) in members)
