"""From a source to two artifacts: items (who is who) and inputs (what the encoder eats).

Everything is checked before anything is stored: shards are staged in a temporary folder and moved
into the store only when the last row was sound.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from remine.data import schemas
from remine.data.config import DataConfig
from remine.data.errors import InputError
from remine.data.items.inputs import Transform
from remine.data.sources.source import Source
from remine.data.store.records import Artifact, FileRef
from remine.data.store.store import Store
from remine.data.types import SPLITS, Int8, Int32, Int64

Progress = Callable[[int, int], None]
"""Called with rows done and rows in all."""


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """Who is who, one entry an item in order of id; n * 13 bytes plus the label names.

    ids (n,) int64; label_codes (n,) int32 into `labels`; splits (n,) int8 into SPLITS;
    groups: the `group` column, or None.
    """

    ids: Int64
    label_codes: Int32
    labels: Sequence[str]
    splits: Int8
    groups: pa.ChunkedArray | None

    def counts(self) -> dict[str, dict[str, int]]:
        """Items and classes per split."""
        return {
            split: {
                "items": int((self.splits == code).sum()),
                "classes": len(np.unique(self.label_codes[self.splits == code])),
            }
            for code, split in enumerate(SPLITS)
        }

    def test_classes_seen(self) -> int:
        """How many classes of the test split are also trained on; 0 where classes are disjoint."""
        train, test = (np.unique(self.label_codes[self.splits == code]) for code in (0, 2))
        return len(np.intersect1d(train, test))


def catalogue(source: Source, config: DataConfig) -> Catalogue:
    """Read and check the metadata of every item."""
    table = source.metadata()
    if not len(table):
        raise InputError(f"data.source: {config.source} holds no items")
    ids = _ids(table, source.where)
    labels, codes = _labels(texts(table, "label", config.source), table, source.where)
    if "split" in table.column_names:
        splits = _named_splits(texts(table, "split", config.source), source.where)
        splits = _with_val(splits, labels, codes, config)
    elif config.val_from_train:
        raise InputError(
            "data.val_from_train is set, and the data names no splits: data.val_share is for that"
        )
    else:
        splits = _split_by_class(labels, codes, config)
    found = Catalogue(
        ids=ids,
        label_codes=codes,
        labels=labels,
        splits=splits,
        groups=texts(table, "group", config.source) if "group" in table.column_names else None,
    )
    _check_task(found, config.source)
    return found


@dataclass(frozen=True, kw_only=True)
class Staged:
    """Checked shards in a temporary folder, or in the store already, ready to be stored."""

    files: Sequence[tuple[Path | FileRef, Path | FileRef, int]]
    labels: Sequence[str]
    items_card: Mapping[str, Any]
    inputs_card: Mapping[str, Any]

    def commit(self, store: Store) -> tuple[Artifact, Artifact]:
        """Move the shards into `store`: the items and the inputs."""
        items, inputs = [], []
        for number, (parquet, npy, rows) in enumerate(self.files):
            items.append(_kept(store, parquet, f"part-{number:05d}.parquet", rows))
            inputs.append(_kept(store, npy, f"part-{number:05d}.npy", rows))
        names = store.put_bytes(json.dumps(list(self.labels)).encode(), name="_labels.json")
        who = Artifact(kind="items", files=(*items, names), card=self.items_card)
        card = {**self.inputs_card, "items": who.digest}
        return who, Artifact(kind="inputs", files=tuple(inputs), card=card)


def stage(
    source: Source,
    found: Catalogue,
    transform: Transform,
    folder: Path,
    unit_rows: int,
    progress: Progress = lambda _done, _total: None,
) -> Staged:
    """Check every row and write items and inputs to `folder`, `unit_rows` a shard."""
    files: list[tuple[Path | FileRef, Path | FileRef, int]] = []
    shape: tuple[int, ...] | None = None
    seen = 0
    for contents in source.blocks(unit_rows):
        start, seen = seen, seen + len(contents)
        block = transform(contents, partial(_where, source, start))
        if shape not in (None, block.shape[1:]):
            raise InputError(
                f"{source.where(start)}: shape {block.shape[1:]}, the first is {shape}"
            )
        shape, dtype = block.shape[1:], str(block.dtype)
        parquet, npy = folder / f"{start}.parquet", folder / f"{start}.npy"
        items = items_table(found, slice(start, seen), contents, source)
        schemas.write(items, parquet, schema="items/1", provenance={})
        np.save(npy, block)
        files.append((parquet, npy, len(contents)))
        progress(seen, len(found.ids))
    return Staged(
        files=files,
        labels=found.labels,
        items_card={
            "content": source.content,
            "splits": found.counts(),
            "test_classes_seen": found.test_classes_seen(),
        },
        inputs_card={"shape": list(shape or ()), "dtype": dtype},
    )


def _kept(store: Store, file: Path | FileRef, name: str, rows: int) -> FileRef:
    """A staged file moved into the store, or one that is there under another name."""
    if isinstance(file, FileRef):
        store.path(file)
        return replace(file, name=name)
    return store.put(file, name=name, rows=rows)


def _where(source: Source, start: int, row: int) -> str:
    return source.where(start + row)


def read_catalogue(store: Store, items: Artifact) -> Catalogue:
    """The catalogue of a stored `items` artifact."""
    *shards, names = store.paths(items)
    columns = ["id", "label_code", "split", "group"]
    table = schemas.read(shards, schema="items/1", columns=columns)
    splits = pc.index_in(table["split"], pa.array(SPLITS))
    return Catalogue(
        ids=table["id"].to_numpy(),
        label_codes=table["label_code"].to_numpy(),
        labels=json.loads(names.read_bytes()),
        splits=splits.to_numpy().astype(np.int8),
        groups=table["group"],
    )


def _ids(table: pa.Table, where: Callable[[int], str]) -> Int64:
    """The ids, or row numbers where the source has none."""
    if "id" not in table.column_names:
        return np.arange(len(table), dtype=np.int64)
    column = table["id"]
    if column.null_count:
        raise InputError(f"{where(pc.index(pc.is_null(column), True).as_py())}: id is missing")
    if not pa.types.is_integer(column.type):
        raise InputError(f"id is {column.type}; ids are integers (leave the column out to number)")
    given = column.to_numpy()
    bad = (given < 0) | (given > np.iinfo(np.int64).max)
    if bad.any():
        row = int(bad.argmax())
        raise InputError(f"{where(row)}: id {given[row]} is not between 0 and 2^63 - 1")
    ids: Int64 = given.astype(np.int64)
    if (twice := ids[1:] == ids[:-1]).any():
        row = int(twice.argmax())
        raise InputError(f"{where(row + 1)}: id {ids[row]} is also that of {where(row)}")
    return ids


def texts(table: pa.Table, name: str, source: str) -> pa.ChunkedArray:
    """A column as text; numbers and dates have one."""
    column = table[name]
    try:
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        column = column.cast(pa.string())
        column.validate(full=True)  # a file may say that any bytes are text
    except pa.ArrowException:  # a list, a struct, bytes that are not UTF-8
        raise InputError(
            f"{source}: {name} is {table[name].type} that does not read as text; make it UTF-8 text"
        ) from None
    return column


def _labels(
    texts: pa.ChunkedArray, table: pa.Table, where: Callable[[int], str]
) -> tuple[list[str], Int32]:
    """Sorted label names, and each item's code."""
    column = pc.utf8_trim_whitespace(texts)
    missing = pc.fill_null(pc.equal(column, ""), True)
    if pa.types.is_floating(table["label"].type):
        missing = pc.or_(missing, pc.equal(column, "nan"))
    if pc.any(missing).as_py():
        raise InputError(f"{where(pc.index(missing, True).as_py())}: label is missing")
    labels = sorted(pc.unique(column).to_pylist())
    codes = pc.index_in(column, pa.array(labels)).to_numpy().astype(np.int32)
    return labels, codes


def _named_splits(column: pa.ChunkedArray, where: Callable[[int], str]) -> Int8:
    codes = pc.fill_null(pc.index_in(column, pa.array(SPLITS)), -1).to_numpy()
    if (codes < 0).any():
        row = int((codes < 0).argmax())
        raise InputError(f"{where(row)}: split is {column[row].as_py()!r}; known: train, val, test")
    splits: Int8 = codes.astype(np.int8)
    return splits


def _with_val(splits: Int8, labels: list[str], codes: Int32, config: DataConfig) -> Int8:
    """The named splits, with val_from_train of the training classes in val."""
    if not config.val_from_train:
        return splits
    train, val = SPLITS.index("train"), SPLITS.index("val")
    if (splits == val).any():
        raise InputError("data.val_from_train is set, and the data names a split val itself")
    chosen = np.array(_places(labels)) < config.val_from_train
    return np.where(chosen[codes] & (splits == train), np.int8(val), splits)


def _places(labels: list[str]) -> list[float]:
    """A number in [0, 1) for each label, by its hash alone, so that new labels move no old one."""
    return [
        int.from_bytes(hashlib.blake2b(label.encode(), digest_size=8).digest()) / 2**64
        for label in labels
    ]


def _split_by_class(labels: list[str], codes: Int32, config: DataConfig) -> Int8:
    """Whole classes to one split by a hash of the label."""
    place = _places(labels)
    edges = [config.test_share, config.test_share + config.val_share]
    of_class = np.array([2, 1, 0], np.int8)[np.searchsorted(edges, place, side="right")]
    if (of_class != 2).all():  # few classes: the hash may miss a small share
        of_class[int(np.argmin(place))] = 2
    return of_class[codes]


def _check_task(found: Catalogue, source: str) -> None:
    """Refuse data that leaves nothing to learn or nothing to test."""
    counts = found.counts()
    if not counts["test"]["classes"]:
        raise InputError(
            f"{source}: no test classes: no item has the split `test` (of a column `split`, or of"
            " folders train, val and test)"
        )
    if counts["train"]["classes"] < 2:
        raise InputError(
            f"{source}: of {len(found.labels)} classes {counts['train']['classes']} to train on:"
            " triplets need two or more to train on, and one more to test"
        )
    for code, what in ((0, "training"), (2, "test")):
        if np.bincount(found.label_codes[found.splits == code]).max() < 2:
            so = "there is no pair" if what == "training" else "retrieval cannot be measured"
            raise InputError(f"{source}: no {what} class has two items, so {so}")


def items_table(
    found: Catalogue,
    rows: slice,
    contents: Sequence[Any] | np.ndarray,
    source: Source,
    hashes: Sequence[str] | None = None,
) -> pa.Table:
    """`rows` of the items with their contents. hashes: of the contents, where they are known."""
    labels = pa.array(found.labels)
    codes = pa.array(found.label_codes[rows])
    groups = found.groups[rows] if found.groups is not None else pa.nulls(len(codes), pa.string())
    columns: dict[str, Any] = {
        "id": found.ids[rows],
        "label": labels.take(codes),
        "label_code": codes,
        "split": pa.array(SPLITS).take(pa.array(found.splits[rows])),
        "group": groups,
        "content_hash": hashes or [content_hash(c) for c in contents],
    }
    if source.content == "path":
        columns["path"] = [os.path.relpath(path, source.root) for path in contents]
    elif source.content in schemas.CONTENTS:
        columns[source.content] = contents
    return pa.table(columns, schema=schemas.items_schema(source.content))


def content_hash(content: bytes | str | Path | np.ndarray) -> str:
    """BLAKE2b-128 of one item's content; of a picture's file, not its name. Raises OSError."""
    if isinstance(content, Path):
        if not content.is_file():
            raise OSError(f"{content} is no file")  # a device may have no end
        with content.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    if isinstance(content, str):
        raw = content.encode()
    else:
        raw = content if isinstance(content, bytes) else content.tobytes()
    return hashlib.blake2b(raw, digest_size=16).hexdigest()
