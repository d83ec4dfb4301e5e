"""Which pictures have colour, from their headers, without decoding them."""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from remine.data.sources.picture_formats import formats

GREY_MODES = ("1", "L", "LA")


def has_colour(content: bytes | Path) -> bool:
    """Whether a picture's own mode is one of colour; False if it cannot be read.

    A palette of greys is none. Whether the pixels of a colour mode are all grey is not looked at.
    """
    source = content if isinstance(content, Path) else io.BytesIO(content)
    if isinstance(source, Path) and not source.is_file():  # opening a pipe would block
        return False
    try:
        with Image.open(source, formats=formats()) as image:
            if image.mode == "P":
                return _has_coloured_palette(image)
            return image.mode not in GREY_MODES and image.mode[0] not in "IF"
    except Exception:  # noqa: BLE001 - decoding says what is wrong with it
        return False


def first_with_colour(blocks: Iterable[Sequence[Any] | np.ndarray]) -> int | None:
    """The row of the first picture with colour; None if none has any."""
    row = 0
    for block in blocks:
        for content in block:
            if has_colour(content):
                return row
            row += 1
    return None


def _has_coloured_palette(image: Image.Image) -> bool:
    palette = image.getpalette("RGB") or []
    return any(len({*palette[i : i + 3]}) > 1 for i in range(0, len(palette), 3))
