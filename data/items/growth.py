"""A new version of the items of a source that decodes only what is new or changed.

Shards are cut at the same ids as the earlier ones, so a shard without a change is the same file.
In the other shards the inputs of unchanged items are copied.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa

from remine.data import schemas
from remine.data.config import DataConfig
from remine.data.errors import InputError
from remine.data.items.catalogue import Catalogue, Hashes
from remine.data.items.changes import (
    EarlierItems,
    ItemComparison,
    assign_ids,
    assign_numbers,
    compare_items,
    content_hashes,
    shard_ranges,
)
from remine.data.items.inputs import Inputs, Transform, without_padding
from remine.data.items.shards import (
    Progress,
    StagedItems,
    items_card,
    items_schema_name,
    items_table,
)
from remine.data.items.source_catalogue import build_catalogue, texts
from remine.data.sources.keys import holds_text, read_keys
from remine.data.sources.labels import clean_labels
from remine.data.sources.source import Source
from remine.data.store.records import FileRef
from remine.data.store.store import Store
from remine.data.types import Float32, Int64

Block = Sequence[Any] | np.ndarray
"""Contents of consecutive items."""


class NumberedSource:
    """A source without integer ids, presented as one with the assigned ids, in order of id."""

    lacks_ids = False

    def __init__(self, source: Source, ids: Int64) -> None:
        """ids: (n,) by row of `source`."""
        self.source: Any = source  # with the method `ordered_blocks`
        self.content, self.root, self.notes = source.content, source.root, source.notes
        self.order = np.argsort(ids, kind="stable")
        self.ids: Int64 = ids[self.order]
        self.is_reordered = bool((self.order[1:] < self.order[:-1]).any())

    def fingerprint(self) -> object:
        """The fingerprint of the underlying source."""
        fingerprint: object = self.source.fingerprint()
        return fingerprint

    def row_name(self, row: int) -> str:
        """The name of the row in the underlying source."""
        return str(self.source.row_name(int(self.order[row])))

    def metadata(self) -> pa.Table:
        """The metadata of the underlying source, and the ids; its own ids are called `key`."""
        table: pa.Table = self.source.metadata().take(self.order)
        table = table.rename_columns(
            ["key" if name == "id" else name for name in table.column_names]
        )
        return table.append_column("id", pa.array(self.ids))

    def blocks(self, rows: int) -> Iterator[Sequence[Any] | Float32]:
        """The contents in order of id, `rows` at a time."""
        if self.is_reordered:
            yield from self.source.ordered_blocks(self.order, rows)
        else:
            yield from self.source.blocks(rows)


def match_by_content(
    source: Source, hashes: Hashes, earlier: EarlierItems
) -> tuple[NumberedSource, Hashes]:
    """Give the items of a source without ids the ids of earlier items with the same content.

    Returns:
        The source with ids, and the content hashes in order of id.
    """
    labels = clean_labels(texts(source.metadata(), "label", "data.source")).to_pylist()
    numbered_source = NumberedSource(source, assign_ids(labels, hashes, earlier))
    return numbered_source, hashes[numbered_source.order]


def recode_labels(catalogue: Catalogue, earlier_labels: Sequence[str]) -> Catalogue:
    """The catalogue with label names in their earlier order, followed by the new ones.

    Adding a label thus changes no code; only removing one does.
    """
    names = set(catalogue.labels)
    remaining = [label for label in earlier_labels if label in names]
    labels = remaining + sorted(names - set(remaining))
    new_code = {label: code for code, label in enumerate(labels)}
    codes = np.array([new_code[label] for label in catalogue.labels], np.int32)
    return replace(catalogue, labels=labels, label_codes=codes[catalogue.label_codes])


def match_by_key(
    source: Source, ids: pa.ChunkedArray, hashes: Hashes, earlier: EarlierItems
) -> tuple[NumberedSource, Hashes]:
    """Give the items of a source whose ids are texts the numbers of the earlier items.

    Args:
        source: The source.
        ids: Its column of ids.
        hashes: (n,) the content hashes of its items.
        earlier: The items that were stored last.

    Returns:
        The source with numbers, and the content hashes in their order.

    Raises:
        InputError: An id is missing, empty, or given twice.
    """
    keys = read_keys(ids, source.row_name)
    numbered_source = NumberedSource(source, assign_numbers(keys, earlier))
    return numbered_source, hashes[numbered_source.order]


@dataclass(frozen=True, kw_only=True)
class ItemsUpdate:
    """A changed source, ready to be stored next to the earlier items.

    Attributes:
        source: The source in order of id.
        catalogue: Its items.
        hashes: (n,) the content hashes of the items.
        comparison: The items compared with the earlier ones.
        earlier: The items that were stored last.
    """

    source: Source
    catalogue: Catalogue
    hashes: Hashes
    comparison: ItemComparison
    earlier: EarlierItems

    @classmethod
    def of(cls, source: Source, config: DataConfig, earlier: EarlierItems) -> Self:
        """Compare a source with the earlier items. Contents are hashed, none is decoded.

        Raises:
            InputError: The source's ids, labels or splits are not valid.
        """
        # Reading the metadata brings the rows into the order of ids.
        metadata = source.metadata()
        hashes = content_hashes(source)
        if source.lacks_ids:
            source, hashes = match_by_content(source, hashes, earlier)
        elif holds_text(metadata["id"].type):
            source, hashes = match_by_key(source, metadata["id"], hashes, earlier)
        catalogue = recode_labels(build_catalogue(source, config), earlier.catalogue.labels)
        comparison = compare_items(catalogue, hashes, earlier)
        return cls(
            source=source,
            catalogue=catalogue,
            hashes=hashes,
            comparison=comparison,
            earlier=earlier,
        )

    def stage(
        self, store: Store, transform: Transform, folder: Path, size: int, progress: Progress
    ) -> StagedItems:
        """Check every new row and write the shards that changed to `folder`.

        Args:
            store: The store that has the earlier items.
            transform: Decodes contents to inputs.
            folder: Where new files are written.
            size: Rows of a shard.
            progress: Called after each shard.
        """
        ranges = shard_ranges(self.catalogue.ids, self.earlier.lasts, size)
        old = Inputs(store.paths(self.earlier.inputs))
        files: list[tuple[Path | FileRef, Path | FileRef, int]] = []
        blocks = regroup(self.source.blocks(size), [stop - start for start, stop in ranges])
        for (start, stop), contents in zip(ranges, blocks, strict=True):
            items, inputs = self._reusable_files(start, stop, old)
            parquet, npy = folder / f"{start}.parquet", folder / f"{start}.npy"
            if items is None:
                table = self._table(start, stop, contents)
                name = items_schema_name(self.catalogue)
                schemas.write(table, parquet, schema=name, provenance={})
            if inputs is None:
                block = self._inputs(start, stop, contents, old, transform)
                np.save(npy, without_padding(block, transform))
            files.append((items or parquet, inputs or npy, stop - start))
            progress(stop, len(self.catalogue.ids))
        change = {**self.comparison.change.to_json(), "base": self.earlier.items.digest}
        card = self.earlier.inputs.card
        return StagedItems(
            files=files,
            labels=self.catalogue.labels,
            items_card={**items_card(self.source, self.catalogue), "change": change},
            inputs_card={"shape": card["shape"], "dtype": card["dtype"]},
        )

    def new_contents(self, rows: int) -> Iterator[Sequence[Any]]:
        """The contents that are new or changed, of `rows` items at a time."""
        start = 0
        for block in self.source.blocks(rows):
            is_new = ~self.comparison.same_content[start : start + len(block)]
            yield [block[row] for row in np.flatnonzero(is_new).tolist()]
            start += len(block)

    def _reusable_files(
        self, start: int, stop: int, old: Inputs
    ) -> tuple[FileRef | None, FileRef | None]:
        """The earlier items file and inputs file with exactly these rows; None to write a new one.

        The shard must consist of all rows of one earlier shard, with the same contents.
        """
        part = slice(start, stop)
        rows = self.comparison.earlier_rows[part]
        shard = int(np.searchsorted(old.starts, rows[0]))
        if rows[0] != old.starts[shard] or not self.comparison.same_content[part].all():
            return None, None
        if rows[-1] + 1 != old.starts[shard + 1] or len(rows) != len(old.shards[shard]):
            return None, None
        # The path of a picture may differ although its content is the same.
        same_items = self.source.content != "path" and self.comparison.same_row[part].all()
        items = self.earlier.items.files[shard] if same_items else None
        return items, self.earlier.inputs.files[shard]

    def _table(self, start: int, stop: int, contents: Block) -> pa.Table:
        hashes = [value.decode() for value in self.hashes[start:stop].tolist()]
        return items_table(self.catalogue, slice(start, stop), contents, self.source, hashes)

    def _inputs(
        self, start: int, stop: int, contents: Block, old: Inputs, transform: Transform
    ) -> np.ndarray:
        """The inputs of a shard: copied for unchanged items, decoded for the others."""
        is_unchanged = self.comparison.same_content[start:stop]
        shape, dtype = tuple(self.earlier.inputs.card["shape"]), old.shards[0].dtype
        inputs = np.zeros((stop - start, *shape), dtype)
        old_rows = old[self.comparison.earlier_rows[start:stop][is_unchanged]]
        if old_rows.shape[1:] == shape:
            inputs[is_unchanged] = old_rows
        else:  # stored without its padding
            inputs[is_unchanged, : old_rows.shape[1]] = old_rows
        new_rows = np.flatnonzero(~is_unchanged)
        if not len(new_rows):
            return inputs

        def row_name(row: int) -> str:
            return self.source.row_name(start + int(new_rows[row]))

        rows: Any = contents
        is_array = isinstance(contents, np.ndarray)
        block = transform(rows[new_rows] if is_array else [rows[i] for i in new_rows], row_name)
        if block.shape[1:] != shape or block.dtype != dtype:
            raise InputError(
                f"{row_name(0)}: {block.dtype} of shape {block.shape[1:]}, the items before are"
                f" {dtype} {shape}"
            )
        inputs[new_rows] = block
        return inputs


def regroup(blocks: Iterator[Block], sizes: Sequence[int]) -> Iterator[Block]:
    """Yield the rows of `blocks` in blocks of the given sizes."""
    pending: list[Block] = []
    count = 0
    for size in sizes:
        while count < size:
            pending.append(next(blocks))
            count += len(pending[-1])
        # Blocks usually match the sizes, and then nothing is copied.
        rows: Any = pending[0] if len(pending) == 1 else _concatenate(pending)
        yield rows[:size]
        pending, count = [rows[size:]], count - size


def _concatenate(parts: Sequence[Any]) -> Block:
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    return [content for part in parts for content in part]
