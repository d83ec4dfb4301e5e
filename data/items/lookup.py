"""Texts of single items of a published version, and codes of equal contents."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from remine.data import schemas
from remine.data.items.shards import content_hash
from remine.data.store.records import Artifact
from remine.data.store.store import Store
from remine.data.types import Int32

CACHED_GROUPS = 8
"""Row groups that stay in memory."""


class Texts:
    """The texts of items by row, read one row group at a time; the last few stay in memory."""

    def __init__(self, store: Store, items: Artifact, column: str = "text") -> None:
        """Read the row counts of the row groups, no texts yet."""
        shards = items.files[:-1]  # the last file holds the label names
        self.files = [pq.ParquetFile(store.path(file)) for file in shards]
        groups = [(f, g) for f in self.files for g in range(f.metadata.num_row_groups)]
        sizes = [file.metadata.row_group(group).num_rows for file, group in groups]
        self.starts = np.cumsum([0, *sizes])

        @lru_cache(maxsize=CACHED_GROUPS)
        def read(number: int) -> pa.ChunkedArray:
            file, group = groups[number]
            return file.read_row_group(group, columns=[column])[column]

        self._read = read

    def __getitem__(self, row: int) -> str:
        """The text of the item at `row` in the order of ids."""
        return str(self.value(row))

    def value(self, row: int) -> Any:
        """What the column holds at `row`, of any type; None if it is missing."""
        group = int(np.searchsorted(self.starts, row, side="right")) - 1
        return self._read(group)[row - int(self.starts[group])].as_py()


class ContentCodes:
    """Codes of the items' contents: (n,) int32, equal for items with equal content."""

    def __init__(self, store: Store, items: Artifact) -> None:
        """Read the content hashes of all items."""
        shards = store.paths(items)[:-1]
        table = schemas.read(shards, schema=schemas.ITEMS, columns=["content_hash"])
        dictionary_array = pc.dictionary_encode(table["content_hash"].combine_chunks())
        if isinstance(dictionary_array, pa.ChunkedArray):
            dictionary_array = dictionary_array.combine_chunks()
        self.codes: Int32 = dictionary_array.indices.to_numpy()
        self._unique_hashes = dictionary_array.dictionary

    def codes_of(self, contents: Sequence[bytes | str]) -> Int32:
        """The codes of other contents, -1 for a content that no item has."""
        hashes = pa.array([content_hash(content) for content in contents], pa.string())
        matches = pc.fill_null(pc.index_in(hashes, value_set=self._unique_hashes), -1)
        codes: Int32 = matches.to_numpy(zero_copy_only=False).astype(np.int32)
        return codes
