"""The catalogue of stored items: id, label, split and content hash of each.

Items are numbered: their numbers are int64, the ids in embeddings, indexes and triplets. Where the
user's ids are integers, these are the numbers. Where they are texts (keys), an item has both.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from remine.data import schemas
from remine.data.errors import InputError
from remine.data.sources.keys import Keys, holds_text
from remine.data.sources.labels import Cleaning
from remine.data.store.records import Artifact
from remine.data.types import SPLITS, Int8, Int32, Int64

if TYPE_CHECKING:
    from remine.data.store.store import Store

Hashes = NDArray[np.bytes_]
"""(n,) content hashes, 32 hex characters each."""

WHOLE = re.compile(r"[+-]?[0-9]{1,20}", re.ASCII)

TRAIN, VAL, TEST, UNKNOWN = range(4)
"""Codes of the splits, their positions in SPLITS. Items of the split unknown are of no class that
is searched for: they are neither trained on nor found, and measure how well such are rejected."""


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """Ids, labels and splits of all items, in order of id.

    13 bytes an item, the label names, and the texts of ids that are texts.

    Attributes:
        ids: (n,) int64, ascending and unique.
        label_codes: (n,) int32 into `labels`.
        labels: The c label names.
        splits: (n,) int8 into SPLITS.
        groups: The optional column `group`, n strings or nulls.
        cleaning: What was done to the spellings of the source's labels.
        val_note: A line on training items that became val; empty if none did.
        keys: The user's ids if they are texts, by row; None if they are the integers of `ids`.
        extras: The columns of data.extra_columns, by row, of a source; None if there are none, and
            of stored items, which are shown few at a time.
    """

    ids: Int64
    label_codes: Int32
    labels: Sequence[str]
    splits: Int8
    groups: pa.ChunkedArray | None
    cleaning: Cleaning = field(default_factory=Cleaning)
    val_note: str = ""
    keys: Keys | None = None
    extras: pa.Table | None = None

    def id_at(self, row: int) -> int | str:
        """The user's id of the item at `row`."""
        return int(self.ids[row]) if self.keys is None else self.keys[row]

    def ids_at(self, rows: Int64) -> pa.Array:
        """The user's ids (m,) of the items at `rows`, int64 or string."""
        return pa.array(self.ids[rows]) if self.keys is None else self.keys.take(rows)

    def ids_of(self, numbers: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
        """The user's ids of items with these numbers; a null stays one."""
        if self.keys is None:
            return numbers
        rows = np.searchsorted(self.ids, pc.fill_null(numbers, 0).to_numpy(zero_copy_only=False))
        return self.keys.take(pa.array(rows, mask=np.asarray(pc.is_null(numbers))))

    def rows_of_ids(self, ids: "Sequence[int | str] | np.ndarray | pa.Array") -> Int64:
        """The row (q,) of each of the user's ids, -1 for an unknown one.

        Raises:
            InputError: An id is a text and the items' are integers, or the other way round.
        """
        array = ids if isinstance(ids, pa.Array | pa.ChunkedArray) else _id_array(ids)
        has_texts = holds_text(array.type)
        if has_texts != (self.keys is not None) and len(array):
            noun = "integers" if self.keys is None else "texts"
            raise InputError(f"no item {array[0].as_py()!r} in the index: its ids are {noun}")
        if self.keys is not None:
            return self.keys.rows(array)
        return rows_of(np.asarray(array).astype(np.int64), self.ids)

    def typed_id(self, text: str) -> int | str:
        """An id that was typed: itself, or its number if the items' ids are integers.

        Raises:
            InputError: It must be a number and is none.
        """
        if self.keys is not None:
            return text
        if not WHOLE.fullmatch(text.strip()) or not 0 <= int(text) < 2**63:
            raise InputError(f"no item {text!r} in the index: ids are 0 to 2^63 - 1")
        return int(text)

    def counts(self) -> dict[str, dict[str, int]]:
        """The number of items and classes of each split; of unknown only if it has any."""
        has_unknown = bool((self.splits == UNKNOWN).any())
        return {
            split: {
                "items": int((self.splits == code).sum()),
                "classes": len(np.unique(self.label_codes[self.splits == code])),
            }
            for code, split in enumerate(SPLITS)
            if code != UNKNOWN or has_unknown
        }

    def test_classes_seen(self) -> int:
        """The number of test classes that are also trained on; 0 if the splits share no class."""
        train, test = (np.unique(self.label_codes[self.splits == s]) for s in (TRAIN, TEST))
        return len(np.intersect1d(train, test))

    def test_note(self) -> str:
        """A line if the test items, searched among themselves, cannot but be right; else empty."""
        test_codes = self.label_codes[self.splits == TEST]
        if len(np.unique(test_codes)) != 1:
            return ""
        return (
            f"test: all {len(test_codes):,} items are of one class, so that retrieval among them is"
            " always 100 % and says nothing: set data.test_share higher, or name the splits"
        )


def read_catalogue(store: "Store", items: Artifact) -> Catalogue:
    """Load the catalogue of a stored `items` artifact."""
    *shards, label_file = store.paths(items)
    columns = ["id", "label_code", "split", "group", *(["key"] if has_keys(items) else [])]
    table = schemas.read(shards, schema=schemas.ITEMS, columns=columns)
    splits = pc.index_in(table["split"], pa.array(SPLITS))
    return Catalogue(
        ids=table["id"].to_numpy(),
        label_codes=table["label_code"].to_numpy(),
        labels=json.loads(label_file.read_bytes()),
        splits=splits.to_numpy().astype(np.int8),
        groups=table["group"],
        keys=Keys(table["key"]) if has_keys(items) else None,
    )


def has_keys(items: Artifact) -> bool:
    """Whether the ids of the data that was stored are texts."""
    return bool(items.card.get("keys", False))


def read_extras(store: "Store", items: Artifact) -> pa.Table | None:
    """The extra columns of stored items, in order of id; None if there are none."""
    if not (names := [name for name, _ in items.card.get("extra", [])]):
        return None
    return schemas.read(store.paths(items)[:-1], schema=schemas.ITEMS, columns=names)


def read_hashes(store: "Store", items: Artifact) -> Hashes:
    """The content hashes of stored items, in order of id."""
    table = schemas.read(store.paths(items)[:-1], schema=schemas.ITEMS, columns=["content_hash"])
    return np.array(table["content_hash"].to_pylist(), "S32")


def _id_array(ids: Sequence[int | str] | np.ndarray) -> pa.Array:
    """Ids as integers or strings.

    Raises:
        InputError: They are neither, or both.
    """
    try:
        array = pa.array(ids)
    except (pa.ArrowException, TypeError, OverflowError, UnicodeEncodeError):
        raise InputError("ids are integers below 2^63 or texts, and all of one kind") from None
    if not len(array):
        return array.cast(pa.int64())
    if not (pa.types.is_integer(array.type) or holds_text(array.type)):
        raise InputError(f"no item {array[0].as_py()!r} in the index: ids are integers or texts")
    return array


def rows_of(ids: Int64, ascending_ids: Int64) -> Int64:
    """The position of each id in `ascending_ids`, -1 where it does not occur."""
    rows = np.searchsorted(ascending_ids, ids).clip(max=len(ascending_ids) - 1)
    positions: Int64 = np.where(ascending_ids[rows] == ids, rows, -1)
    return positions
