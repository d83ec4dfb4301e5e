"""Sources that are only embedded: as those of items, but labels may be missing."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from remine.data.config import DataConfig
from remine.data.errors import InputError
from remine.data.sources.array import load_matrix
from remine.data.sources.picture_formats import is_picture_ending
from remine.data.sources.source import Source, open_source
from remine.data.sources.table import TableSource
from remine.data.types import Float32


class ListSource:
    """Contents in a list or an array, without ids, labels and splits.

    Implements what is needed of `remine.data.sources.source.Source` to read it once.
    """

    lacks_ids = True

    def __init__(self, content: str, root: Path, contents: Any, notes: Sequence[str] = ()) -> None:
        """`content`: "path" or "vector"; `contents`: paths, or vectors (n, d)."""
        self.content, self.root, self.contents, self.notes = content, root, contents, notes

    def fingerprint(self) -> object:
        """Never asked for: nothing of it is stored."""
        raise NotImplementedError

    def row_name(self, row: int) -> str:
        """The picture, or the file and the row in it."""
        is_path = self.content == "path"
        return str(self.contents[row]) if is_path else f"{self.root}: row {row}"

    def metadata(self) -> pa.Table:
        """No column, and as many rows as there are contents."""
        return pa.table({"row": np.arange(len(self.contents))}).select([])

    def blocks(self, rows: int) -> Iterator[Sequence[Any] | Float32]:
        """The contents, `rows` at a time."""
        for start in range(0, len(self.contents), rows):
            block = self.contents[start : start + rows]
            yield block if self.content == "path" else np.asarray(block, np.float32)


def open_unlabelled(config: DataConfig, base: Path) -> Source:
    """Open the source that `config` names, with its labels if it has any.

    Args:
        config: The settings of the data.
        base: The folder that relative paths start at.

    Raises:
        InputError: The path does not exist, or is of no known format.

    """
    path = (base / config.source).resolve()
    suffix = path.suffix.lower()
    if suffix == ".npy" and path.is_file() and not config.labels:
        return ListSource("vector", path, load_matrix(path, memory_map=True))
    if path.is_dir() and (pictures := _flat_pictures(path)):
        others = sum(1 for entry in path.iterdir() if entry not in set(pictures))
        notes = [f"{path}: {others:,} passed over beside its pictures"] if others else []
        return ListSource("path", path, pictures, notes)
    if path.is_file() and suffix != ".npy":
        columns = {str(ours): theirs for ours, theirs in config.columns.items()}
        if suffix == ".csv" or suffix in (".parquet", ".parq", ".pq"):
            return TableSource(path, columns, needs_labels=False)
        if is_picture_ending(suffix):
            return ListSource("path", path.parent, [path])
    try:
        return open_source(config, base)
    except InputError as error:
        raise InputError(str(error).removeprefix("data.source: ")) from None


def _flat_pictures(folder: Path) -> list[Path]:
    """The pictures that lie in a folder itself; none if it has folders, which are classes."""
    entries = [entry for entry in sorted(folder.iterdir()) if not entry.name.startswith(".")]
    if any(entry.is_dir() for entry in entries):
        return []
    return [entry for entry in entries if is_picture_ending(entry.suffix.lower())]
