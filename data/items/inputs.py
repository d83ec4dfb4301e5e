"""Inputs of the encoder, decoded once and stored in a fixed shape.

Pictures become uint8 (channels, side, side), vectors float32 (d,), and texts the integers of the
encoder's own transform. Each shard is one .npy file that every later stage maps into memory, so
that embedding and training are not limited by the speed of a PNG decoder.
"""

import io
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from remine.data.errors import InputError, first_line

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
"""Formats that are decoded. Pillow knows more, but starts other programs for some (EPS)."""

MAX_PIXELS = 64_000_000
"""Pixels above which a picture is refused before it is decoded."""
# Pillow's own limit only warns up to twice its value, so it is switched off in favour of ours.
Image.MAX_IMAGE_PIXELS = None

SMALL_PIXELS = 256 * 256
"""Pixels up to which pictures are decoded in one thread."""

PICTURES = ("image", "path")
"""The kinds of content that are pictures."""

Transform = Callable[[Any, Callable[[int], str]], np.ndarray]
"""Turns contents, and a function that names a row in messages, into a (rows, ...) array."""


@dataclass
class ImageTransform:
    """Decodes pictures to (rows, channels, height, width) uint8.

    Attributes:
        side: Pixels to which pictures of any size are fitted (scaled, then cropped in the middle);
            0 to take the size of the first picture and refuse pictures of another size.
        channels: 1 or 3; 0 to take the number that the first picture needs.
    """

    side: int = 0
    channels: int = 0

    def __post_init__(self) -> None:
        self.resize = self.side > 0
        self.size = (self.side, self.side)

    @classmethod
    def for_shape(cls, shape: Sequence[int], *, resize: bool) -> Self:
        """The transform to inputs of a known shape (channels, height, width).

        resize: fit pictures of any size to it; else those of another size are refused.
        """
        channels, height, width = shape
        transform = cls(channels=channels)
        transform.resize, transform.size = resize, (width, height)
        return transform

    def __call__(
        self, contents: Sequence[bytes | Path], row_name: Callable[[int], str]
    ) -> np.ndarray:
        """Decode the pictures, large ones in threads.

        Args:
            contents: Encoded pictures, or paths of files.
            row_name: Names a row in messages.

        Raises:
            InputError: A picture is damaged, missing, too large or of another size.
        """
        try:
            first = open_image(contents[0])
        except InputError as error:
            raise InputError(f"{row_name(0)}: {error}") from None
        self.channels = self.channels or (1 if first.mode in ("1", "L") else 3)
        if not self.resize and self.size == (0, 0):
            self.size = first.size
        pixels = np.empty((len(contents), self.channels, self.size[1], self.size[0]), np.uint8)

        def decode(row: int) -> None:
            try:
                pixels[row] = self._pixels(open_image(contents[row]))
            except InputError as error:
                raise InputError(f"{row_name(row)}: {error}") from None

        # Decoding a small picture takes so little time that threads only wait for the GIL.
        is_large = first.width * first.height > SMALL_PIXELS
        with ThreadPoolExecutor(os.cpu_count() if is_large else 1) as threads:
            map_rows = threads.map if is_large else map
            for _ in map_rows(decode, range(len(contents))):
                pass
        return pixels

    def _pixels(self, image: Image.Image) -> NDArray[np.uint8]:
        if self.resize:
            image = ImageOps.fit(image, self.size, Image.Resampling.BILINEAR)
        elif image.size != self.size:
            size, first_size = ("x".join(map(str, pair)) for pair in (image.size, self.size))
            raise InputError(
                f"the picture is {size} pixels, the first is {first_size};"
                " set data.image_size to fit all to one size"
            )
        pixels = np.asarray(image.convert("L" if self.channels == 1 else "RGB"))
        return pixels.reshape(self.size[1], self.size[0], self.channels).transpose(2, 0, 1)


def open_image(content: bytes | Path) -> Image.Image:
    """Decode a picture, turn it upright by its EXIF orientation, put it on white if transparent.

    Raises:
        InputError: The picture is missing, damaged, too large or of an unknown format.
    """
    source = content if isinstance(content, Path) else io.BytesIO(content)
    try:
        if isinstance(content, Path) and content.exists() and not content.is_file():
            raise InputError(f"{content} is not a file")  # opening a pipe would block
        with Image.open(source, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise InputError(f"{image.width}x{image.height} pixels are too many")
            image.load()
            upright = ImageOps.exif_transpose(image)
    except FileNotFoundError:
        raise InputError(f"{content!s} does not exist") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"not a readable picture ({_reason(error)})") from None
    return _on_white(_eight_bits(upright))


def vector_transform(contents: Sequence[Any], row_name: Callable[[int], str]) -> np.ndarray:
    """Convert vectors to (rows, d) float32 and check them.

    Raises:
        InputError: A vector is not finite, is zero, or is so long that its squared length
            overflows float32.
    """
    vectors = np.asarray(contents, dtype=np.float32)
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    for fault, invalid in (
        ("has a number that is not finite", ~np.isfinite(vectors).all(axis=1)),
        ("is all zeros: it has no direction", lengths < 1e-12),
        ("is longer than 1e18, whose square overflows float32: scale it", lengths > 1e18),
    ):
        if invalid.any():
            raise InputError(f"{row_name(int(invalid.argmax()))}: the vector {fault}")
    return vectors


class Inputs:
    """The inputs of all items by row, read from memory-mapped shards."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Map the .npy files at `paths`; rows are counted over all of them, in order."""
        self.shards = [np.load(path, mmap_mode="r", allow_pickle=False) for path in paths]
        self.starts = np.cumsum([0, *(len(shard) for shard in self.shards)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, rows: NDArray[np.integer]) -> np.ndarray:
        """The inputs at `rows` (m,), as one (m, ...) array."""
        inputs = np.empty((len(rows), *self.shards[0].shape[1:]), self.shards[0].dtype)
        shard_of = np.searchsorted(self.starts, rows, side="right") - 1
        for shard in np.unique(shard_of):
            mask = shard_of == shard
            inputs[mask] = self.shards[shard][rows[mask] - self.starts[shard]]
        return inputs


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale a picture of 16 bits per pixel to 8 (Pillow would clip values above 255 instead)."""
    if image.mode not in ("I", "I;16", "I;16B"):
        return image
    return Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))


def _on_white(image: Image.Image) -> Image.Image:
    """Put a picture with transparency on white; others are returned as they are."""
    if image.mode in ("LA", "RGBA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        flat = Image.alpha_composite(white, rgba)
        return flat.convert("L" if image.mode == "LA" else "RGB")
    return image


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return f"none of {', '.join(FORMATS)}"
    return first_line(error)
