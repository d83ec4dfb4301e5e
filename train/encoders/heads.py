"""Heads: what is put on a backbone, and learns alone where the backbone is frozen.

Each starts as the identity, or as a rotation into another number of dimensions, so that the first
round already searches by what the backbone knows.
"""

from typing import cast

from torch import Tensor, nn
from torch.nn import functional

HIDDEN = 2


class LinearBody(nn.Module):
    """One linear map, which starts as the identity, or as a rotation into fewer dimensions."""

    def __init__(self, given: int, dimensions: int) -> None:
        """From `given` dimensions to `dimensions`."""
        super().__init__()
        self.layer = _start(given, dimensions)

    def forward(self, vectors: Tensor) -> Tensor:
        """(m, given) float32 to (m, d)."""
        features: Tensor = self.layer(functional.normalize(vectors))
        return features


class MlpBody(nn.Module):
    """A layer of twice the width, added to what was given, then a linear map."""

    def __init__(self, given: int, dimensions: int) -> None:
        """From `given` dimensions to `dimensions`."""
        super().__init__()
        self.widen = nn.Linear(given, HIDDEN * given)
        self.narrow = nn.Linear(HIDDEN * given, given)
        nn.init.zeros_(self.narrow.weight)
        nn.init.zeros_(self.narrow.bias)
        self.layer = _start(given, dimensions)

    def forward(self, vectors: Tensor) -> Tensor:
        """(m, given) float32 to (m, d)."""
        x = functional.normalize(vectors)
        # Small numbers on purpose: scaled up to about 1 each, the layer overfits within a round.
        hidden = functional.relu(self.widen(x))
        features: Tensor = self.layer(x + self.narrow(hidden))
        return features


class Headed(nn.Module):
    """A backbone and its head."""

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        """From the backbone's inputs to the head's output."""
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, inputs: Tensor) -> Tensor:
        """(m, ...) inputs to (m, d)."""
        return cast("Tensor", self.head(self.backbone(inputs).float()))


def build_head(kind: str, given: int, dimensions: int) -> nn.Module:
    """The head `kind` ("auto" is linear) from `given` to `dimensions`, 0 for as many."""
    made = MlpBody if kind == "mlp" else LinearBody
    return made(given, dimensions or given)


def _start(given: int, dimensions: int) -> nn.Linear:
    layer = nn.Linear(given, dimensions, bias=False)
    if given == dimensions:
        nn.init.eye_(layer.weight)
    else:
        nn.init.orthogonal_(layer.weight)
    return layer
