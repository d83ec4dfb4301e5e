"""Mined triplets written for other programs, batch by batch in bounded memory.

Layouts:
    plain      the stored columns, and the labels and data.extra_columns of the three items, as
               .csv, .jsonl or .parquet
    triplet    the texts, paths or pictures of the three items, for sentence-transformers
    n-tuple    the same with several negatives per pair
    indices    positions of items, the indices_tuple of pytorch-metric-learning
"""

import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from remine.data import schemas
from remine.data.errors import InputError
from remine.data.items.catalogue import Catalogue
from remine.data.sources.keys import Keys
from remine.data.types import Int64
from remine.flows.query.triplets import ROLES, TripletQuery, TripletTable

BATCH = 65_536
LAYOUTS = ("plain", "triplet", "n-tuple", "indices")
TABLES = (".parquet", ".csv", ".jsonl")
ARRAYS = (".npz", ".npy")


def check_export(triplets: TripletTable, layout: str, out: Path, negatives: int) -> None:
    """Check, before anything is read, that the layout can be written to `out`.

    Raises:
        InputError: If the layout, the file, its folder, the number of negatives or the content of
            the items does not fit.
    """
    if layout not in LAYOUTS:
        raise InputError(f"no layout {layout!r}; known: {', '.join(LAYOUTS)}")
    suffixes = ARRAYS if layout == "indices" else TABLES
    if out.suffix not in suffixes:
        raise InputError(f"{out}: the layout {layout} is written to {' or '.join(suffixes)}")
    if not out.parent.is_dir():
        raise InputError(f"{out}: the folder {out.parent} does not exist")
    if not 1 <= negatives <= 1000:
        raise InputError(f"--negatives is {negatives}; it must be 1 to 1000")
    content = triplets.version.artifacts["items"].card["content"]
    if layout in ("triplet", "n-tuple"):
        if content == "vector":
            raise InputError(
                f"the items are vectors: the layout {layout} is for texts and pictures"
            )
        if content == "image" and out.suffix != ".parquet":
            raise InputError(f"{out}: pictures are written to .parquet")


def export(
    triplets: TripletTable, query: TripletQuery, layout: str, out: Path, negatives: int = 1
) -> int:
    """Write the triplets that pass the filters of `query` to `out`.

    Args:
        triplets: The triplets of a version.
        query: The round and the filters; its order and page are ignored.
        layout: One of LAYOUTS.
        out: The file to write; its suffix decides the format.
        negatives: Negatives per row of the layout n-tuple; pairs with fewer are left out.

    Returns:
        The number of rows written.

    Raises:
        InputError: If the file cannot be written, or no triplet passes.
    """
    check_export(triplets, layout, out, negatives)
    # Written beside the target and renamed, so that a failure leaves no partial file.
    temp = out.with_name(f".{out.name}.part")
    try:
        if layout == "indices":
            count = _write_indices(triplets, query, temp, npz=out.suffix == ".npz")
        else:
            makers: dict[str, Callable[[], Iterator[pa.Table]]] = {
                "plain": lambda: _plain_tables(triplets, query),
                "triplet": lambda: _content_tables(triplets, _id_blocks(triplets, query), ROLES),
                "n-tuple": lambda: _content_tables(triplets, *_tuples(triplets, query, negatives)),
            }
            count = _write_tables(makers[layout](), temp, out.suffix)
        temp.replace(out)
    finally:
        temp.unlink(missing_ok=True)
    return count


def _batches(triplets: TripletTable, sql: str, values: list[Any]) -> Iterator[pa.Table]:
    """Yield the rows of a SQL query, at most 65,536 at a time."""
    reader = triplets.cursor().sql(sql, params=values).to_arrow_reader(BATCH)
    for batch in reader:
        if batch.num_rows:
            yield pa.Table.from_batches([batch])


def _plain_tables(triplets: TripletTable, query: TripletQuery) -> Iterator[pa.Table]:
    # Labels are looked up batch by batch: a join in SQL would not keep the order of the rows.
    sql, values = triplets.selection(query)
    catalogue = triplets.catalogue
    labels = pa.array(catalogue.labels)
    for batch in _batches(triplets, sql, values):
        table = batch.set_column(
            batch.column_names.index("kind"), "kind", batch["kind"].cast(pa.string())
        )
        table = with_user_ids(catalogue, table)
        for role in ROLES:
            rows = np.searchsorted(catalogue.ids, batch[f"{role}_id"].to_numpy())
            codes = pa.array(catalogue.label_codes[rows])
            table = table.append_column(f"{role}_label", labels.take(codes))
            for name in triplets.contents.extra:
                table = table.append_column(f"{role}_{name}", triplets.contents.values(name, rows))
        yield table


def with_user_ids(catalogue: Catalogue, table: pa.Table) -> pa.Table:
    """A table of triplets with the user's ids for the numbers of items."""
    if catalogue.keys is None:
        return table
    for place, name in enumerate(table.column_names):
        if name.endswith("_id"):
            table = table.set_column(place, name, catalogue.ids_of(table[name]))
    return table


def _id_blocks(triplets: TripletTable, query: TripletQuery) -> Iterator[Int64]:
    """Yield (b, 3) ids of anchors, positives and negatives."""
    sql, values = triplets.selection(query)
    for batch in _batches(triplets, sql, values):
        yield np.stack([batch[f"{role}_id"].to_numpy() for role in ROLES], axis=1)


def _tuples(
    triplets: TripletTable, query: TripletQuery, negatives: int
) -> tuple[Iterator[Int64], tuple[str, ...]]:
    """Blocks (b, 2 + negatives) of ids, one row per (anchor, positive) pair, and column names.

    A row holds the nearest negatives of the pair, of any kind and without repetition.
    """
    sql, values = triplets.selection(query)
    pairs_sql = (
        "SELECT anchor_id, positive_id,"
        f" list(negative_id ORDER BY d_an, negative_id)[1:{negatives}] AS negatives FROM"
        f" (SELECT anchor_id, positive_id, negative_id, min(d_an) AS d_an FROM ({sql})"
        " GROUP BY ALL)"
        f" GROUP BY ALL HAVING count(*) >= {negatives} ORDER BY anchor_id, positive_id"
    )

    def id_blocks() -> Iterator[Int64]:
        for batch in _batches(triplets, pairs_sql, values):
            pairs = [batch[name].to_numpy() for name in ("anchor_id", "positive_id")]
            lists = pc.list_flatten(batch["negatives"]).to_numpy().reshape(len(batch), negatives)
            yield np.concatenate([np.stack(pairs, axis=1), lists], axis=1)

    names = tuple(f"negative_{place + 1}" for place in range(negatives))
    return id_blocks(), ("anchor", "positive", *(names if negatives > 1 else ("negative",)))


def _content_tables(
    triplets: TripletTable, id_blocks: Iterator[Int64], names: tuple[str, ...]
) -> Iterator[pa.Table]:
    """Replace ids (b, columns) by texts, paths or pictures; holds all items' contents in memory."""
    content = triplets.version.artifacts["items"].card["content"]
    # The last file holds the label names.
    shards = triplets.store.paths(triplets.version.artifacts["items"])[:-1]
    table = schemas.read(shards, schema=schemas.ITEMS, columns=["id", content])
    item_ids, values = table["id"].to_numpy(), table[content]
    for block in id_blocks:
        columns = [values.take(pa.array(np.searchsorted(item_ids, ids))) for ids in block.T]
        if content == "image":
            columns = [_picture_structs(column) for column in columns]
        yield pa.table(dict(zip(names, columns, strict=True)))


def _picture_structs(column: pa.ChunkedArray) -> pa.StructArray:
    """Pictures as structs of bytes and path, the format of Hugging Face data sets."""
    pictures = column.combine_chunks()
    return pa.StructArray.from_arrays(
        [pictures, pa.nulls(len(pictures), pa.string())], names=["bytes", "path"]
    )


def _write_tables(tables: Iterator[pa.Table], temp: Path, suffix: str) -> int:
    count, writer = 0, None
    with temp.open("wb") as file:
        for table in tables:
            count += len(table)
            if suffix == ".jsonl":
                file.write(_json_lines(table))
                continue
            if writer is None:  # the schema comes with the first table
                makers = {".csv": pyarrow.csv.CSVWriter, ".parquet": pq.ParquetWriter}
                writer = makers[suffix](file, table.schema)
            writer.write_table(table)
        if writer is not None:
            writer.close()
    if not count:
        raise InputError("no triplet fits: nothing is written")
    return count


def _json_lines(table: pa.Table) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in table.to_pylist())


def _write_indices(triplets: TripletTable, query: TripletQuery, temp: Path, *, npz: bool) -> int:
    """Write (3, t) int64 positions of items in the order of ids: one .npy, or members of an .npz.

    The members anchors, positives and negatives form the indices_tuple of pytorch-metric-learning;
    `ids` maps positions to item ids, and `keys` to the user's where these are texts.
    """
    count = triplets.count(query)
    if not count:
        raise InputError("no triplet fits: nothing is written")
    if not npz:
        indices = np.lib.format.open_memmap(temp, "w+", np.int64, (3, count))
        start = 0
        for block in _index_blocks(triplets, query):
            indices[:, start : start + block.shape[1]] = block
            start += block.shape[1]
        indices.flush()
        return count
    # np.savez needs all arrays in memory: here each member is written in blocks, in its own pass.
    ids = triplets.catalogue.ids
    with zipfile.ZipFile(temp, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for place, role in enumerate(ROLES):
            blocks = (block[place] for block in _index_blocks(triplets, query))
            _add_array(archive, f"{role}s", blocks, count)
        _add_array(archive, "ids", iter([ids]), len(ids))
        if keys := triplets.catalogue.keys:
            _add_texts(archive, "keys", keys)
    return count


def _index_blocks(triplets: TripletTable, query: TripletQuery) -> Iterator[Int64]:
    """Yield (3, b) positions of anchors, positives and negatives."""
    ids = triplets.catalogue.ids
    for block in _id_blocks(triplets, query):
        yield np.searchsorted(ids, block.T)


def _add_texts(archive: zipfile.ZipFile, name: str, keys: Keys) -> None:
    """Add texts (n,) to an .npz as numpy's strings of one width, block by block."""
    width = max(1, pc.max(pc.utf8_length(keys.texts)).as_py())
    member = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
    with archive.open(member, "w", force_zip64=True) as file:
        header = {"descr": f"<U{width}", "fortran_order": False, "shape": (len(keys),)}
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, len(keys), BATCH):
            texts = keys.texts[start : start + BATCH].to_pylist()
            file.write(np.array(texts, f"<U{width}").tobytes())


def _add_array(archive: zipfile.ZipFile, name: str, blocks: Iterator[Int64], count: int) -> None:
    """Add an int64 array (count,) to an .npz, block by block."""
    # A fixed date: the same triplets give the same bytes.
    member = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
    with archive.open(member, "w", force_zip64=True) as file:
        header = {"descr": "<i8", "fortran_order": False, "shape": (count,)}
        np.lib.format.write_array_header_1_0(file, header)
        for block in blocks:
            file.write(np.ascontiguousarray(block, "<i8").tobytes())
