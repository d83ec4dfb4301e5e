"""Inputs: what the encoder eats, decoded once and laid down in a fixed shape.

Pictures become uint8 (channels, side, side), vectors float32 (d,), text what the encoder's own
transform makes of it. Each shard is one .npy file that every later stage maps into memory, so
embedding and training run at the speed of memory, not of a PNG decoder.
"""

import io
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from remine.data.errors import InputError

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
"""What is decoded. Pillow knows more; for some (EPS) it starts other programs."""

MAX_PIXELS = 64_000_000  # ours; Pillow's own limit warns first and refuses only at twice that
Image.MAX_IMAGE_PIXELS = None
SMALL_PIXELS = 256 * 256

Transform = Callable[[Any, Callable[[int], str]], np.ndarray]
"""Contents and a namer of rows in -> (rows, ...) array of a fixed shape out."""


@dataclass
class ImageTransform:
    """Pictures to (rows, channels, side, side) uint8.

    side, channels: 0 until the first picture sets them. With `resize` pictures of any size are
    fitted (scaled, then cropped in the middle); without, one of another size is refused.
    """

    side: int = 0
    channels: int = 0

    def __post_init__(self) -> None:
        self.resize = self.side > 0
        self.size = (self.side, self.side)

    def __call__(self, contents: Sequence[bytes | Path], where: Callable[[int], str]) -> np.ndarray:
        """Decode the pictures; large ones in threads (small ones would only fight for the lock)."""
        try:
            first = open_image(contents[0])
        except InputError as error:
            raise InputError(f"{where(0)}: {error}") from None
        self.channels = self.channels or (1 if first.mode in ("1", "L") else 3)
        if not self.resize and self.size == (0, 0):
            self.size = first.size
        out = np.empty((len(contents), self.channels, self.size[1], self.size[0]), np.uint8)

        def decode(row: int) -> None:
            try:
                out[row] = self._pixels(open_image(contents[row]))
            except InputError as error:
                raise InputError(f"{where(row)}: {error}") from None

        large = first.width * first.height > SMALL_PIXELS
        with ThreadPoolExecutor(os.cpu_count() if large else 1) as threads:
            jobs = threads.map if large else map
            for _ in jobs(decode, range(len(contents))):
                pass
        return out

    def _pixels(self, image: Image.Image) -> NDArray[np.uint8]:
        if self.resize:
            image = ImageOps.fit(image, self.size, Image.Resampling.BILINEAR)
        elif image.size != self.size:
            have, want = "x".join(map(str, image.size)), "x".join(map(str, self.size))
            raise InputError(
                f"the picture is {have} pixels, the first is {want};"
                " set data.image_size to fit all to one size"
            )
        pixels = np.asarray(image.convert("L" if self.channels == 1 else "RGB"))
        return pixels.reshape(self.size[1], self.size[0], self.channels).transpose(2, 0, 1)


def open_image(content: bytes | Path) -> Image.Image:
    """The decoded picture, upright, on white where it is transparent."""
    source = content if isinstance(content, Path) else io.BytesIO(content)
    try:
        if isinstance(content, Path) and content.exists() and not content.is_file():
            raise InputError(f"{content} is no file")  # a pipe would be waited for
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


def vector_transform(contents: Sequence[Any], where: Callable[[int], str]) -> np.ndarray:
    """Check (rows, d) float32 vectors: finite, of a length that float32 can square."""
    vectors = np.asarray(contents, dtype=np.float32)
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    for what, bad in (
        ("has a number that is not finite", ~np.isfinite(vectors).all(axis=1)),
        ("is all zeros: it has no direction", lengths < 1e-12),
        ("is longer than 1e18, whose square is none in float32: scale it", lengths > 1e18),
    ):
        if bad.any():
            raise InputError(f"{where(int(bad.argmax()))}: the vector {what}")
    return vectors


class Inputs:
    """All inputs by row, over the mapped shards."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Map the .npy files at `paths`; row 0 is the first row of the first."""
        self.shards = [np.load(path, mmap_mode="r", allow_pickle=False) for path in paths]
        self.starts = np.cumsum([0, *(len(shard) for shard in self.shards)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, rows: NDArray[np.integer]) -> np.ndarray:
        """The inputs at `rows` (m,), as one (m, ...) array."""
        out = np.empty((len(rows), *self.shards[0].shape[1:]), self.shards[0].dtype)
        shard_of = np.searchsorted(self.starts, rows, side="right") - 1
        for shard in np.unique(shard_of):
            mask = shard_of == shard
            out[mask] = self.shards[shard][rows[mask] - self.starts[shard]]
        return out


def _eight_bits(image: Image.Image) -> Image.Image:
    """Sixteen bits a pixel as eight (Pillow would cut off at 255 instead, and leave white)."""
    if image.mode not in ("I", "I;16", "I;16B"):
        return image
    return Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode in ("LA", "RGBA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        flat = Image.alpha_composite(white, rgba)
        return flat.convert("L" if image.mode == "LA" else "RGB")
    return image


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return f"none of {', '.join(FORMATS)}"
    return str(error).splitlines()[0] if str(error) else type(error).__name__
