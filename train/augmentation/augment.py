"""Random changes of a batch of pictures: one affine map for each, then light, colour and erasing.

The draws depend on the seed only, and every setting has its own, so that enabling one setting does
not change the effect of the others. They are made here, on the whole batch, rather than by
torchvision where it is installed, so that results do not depend on what is installed.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from remine.train.augmentation.config import AugmentConfig

DRAWS = 10
"""Uniform draws per picture: eight for the affine map, one for brightness, one for contrast."""
COLOUR_DRAWS = 9
"""Uniform draws per picture of a second generator: aspect, saturation, hue, and six of erasing."""
ERASED_AREA, ERASED_ASPECT = (0.02, 0.33), 3.3
"""Range of the area of an erased rectangle, as a share of the picture, and its largest aspect."""
LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the grey value of a colour (ITU-R BT.601)."""
YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))
"""From red, green and blue to a grey value and two coordinates of colour (FCC NTSC, 1953)."""


def augment(pictures: Tensor, config: AugmentConfig, seed: int) -> Tensor:
    """Change each picture at random: (m, channels, height, width) uint8 to the same.

    Random numbers are drawn on the CPU, so that a GPU makes the same changes.
    """
    generator = torch.Generator().manual_seed(seed)
    draws = torch.rand((DRAWS, len(pictures)), generator=generator).to(pictures.device)
    # A generator of its own: the draws above are those of settings that existed before.
    second_generator = torch.Generator().manual_seed(seed ^ 0x5DEECE66D)
    colour_draws = torch.rand((COLOUR_DRAWS, len(pictures)), generator=second_generator)
    colour_draws = colour_draws.to(pictures.device)
    output = pictures.float()
    if config.moves_pixels:
        aspect = pictures.shape[2] / pictures.shape[3]
        maps = affine_maps(config, draws, aspect, colour_draws[0])
        grid = functional.affine_grid(maps, list(pictures.shape), align_corners=False)
        # Repeating the border keeps the background, whether it is white or black.
        output = functional.grid_sample(
            output, grid, mode="bilinear", padding_mode="border", align_corners=False
        )
    output = _adjust_light(output, config, draws)
    if pictures.shape[1] == 3 and (config.saturation or config.hue):
        output = _adjust_colour(output, config, colour_draws[1:3])
    if config.erase:
        output = _erase(output, config.erase, colour_draws[3:])
    if config.noise:
        noise = torch.randn(output.shape, generator=generator).to(pictures.device)
        output += 255 * config.noise * noise
    return output.round_().clamp_(0, 255).to(torch.uint8)


def affine_maps(
    config: AugmentConfig, draws: Tensor, aspect: float, ratio: Tensor | None = None
) -> Tensor:
    """Affine maps from coordinates of the new picture to those of the old, both -1 to 1.

    Args:
        config: the largest shift, rotation, scale and crop.
        draws: (DRAWS, m) in [0, 1).
        aspect: height / width; a rotation is of pixels, and coordinates are relative to the sides.
        ratio: (m,) in [0, 1), draws of the ratio of the window's sides; None for none.

    Returns:
        (m, 2, 3) float32.

    """
    x, y, turn, zoom, window, across, down, mirror = 2 * draws[:8] - 1
    angle = math.radians(config.rotate) * turn
    # A window of `size` of the side, moved by up to 1 - size, stays inside the picture.
    size = 1 - config.crop * (window + 1) / 2
    # Uniform in the logarithm, so that enlarging and shrinking, wide and high, are equally likely.
    zooms = torch.exp(-math.log1p(config.scale) * zoom)
    width = height = size
    if config.aspect and ratio is not None:
        stretch = torch.exp(math.log1p(config.aspect) * (2 * ratio - 1) / 2)
        width, height = (size * stretch).clamp(max=1), (size / stretch).clamp(max=1)
    side = torch.where(mirror < 0, -1.0, 1.0) if config.flip else torch.ones_like(mirror)
    # grid_sample needs the inverse map, from places in the output to places in the input.
    rows = [
        _map_row(width * zooms, side * torch.cos(angle), -torch.sin(angle) * aspect),
        _map_row(height * zooms, side * torch.sin(angle) / aspect, torch.cos(angle)),
    ]
    rows[0].append(2 * config.shift * x + (1 - width) * across)
    rows[1].append(2 * config.shift * y + (1 - height) * down)
    return torch.stack([torch.stack(row) for row in rows]).permute(2, 0, 1)


def _map_row(factor: Tensor, across: Tensor, down: Tensor) -> list[Tensor]:
    """The two factors of a row of an affine map."""
    return [factor * across, factor * down]


def _adjust_light(pictures: Tensor, config: AugmentConfig, draws: Tensor) -> Tensor:
    """Change contrast and brightness, with independent draws for the two."""
    brightness, contrast = (2 * draws[8:10] - 1)[..., None, None, None]
    if config.contrast:
        mean = pictures.mean(dim=(1, 2, 3), keepdim=True)
        pictures = mean + (1 + config.contrast * contrast) * (pictures - mean)
    if config.brightness:
        pictures = pictures + 255 * config.brightness * brightness
    return pictures


def _adjust_colour(pictures: Tensor, config: AugmentConfig, draws: Tensor) -> Tensor:
    """Change saturation and hue of (m, 3, height, width) pictures. draws: (2, m) in [0, 1)."""
    saturation, hue = 2 * draws - 1
    if config.saturation:
        weights = torch.tensor(LUMA, device=pictures.device)[:, None, None]
        grey = (pictures * weights).sum(dim=1, keepdim=True)
        strength = (1 + config.saturation * saturation)[:, None, None, None]
        pictures = grey + strength * (pictures - grey)
    if config.hue:
        angle = 2 * math.pi * config.hue * hue
        zero, one = torch.zeros_like(angle), torch.ones_like(angle)
        cosine, sine = torch.cos(angle), torch.sin(angle)
        rows = [(one, zero, zero), (zero, cosine, -sine), (zero, sine, cosine)]
        turn = torch.stack([torch.stack(row) for row in rows]).permute(2, 0, 1)
        basis = torch.tensor(YIQ, device=pictures.device)
        pictures = torch.einsum("mij,mjhw->mihw", torch.linalg.inv(basis) @ turn @ basis, pictures)
    return pictures


def _erase(pictures: Tensor, share: float, draws: Tensor) -> Tensor:
    """Make a rectangle of `share` of the pictures one random grey. draws: (6, m) in [0, 1)."""
    chance, area, ratio, across, down, grey = draws
    low, high = ERASED_AREA
    size = torch.sqrt(low + (high - low) * area)
    stretch = torch.exp(math.log(ERASED_ASPECT) * (2 * ratio - 1) / 2)
    width, height = (size * stretch).clamp(max=1), (size / stretch).clamp(max=1)
    is_inside = _interval(pictures.shape[2], height, down)[:, :, None]
    is_inside = is_inside & _interval(pictures.shape[3], width, across)[:, None, :]
    is_erased = (is_inside & (chance < share)[:, None, None])[:, None]
    return torch.where(is_erased, 255 * grey[:, None, None, None], pictures)


def _interval(pixels: int, length: Tensor, place: Tensor) -> Tensor:
    """(m, pixels) bool: the pixels of intervals of `length`, a share, somewhere in the side."""
    centres = (torch.arange(pixels, device=length.device) + 0.5) / pixels
    start = (place * (1 - length))[:, None]
    return (centres >= start) & (centres < start + length[:, None])
