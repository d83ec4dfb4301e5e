"""The protocol of a source of items, and the choice of the reader for a path.

A source gives the metadata of all items at once and their contents in blocks. It does not check
the values: `remine.data.items.catalogue` checks the metadata, a transform the contents. It only
names rows for their messages. A new input format is a class with these methods, and a line in
`open_source`.
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
from remine.data.sources.table_folder import is_parquet, is_table_folder, list_files
from remine.data.types import Float32


class Source(Protocol):
    """Items in order of id.

    Attributes:
        content: What the contents are: image, path, text or vector.
        root: The folder that paths are relative to.
        lacks_ids: Whether the items have no ids of their own. Such a source also has the method
            `ordered_blocks(order, rows)`, which gives the contents in another order.
    """

    content: str
    root: Path

    @property
    def notes(self) -> Sequence[str]:
        """Lines for the user: what was passed over or taken for something else.

        Reading the metadata may add to them.
        """

    @property
    def lacks_ids(self) -> bool:
        """Whether the items have no ids of their own."""

    def fingerprint(self) -> object:
        """JSON that changes whenever the data changes."""

    def row_name(self, row: int) -> str:
        """The name of `row` in messages: the file and the row in it.

        Rows are counted from 0; text files are counted in lines, from 1.
        """

    def metadata(self) -> pa.Table:
        """The column `label` and, if the source has them, `id`, `split` and `group`."""

    def blocks(self, rows: int) -> Iterator[Sequence[Any] | Float32]:
        """The contents, `rows` at a time: bytes, Path, str, or a (rows, d) float32 array."""


def open_source(config: DataConfig, base: Path) -> Source:
    """Open the source that `config` names.

    Args:
        config: The settings of the data.
        base: The folder that relative paths start at.

    Raises:
        InputError: The path does not exist or is of no known format.
    """
    source = _open(config, base)
    if config.extra_columns and not isinstance(source, TableSource):
        raise InputError(
            f"data.extra_columns names {config.extra_columns[0]!r}, but data.source"
            f" {config.source!r} is no table: leave it out"
        )
    return source


def _open(config: DataConfig, base: Path) -> Source:
    if config.source == "glyphs":
        from remine.data.sources.glyphs import GlyphSource  # imports matplotlib

        return GlyphSource(config.glyphs)
    path = (base / config.source).resolve()
    if not path.exists():
        raise InputError(f"data.source: {path} does not exist")
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return ArraySource(path, base / config.labels if config.labels else None)
    is_file = path.is_file() and (suffix == ".csv" or is_parquet(path))
    if is_file or (path.is_dir() and is_table_folder(path)):
        columns = {str(ours): theirs for ours, theirs in config.columns.items()}
        return TableSource(path, columns, extra=config.extra_columns)
    if path.is_dir():
        return _open_pictures(path, config.class_folders)
    raise InputError(f"data.source: {path} is not a Parquet, CSV or .npy file, nor a folder")


def _open_pictures(folder: Path, class_folders: str) -> FolderSource:
    try:
        return FolderSource(folder, class_folders)
    except InputError as error:
        if not (tables := [path for path in list_files(folder) if is_parquet(path)]):
            raise
        raise InputError(
            f"{error}; to read its {len(tables):,} Parquet files, name their folder:"
            f" {tables[0].parent}"
        ) from None
