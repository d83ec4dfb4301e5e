"""What items are, in words, beside their ids: their texts, or the paths of their pictures."""

from functools import cached_property

import pyarrow as pa

from remine.data import schemas
from remine.data.items.lookup import Texts
from remine.data.store.records import Artifact
from remine.data.store.store import Store
from remine.data.types import Int64

FEW = 500
"""Rows up to which single row groups are read; for more, all contents are read and kept."""


class ItemContents:
    """Texts of items, or paths of pictures relative to the source's folder, by row.

    Attributes:
        name: "text" or "path"; None if the items are vectors, or pictures without a path.
    """

    def __init__(self, store: Store, items: Artifact) -> None:
        """Read nothing yet."""
        self._store, self._items = store, items
        content: str = items.card["content"]
        self.name = content if content in ("text", "path") else None

    def at(self, rows: Int64) -> pa.Array:
        """The contents (m,) of the items at `rows` as strings.

        More than FEW rows keep the contents of all items in memory.
        """
        assert self.name
        if len(rows) > FEW:
            return self._all.take(pa.array(rows)).combine_chunks()
        return pa.array([self._some[int(row)] for row in rows], pa.string())

    @cached_property
    def _some(self) -> Texts:
        return Texts(self._store, self._items, self.name or "")

    @cached_property
    def _all(self) -> pa.ChunkedArray:
        shards = self._store.paths(self._items)[:-1]  # the last file holds the label names
        return schemas.read(shards, schema=schemas.ITEMS, columns=[self.name or ""])[self.name]


def shortened(text: str, limit: int | None) -> str:
    """A text on one line, cut to `limit` characters if there is a limit."""
    line = " ".join(text.split())
    return line if limit is None or len(line) <= limit else f"{line[: limit - 1]}…"
