"""Rows of an earlier version that are used again: those of items whose content is unchanged."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np
import pyarrow as pa

from remine.data import schemas
from remine.data.errors import StoreError
from remine.data.items.catalogue import read_hashes, rows_of
from remine.data.store.records import Artifact, FileRef
from remine.data.types import Int64

if TYPE_CHECKING:
    from remine.data.store.store import Store


@dataclass(frozen=True, kw_only=True)
class EarlierOutput:
    """An earlier version's items and inputs, and what was computed from them, shard by shard.

    output: the embeddings, or the features of a frozen backbone.
    """

    items: Artifact
    inputs: Artifact
    output: Artifact

    @classmethod
    def of(cls, artifacts: Mapping[str, Artifact], name: str = "embeddings") -> Self | None:
        """From the artifacts of a version; None if it has none of that name."""
        if name not in artifacts:
            return None
        return cls(items=artifacts["items"], inputs=artifacts["inputs"], output=artifacts[name])

    def is_usable(self, store: "Store", recipe: str, inputs: Artifact) -> bool:
        """Whether it was computed by `recipe` from inputs of the same shape, and is undamaged."""
        recipes = self.output.card.get("recipe"), self.inputs.card.get("recipe")
        if recipes != (recipe, inputs.card.get("recipe")) or None in recipes:
            return False
        try:
            store.paths(self.items)
            store.paths(self.output)
        except StoreError:  # computed again
            return False
        return bool(self.inputs.card["shape"] == inputs.card["shape"])

    def unchanged_shards(
        self, inputs: Artifact, items: Artifact | None = None
    ) -> dict[int, FileRef]:
        """By shard number, the output of shards whose inputs (and items, if given) are the same."""
        files = {
            _shard_key(number, self.inputs, self.items if items else None): file
            for number, file in enumerate(self.output.files)
        }
        same_files = {}
        for number in range(len(inputs.files)):
            if file := files.get(_shard_key(number, inputs, items)):
                suffix = file.name.rpartition(".")[2]
                same_files[number] = replace(file, name=f"part-{number:05d}.{suffix}")
        return same_files

    @property
    def digests(self) -> list[str]:
        """What decides which rows are used again."""
        return [self.items.digest, self.output.digest]


def _shard_key(number: int, inputs: Artifact, items: Artifact | None) -> tuple[str, str]:
    return inputs.files[number].sha256, items.files[number].sha256 if items else ""


class EarlierRows:
    """Row numbers of earlier items by id and content."""

    def __init__(self, store: "Store", earlier: EarlierOutput) -> None:
        """Load the earlier items' ids and content hashes."""
        # The last file of the items holds their labels.
        shards = store.paths(earlier.items)[:-1]
        self.ids: Int64 = schemas.read(shards, schema=schemas.ITEMS, columns=["id"])[
            "id"
        ].to_numpy()
        self.hashes = read_hashes(store, earlier.items)

    def rows(self, items: pa.Table) -> Int64:
        """Earlier row (m,) of each item with the same id and content_hash; -1 if there is none."""
        rows = rows_of(items["id"].to_numpy(), self.ids)
        is_same = self.hashes[rows] == np.array(items["content_hash"].to_pylist(), "S32")
        same_rows: Int64 = np.where(is_same, rows, -1)
        return same_rows
