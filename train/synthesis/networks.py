"""The small network of both generators, and how it is trained beside the encoder."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from remine.train.losses.distances import squared_distances


def perceptron(in_features: int, hidden_features: int, out_features: int) -> nn.Sequential:
    """Two linear layers with a ReLU between them."""
    return nn.Sequential(
        nn.Linear(in_features, hidden_features),
        nn.ReLU(),
        nn.Linear(hidden_features, out_features),
    )


def apply_frozen(network: nn.Module, inputs: Tensor) -> Tensor:
    """Output of `network` with a gradient for `inputs` but none for its weights.

    With it one backward pass is enough: the metric loss trains the encoder only, and the
    generator's own loss trains the generator.
    """
    weights: Mapping[str, Tensor] = {k: v.detach() for k, v in network.named_parameters()}
    outputs: Tensor = functional_call(network, dict(weights), (inputs,))
    return outputs


def update_running_mean(mean: Tensor, value: Tensor, share: float = 0.05) -> None:
    """Move the running mean () towards `value` (), in place; a mean of 0 is taken as unset."""
    value = value.detach().to(mean.dtype)
    mean.copy_(torch.where(mean == 0, value, mean + share * (value - mean)))


def harder_share(synthetic: Tensor, negative: Tensor, anchor: Tensor) -> Tensor:
    """Share () of (t, d) synthetic negatives that are nearer to the anchor than the original."""
    d_synthetic = squared_distances(synthetic.detach(), anchor.detach())
    return (d_synthetic < squared_distances(negative.detach(), anchor.detach())).float().mean()
