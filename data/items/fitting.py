"""Pictures of any shape fitted to one size."""

import numpy as np
from PIL import Image, ImageOps

from remine.data.config import Fit

FILTER = Image.Resampling.BILINEAR


def fit_picture(image: Image.Image, size: tuple[int, int], fit: Fit) -> Image.Image:
    """A picture of mode L or RGB, fitted to `size`, (width, height).

    crop: scaled until it covers the size, and cut to its middle. pad: scaled until it lies within,
    centred on the colour of its edge. stretch: scaled to the size.
    """
    if fit == "crop":
        return ImageOps.fit(image, size, FILTER)
    if fit == "stretch":
        return image.resize(size, FILTER)
    inner = ImageOps.contain(image, size, FILTER)
    canvas = Image.new(image.mode, size, edge_colour(image))
    canvas.paste(inner, ((size[0] - inner.width) // 2, (size[1] - inner.height) // 2))
    return canvas


def edge_colour(image: Image.Image) -> int | tuple[int, ...]:
    """The median of the outermost pixels by channel.

    A thing on white stays on white; mid grey would put an edge where there is none.
    """
    pixels = np.asarray(image)
    lines = [pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]
    levels = np.median(np.concatenate(lines), axis=0).astype(int)
    return int(levels) if levels.ndim == 0 else tuple(levels.tolist())
