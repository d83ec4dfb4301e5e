"""What both generators share: a small network, and how it learns beside the encoder."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call


def perceptron(given: int, hidden: int, made: int) -> nn.Sequential:
    """Two layers."""
    return nn.Sequential(nn.Linear(given, hidden), nn.ReLU(), nn.Linear(hidden, made))


def frozen(network: nn.Module, given: Tensor) -> Tensor:
    """What `network` makes of `given`, with a gradient for `given` and none for its weights.

    So the metric loss trains the encoder and only the generator's own loss the generator, in one
    backward pass.
    """
    weights: Mapping[str, Tensor] = {k: v.detach() for k, v in network.named_parameters()}
    made: Tensor = functional_call(network, dict(weights), (given,))
    return made


def recent_mean(recent: Tensor, value: Tensor, share: float = 0.05) -> None:
    """Move the running mean `recent` () towards `value`; a mean of 0 is none yet."""
    value = value.detach().to(recent.dtype)
    recent.copy_(torch.where(recent == 0, value, recent + share * (value - recent)))
