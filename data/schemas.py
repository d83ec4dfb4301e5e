"""The Parquet schemas of the artifacts: plain columns that pandas, DuckDB and Spark can read.

The name and version of the schema and the provenance are stored in the file's metadata under the
key `remine`; the name is checked on read.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from remine.data.errors import StoreError
from remine.data.types import KINDS, Embeddings, Float32, Triplets

ROW_GROUP = 65_536
"""Rows per Parquet row group, the unit in which training reads and shuffles triplets."""

CONTENTS = {"image": pa.binary(), "path": pa.string(), "text": pa.string()}
"""Columns that hold the content of an item, with their types. Vectors are stored as inputs."""

ITEMS = ("items/1", "items/2")
"""Schemas of items: items/2 has a column `key` with the ids of data whose ids are texts."""

TRIPLETS = pa.schema(
    [
        ("anchor_id", pa.int64()),
        ("positive_id", pa.int64()),
        ("negative_id", pa.int64()),
        ("d_ap", pa.float32()),
        ("d_an", pa.float32()),
        ("kind", pa.dictionary(pa.int8(), pa.string())),
        ("negative_rank", pa.int32()),
    ]
)


def items_schema(
    content: str, *, has_keys: bool = False, extras: Iterable[pa.Field] = ()
) -> pa.Schema:
    """The columns of items with the given content: `image`, `path`, `text` or `vector`.

    Vectors are stored with the inputs, so items have no column for them.

    has_keys: Whether the data's ids are texts, which have a column of their own.
    extras: The user's other columns, which come last.
    """
    columns = [
        pa.field("id", pa.int64(), nullable=False),
        *([pa.field("key", pa.string(), nullable=False)] if has_keys else ()),
        pa.field("label", pa.string(), nullable=False),
        pa.field("label_code", pa.int32(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("group", pa.string()),
        pa.field("content_hash", pa.string(), nullable=False),
    ]
    if content in CONTENTS:
        columns.append(pa.field(content, CONTENTS[content], nullable=False))
    return pa.schema([*columns, *extras])


def write(table: pa.Table, path: Path, *, schema: str, provenance: Mapping[str, Any]) -> None:
    """Write `table` as Parquet, with the name of the schema and the provenance in its metadata.

    Byte-stream split halves the compressed size of ids and floats compared with plain encoding.
    Vectors are not compressed: zstd saves only a tenth and makes them 50 % slower to read.
    """
    note = {**provenance, "schema": schema}
    table = table.replace_schema_metadata({"remine": json.dumps(note, sort_keys=True)})
    dictionary, byte_stream_split, compression = [], [], {}
    for column in table.schema:
        if pa.types.is_fixed_size_list(column.type):  # a vector
            continue
        compression[column.name] = "zstd"
        is_repetitive = column.name in ("label", "split", "group") or (
            pa.types.is_string(column.type) and column.name.endswith("_id")
        )
        if pa.types.is_dictionary(column.type) or is_repetitive:
            dictionary.append(column.name)
        elif pa.types.is_primitive(column.type) and not pa.types.is_boolean(column.type):
            byte_stream_split.append(column.name)
    pq.write_table(
        table,
        path,
        compression=compression,
        compression_level=dict.fromkeys(compression, 1),
        row_group_size=ROW_GROUP,
        use_dictionary=dictionary,
        use_byte_stream_split=byte_stream_split,
        store_schema=True,
    )


def check(path: Path, *, schema: str | tuple[str, ...]) -> dict[str, Any]:
    """The provenance of the Parquet file at `path`, which has this schema, or one of these.

    Raises:
        StoreError: The file has another schema, or was not written by remine.
    """
    metadata = pq.read_schema(path).metadata or {}
    note: dict[str, Any] = json.loads(metadata.get(b"remine", b"{}"))
    names = (schema,) if isinstance(schema, str) else schema
    if note.get("schema") not in names:
        raise StoreError(
            f"{path} holds {note.get('schema', 'no remine schema')}, not {' or '.join(names)}"
        )
    return note


def read(
    paths: Iterable[Path], *, schema: str | tuple[str, ...], columns: list[str] | None = None
) -> pa.Table:
    """All rows of the Parquet files at `paths`, in order; each file's schema is checked."""
    tables = []
    for path in paths:
        check(path, schema=schema)
        tables.append(pq.read_table(path, columns=columns, partitioning=None))
    return pa.concat_tables(tables)


def embeddings_table(embeddings: Embeddings) -> pa.Table:
    """A table of n rows: id, label_code, and vector as FixedSizeList<float32>[d]."""
    # Non-nullable numbers need no validity bitmap, which makes reading twice as fast.
    vector_type = pa.list_(
        pa.field("item", pa.float32(), nullable=False), embeddings.vectors.shape[1]
    )
    vectors = pa.FixedSizeListArray.from_arrays(
        pa.array(embeddings.vectors.reshape(-1)), type=vector_type
    )
    return pa.table({"id": embeddings.ids, "label_code": embeddings.label_codes, "vector": vectors})


def vector_column(table: pa.Table) -> Float32:
    """The `vector` column as one (n, d) float32 array."""
    chunks = [
        np.asarray(chunk.flatten()).reshape(len(chunk), -1) for chunk in table["vector"].chunks
    ]
    return np.ascontiguousarray(np.concatenate(chunks), dtype=np.float32)


def read_embeddings(paths: Iterable[Path]) -> Embeddings:
    """Read the embeddings of the shards at `paths`, which takes n * (4 d + 12) bytes of memory."""
    table = read(paths, schema="embeddings/1")
    return Embeddings(
        ids=np.array(table["id"]),  # copied, because Arrow's buffers are read-only
        label_codes=np.array(table["label_code"]),
        vectors=vector_column(table),
    )


def dimensions(path: Path) -> int:
    """The number of dimensions of the embeddings at `path`, from the file's schema."""
    return int(pq.read_schema(path).field("vector").type.list_size)


def triplets_table(triplets: Triplets) -> pa.Table:
    """A table of t rows with the columns of TRIPLETS, and negative2_id if the triplets have it."""
    arrays = triplets.columns()
    arrays["kind"] = pa.DictionaryArray.from_arrays(pa.array(triplets.kind), pa.array(KINDS))
    table = pa.table([pa.array(arrays[n]) for n in TRIPLETS.names], schema=TRIPLETS)
    if triplets.negative2_id is not None:
        second = pa.array(triplets.negative2_id, mask=triplets.negative2_id < 0)
        table = table.append_column("negative2_id", second)
    return table


def triplets_from(table: pa.Table) -> Triplets:
    """The triplets in `table` (the columns of TRIPLETS in any order, perhaps negative2_id)."""
    kind = table["kind"].combine_chunks()
    if isinstance(kind, pa.ChunkedArray):
        kind = pa.concat_arrays(kind.chunks) if kind.num_chunks else pa.array([], TRIPLETS[5].type)
    # Another writer may have ordered the dictionary differently from KINDS.
    codes = np.array([KINDS.index(name) for name in kind.dictionary.to_pylist()], np.int8)
    kind_codes = codes[kind.indices.to_numpy()] if len(kind) else np.zeros(0, np.int8)
    columns = {n: table[n].to_numpy() for n in TRIPLETS.names if n != "kind"}
    if "negative2_id" in table.column_names:
        columns["negative2_id"] = pc.fill_null(table["negative2_id"], -1).to_numpy()
    return Triplets(kind=kind_codes, **columns)
