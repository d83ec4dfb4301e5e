"""Items and inputs of a source that was prepared before: only what is new is decoded.

Shards are cut by id where the earlier ones were, so that a shard without a change is the same
file. In the others the inputs of unchanged items are copied.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from remine.data import schemas
from remine.data.errors import InputError
from remine.data.items.catalogue import Catalogue, Progress, Staged, items_table, texts
from remine.data.items.changes import Compared, Earlier, Hashes, numbers, shards_of
from remine.data.items.inputs import Inputs, Transform
from remine.data.sources.source import Source
from remine.data.store.records import FileRef
from remine.data.store.store import Store
from remine.data.types import Float32, Int64


class Numbered:
    """A source without ids of its own, in the order of the ids that its items have."""

    numbered = False

    def __init__(self, source: Source, ids: Int64) -> None:
        """ids: (n,) by row of `source`."""
        self.source: Any = source  # which has `taken`, being without ids
        self.content, self.root = source.content, source.root
        self.order = np.argsort(ids, kind="stable")
        self.ids: Int64 = ids[self.order]
        self.moved = bool((self.order[1:] < self.order[:-1]).any())

    def fingerprint(self) -> object:
        """The source's."""
        found: object = self.source.fingerprint()
        return found

    def where(self, row: int) -> str:
        """Where it lies in the source."""
        return str(self.source.where(int(self.order[row])))

    def metadata(self) -> pa.Table:
        """The source's, and the ids."""
        table: pa.Table = self.source.metadata().take(self.order)
        return table.append_column("id", pa.array(self.ids))

    def blocks(self, rows: int) -> Iterator[Sequence[Any] | Float32]:
        """The contents in order of id."""
        source = self.source
        yield from source.taken(self.order, rows) if self.moved else source.blocks(rows)


def by_content(source: Source, hashes: Hashes, earlier: Earlier) -> tuple[Numbered, Hashes]:
    """A source without ids as one with those of the earlier items, and the hashes in its order."""
    labels = texts(source.metadata(), "label", "data.source").to_pylist()
    view = Numbered(source, numbers(labels, hashes, earlier))
    return view, hashes[view.order]


def recoded(found: Catalogue, known: Sequence[str]) -> Catalogue:
    """The same with the label codes of before: a new label moves none, those not used go."""
    used = set(found.labels)
    kept = [label for label in known if label in used]
    labels = kept + sorted(used - set(kept))
    place = {label: code for code, label in enumerate(labels)}
    codes = np.array([place[label] for label in found.labels], np.int32)
    return replace(found, labels=labels, label_codes=codes[found.label_codes])


@dataclass(frozen=True, kw_only=True)
class Grown:
    """What to lay down: the source in order of id, its items, and how they compare."""

    source: Source
    found: Catalogue
    hashes: Hashes
    compared: Compared
    earlier: Earlier

    def stage(
        self, store: Store, transform: Transform, folder: Path, size: int, progress: Progress
    ) -> Staged:
        """Check every new row and write the shards that are not as before to `folder`."""
        cuts = shards_of(self.found.ids, self.earlier.lasts, size)
        old = Inputs(store.paths(self.earlier.inputs))
        files: list[tuple[Path | FileRef, Path | FileRef, int]] = []
        blocks = regrouped(self.source.blocks(size), [stop - start for start, stop in cuts])
        for (start, stop), contents in zip(cuts, blocks, strict=True):
            items, inputs = self._as_before(start, stop, old)
            parquet, npy = folder / f"{start}.parquet", folder / f"{start}.npy"
            if items is None:
                table = self._table(start, stop, contents)
                schemas.write(table, parquet, schema="items/1", provenance={})
            if inputs is None:
                np.save(npy, self._block(start, stop, contents, old, transform))
            files.append((items or parquet, inputs or npy, stop - start))
            progress(stop, len(self.found.ids))
        card = self.earlier.inputs.card
        return Staged(
            files=files,
            labels=self.found.labels,
            items_card={
                "content": self.source.content,
                "splits": self.found.counts(),
                "test_classes_seen": self.found.test_classes_seen(),
                "change": {**self.compared.change.to_json(), "base": self.earlier.items.digest},
            },
            inputs_card={"shape": card["shape"], "dtype": card["dtype"]},
        )

    def _as_before(
        self, start: int, stop: int, old: Inputs
    ) -> tuple[FileRef | None, FileRef | None]:
        """The earlier files of items and inputs with these very rows; None where there is none."""
        part = slice(start, stop)
        rows = self.compared.rows[part]
        shard = int(np.searchsorted(old.starts, rows[0]))
        if rows[0] != old.starts[shard] or not self.compared.content[part].all():
            return None, None
        if rows[-1] + 1 != old.starts[shard + 1] or len(rows) != len(old.shards[shard]):
            return None, None
        # A picture's path may be another though it holds the same.
        whole = self.source.content != "path" and self.compared.whole[part].all()
        return self.earlier.items.files[shard] if whole else None, self.earlier.inputs.files[shard]

    def _table(self, start: int, stop: int, contents: Sequence[Any] | np.ndarray) -> pa.Table:
        hashes = [value.decode() for value in self.hashes[start:stop].tolist()]
        return items_table(self.found, slice(start, stop), contents, self.source, hashes)

    def _block(
        self,
        start: int,
        stop: int,
        contents: Sequence[Any] | np.ndarray,
        old: Inputs,
        transform: Transform,
    ) -> np.ndarray:
        """The inputs of a shard: those of unchanged items copied, the others decoded."""
        same = self.compared.content[start:stop]
        shape, dtype = old.shards[0].shape[1:], old.shards[0].dtype
        out = np.empty((stop - start, *shape), dtype)
        out[same] = old[self.compared.rows[start:stop][same]]
        fresh = np.flatnonzero(~same)
        if not len(fresh):
            return out

        def where(row: int) -> str:
            return self.source.where(start + int(fresh[row]))

        given: Any = contents
        picked = given[fresh] if isinstance(given, np.ndarray) else [given[i] for i in fresh]
        block = transform(picked, where)
        if block.shape[1:] != shape or block.dtype != dtype:
            raise InputError(
                f"{where(0)}: {block.dtype} of shape {block.shape[1:]}, the items before are"
                f" {dtype} {shape}"
            )
        out[fresh] = block
        return out


def regrouped(
    blocks: Iterator[Sequence[Any] | np.ndarray], sizes: Sequence[int]
) -> Iterator[Sequence[Any] | np.ndarray]:
    """The rows of `blocks`, cut to `sizes`."""
    held: list[Sequence[Any] | np.ndarray] = []
    count = 0
    for size in sizes:
        while count < size:
            held.append(next(blocks))
            count += len(held[-1])
        whole: Any = held[0] if len(held) == 1 else _joined(held)
        yield whole[:size]
        held, count = [whole[size:]], count - size


def _joined(parts: Sequence[Any]) -> Sequence[Any] | np.ndarray:
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    return [content for part in parts for content in part]
