"""Inputs of the encoder, decoded once and stored in a fixed shape.

Pictures become uint8 (channels, side, side), vectors float32 (d,), and texts the integers of the
encoder's own transform. Each shard is one .npy file that every later stage maps into memory, so
that embedding and training are not limited by the speed of a PNG decoder.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from remine.data.config import Fit
from remine.data.errors import InputError
from remine.data.items.fitting import fit_picture
from remine.data.items.pictures import decode_image, open_image

SMALL_PIXELS = 256 * 256
"""Pixels up to which pictures are decoded in one thread."""

PICTURES = ("image", "path")
"""The kinds of content that are pictures."""

Transform = Callable[[Any, Callable[[int], str]], np.ndarray]
"""Turns contents, and a function that names a row in messages, into a (rows, ...) array.

One that may leave out part of a content has an attribute `omissions`, an `Omissions`. One whose
rows (rows, l) end with zeros that mean nothing has `pads` = True.
"""


@dataclass
class Omissions:
    """Counts contents of which a transform left something out.

    Attributes:
        rows: Contents transformed.
        counts: Number of contents by what was left out.
    """

    rows: int = 0
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, rows: int, notes: Iterable[str]) -> None:
        """Count `rows` more contents, and what was left out of some of them."""
        self.rows += rows
        self.counts.update(notes)

    @classmethod
    def total(cls, parts: Iterable["Omissions"]) -> "Omissions":
        """The sum of several counts."""
        result = cls()
        for part in parts:
            result.add(part.rows, part.counts.elements())
        return result

    def lines(self) -> list[str]:
        """One line for each kind of omission."""
        return [f"{count:,} of {self.rows:,} {note}" for note, count in self.counts.items()]


def omission_lines(transform: Transform) -> list[str]:
    """What `transform` has left out so far, in lines for the console."""
    omissions = getattr(transform, "omissions", None)
    return omissions.lines() if isinstance(omissions, Omissions) else []


def transform_counted(
    transform: Transform, contents: Any, row_name: Callable[[int], str]
) -> tuple[np.ndarray, Omissions]:
    """The inputs of some contents, and what `transform` left out of these alone."""
    before: Omissions | None = getattr(transform, "omissions", None)
    if before is None:
        return transform(contents, row_name), Omissions()
    counter = Omissions()
    vars(transform)["omissions"] = counter
    try:
        return transform(contents, row_name), counter
    finally:
        vars(transform)["omissions"] = Omissions.total([before, counter])


SHARD_BYTES = 16 << 20
"""Bytes of inputs in a shard above which it has fewer rows than data.unit_rows: a shard is written
anew when one of its items is changed or deleted."""

MIN_ROWS = 16
"""Rows of a shard of the largest inputs."""


def shard_rows(size: int, unit_rows: int) -> int:
    """The rows of a shard of inputs of `size` bytes: `unit_rows`, or fewer if they are large."""
    return min(unit_rows, max(MIN_ROWS, SHARD_BYTES // max(1, size)))


def input_bytes(transform: Transform, first: Any) -> int:
    """The bytes of an input.

    Args:
        transform: Turns contents into inputs.
        first: The first content, whose input has the size of all.

    Returns:
        0 if the content cannot be read, which is to be said with its row.
    """
    counts = getattr(transform, "omissions", None)
    try:
        return int(transform_counted(transform, first, str)[0].nbytes)
    except InputError:
        return 0
    finally:
        if counts is not None:  # the item is counted when it is stored
            vars(transform)["omissions"] = counts


def without_padding(block: np.ndarray, transform: Transform) -> np.ndarray:
    """The block as it is stored: cut to its longest row, if zeros at the end are padding."""
    if not getattr(transform, "pads", False) or block.ndim != 2:
        return block
    used = np.flatnonzero(block.any(axis=0))
    return np.ascontiguousarray(block[:, : max(1, int(used[-1]) + 1 if len(used) else 1)])


@dataclass
class ImageTransform:
    """Decodes pictures to (rows, channels, height, width) uint8.

    Attributes:
        side: Pixels to which pictures of any size are fitted; 0 to take the size of the first
            picture and refuse pictures of another size.
        channels: 1 or 3; 0 to take the number that the first picture needs.
        fit: How they are fitted, see `fitting`.
        omissions: What was not read of the pictures.
    """

    side: int = 0
    channels: int = 0
    fit: Fit = "crop"
    omissions: Omissions = field(default_factory=Omissions)

    def __post_init__(self) -> None:
        self.resize = self.side > 0
        self.size = (self.side, self.side)

    @classmethod
    def for_shape(cls, shape: Sequence[int], *, resize: bool, fit: Fit = "crop") -> Self:
        """The transform to inputs of a known shape (channels, height, width).

        resize: fit pictures of any size to it, as `fit` says; else those of another size are
            refused.
        """
        channels, height, width = shape
        transform = cls(channels=channels, fit=fit)
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
        self.channels = self.channels or (1 if first.mode == "L" else 3)
        if not self.resize and self.size == (0, 0):
            self.size = first.size
        pixels = np.empty((len(contents), self.channels, self.size[1], self.size[0]), np.uint8)

        def decode(row: int) -> list[str]:
            try:
                image, notes = decode_image(contents[row])
                pixels[row] = self._pixels(image)
            except InputError as error:
                raise InputError(f"{row_name(row)}: {error}") from None
            return notes

        # Decoding a small picture takes so little time that threads only wait for the GIL.
        is_large = first.width * first.height > SMALL_PIXELS
        with ThreadPoolExecutor(os.cpu_count() if is_large else 1) as threads:
            map_rows = threads.map if is_large else map
            notes = list(map_rows(decode, range(len(contents))))
        self.omissions.add(len(contents), chain.from_iterable(notes))
        return pixels

    def _pixels(self, image: Image.Image) -> NDArray[np.uint8]:
        if self.resize:
            image = fit_picture(image, self.size, self.fit)
        elif image.size != self.size:
            size, first_size = ("x".join(map(str, pair)) for pair in (image.size, self.size))
            raise InputError(
                f"the picture is {size} pixels, the first is {first_size};"
                " set data.image_size to fit all to one size"
            )
        pixels = np.asarray(image.convert("L" if self.channels == 1 else "RGB"))
        return pixels.reshape(self.size[1], self.size[0], self.channels).transpose(2, 0, 1)


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
        self._set([np.load(path, mmap_mode="r", allow_pickle=False) for path in paths])

    @classmethod
    def of(cls, block: np.ndarray) -> Self:
        """The inputs in an array (n, ...) in memory."""
        inputs = cls.__new__(cls)
        inputs._set([block])  # noqa: SLF001 - of this class
        return inputs

    def _set(self, shards: list[np.ndarray]) -> None:
        self.shards = shards
        self.starts = np.cumsum([0, *(len(shard) for shard in shards)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, rows: NDArray[np.integer]) -> np.ndarray:
        """The inputs at `rows` (m,), as one (m, ...) array; rows of text as long as the longest."""
        shard_of = np.searchsorted(self.starts, rows, side="right") - 1
        shards = np.unique(shard_of).tolist()
        first = self.shards[shards[0] if shards else 0]
        shape = first.shape[1:]
        if len({self.shards[shard].shape[1:] for shard in shards}) > 1:
            shape = (max(self.shards[shard].shape[1] for shard in shards),)
        inputs = np.zeros((len(rows), *shape), first.dtype)
        for shard in shards:
            mask = shard_of == shard
            part = self.shards[shard][rows[mask] - self.starts[shard]]
            if part.shape[1:] == shape:
                inputs[mask] = part
            else:
                inputs[mask, : part.shape[1]] = part
        return inputs
