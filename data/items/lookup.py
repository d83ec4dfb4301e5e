"""Single items of a published version: their content, and which of them are the same."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from remine.data import schemas
from remine.data.items.catalogue import content_hash
from remine.data.store.records import Artifact
from remine.data.store.store import Store
from remine.data.types import Int32

PICTURES = ("image", "path")


class Texts:
    """The texts of items by row, a row group at a time, the last few kept."""

    def __init__(self, store: Store, items: Artifact, column: str = "text") -> None:
        """Look up where each row group starts."""
        shards = items.files[:-1]  # the last file holds the label names
        self.files = [pq.ParquetFile(store.path(file)) for file in shards]
        groups = [(f, g) for f in self.files for g in range(f.metadata.num_row_groups)]
        sizes = [f.metadata.row_group(g).num_rows for f, g in groups]
        self.starts = np.cumsum([0, *sizes])

        @lru_cache(maxsize=8)
        def read(place: int) -> pa.ChunkedArray:
            file, group = groups[place]
            return file.read_row_group(group, columns=[column])[column]

        self._read = read

    def __getitem__(self, row: int) -> str:
        """The text of the item at `row` in the order of ids."""
        place = int(np.searchsorted(self.starts, row, side="right")) - 1
        return str(self._read(place)[row - int(self.starts[place])].as_py())


class Contents:
    """Equal content by number: codes (n,) int32, the same for items whose content is the same."""

    def __init__(self, store: Store, items: Artifact) -> None:
        """Read the content hashes of all items."""
        shards = store.paths(items)[:-1]
        table = schemas.read(shards, schema="items/1", columns=["content_hash"])
        whole = pc.dictionary_encode(table["content_hash"].combine_chunks())
        if isinstance(whole, pa.ChunkedArray):
            whole = whole.combine_chunks()
        self.codes: Int32 = whole.indices.to_numpy()
        self._known = whole.dictionary

    def of(self, contents: Sequence[bytes | str]) -> Int32:
        """The codes of contents from elsewhere, -1 where no item has such."""
        hashes = pa.array([content_hash(content) for content in contents], pa.string())
        found = pc.fill_null(pc.index_in(hashes, value_set=self._known), -1)
        codes: Int32 = found.to_numpy(zero_copy_only=False).astype(np.int32)
        return codes
