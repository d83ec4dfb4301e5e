"""What items are, in words, beside their ids: their texts, or the paths of their pictures.

And the other columns of the data that are kept with them.
"""

from functools import cache, cached_property
from typing import Any

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
        extra: Names of the other columns that are kept (data.extra_columns).
        columns: The names and types of all of these, `name` first.
    """

    def __init__(self, store: Store, items: Artifact) -> None:
        """Read nothing yet."""
        self._store, self._items = store, items
        content: str = items.card["content"]
        self.name = content if content in ("text", "path") else None
        extra: list[list[str]] = items.card.get("extra", [])
        self.extra = tuple(name for name, _ in extra)
        self.columns: dict[str, pa.DataType] = {self.name: pa.string()} if self.name else {}
        self.columns |= {name: pa.type_for_alias(alias) for name, alias in extra}
        self._column = cache(self._open)

    def at(self, rows: Int64) -> pa.Array:
        """The contents (m,) of the items at `rows` as strings.

        More than FEW rows keep the contents of all items in memory.
        """
        assert self.name
        return self.values(self.name, rows)

    def values(self, name: str, rows: Int64) -> pa.Array:
        """One of the columns (m,) at `rows`; for the memory see `at`."""
        if len(rows) > FEW:
            return self._all[name].take(pa.array(rows)).combine_chunks()
        column = self._column(name)
        return pa.array([column.value(int(row)) for row in rows], self.columns[name])

    def rows(self, rows: Int64) -> list[dict[str, Any]]:
        """All columns of the items at `rows` (m,) by name; an empty one for items without any."""
        lists = [self.values(name, rows).to_pylist() for name in self.columns]
        return [dict(zip(self.columns, values, strict=True)) for values in _transposed(lists, rows)]

    def extra_fields(self, row: int) -> dict[str, Any]:
        """The other columns of the item at `row`, by name."""
        return {name: self._column(name).value(row) for name in self.extra}

    def _open(self, name: str) -> Texts:
        return Texts(self._store, self._items, name)

    @cached_property
    def _all(self) -> pa.Table:
        shards = self._store.paths(self._items)[:-1]  # the last file holds the label names
        return schemas.read(shards, schema=schemas.ITEMS, columns=list(self.columns))


def _transposed(lists: list[list[Any]], rows: Int64) -> list[tuple[Any, ...]]:
    return list(zip(*lists, strict=True)) if lists else [()] * len(rows)


def shortened(text: str, limit: int | None) -> str:
    """A text on one line, cut to `limit` characters if there is a limit."""
    line = " ".join(text.split())
    return line if limit is None or len(line) <= limit else f"{line[: limit - 1]}…"
