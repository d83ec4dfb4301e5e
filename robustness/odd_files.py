"""Files of valid but odd tables: encodings, shards, folders that are columns, CSV dialects."""

import csv
import io
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from robustness.odd_values import (
    INTEGER_TYPES,
    TEXT_TYPES,
    draw_labels,
    picture,
    text,
    vector,
    vector_types,
)

CODECS = ("none", "snappy", "gzip", "zstd", "lz4", "brotli")
SIZE = 4
"""Dimensions of the vectors."""
ITEMS = 36


@dataclass(frozen=True, kw_only=True)
class Column:
    """The values of a column, and the types of which a shard draws one."""

    values: list[Any]
    types: Sequence[pa.DataType]

    def array(self, rows: slice, draw: random.Random) -> pa.Array:
        """Some rows, in one of the types that hold them."""
        values = self.values[rows]
        column_type = draw.choice(self.types) if draw.random() < 0.5 else self.types[0]
        if isinstance(column_type, pa.BaseExtensionType):
            return pa.array(values, column_type.storage_type).cast(column_type)
        return pa.array(values, column_type)


@dataclass(frozen=True, kw_only=True)
class OddTable:
    """A case: what the config names, and the files that hold its rows in order.

    Attributes:
        source: The file or folder.
        files: The files with rows, in order of their paths.
        content: The column of contents.
        folder_columns: Columns that are in the names of folders.
        features: Words that describe it, for messages.
    """

    source: Path
    files: list[Path]
    content: str
    folder_columns: tuple[str, ...] = ()
    features: list[str] = field(default_factory=list)


def write_parquet(folder: Path, draw: random.Random) -> OddTable:
    """A Parquet file, or a folder of them."""
    columns = draw_columns(draw, draw.choice(["vector", "vector", "vector", "text", "image"]))
    content = next(name for name in ("vector", "text", "image") if name in columns)
    features = [f"{name}: {column.types[0]}" for name, column in columns.items()]
    if draw.random() < 0.4:
        file = folder / f"items{draw.choice(['.parquet', '.parq', '.PARQUET', '.pq'])}"
        _write_shard(file, columns, slice(0, ITEMS), draw)
        return OddTable(source=file, files=[file], content=content, features=features)
    source = folder / "items"
    folder_columns = _folder_columns(columns, draw)
    files = []
    for number, rows in enumerate(_cuts(columns, folder_columns, draw)):
        place = source
        for name in folder_columns:
            place = place / f"{name}={columns[name].values[rows.start]}"
        if not folder_columns and draw.random() < 0.3:
            place = place / draw.choice(["2024", "a b", "Z"])
        place.mkdir(parents=True, exist_ok=True)
        file = place / f"part-{number * 7 % 11}{draw.choice(['.parquet', '.parquet', '.pq'])}"
        stored = {name: column for name, column in columns.items() if name not in folder_columns}
        _write_shard(file, stored, rows, draw)
        files.append(file)
    _add_empty_shard(source, columns, folder_columns, draw)
    features.append(f"{len(files)} shards, folders {folder_columns}")
    return OddTable(
        source=source,
        files=sorted(files),
        content=content,
        folder_columns=folder_columns,
        features=features,
    )


def draw_columns(draw: random.Random, content: str) -> dict[str, Column]:
    """Columns of a random kind; few of their values are missing or repeated."""
    labels = draw_labels(draw)
    values = [labels.values[i % len(labels.values)] for i in range(ITEMS)]
    columns = {"label": Column(values=values, types=labels.types)}
    if draw.random() < 0.5:
        columns["id"] = _ids(draw)
    if len(labels.values) == 2 or draw.random() < 0.4:
        val = draw.choice(["val", "validation", "valid", "dev"])
        splits = [("train", val, "test")[i // (ITEMS // 3)] for i in range(ITEMS)]
        columns["split"] = Column(values=splits, types=TEXT_TYPES)
    if draw.random() < 0.3:
        columns["group"] = _groups(draw)
    columns[content] = _contents(content, draw)
    for name in draw.sample(list(EXTRA), draw.choice([0, 0, 1, 2])):
        columns[name] = Column(values=[EXTRA[name][1]] * ITEMS, types=[EXTRA[name][0]])
    if draw.random() < 0.06:
        name = draw.choice([name for name in columns if name not in EXTRA])
        columns[name].values[draw.randrange(ITEMS)] = None
    if draw.random() < 0.1:
        column = columns[draw.choice([name for name in columns if name not in EXTRA])]
        column.values[3] = column.values[2]
    if pa.types.is_floating(labels.types[0]) and draw.random() < 0.2:
        columns["label"].values[5] = float("nan")
    names = draw.sample(list(columns), len(columns))
    return {name: columns[name] for name in names}


EXTRA: dict[str, tuple[pa.DataType, Any]] = {
    "price": (pa.decimal128(9, 2), None),
    "tags": (pa.list_(pa.string()), ["a", None]),
    "nested": (pa.struct([("a", pa.int8()), ("b", pa.list_(pa.int8()))]), {"a": 1, "b": []}),
    "void": (pa.null(), None),
    "pairs": (pa.map_(pa.string(), pa.int32()), [("a", 1)]),
    "labels": (pa.string(), "other"),
    "\u6587": (pa.float16(), None),
}
"""Columns that no reader of items asks for."""


def _ids(draw: random.Random) -> Column:
    kind = draw.choice(INTEGER_TYPES)
    largest = 100 if kind.bit_width == 8 else 30_000
    values = draw.sample(range(largest), ITEMS)
    if draw.random() < 0.5:
        values.sort()
    if draw.random() < 0.05:
        values[0] = values[1]
    wider = [other for other in INTEGER_TYPES if other.bit_width > 8 and largest == 100]
    return Column(values=values, types=[kind, *wider])


def _groups(draw: random.Random) -> Column:
    values: list[Any] = [draw.choice(["a", " a", "caf\u00e9", None]) for _ in range(ITEMS)]
    if draw.random() < 0.3:
        return Column(values=[i % 5 for i in range(ITEMS)], types=[pa.int8(), pa.int64()])
    return Column(values=values, types=TEXT_TYPES)


def _contents(content: str, draw: random.Random) -> Column:
    if content == "vector":
        types = vector_types(draw, SIZE)
        draw.shuffle(types)
        values = [vector(row, SIZE, types[0].value_type) for row in range(ITEMS)]
        return Column(values=values, types=types)
    if content == "text":
        return Column(values=[text(row, draw) for row in range(ITEMS)], types=TEXT_TYPES)
    pictures = [picture(row) for row in range(ITEMS)]
    if draw.random() < 0.5:
        return Column(values=pictures, types=[pa.binary(), pa.large_binary(), pa.binary_view()])
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return Column(values=[{"bytes": p, "path": None} for p in pictures], types=[kind])


def _folder_columns(columns: dict[str, Column], draw: random.Random) -> tuple[str, ...]:
    """Columns that become names of folders; their rows are sorted by them first."""
    names = []
    if "split" in columns and None not in columns["split"].values and draw.random() < 0.3:
        names.append("split")
    texts = all(isinstance(value, str) for value in columns["label"].values)
    if texts and draw.random() < 0.3 and all(map(_is_name, columns["label"].values)):
        names.append("label")
    if not names:
        return ()
    order = sorted(range(ITEMS), key=lambda row: [columns[name].values[row] for name in names])
    for column in columns.values():
        column.values[:] = [column.values[row] for row in order]
    return tuple(names)


def _is_name(value: str) -> bool:
    """Whether a value can be the name of a folder as it is."""
    return len(value) < 100 and not set(value) & set("/%\n\\") and value == value.strip()


def _cuts(
    columns: dict[str, Column], folder_columns: tuple[str, ...], draw: random.Random
) -> list[slice]:
    edges = {0, ITEMS, *(draw.randrange(ITEMS) for _ in range(draw.randint(0, 4)))}
    keys = list(zip(*(columns[name].values for name in folder_columns), strict=True))
    edges |= {row for row in range(1, len(keys)) if keys[row] != keys[row - 1]}
    starts = sorted(edges)
    return [slice(start, stop) for start, stop in itertools.pairwise(starts)]


def _write_shard(file: Path, columns: dict[str, Column], rows: slice, draw: random.Random) -> None:
    table = pa.table({name: column.array(rows, draw) for name, column in columns.items()})
    pq.write_table(
        table,
        file,
        compression=draw.choice(CODECS),
        use_dictionary=draw.random() < 0.5,
        data_page_version=draw.choice(["1.0", "2.0"]),
        row_group_size=draw.choice([1, 5, 1000]),
        write_page_index=draw.random() < 0.5,
        store_schema=draw.random() < 0.8,
        write_statistics=draw.random() < 0.8,
    )


def _add_empty_shard(
    source: Path, columns: dict[str, Column], folder_columns: tuple[str, ...], draw: random.Random
) -> None:
    """A shard without rows, as of a job with nothing to write; of null type or of the right one."""
    if folder_columns or draw.random() < 0.6:
        return
    is_null = draw.random() < 0.5
    types = {name: pa.null() if is_null else c.types[0] for name, c in columns.items()}
    schema = pa.schema(list(types.items()))
    pq.write_table(schema.empty_table(), source / draw.choice(["aa.parquet", "zz.parquet"]))


def write_csv(folder: Path, draw: random.Random) -> OddTable:
    """A CSV file of texts in one of the dialects that programs write."""
    columns = draw_columns(draw, "text")
    while not all(isinstance(v, str | int | None) for v in columns["label"].values):
        columns = draw_columns(draw, "text")
    rows: list[list[Any]] = [list(columns)]
    rows += [list(row) for row in zip(*(c.values for c in columns.values()), strict=True)]
    out = io.StringIO()
    quoting = draw.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
    end = draw.choice(["\n", "\r\n", "\r"])
    if end == "\r":  # Python writes a line feed without quotes then
        quoting = csv.QUOTE_ALL
    delimiter = draw.choice([*[","] * 14, ";", "\t"])
    csv.writer(out, quoting=quoting, lineterminator=end, delimiter=delimiter).writerows(rows)
    content = out.getvalue()
    if draw.random() < 0.3:
        content = content.removesuffix(end)
    if draw.random() < 0.2:
        content += end * 2
    file = folder / draw.choice(["items.csv", "items.CSV"])
    encoding = draw.choice(["utf-8", "utf-8-sig"])
    file.write_bytes(content.encode(encoding))
    features = [f"CSV, {delimiter!r}, {end!r}, quoting {quoting}, {encoding}"]
    return OddTable(source=file, files=[file], content="text", features=features)
