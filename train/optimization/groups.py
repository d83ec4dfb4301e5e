"""AdamW over an encoder: rates by layer and for the head, and decay of matrices alone."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from remine.train.config import TrainConfig
from remine.train.encoders.encoder import Encoder
from remine.train.encoders.layers import layer_groups
from remine.train.optimization.modes import head_of
from remine.train.recipe import recipe_of


def make_optimizer(encoder: Encoder, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW over all trained parameters of the encoder.

    Settings that are "auto" are those of a network from scratch: pass `recipe.resolved` ones.
    Groups have `places`, the number of each parameter among `encoder.parameters()`.
    """
    recipe = recipe_of(config)
    groups = parameter_groups(encoder, config)
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=True)


def parameter_groups(encoder: Encoder, config: TrainConfig) -> list[dict[str, Any]]:
    """Groups of parameters with the same rate and decay.

    Parameters of one dimension (biases, norms) have no decay, since decay would only shift or
    scale what they are there to set.
    """
    recipe = recipe_of(config)
    factors = rate_factors(encoder, config)
    members: dict[tuple[float, float], list[tuple[int, nn.Parameter]]] = defaultdict(list)
    for place, (name, parameter) in enumerate(encoder.named_parameters()):
        if not parameter.requires_grad:  # the base of an adapter
            continue
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


def rate_factors(encoder: Encoder, config: TrainConfig) -> dict[str, float]:
    """The rate of each trained parameter, by name, as a multiple of the learning rate.

    The head has `head_factor`, the top layer below it 1, and each layer `layer_decay` times that of
    the layer above it.
    """
    parts = head_of(encoder)
    head_names = set(_names(encoder, parts.head)) if parts else set()
    layers = [set(names) - head_names for names in layer_groups(encoder)]
    factors = {
        name: config.layer_decay**depth
        for depth, names in enumerate(filter(None, layers))
        for name in names
    }
    return factors | dict.fromkeys(head_names, config.head_factor)


def _names(encoder: nn.Module, part: nn.Module) -> Iterator[str]:
    members = {id(parameter) for parameter in part.parameters()}
    return (name for name, parameter in encoder.named_parameters() if id(parameter) in members)
