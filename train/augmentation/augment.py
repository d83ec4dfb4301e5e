"""Random changes of a batch of pictures: one affine map for each, then brightness and contrast.

The draws depend on the seed only, and every setting has its own, so that enabling one setting does
not change the effect of the others.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from remine.train.augmentation.config import AugmentConfig

DRAWS = 10
"""Uniform draws per picture: eight for the affine map, one for brightness, one for contrast."""


def augment(pictures: Tensor, config: AugmentConfig, seed: int) -> Tensor:
    """Change each picture at random: (m, channels, height, width) uint8 to the same.

    Random numbers are drawn on the CPU, so that a GPU makes the same changes.
    """
    generator = torch.Generator().manual_seed(seed)
    draws = torch.rand((DRAWS, len(pictures)), generator=generator).to(pictures.device)
    output = pictures.float()
    if config.moves_pixels:
        maps = affine_maps(config, draws, pictures.shape[2] / pictures.shape[3])
        grid = functional.affine_grid(maps, list(pictures.shape), align_corners=False)
        # Repeating the border keeps the background, whether it is white or black.
        output = functional.grid_sample(
            output, grid, mode="bilinear", padding_mode="border", align_corners=False
        )
    output = _adjust_light(output, config, draws)
    if config.noise:
        noise = torch.randn(output.shape, generator=generator).to(pictures.device)
        output += 255 * config.noise * noise
    return output.round_().clamp_(0, 255).to(torch.uint8)


def affine_maps(config: AugmentConfig, draws: Tensor, aspect: float) -> Tensor:
    """Affine maps from coordinates of the new picture to those of the old, both -1 to 1.

    Args:
        config: the largest shift, rotation, scale and crop.
        draws: (DRAWS, m) in [0, 1).
        aspect: height / width; a rotation is of pixels, and coordinates are relative to the sides.

    Returns:
        (m, 2, 3) float32.

    """
    x, y, turn, zoom, window, across, down, mirror = 2 * draws[:8] - 1
    angle = math.radians(config.rotate) * turn
    # A window of `size` of the side, moved by up to 1 - size, stays inside the picture.
    size = 1 - config.crop * (window + 1) / 2
    # Uniform in the logarithm, so that enlarging and shrinking are equally likely.
    factor = size * torch.exp(-math.log1p(config.scale) * zoom)
    cosine, sine = factor * torch.cos(angle), factor * torch.sin(angle)
    side = torch.where(mirror < 0, -1.0, 1.0) if config.flip else torch.ones_like(mirror)
    # grid_sample needs the inverse map, from places in the output to places in the input.
    rows = [
        torch.stack([side * cosine, -sine * aspect, 2 * config.shift * x + (1 - size) * across]),
        torch.stack([side * sine / aspect, cosine, 2 * config.shift * y + (1 - size) * down]),
    ]
    return torch.stack(rows).permute(2, 0, 1)


def _adjust_light(pictures: Tensor, config: AugmentConfig, draws: Tensor) -> Tensor:
    """Change contrast and brightness, with independent draws for the two."""
    brightness, contrast = (2 * draws[8:10] - 1)[..., None, None, None]
    if config.contrast:
        mean = pictures.mean(dim=(1, 2, 3), keepdim=True)
        pictures = mean + (1 + config.contrast * contrast) * (pictures - mean)
    if config.brightness:
        pictures = pictures + 255 * config.brightness * brightness
    return pictures
