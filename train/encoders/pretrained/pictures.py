"""Pictures as stored, uint8, to the numbers that a pretrained network asks for."""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from remine.data.config import Fit


@dataclass(frozen=True, kw_only=True)
class PictureRecipe:
    """The size in pixels, and mean and deviation by channel on the scale 0 to 255.

    fit: how pictures of other shapes are fitted to the size.
    """

    side: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    fit: Fit = "crop"


class PictureNetwork(nn.Module):
    """A network over normalised pictures that takes uint8 ones, grey or colour."""

    def __init__(self, network: nn.Module, recipe: PictureRecipe) -> None:
        """`network` maps (m, 3, height, width) float32 to (m, d), or to (m, d, ...)."""
        super().__init__()
        self.network, self.recipe = network, recipe
        self.mean: Tensor
        self.deviation: Tensor
        # Not saved: they belong to the model, which its hash identifies.
        for name in ("mean", "deviation"):
            values = torch.tensor(getattr(recipe, name)).view(-1, 1, 1)
            self.register_buffer(name, values, persistent=False)

    def forward(self, pictures: Tensor) -> Tensor:
        """(m, 1 or 3, height, width) uint8 to (m, d)."""
        pixels = pictures.expand(-1, 3, -1, -1).float()
        normalised = (pixels - self.mean) / self.deviation
        features = cast("Tensor", self.network(normalised))
        return features.flatten(2).mean(dim=2) if features.ndim > 2 else features
