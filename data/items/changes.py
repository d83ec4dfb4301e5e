"""Which items of a source are new, changed or deleted, compared with the items in a store.

An item is identified by its id and its content hash. In a source without ids the row number does
not identify an item, because inserting a row shifts all rows after it. There an item is identified
by its content and keeps the id that it was first assigned; ids of deleted items are not reused.
In a source whose ids are texts, an item keeps the number that its id was first assigned.
"""

from collections import defaultdict, deque
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from remine.data.config import DataConfig
from remine.data.errors import InputError
from remine.data.items.catalogue import (
    Catalogue,
    Hashes,
    read_catalogue,
    read_extras,
    read_hashes,
    rows_of,
)
from remine.data.items.shards import content_hash
from remine.data.sources.keys import Keys
from remine.data.sources.source import Source
from remine.data.store.records import Artifact, digest
from remine.data.store.store import Store
from remine.data.types import Int64

BLOCK = 4096
"""Items whose contents are read at a time for hashing."""


@dataclass(frozen=True, kw_only=True)
class EarlierItems:
    """The items and inputs that were stored last, and what is needed to compare with them.

    Attributes:
        items, inputs: The stored artifacts.
        catalogue: The catalogue of the stored items.
        hashes: (n,) content hashes of the items, in order of id.
        lasts: (s,) the last id of each shard.
        next_id: The id that the next item without an id of its own is assigned.
        extras: The user's other columns, None if there are none.
    """

    items: Artifact
    inputs: Artifact
    catalogue: Catalogue
    hashes: Hashes
    lasts: Int64
    next_id: int
    extras: pa.Table | None = None

    @classmethod
    def read(cls, store: Store, items: Artifact, inputs: Artifact) -> Self:
        """Load the earlier items; the files that are read are verified first."""
        catalogue, hashes = read_catalogue(store, items), read_hashes(store, items)
        ends = np.cumsum([file.rows for file in items.files[:-1]])  # the last file holds the labels
        after_last = int(catalogue.ids[-1]) + 1
        return cls(
            items=items,
            inputs=inputs,
            catalogue=catalogue,
            hashes=hashes,
            lasts=catalogue.ids[ends - 1],
            next_id=max(after_last, int(items.card.get("next_id", 0))),
            extras=read_extras(store, items),
        )


@dataclass(frozen=True, kw_only=True)
class Change:
    """The number of items that are new, changed, deleted, the same.

    An item is changed if its content, label, split, group or another column that is kept has.
    The field names are those of the JSON in the card of an `items` artifact.
    """

    new: int
    changed: int
    deleted: int
    same: int

    @property
    def is_empty(self) -> bool:
        """Whether no item is new, changed or deleted."""
        return not (self.new or self.changed or self.deleted)

    @property
    def share(self) -> float:
        """New, changed and deleted items as a share of all items before and after, 0 to 1."""
        differences = self.new + self.changed + self.deleted
        return differences / max(1, differences + self.same)

    def line(self) -> str:
        """One line of text with the four numbers."""
        return (
            f"items: {self.new:,} new, {self.changed:,} changed, {self.deleted:,} deleted,"
            f" {self.same:,} as before"
        )

    def to_json(self) -> dict[str, int]:
        """The four numbers by field name."""
        return vars(self).copy()


@dataclass(frozen=True, kw_only=True)
class ItemComparison:
    """The items of a source compared with the earlier items, by id.

    Attributes:
        change: The counts.
        earlier_rows: (n,) the row of the same id among the earlier items, -1 for a new id.
        same_content: (n,) whether the content hash is the same.
        same_row: (n,) whether label code, split, group and other columns are the same, too.
    """

    change: Change
    earlier_rows: Int64
    same_content: NDArray[np.bool_]
    same_row: NDArray[np.bool_]


def content_hashes(source: Source) -> Hashes:
    """The hash of every item's content in the order of the source, without decoding anything."""
    hashes: list[str] = []
    for contents in source.blocks(BLOCK):
        for content in contents:
            try:
                hashes.append(content_hash(content))
            except OSError:
                # A missing picture is reported with its row when it is to be decoded.
                hashes.append("")
    return np.array(hashes, "S32")


def compare_items(catalogue: Catalogue, hashes: Hashes, earlier: EarlierItems) -> ItemComparison:
    """Compare the items of a source with the earlier items.

    Args:
        catalogue: The items of the source, in order of id.
        hashes: (n,) their content hashes.
        earlier: The items that were stored last.
    """
    old = earlier.catalogue
    # Rows of new ids are -1 and index the last earlier item below; `has_earlier` masks them out.
    rows = rows_of(catalogue.ids, old.ids)
    if (catalogue.keys is None) != (old.keys is None):
        rows = np.full_like(rows, -1)  # equal numbers do not mean one item
    has_earlier = rows >= 0
    same_content = has_earlier & (earlier.hashes[rows] == hashes)
    new_codes = {label: code for code, label in enumerate(catalogue.labels)}
    new_code_of = np.array([new_codes.get(label, -1) for label in old.labels], np.int64)
    same_label = new_code_of[old.label_codes][rows] == catalogue.label_codes
    same_item = same_content & same_label & (old.splits[rows] == catalogue.splits)
    same_item &= _group_array(old)[rows] == _group_array(catalogue)
    same_item &= _same_extras(earlier.extras, catalogue.extras, rows)
    n_common, n_same = int(has_earlier.sum()), int(same_item.sum())
    change = Change(
        new=len(rows) - n_common,
        changed=n_common - n_same,
        deleted=len(old.ids) - n_common,
        same=n_same,
    )
    # A label may have kept its name and got another code, which changes the stored row.
    same_row = same_item & (old.label_codes[rows] == catalogue.label_codes)
    return ItemComparison(
        change=change, earlier_rows=rows, same_content=same_content, same_row=same_row
    )


def _same_extras(old: pa.Table | None, new: pa.Table | None, rows: Int64) -> NDArray[np.bool_]:
    """Whether the other columns of each item (n,) equal those of its earlier row."""
    if old is None or new is None or old.schema.remove_metadata() != new.schema.remove_metadata():
        return np.full(len(rows), old is None and new is None)
    same = np.ones(len(rows), bool)
    places = pa.array(np.maximum(rows, 0))
    for name in new.column_names:
        before, now = old[name].take(places), new[name]
        is_equal = pc.fill_null(pc.equal(before, now), False)
        both_missing = pc.and_(pc.is_null(before), pc.is_null(now))
        same &= np.asarray(pc.or_(is_equal, both_missing))
    return same


def assign_ids(labels: Sequence[str], hashes: Hashes, earlier: EarlierItems) -> Int64:
    """Ids (n,) for the items of a source without ids.

    An item gets the id of an earlier item with the same content. Among several, one with the same
    label is preferred, then the first that is free. The remaining items get the next new ids.
    """
    ids = np.full(len(hashes), -1, np.int64)
    old = earlier.catalogue
    old_labels = [old.labels[code] for code in old.label_codes]
    old_hashes, new_hashes = earlier.hashes.tolist(), hashes.tolist()
    used_ids: set[int] = set()
    # First pass: same content and label. Second pass: same content, for items left over.
    for old_keys, new_keys in (
        (zip(old_hashes, old_labels, strict=True), list(zip(new_hashes, labels, strict=True))),
        (iter(old_hashes), new_hashes),
    ):
        _assign_free_ids(ids, new_keys, old_keys, old.ids.tolist(), used_ids)
    is_new = ids < 0
    ids[is_new] = earlier.next_id + np.arange(int(is_new.sum()))
    return ids


def assign_numbers(keys: Keys, earlier: EarlierItems) -> Int64:
    """Numbers (n,) for the items of a source whose ids are texts.

    An item keeps the number of the earlier item with its id. The remaining ones get the next
    numbers, and so do all if the earlier ids were no texts.

    Raises:
        InputError: There are not enough numbers left.
    """
    old = earlier.catalogue
    rows = np.full(len(keys), -1) if old.keys is None else old.keys.rows(keys.texts)
    is_new = rows < 0
    n_new = int(is_new.sum())
    if earlier.next_id + n_new > 2**63:
        raise InputError(
            f"id: the items in the store had integer ids up to {earlier.next_id - 1}, so that"
            f" {n_new:,} texts cannot be numbered after them: name another store in run.store"
        )
    numbers: Int64 = old.ids[rows]
    numbers[is_new] = earlier.next_id + np.arange(n_new)
    return numbers


def numbering_note(catalogue: Catalogue, earlier: EarlierItems) -> str | None:
    """The line that says that ids are of another kind than before; None if they are not."""
    kinds = [
        "integers" if keys is None else "texts" for keys in (earlier.catalogue.keys, catalogue.keys)
    ]
    if kinds[0] == kinds[1]:
        return None
    return f"id: {kinds[0]} before, {kinds[1]} now: all items count as new"


def _assign_free_ids(
    ids: Int64,
    new_keys: Sequence[Hashable],
    old_keys: Iterable[Hashable],
    old_ids: Sequence[int],
    used_ids: set[int],
) -> None:
    """Give each item that has no id yet the first unused earlier id with the same key."""
    free: dict[Hashable, deque[int]] = defaultdict(deque)
    for key, item_id in zip(old_keys, old_ids, strict=True):
        if item_id not in used_ids:
            free[key].append(item_id)
    for row in np.flatnonzero(ids < 0).tolist():
        if candidates := free.get(new_keys[row]):
            ids[row] = candidates.popleft()
            used_ids.add(int(ids[row]))


def shard_ranges(ids: Int64, lasts: Int64, size: int) -> list[tuple[int, int]]:
    """The rows (start, stop) of each shard, cut at the same ids as the earlier shards.

    Args:
        ids: (n,) ids of all items, ascending.
        lasts: (s,) the last id of each earlier shard.
        size: Rows of a shard. Items after the last earlier one first fill the last shard up to
            this size, then make new shards. A shard that grew beyond twice the size is divided;
            neighbours that together have at most half the size are joined.
    """
    ends: list[int] = np.searchsorted(ids, lasts, side="right").tolist()
    n = len(ids)
    ranges: list[tuple[int, int]] = []
    start = 0
    for stop in ends:
        # `start` to `stop` are the present rows of one earlier shard.
        if ranges and stop - ranges[-1][0] <= size // 2:
            ranges[-1] = (ranges[-1][0], stop)
        elif stop - start > 2 * size:
            cuts = np.linspace(start, stop, -(-(stop - start) // size) + 1).astype(int).tolist()
            ranges += pairwise(cuts)
        elif stop > start:
            ranges.append((start, stop))
        start = stop
    # Rows after the last earlier id fill up the last shard; it changes anyway when items are added.
    if ranges and start < n:
        first = ranges[-1][0]
        start = max(start, min(n, first + size))
        ranges[-1] = (first, start)
    return ranges + [(row, min(row + size, n)) for row in range(start, n, size)]


def _group_array(catalogue: Catalogue) -> NDArray[Any]:
    """The groups as an (n,) array of objects that can be compared; None for a missing group."""
    groups = catalogue.groups
    if groups is None:
        return np.full(len(catalogue.ids), None, object)
    chunks = groups if isinstance(groups, pa.ChunkedArray) else pa.chunked_array([groups])
    return np.array(chunks.to_pylist(), object)


def source_key(fingerprint: object, config: DataConfig, items: Artifact) -> str:
    """The key of the receipt that a source with this fingerprint was stored as `items`.

    Settings that do not change the items (the path of the source, the shard size) are left out.
    """
    settings = asdict(config)
    for name in ("source", "labels", "unit_rows"):
        del settings[name]
    return digest(["source", fingerprint, settings, items.digest])
