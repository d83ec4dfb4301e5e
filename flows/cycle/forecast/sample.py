"""A few items of a source through the settings' transform, and what reading them took."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from remine.data.errors import InputError
from remine.data.items.bad_items import BadItems
from remine.data.items.catalogue import Catalogue
from remine.data.items.colour import first_with_colour
from remine.data.items.inputs import ImageTransform, Transform, without_padding
from remine.data.items.shards import content_hash, row_namer
from remine.data.items.source_catalogue import build_catalogue
from remine.data.sources.source import Source, open_source
from remine.flows.stages.prepare import transform_of

if TYPE_CHECKING:
    from remine.flows.config.settings import Config

BLOCK = 32
"""Items that are read at a time."""
MOST = 512
"""Items that are read at most."""
SECONDS = 0.6
"""Time for reading them, beside the first block."""
PATH_BYTES = 60
"""Bytes of the path of a picture in the store."""
TEXT_SHARE = 0.5
"""What compression leaves of texts."""
ROW_BYTES = 60
"""Bytes of an item's id, label, split and hash in the store."""


@dataclass(frozen=True, kw_only=True)
class SourceSample:
    """A source and a few of its items.

    Attributes:
        content: What the items are.
        catalogue: Of all items.
        shape: Of an input, as the encoder's design has it.
        inputs: (m, ...) inputs of the first items.
        start_seconds: To open the source and to read the metadata of all items.
        item_seconds: To read, decode and hash an item.
        content_bytes: Of an item's content in the store.
    """

    content: str
    catalogue: Catalogue
    shape: tuple[int, ...]
    inputs: np.ndarray
    start_seconds: float
    item_seconds: float
    content_bytes: float

    @property
    def prepare_seconds(self) -> float:
        """To read, decode and hash all items."""
        return self.start_seconds + len(self.catalogue.ids) * self.item_seconds

    @property
    def input_bytes(self) -> float:
        """Of an item's input."""
        return self.inputs.nbytes / len(self.inputs)


def read_sample(config: "Config") -> SourceSample:
    """Read the first items of the settings' source.

    Raises:
        InputError: The source or the encoder cannot be used, or none of the items can be read.
    """
    start = time.perf_counter()
    source = open_source(config.data, config.base)
    catalogue = build_catalogue(source, config.data)
    transform = BadItems(transform_of(source, config))
    opened_seconds = time.perf_counter() - start
    blocks, sizes, seconds = _read_blocks(source, transform)
    later_rows = sum(map(len, blocks[1:]))
    if later_rows:
        item_seconds = sum(seconds[1:]) / later_rows
        # What the first block took longer is for opening files, fonts and the like.
        opened_seconds += max(0.0, seconds[0] - item_seconds * len(blocks[0]))
    else:
        item_seconds = seconds[0] / len(blocks[0])
    inputs = np.concatenate(blocks)
    return SourceSample(
        content=source.content,
        catalogue=catalogue,
        shape=inputs.shape[1:],
        inputs=without_padding(inputs, transform),
        start_seconds=opened_seconds,
        item_seconds=item_seconds,
        content_bytes=float(np.mean(sizes)) + ROW_BYTES,
    )


def _read_blocks(
    source: Source, transform: BadItems
) -> tuple[list[np.ndarray], list[float], list[float]]:
    """The inputs of some blocks, the bytes of each content, and the seconds of each block."""
    blocks: list[np.ndarray] = []
    sizes: list[float] = []
    seconds: list[float] = []
    clock, rows = time.perf_counter(), 0
    block: Any  # a sequence, or an array of vectors
    for block in source.blocks(BLOCK):
        _choose_channels(transform.transform, block)
        blocks.append(transform(block, row_namer(source, rows)))
        for content in block:
            _hash(content)
        sizes += [_stored_bytes(content) for content in block]
        now = time.perf_counter()
        seconds.append(now - clock)
        clock, rows = now, rows + len(block)
        if sum(seconds[1:]) > SECONDS or rows >= MOST or seconds[0] > 2 * SECONDS:
            break
    return blocks, sizes, seconds


def _choose_channels(transform: Transform, contents: Any) -> None:
    """Settle the channels by the first block alone: reading all headers may take long."""
    if isinstance(transform, ImageTransform) and not transform.channels:
        transform.channels = 1 if first_with_colour([contents]) is None else 3


def _hash(content: Any) -> None:
    try:
        content_hash(content)
    except OSError as error:
        raise InputError(str(error)) from None


def _stored_bytes(content: Any) -> float:
    """Bytes of a content among the items; vectors are stored as inputs alone."""
    if isinstance(content, Path):
        return PATH_BYTES
    if isinstance(content, str):
        return TEXT_SHARE * len(content.encode())
    return float(len(content)) if isinstance(content, bytes) else 0.0
