"""Random changes of a batch of pictures: one affine map each, then light.

What is drawn depends on the seed alone, and each setting has draws of its own, so that switching
one on leaves the others as they were.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from remine.train.augmentation.config import AugmentConfig

DRAWS = 10


def augment(pictures: Tensor, config: AugmentConfig, seed: int) -> Tensor:
    """(m, channels, height, width) uint8 to the same, each picture changed in its own way.

    Drawn on the CPU, so that a GPU gets the same changes.
    """
    generator = torch.Generator().manual_seed(seed)
    draws = torch.rand((DRAWS, len(pictures)), generator=generator).to(pictures.device)
    changed = pictures.float()
    if config.moves:
        maps = affine_maps(config, draws, pictures.shape[2] / pictures.shape[3])
        grid = functional.affine_grid(maps, list(pictures.shape), align_corners=False)
        # Beyond the edge lies more of the edge: pictures on white stay on white, and on black too.
        changed = functional.grid_sample(
            changed, grid, mode="bilinear", padding_mode="border", align_corners=False
        )
    changed = _light(changed, config, draws)
    if config.noise:
        drawn = torch.randn(changed.shape, generator=generator).to(pictures.device)
        changed += 255 * config.noise * drawn
    return changed.round_().clamp_(0, 255).to(torch.uint8)


def affine_maps(config: AugmentConfig, draws: Tensor, aspect: float) -> Tensor:
    """(m, 2, 3) float32 maps from places in the new picture to places in the old, both -1 to 1.

    draws: (DRAWS, m) in [0, 1). aspect: height / width, since a rotation turns pixels, not units.
    """
    x, y, turn, zoom, window, across, down, mirror = 2 * draws[:8] - 1
    angle = math.radians(config.rotate) * turn
    size = 1 - config.crop * (window + 1) / 2
    factor = size * torch.exp(-math.log1p(config.scale) * zoom)
    cosine, sine = factor * torch.cos(angle), factor * torch.sin(angle)
    side = torch.where(mirror < 0, -1.0, 1.0) if config.flip else torch.ones_like(mirror)
    rows = [
        torch.stack([side * cosine, -sine * aspect, 2 * config.shift * x + (1 - size) * across]),
        torch.stack([side * sine / aspect, cosine, 2 * config.shift * y + (1 - size) * down]),
    ]
    return torch.stack(rows).permute(2, 0, 1)


def _light(pictures: Tensor, config: AugmentConfig, draws: Tensor) -> Tensor:
    """Brightness and contrast: one draw for both would tie them together."""
    darker, flatter = (2 * draws[8:10] - 1)[..., None, None, None]
    if config.contrast:
        mean = pictures.mean(dim=(1, 2, 3), keepdim=True)
        pictures = mean + (1 + config.contrast * flatter) * (pictures - mean)
    if config.brightness:
        pictures = pictures + 255 * config.brightness * darker
    return pictures
