"""Users' data as items. Each source gives the metadata of all at once and their content in blocks.

A source knows how to name a row in a message (`where`); what is wrong with a row is found by
data.items.catalogue.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from remine.data.config import DataConfig
from remine.data.errors import InputError
from remine.data.sources.array import ArraySource
from remine.data.sources.image_folder import FolderSource
from remine.data.sources.table import TableSource
from remine.data.types import Float32


class Source(Protocol):
    """Items in order of id. `content` is image, path, text or vector; paths start at `root`.

    numbered: whether the items have no ids of their own. Such a source has a method more, `taken`,
    which gives the contents in another order.
    """

    content: str
    root: Path

    @property
    def numbered(self) -> bool:
        """See above."""

    def fingerprint(self) -> object:
        """JSON that changes when the data does."""

    def where(self, row: int) -> str:
        """A name for `row` in messages: the file and the row in it, counted from 0."""

    def metadata(self) -> pa.Table:
        """`label` of every item and, where the source has them, `id`, `split` and `group`."""

    def blocks(self, rows: int) -> Iterator[Sequence[Any] | Float32]:
        """The contents, `rows` at a time: bytes, Path, str, or a (rows, d) float32 array."""


def open_source(config: DataConfig, base: Path) -> Source:
    """The source that `config` names; relative paths start at `base`."""
    if config.source == "glyphs":
        from remine.data.sources.glyphs import GlyphSource  # with matplotlib, which only they need

        return GlyphSource(config.glyphs)
    path = (base / config.source).resolve()
    if not path.exists():
        raise InputError(f"data.source: {path} does not exist")
    if path.suffix == ".npy":
        return ArraySource(path, base / config.labels if config.labels else None)
    if path.suffix in (".parquet", ".csv") or (path.is_dir() and any(path.glob("*.parquet"))):
        return TableSource(path, {str(ours): theirs for ours, theirs in config.columns.items()})
    if path.is_dir():
        return FolderSource(path)
    raise InputError(f"data.source: {path} is not a Parquet, CSV or .npy file, nor a folder")
