"""Heads on top of a backbone; the only part that is trained if the backbone is frozen.

A head starts as the identity, so that the first round already searches by the backbone's features.
One into fewer dimensions starts as their principal components: of 384 features of MiniLM on
banking77, 64 components have a MAP@R of 43.6 % on the test split, a random orthogonal map 37.2 %
and all 384 features 42.8 %.
"""

from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from remine.data.items.tensors import Tensors
from remine.data.types import Float32

WIDENING = 2
"""Width of the hidden layer of `MlpBody` as a multiple of its input."""


class LinearBody(nn.Module):
    """One linear map of normalised vectors, orthogonal at the start."""

    def __init__(self, in_dimensions: int, dimensions: int) -> None:
        """From `in_dimensions` to `dimensions`."""
        super().__init__()
        self.layer = _orthogonal_layer(in_dimensions, dimensions)

    def forward(self, vectors: Tensor) -> Tensor:
        """(m, in_dimensions) float32 to (m, d)."""
        features: Tensor = self.layer(functional.normalize(vectors))
        return features


class MlpBody(nn.Module):
    """A residual layer of twice the width, then a linear map; starts as `LinearBody`."""

    def __init__(self, in_dimensions: int, dimensions: int) -> None:
        """From `in_dimensions` to `dimensions`."""
        super().__init__()
        self.widen = nn.Linear(in_dimensions, WIDENING * in_dimensions)
        self.narrow = nn.Linear(WIDENING * in_dimensions, in_dimensions)
        nn.init.zeros_(self.narrow.weight)
        nn.init.zeros_(self.narrow.bias)
        self.layer = _orthogonal_layer(in_dimensions, dimensions)

    def forward(self, vectors: Tensor) -> Tensor:
        """(m, in_dimensions) float32 to (m, d)."""
        # Unit vectors have small coordinates, which is intended: scaled up to about 1 each, the
        # layer overfits within a round.
        x = functional.normalize(vectors)
        activations = functional.relu(self.widen(x))
        features: Tensor = self.layer(x + self.narrow(activations))
        return features


class BackboneWithHead(nn.Module):
    """A backbone and its head."""

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        """The output of `backbone` is the input of `head`."""
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.is_backbone_held = False

    def forward(self, inputs: Tensors) -> Tensor:
        """(m, ...) inputs to (m, d); no gradient reaches the backbone while it is held."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.is_backbone_held):
            features = self.backbone(inputs).float()
        return cast("Tensor", self.head(features))


def build_head(kind: str, in_dimensions: int, dimensions: int) -> nn.Module:
    """Build the head `kind` ("auto" is linear); `dimensions` 0 means as many as its input."""
    head_class = MlpBody if kind == "mlp" else LinearBody
    return head_class(in_dimensions, dimensions or in_dimensions)


def reducing_layer(body: nn.Module) -> nn.Linear | None:
    """The layer of a head, or of an encoder that is one, that leads into fewer dimensions."""
    head = body.head if isinstance(body, BackboneWithHead) else body
    layer = head.layer if isinstance(head, LinearBody | MlpBody) else None
    return layer if layer is not None and layer.out_features < layer.in_features else None


def principal_components(vectors: Float32, count: int) -> Float32:
    """The directions in which vectors of length 1 are longest, the longest first.

    They keep the inner products of the vectors, and so their distances, best. The mean is not taken
    off: a head has no bias.

    Args:
        vectors: (n, in_dimensions) float32; they are normalised first.
        count: d, at most in_dimensions.

    Returns:
        (d, in_dimensions) float32, orthonormal rows; the largest number in each is positive.

    """
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit_vectors = vectors.astype(np.float64) / np.maximum(lengths, 1e-12)
    _, directions = np.linalg.eigh(unit_vectors.T @ unit_vectors)
    rows = directions.T[::-1][:count]
    largest = np.take_along_axis(rows, np.abs(rows).argmax(axis=1)[:, None], axis=1)
    components: Float32 = (rows * np.sign(largest)).astype(np.float32)
    return components


def _orthogonal_layer(in_dimensions: int, dimensions: int) -> nn.Linear:
    layer = nn.Linear(in_dimensions, dimensions, bias=False)
    if in_dimensions == dimensions:
        nn.init.eye_(layer.weight)
    else:
        nn.init.orthogonal_(layer.weight)
    return layer
