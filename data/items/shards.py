"""Shards of items (Parquet) and of their decoded inputs (.npy).

Every row is checked before anything enters the store: shards are written to a temporary folder and
moved into the store only after the last row has been checked.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from remine.data import schemas
from remine.data.errors import InputError
from remine.data.items.catalogue import Catalogue
from remine.data.items.inputs import Transform, without_padding
from remine.data.items.tensors import dtype_text
from remine.data.sources.source import Source
from remine.data.store.records import Artifact, FileRef
from remine.data.store.store import Store
from remine.data.types import SPLITS

Progress = Callable[[int, int], None]
"""Called with the number of rows written so far and the number of all rows."""


@dataclass(frozen=True, kw_only=True)
class StagedItems:
    """Checked shards, ready to be stored.

    Attributes:
        files: Items file, inputs file and number of rows of each shard. A file is the path of a
            new file, or a reference to one that the store has already.
        labels: The label names.
        items_card, inputs_card: The cards of the two artifacts.
    """

    files: Sequence[tuple[Path | FileRef, Path | FileRef, int]]
    labels: Sequence[str]
    items_card: Mapping[str, Any]
    inputs_card: Mapping[str, Any]

    def commit(self, store: Store) -> tuple[Artifact, Artifact]:
        """Move the shards into `store`; returns the artifacts of the items and the inputs."""
        item_files, input_files = [], []
        for number, (parquet, npy, rows) in enumerate(self.files):
            item_files.append(_put(store, parquet, f"part-{number:05d}.parquet", rows))
            input_files.append(_put(store, npy, f"part-{number:05d}.npy", rows))
        names = store.put_bytes(json.dumps(list(self.labels)).encode(), name="_labels.json")
        items = Artifact(kind="items", files=(*item_files, names), card=self.items_card)
        card = {**self.inputs_card, "items": items.digest}
        return items, Artifact(kind="inputs", files=tuple(input_files), card=card)


def stage_items(
    source: Source,
    catalogue: Catalogue,
    transform: Transform,
    folder: Path,
    unit_rows: int,
    progress: Progress = lambda _rows, _total: None,
) -> StagedItems:
    """Check and decode every row; write shards of `unit_rows` items and inputs to `folder`.

    Raises:
        InputError: A row cannot be decoded, or its shape differs from that of the first row.
    """
    files: list[tuple[Path | FileRef, Path | FileRef, int]] = []
    shape: tuple[int, ...] | None = None
    stop = 0
    for contents in source.blocks(unit_rows):
        start, stop = stop, stop + len(contents)
        block = transform(contents, row_namer(source, start))
        if shape not in (None, block.shape[1:]):
            raise InputError(
                f"{source.row_name(start)}: shape {block.shape[1:]}, the first is {shape}"
            )
        shape, dtype = block.shape[1:], dtype_text(block.dtype)
        if getattr(transform, "reasons", None):  # of `BadItems`: these shards are not to be stored
            progress(stop, len(catalogue.ids))
            continue
        parquet, npy = folder / f"{start}.parquet", folder / f"{start}.npy"
        table = items_table(catalogue, slice(start, stop), contents, source)
        schemas.write(table, parquet, schema=items_schema_name(catalogue), provenance={})
        np.save(npy, without_padding(block, transform))
        files.append((parquet, npy, len(contents)))
        progress(stop, len(catalogue.ids))
    return StagedItems(
        files=files,
        labels=catalogue.labels,
        items_card=items_card(source, catalogue),
        inputs_card={"shape": list(shape or ()), "dtype": dtype},
    )


def items_card(source: Source, catalogue: Catalogue) -> dict[str, Any]:
    """The card of an `items` artifact."""
    card: dict[str, Any] = {
        "content": source.content,
        "splits": catalogue.counts(),
        "test_classes_seen": catalogue.test_classes_seen(),
    }
    if catalogue.keys:
        card["keys"] = True
    if catalogue.extras is not None:
        # Pairs: a card's keys are sorted, and the columns have an order.
        card["extra"] = [[field.name, str(field.type)] for field in catalogue.extras.schema]
    return card


def items_schema_name(catalogue: Catalogue) -> str:
    """The schema of the items; stores with integer ids stay readable for remine 0.1."""
    return schemas.ITEMS[catalogue.keys is not None]


def row_namer(source: Source, start: int) -> Callable[[int], str]:
    """A function that names the rows of a block, which begins at row `start` of the source."""
    return lambda row: source.row_name(start + row)


def items_table(
    catalogue: Catalogue,
    rows: slice,
    contents: Sequence[Any] | np.ndarray,
    source: Source,
    hashes: Sequence[str] | None = None,
) -> pa.Table:
    """The `rows` of the items with their contents, in the columns of `schemas.items_schema`.

    Args:
        catalogue: All items.
        rows: The rows of the shard.
        contents: The contents of these rows.
        source: The source that they come from.
        hashes: The hashes of the contents if they have been computed already.
    """
    labels = pa.array(catalogue.labels)
    codes = pa.array(catalogue.label_codes[rows])
    groups = catalogue.groups
    columns: dict[str, Any] = {
        "id": catalogue.ids[rows],
        "label": labels.take(codes),
        "label_code": codes,
        "split": pa.array(SPLITS).take(pa.array(catalogue.splits[rows])),
        "group": groups[rows] if groups is not None else pa.nulls(len(codes), pa.string()),
        "content_hash": hashes or [content_hash(content) for content in contents],
    }
    if catalogue.keys:
        columns["key"] = catalogue.keys.texts[rows]
    if source.content == "path":
        columns["path"] = [os.path.relpath(path, source.root) for path in contents]
    elif source.content in schemas.CONTENTS:
        columns[source.content] = contents
    extras: list[pa.Field] = []
    if catalogue.extras is not None:
        extras = list(catalogue.extras.schema)
        columns |= {field.name: catalogue.extras[field.name][rows] for field in extras}
    has_keys = catalogue.keys is not None
    schema = schemas.items_schema(source.content, has_keys=has_keys, extras=extras)
    return pa.table(columns, schema=schema)


def content_hash(content: bytes | str | Path | np.ndarray) -> str:
    """BLAKE2b-128 of one item's content, in hex; of the bytes of the file if it is a path.

    Raises:
        OSError: The file cannot be read or is not a regular file.
    """
    if isinstance(content, Path):
        if not content.is_file():  # reading a device might never end
            raise OSError(f"{content} is not a file")
        with content.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    if isinstance(content, str):
        raw = content.encode()
    else:
        raw = content if isinstance(content, bytes) else content.tobytes()
    return hashlib.blake2b(raw, digest_size=16).hexdigest()


def _put(store: Store, file: Path | FileRef, name: str, rows: int) -> FileRef:
    """Move a new file into the store, or verify one that the store has under another name."""
    if isinstance(file, FileRef):
        store.path(file)
        return replace(file, name=name)
    return store.put(file, name=name, rows=rows)
