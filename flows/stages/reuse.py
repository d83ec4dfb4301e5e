"""What an earlier version knows of items: which of its rows may be taken instead of made again."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pyarrow as pa

from remine.data import schemas
from remine.data.errors import StoreError
from remine.data.items.changes import read_hashes, rows_of
from remine.data.store.records import Artifact, FileRef
from remine.data.store.store import Store
from remine.data.types import Int64


@dataclass(frozen=True, kw_only=True)
class Before:
    """An earlier version's items and inputs, and what was made of them, shard by shard.

    made: the embeddings, or a frozen backbone's features.
    """

    items: Artifact
    inputs: Artifact
    made: Artifact

    @classmethod
    def of(cls, artifacts: Mapping[str, Artifact], name: str = "embeddings") -> Self | None:
        """From the artifacts of a version; None where it has none of that name."""
        if name not in artifacts:
            return None
        return cls(items=artifacts["items"], inputs=artifacts["inputs"], made=artifacts[name])

    def serves(self, store: Store, recipe: str, inputs: Artifact) -> bool:
        """Whether it is what `recipe` makes of the same contents, and sound."""
        recipes = self.made.card.get("recipe"), self.inputs.card.get("recipe")
        if recipes != (recipe, inputs.card.get("recipe")) or None in recipes:
            return False
        try:  # damaged ones are made again
            store.paths(self.items)
            store.paths(self.made)
        except StoreError:
            return False
        return bool(self.inputs.card["shape"] == inputs.card["shape"])

    def kept(self, inputs: Artifact, items: Artifact | None = None) -> dict[int, FileRef]:
        """By number, what was made of the shards whose inputs (and items) are the very same."""
        known = {}
        for number, file in enumerate(self.made.files):
            known[_shard(number, self.inputs, self.items if items else None)] = file
        found = {}
        for number in range(len(inputs.files)):
            if made := known.get(_shard(number, inputs, items)):
                suffix = made.name.rpartition(".")[2]
                found[number] = replace(made, name=f"part-{number:05d}.{suffix}")
        return found

    @property
    def digests(self) -> list[str]:
        """What decides which rows are taken."""
        return [self.items.digest, self.made.digest]


def _shard(number: int, inputs: Artifact, items: Artifact | None) -> tuple[str, str]:
    return inputs.files[number].sha256, items.files[number].sha256 if items else ""


class Known:
    """The rows of earlier items by id and content."""

    def __init__(self, store: Store, before: Before) -> None:
        """Read who is there."""
        shards = store.paths(before.items)[:-1]
        self.ids: Int64 = schemas.read(shards, schema="items/1", columns=["id"])["id"].to_numpy()
        self.hashes = read_hashes(store, before.items)

    def rows(self, items: pa.Table) -> Int64:
        """(m,) the earlier row of each item, by id and content_hash; -1 where it is not known."""
        rows = rows_of(items["id"].to_numpy(), self.ids)
        same = self.hashes[rows] == np.array(items["content_hash"].to_pylist(), "S32")
        found: Int64 = np.where(same, rows, -1)
        return found
