"""What is new, changed or gone in a source, against the items that a store holds.

An item is known by its id and its content hash. Where a source has no ids, rows are no identity:
an inserted row would rename all that follow. There an item is known by its content and keeps the
number that it was first given; numbers of deleted items are not given again.
"""

from collections import defaultdict, deque
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from remine.data import schemas
from remine.data.config import DataConfig
from remine.data.items.catalogue import Catalogue, content_hash, read_catalogue
from remine.data.sources.source import Source
from remine.data.store.records import Artifact, digest
from remine.data.store.store import Store
from remine.data.types import Int64

Hashes = NDArray[np.bytes_]
"""(n,) content hashes, 32 hex characters each."""

BLOCK = 4096


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """The items and inputs that were prepared before, and what is needed to compare with them.

    hashes: (n,) of the items in order of id. lasts: (s,) the last id of each shard. next_id: the
    number that the next item without an id of its own gets.
    """

    items: Artifact
    inputs: Artifact
    found: Catalogue
    hashes: Hashes
    lasts: Int64
    next_id: int

    @classmethod
    def read(cls, store: Store, items: Artifact, inputs: Artifact) -> Self:
        """Read who is who; every file that is read is verified first."""
        found, hashes = read_catalogue(store, items), read_hashes(store, items)
        ends = np.cumsum([file.rows for file in items.files[:-1]])
        after = int(found.ids[-1]) + 1
        return cls(
            items=items,
            inputs=inputs,
            found=found,
            hashes=hashes,
            lasts=found.ids[ends - 1],
            next_id=max(after, int(items.card.get("next_id", 0))),
        )


@dataclass(frozen=True, kw_only=True)
class Change:
    """How many items are new, changed (content, label, split or group), deleted, as before."""

    new: int
    changed: int
    deleted: int
    same: int

    @property
    def none(self) -> bool:
        """Whether all is as before."""
        return not (self.new or self.changed or self.deleted)

    @property
    def share(self) -> float:
        """New, changed and deleted items, of all items that were or are."""
        moved = self.new + self.changed + self.deleted
        return moved / max(1, moved + self.same)

    def line(self) -> str:
        """For a person."""
        return (
            f"items: {self.new:,} new, {self.changed:,} changed, {self.deleted:,} deleted,"
            f" {self.same:,} as before"
        )

    def to_json(self) -> dict[str, int]:
        """Plain JSON."""
        return vars(self).copy()


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A source's items against the earlier ones.

    rows: (n,) the earlier row of the same id, -1 where it is new. content: (n,) whether that
    item's content is the same. whole: (n,) whether also its label code, split and group are.
    """

    change: Change
    rows: Int64
    content: NDArray[np.bool_]
    whole: NDArray[np.bool_]


def content_hashes(source: Source) -> Hashes:
    """The hash of every item's content in the source's order; reads bytes and decodes nothing."""
    found: list[str] = []
    for contents in source.blocks(BLOCK):
        for content in contents:
            try:
                found.append(content_hash(content))
            except OSError:
                found.append("")  # a picture that is not there: refused with its row when decoded
    return np.array(found, "S32")


def read_hashes(store: Store, items: Artifact) -> Hashes:
    """The content hashes of stored items, in order of id."""
    table = schemas.read(store.paths(items)[:-1], schema="items/1", columns=["content_hash"])
    return np.array(table["content_hash"].to_pylist(), "S32")


def compare(found: Catalogue, hashes: Hashes, earlier: Earlier) -> Compared:
    """The items of a source in order of id, with their hashes, against the earlier ones."""
    old = earlier.found
    rows = rows_of(found.ids, old.ids)
    known = rows >= 0
    content = known & (earlier.hashes[rows] == hashes)
    to_new = {label: code for code, label in enumerate(found.labels)}
    recoded = np.array([to_new.get(label, -1) for label in old.labels], np.int64)
    label = recoded[old.label_codes][rows] == found.label_codes
    alike = content & label & (old.splits[rows] == found.splits)
    alike &= _texts(old)[rows] == _texts(found)
    same = int(alike.sum())
    change = Change(
        new=int((~known).sum()),
        changed=int(known.sum()) - same,
        deleted=len(old.ids) - int(known.sum()),
        same=same,
    )
    whole = alike & (old.label_codes[rows] == found.label_codes)
    return Compared(change=change, rows=rows, content=content, whole=whole)


def rows_of(ids: Int64, among: Int64) -> Int64:
    """The place of each id in `among`, which ascends; -1 where it is not there."""
    rows = np.searchsorted(among, ids).clip(max=len(among) - 1)
    found: Int64 = np.where(among[rows] == ids, rows, -1)
    return found


def numbers(labels: Sequence[str], hashes: Hashes, earlier: Earlier) -> Int64:
    """Ids (n,) for items without ids of their own: of the earlier item of the same content.

    Of several, the one of the same label first, then in order. Others get the next numbers.
    """
    ids = np.full(len(hashes), -1, np.int64)
    old = earlier.found
    labelled = [old.labels[code] for code in old.label_codes]
    contents, wanted = earlier.hashes.tolist(), hashes.tolist()
    taken: set[int] = set()
    for keys, asked in (
        (zip(contents, labelled, strict=True), list(zip(wanted, labels, strict=True))),
        (iter(contents), wanted),
    ):
        _claim(ids, asked, keys, old.ids.tolist(), taken)
    fresh = ids < 0
    ids[fresh] = earlier.next_id + np.arange(int(fresh.sum()))
    return ids


def _claim(
    ids: Int64,
    asked: Sequence[Hashable],
    keys: Iterable[Hashable],
    old: Sequence[int],
    taken: set[int],
) -> None:
    """Give each item without an id the first free earlier one of its key."""
    free: dict[Hashable, deque[int]] = defaultdict(deque)
    for key, number in zip(keys, old, strict=True):
        if number not in taken:
            free[key].append(number)
    for row in np.flatnonzero(ids < 0).tolist():
        if numbers := free.get(asked[row]):
            ids[row] = numbers.popleft()
            taken.add(int(ids[row]))


def shards_of(ids: Int64, lasts: Int64, size: int) -> list[tuple[int, int]]:
    """Rows (start, stop) of each shard: cut where the earlier shards were, by id.

    lasts: the last id of each earlier shard. Items beyond the last one fill it up to `size`, then
    make shards of their own; a range that grew over twice the size is cut, small ones are joined.
    """
    ends: list[int] = np.searchsorted(ids, lasts, side="right").tolist()
    tail = len(ids)
    cut: list[tuple[int, int]] = []
    start = 0
    for stop in ends:
        if cut and stop - cut[-1][0] <= size // 2:
            cut[-1] = (cut[-1][0], stop)
        elif stop - start > 2 * size:
            parts = np.linspace(start, stop, -(-(stop - start) // size) + 1).astype(int).tolist()
            cut += pairwise(parts)
        elif stop > start:
            cut.append((start, stop))
        start = stop
    if cut and start < tail:
        first = cut[-1][0]
        start = max(start, min(tail, first + size))
        cut[-1] = (first, start)
    return cut + [(at, min(at + size, tail)) for at in range(start, tail, size)]


def _texts(found: Catalogue) -> NDArray[Any]:
    """The groups as an array that compares; None where there is none."""
    if found.groups is None:
        return np.full(len(found.ids), None, object)
    groups = found.groups
    whole = groups if isinstance(groups, pa.ChunkedArray) else pa.chunked_array([groups])
    return np.array(whole.to_pylist(), object)


def source_key(fingerprint: object, config: DataConfig, items: Artifact) -> str:
    """The receipt which says that a source of this fingerprint was prepared as `items`."""
    settings = asdict(config)
    for elsewhere in ("source", "labels", "unit_rows"):
        del settings[elsewhere]
    return digest(["source", fingerprint, settings, items.digest])
