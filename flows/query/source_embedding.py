"""A source embedded by the encoder of a version: `remine embed`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from remine.data.errors import InputError
from remine.data.items.inputs import PICTURES, omission_lines
from remine.data.items.shards import row_namer
from remine.data.sources.source import Source
from remine.data.types import Float32
from remine.flows.query.snapshot import BATCH, ITEM_NAMES, Snapshot
from remine.flows.stages.encoder import device
from remine.index.embed import embed_rows

BLOCK = 2048
"""Items that are read, embedded and written at a time."""


def embed_source(
    snapshot: Snapshot,
    source: Source,
    out: Path,
    progress: Callable[[int, int], None] = lambda _count, _total: None,
) -> list[str]:
    """Embed every item of a source and write a Parquet file.

    Columns: id (as in the source, else the number of the row), label, split and group if the source
    has them, path of pictures in files, and vector, a list of d float32 of length 1.

    Args:
        snapshot: The version whose encoder embeds.
        source: What is embedded; it needs no labels.
        out: The file, which appears when it is whole.
        progress: Called with the number of items that are written, and of all.

    Returns:
        Lines for the user: what was left out of the contents.

    Raises:
        InputError: The source holds no items, or items of another kind than the version's, or one
            cannot be read.

    """
    _check_content(snapshot.content, source.content)
    table = source.metadata()
    if not len(table):
        raise InputError(f"{source.root} holds no items")
    if "id" not in table.column_names:
        table = table.add_column(0, "id", pa.array(np.arange(len(table))))
    temp = out.with_name(f".{out.name}.part")
    try:
        _write(snapshot, source, table, temp, progress)
        temp.rename(out)
    finally:
        temp.unlink(missing_ok=True)
    return omission_lines(snapshot.transform)


def _write(
    snapshot: Snapshot,
    source: Source,
    table: pa.Table,
    path: Path,
    progress: Callable[[int, int], None],
) -> None:
    writer, stop = None, 0
    try:
        for contents in source.blocks(BLOCK):
            start, stop = stop, stop + len(contents)
            columns = {name: table[name].slice(start, len(contents)) for name in table.column_names}
            if source.content == "path":
                columns["path"] = pa.array([str(content) for content in contents])
            columns["vector"] = _vector_column(_embed(snapshot, source, contents, start))
            block = pa.table(columns)
            writer = writer or pq.ParquetWriter(path, block.schema)
            writer.write_table(block)
            progress(stop, len(table))
    finally:
        if writer:
            writer.close()


def _embed(snapshot: Snapshot, source: Source, contents: Any, start: int) -> Float32:
    inputs = snapshot.transform(contents, row_namer(source, start))
    try:
        return embed_rows(snapshot.encoder, inputs, range(len(inputs)), BATCH, device())
    except InputError as error:
        raise InputError(f"{source.row_name(start)} and after: {error}") from None


def _vector_column(vectors: Float32) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])


def _check_content(wanted: str, content: str) -> None:
    same = content == wanted or {content, wanted} <= set(PICTURES)
    if not same:
        raise InputError(
            f"the source holds {ITEM_NAMES[content]}, and the version's encoder reads"
            f" {ITEM_NAMES[wanted]}"
        )
