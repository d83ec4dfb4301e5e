"""How the modules of an encoder train: which normalise by the batch, and which are held."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from remine.train.encoders.encoder import Encoder
from remine.train.encoders.heads import BackboneWithHead


def head_of(encoder: nn.Module) -> BackboneWithHead | None:
    """The backbone and head of an encoder that trains both; None if it has no head."""
    body = encoder.body if isinstance(encoder, Encoder) else encoder
    return body if isinstance(body, BackboneWithHead) else None


def set_training(encoder: nn.Module, *, keeps_statistics: bool, holds_backbone: bool) -> None:
    """Put an encoder into the mode of a training step.

    keeps_statistics: batch norms use their own mean and variance, and do not change them.
    holds_backbone: what is below the head computes as in evaluation, and gets no gradients.
    """
    encoder.train()
    if keeps_statistics:
        for module in batch_norms(encoder):
            module.eval()
    if parts := head_of(encoder):
        parts.is_backbone_held = holds_backbone
        if holds_backbone:
            parts.backbone.eval()


def batch_norms(encoder: nn.Module) -> Iterator[nn.Module]:
    """The modules that normalise by the statistics of a batch in training mode."""
    return (module for module in encoder.modules() if isinstance(module, _BatchNorm))


def uses_batch_statistics(encoder: nn.Module) -> bool:
    """Whether an item's embedding depends on the other items of its batch, in the present mode."""
    return any(module.training for module in batch_norms(encoder))


@contextmanager
def evaluating(encoder: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; after it every module has the mode that it had."""
    modes = [(module, module.training) for module in encoder.modules()]
    encoder.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode
