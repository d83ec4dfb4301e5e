"""How each artifact looks in Parquet: plain columns that pandas, DuckDB and Spark read without us.

The schema's name and version and the provenance stand in the file's metadata, under `remine`, and
the name is checked on read.
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
CONTENTS = {"image": pa.binary(), "path": pa.string(), "text": pa.string()}

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


def items_schema(content: str) -> pa.Schema:
    """The columns of items whose content is `image` bytes, a `path`, a `text`, or a `vector`.

    A vector lies with the inputs, so its column is not repeated here.
    """
    columns = [
        pa.field("id", pa.int64(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("label_code", pa.int32(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("group", pa.string()),
        pa.field("content_hash", pa.string(), nullable=False),
    ]
    if content in CONTENTS:
        columns.append(pa.field(content, CONTENTS[content], nullable=False))
    return pa.schema(columns)


def write(table: pa.Table, path: Path, *, schema: str, provenance: Mapping[str, Any]) -> None:
    """Write `table` as Parquet with the schema's name inside.

    Byte-stream split makes ids and floats compress to half of what plain encoding does. Vectors
    stay as they are: zstd takes a tenth off them, and makes them slower to read by half.
    """
    note = {"schema": schema, **provenance}
    table = table.replace_schema_metadata({"remine": json.dumps(note, sort_keys=True)})
    dictionary, split, compressed = [], [], {}
    for column in table.schema:
        if pa.types.is_fixed_size_list(column.type):
            continue
        compressed[column.name] = "zstd"
        if pa.types.is_dictionary(column.type) or column.name in ("label", "split", "group"):
            dictionary.append(column.name)
        elif pa.types.is_primitive(column.type):
            split.append(column.name)
    pq.write_table(
        table,
        path,
        compression=compressed,
        compression_level=dict.fromkeys(compressed, 1),
        row_group_size=ROW_GROUP,
        use_dictionary=dictionary,
        use_byte_stream_split=split,
        store_schema=True,
    )


def check(path: Path, *, schema: str) -> dict[str, Any]:
    """The provenance of the Parquet file at `path`; refuses a file of another schema."""
    metadata = pq.read_schema(path).metadata or {}
    note: dict[str, Any] = json.loads(metadata.get(b"remine", b"{}"))
    if note.get("schema") != schema:
        raise StoreError(f"{path} holds {note.get('schema', 'no remine schema')}, not {schema}")
    return note


def read(paths: Iterable[Path], *, schema: str, columns: list[str] | None = None) -> pa.Table:
    """All rows of the Parquet files at `paths`, in order."""
    tables = []
    for path in paths:
        check(path, schema=schema)
        tables.append(pq.read_table(path, columns=columns, partitioning=None))
    return pa.concat_tables(tables)


def embeddings_table(embeddings: Embeddings) -> pa.Table:
    """(n) rows of id, label_code, vector as FixedSizeList<float32>[d]."""
    # No number is null: without a bit a number for that, they are read twice as fast.
    kind = pa.list_(pa.field("item", pa.float32(), nullable=False), embeddings.vectors.shape[1])
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(embeddings.vectors.reshape(-1)), type=kind)
    return pa.table({"id": embeddings.ids, "label_code": embeddings.label_codes, "vector": vectors})


def vector_column(table: pa.Table) -> Float32:
    """The `vector` column as one (n, d) float32 array."""
    chunks = [
        np.asarray(chunk.flatten()).reshape(len(chunk), -1) for chunk in table["vector"].chunks
    ]
    return np.ascontiguousarray(np.concatenate(chunks), dtype=np.float32)


def read_embeddings(paths: Iterable[Path]) -> Embeddings:
    """The embeddings in the shards at `paths`; n * (4 d + 12) bytes of memory."""
    table = read(paths, schema="embeddings/1")
    return Embeddings(
        ids=np.array(table["id"]),  # copies: Arrow's own memory is read-only
        label_codes=np.array(table["label_code"]),
        vectors=vector_column(table),
    )


def dimensions(path: Path) -> int:
    """How many dimensions the embeddings at `path` have."""
    return int(pq.read_schema(path).field("vector").type.list_size)


def triplets_table(triplets: Triplets) -> pa.Table:
    """(t) rows in the columns of TRIPLETS, and negative2_id where the triplets have it."""
    arrays = triplets.columns()
    arrays["kind"] = pa.DictionaryArray.from_arrays(pa.array(triplets.kind), pa.array(KINDS))
    table = pa.table([pa.array(arrays[n]) for n in TRIPLETS.names], schema=TRIPLETS)
    if triplets.negative2_id is not None:
        second = pa.array(triplets.negative2_id, mask=triplets.negative2_id < 0)
        table = table.append_column("negative2_id", second)
    return table


def triplets_from(table: pa.Table) -> Triplets:
    """The triplets in `table` (columns of TRIPLETS, any order)."""
    kind = table["kind"].combine_chunks()
    if isinstance(kind, pa.ChunkedArray):
        kind = pa.concat_arrays(kind.chunks) if kind.num_chunks else pa.array([], TRIPLETS[5].type)
    codes = np.array([KINDS.index(name) for name in kind.dictionary.to_pylist()], np.int8)
    picked = codes[kind.indices.to_numpy()] if len(kind) else np.zeros(0, np.int8)
    rest = {n: table[n].to_numpy() for n in TRIPLETS.names if n != "kind"}
    if "negative2_id" in table.column_names:
        rest["negative2_id"] = pc.fill_null(table["negative2_id"], -1).to_numpy()
    return Triplets(kind=picked, **rest)
