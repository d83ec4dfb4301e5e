"""The catalogue of stored items: id, label, split and content hash of each."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from remine.data import schemas
from remine.data.store.records import Artifact
from remine.data.types import SPLITS, Int8, Int32, Int64

if TYPE_CHECKING:
    from remine.data.store.store import Store

Hashes = NDArray[np.bytes_]
"""(n,) content hashes, 32 hex characters each."""

TRAIN, VAL, TEST = range(3)
"""Codes of the splits, their positions in SPLITS."""


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """Ids, labels and splits of all items, in order of id; 13 bytes an item plus label names.

    Attributes:
        ids: (n,) int64, ascending and unique.
        label_codes: (n,) int32 into `labels`.
        labels: The c label names.
        splits: (n,) int8 into SPLITS.
        groups: The optional column `group`, n strings or nulls.
        merged_labels: The number of spellings of labels that a source has beyond its classes,
            different in white space or Unicode form only.
        val_note: A line on training items that became val; empty if none did.
    """

    ids: Int64
    label_codes: Int32
    labels: Sequence[str]
    splits: Int8
    groups: pa.ChunkedArray | None
    merged_labels: int = 0
    val_note: str = ""

    def counts(self) -> dict[str, dict[str, int]]:
        """The number of items and classes of each split."""
        return {
            split: {
                "items": int((self.splits == code).sum()),
                "classes": len(np.unique(self.label_codes[self.splits == code])),
            }
            for code, split in enumerate(SPLITS)
        }

    def test_classes_seen(self) -> int:
        """The number of test classes that are also trained on; 0 if the splits share no class."""
        train, test = (np.unique(self.label_codes[self.splits == s]) for s in (TRAIN, TEST))
        return len(np.intersect1d(train, test))


def read_catalogue(store: "Store", items: Artifact) -> Catalogue:
    """Load the catalogue of a stored `items` artifact."""
    *shards, label_file = store.paths(items)
    columns = ["id", "label_code", "split", "group"]
    table = schemas.read(shards, schema="items/1", columns=columns)
    splits = pc.index_in(table["split"], pa.array(SPLITS))
    return Catalogue(
        ids=table["id"].to_numpy(),
        label_codes=table["label_code"].to_numpy(),
        labels=json.loads(label_file.read_bytes()),
        splits=splits.to_numpy().astype(np.int8),
        groups=table["group"],
    )


def read_hashes(store: "Store", items: Artifact) -> Hashes:
    """The content hashes of stored items, in order of id."""
    table = schemas.read(store.paths(items)[:-1], schema="items/1", columns=["content_hash"])
    return np.array(table["content_hash"].to_pylist(), "S32")


def rows_of(ids: Int64, ascending_ids: Int64) -> Int64:
    """The position of each id in `ascending_ids`, -1 where it does not occur."""
    rows = np.searchsorted(ascending_ids, ids).clip(max=len(ascending_ids) - 1)
    positions: Int64 = np.where(ascending_ids[rows] == ids, rows, -1)
    return positions
