"""Mined triplets for other programs, a batch at a time, whatever their number.

csv, jsonl, parquet: the columns as they lie, with the three labels. triplet, n-tuple: the texts,
paths or pictures themselves, as sentence-transformers trains on. indices: places of items, as
pytorch-metric-learning takes them.
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
from remine.data.types import Int64
from remine.flows.query.triplets import Mined, TripletQuery

BATCH = 65_536
LAYOUTS = ("plain", "triplet", "n-tuple", "indices")
ROLES = ("anchor", "positive", "negative")
TABLES = (".parquet", ".csv", ".jsonl")
ARRAYS = (".npz", ".npy")


def check_export(mined: Mined, layout: str, out: Path, negatives: int) -> None:
    """Refuse what cannot be written, before anything is read."""
    if layout not in LAYOUTS:
        raise InputError(f"no layout {layout!r}; known: {', '.join(LAYOUTS)}")
    suffixes = ARRAYS if layout == "indices" else TABLES
    if out.suffix not in suffixes:
        raise InputError(f"{out}: the layout {layout} is written to {' or '.join(suffixes)}")
    if not out.parent.is_dir():
        raise InputError(f"{out}: the folder {out.parent} does not exist")
    if not 1 <= negatives <= 1000:
        raise InputError(f"--negatives is {negatives}; it must be 1 to 1000")
    content = mined.version.artifacts["items"].card["content"]
    if layout in ("triplet", "n-tuple"):
        if content == "vector":
            raise InputError(
                f"the items are vectors: the layout {layout} is for texts and pictures"
            )
        if content == "image" and out.suffix != ".parquet":
            raise InputError(f"{out}: pictures are written to .parquet")


def export(mined: Mined, query: TripletQuery, layout: str, out: Path, negatives: int = 1) -> int:
    """Write the rows that fit `query` to `out`; returns how many rows were written.

    negatives: of n-tuples; pairs with fewer are left out.
    """
    check_export(mined, layout, out, negatives)
    temp = out.with_name(f".{out.name}.part")
    try:
        if layout == "indices":
            count = _write_indices(mined, query, temp, npz=out.suffix == ".npz")
        else:
            makers: dict[str, Callable[[], Iterator[pa.Table]]] = {
                "plain": lambda: _plain(mined, query),
                "triplet": lambda: _contents(mined, _ids(mined, query), ROLES),
                "n-tuple": lambda: _contents(mined, *_tuples(mined, query, negatives)),
            }
            count = _write_tables(makers[layout](), temp, out.suffix)
        temp.replace(out)
    finally:
        temp.unlink(missing_ok=True)
    return count


def _batches(mined: Mined, sql: str, values: list[Any]) -> Iterator[pa.Table]:
    """The rows of a query, at most 65,536 at a time."""
    reader = mined.cursor().sql(sql, params=values).to_arrow_reader(BATCH)
    for batch in reader:
        if batch.num_rows:
            yield pa.Table.from_batches([batch])


def _plain(mined: Mined, query: TripletQuery) -> Iterator[pa.Table]:
    """Batch by batch, so that the labels' join keeps the order in which the triplets lie."""
    sql, values = mined.selection(query)
    catalogue = mined.items()
    labels = pa.array(catalogue.labels)
    for table in _batches(mined, sql, values):
        whole = table.set_column(
            table.column_names.index("kind"), "kind", table["kind"].cast(pa.string())
        )
        for role in ROLES:
            rows = np.searchsorted(catalogue.ids, table[f"{role}_id"].to_numpy())
            codes = pa.array(catalogue.label_codes[rows])
            whole = whole.append_column(f"{role}_label", labels.take(codes))
        yield whole


def _ids(mined: Mined, query: TripletQuery) -> Iterator[Int64]:
    """(b, 3) ids of anchors, positives and negatives."""
    sql, values = mined.selection(query)
    for table in _batches(mined, sql, values):
        yield np.stack([table[f"{role}_id"].to_numpy() for role in ROLES], axis=1)


def _tuples(
    mined: Mined, query: TripletQuery, negatives: int
) -> tuple[Iterator[Int64], tuple[str, ...]]:
    """(b, 2 + negatives) ids, a row an (anchor, positive) pair, and the columns' names.

    The nearest negatives of the pair, whatever their kinds; each once.
    """
    sql, values = mined.selection(query)
    whole = (
        "SELECT anchor_id, positive_id,"
        f" list(negative_id ORDER BY d_an, negative_id)[1:{negatives}] AS negatives FROM"
        f" (SELECT anchor_id, positive_id, negative_id, min(d_an) AS d_an FROM ({sql})"
        " GROUP BY ALL)"
        f" GROUP BY ALL HAVING count(*) >= {negatives} ORDER BY anchor_id, positive_id"
    )

    def ids() -> Iterator[Int64]:
        for table in _batches(mined, whole, values):
            pairs = [table[name].to_numpy() for name in ("anchor_id", "positive_id")]
            lists = pc.list_flatten(table["negatives"]).to_numpy().reshape(len(table), negatives)
            yield np.concatenate([np.stack(pairs, axis=1), lists], axis=1)

    names = tuple(f"negative_{place + 1}" for place in range(negatives))
    return ids(), ("anchor", "positive", *(names if negatives > 1 else ("negative",)))


def _contents(mined: Mined, ids: Iterator[Int64], names: tuple[str, ...]) -> Iterator[pa.Table]:
    """The texts, paths or pictures of ids (b, columns); all items' contents are in memory."""
    content = mined.version.artifacts["items"].card["content"]
    shards = mined.store.paths(mined.version.artifacts["items"])[:-1]
    table = schemas.read(shards, schema="items/1", columns=["id", content])
    known, values = table["id"].to_numpy(), table[content]
    for block in ids:
        columns = [values.take(pa.array(np.searchsorted(known, part))) for part in block.T]
        if content == "image":  # as the data sets of Hugging Face hold pictures
            columns = [_pictures(column) for column in columns]
        yield pa.table(dict(zip(names, columns, strict=True)))


def _pictures(column: pa.ChunkedArray) -> pa.StructArray:
    whole = column.combine_chunks()
    return pa.StructArray.from_arrays(
        [whole, pa.nulls(len(whole), pa.string())], names=["bytes", "path"]
    )


def _write_tables(tables: Iterator[pa.Table], temp: Path, suffix: str) -> int:
    count, writer = 0, None
    with temp.open("wb") as file:
        for table in tables:
            count += len(table)
            if suffix == ".jsonl":
                file.write(_json_lines(table))
                continue
            if writer is None:
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


def _write_indices(mined: Mined, query: TripletQuery, temp: Path, *, npz: bool) -> int:
    """(3, t) int64 places of items in the order of ids, in one .npy or three of an .npz.

    anchors, positives, negatives: what pytorch-metric-learning calls indices_tuple.
    """
    count = mined.count(query)
    if not count:
        raise InputError("no triplet fits: nothing is written")
    if not npz:
        whole = np.lib.format.open_memmap(temp, "w+", np.int64, (3, count))
        start = 0
        for rows in _places(mined, query):
            whole[:, start : start + rows.shape[1]] = rows
            start += rows.shape[1]
        whole.flush()
        return count
    with zipfile.ZipFile(temp, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for place, role in enumerate(ROLES):
            parts = (rows[place] for rows in _places(mined, query))
            _add_array(archive, f"{role}s", parts, count)
        _add_array(archive, "ids", iter([mined.items().ids]), len(mined.items().ids))
    return count


def _places(mined: Mined, query: TripletQuery) -> Iterator[Int64]:
    """(3, b) places at a time."""
    ids = mined.items().ids
    for block in _ids(mined, query):
        yield np.searchsorted(ids, block.T)


def _add_array(archive: zipfile.ZipFile, name: str, parts: Iterator[Int64], count: int) -> None:
    """An int64 array (count,) as a member of an .npz, part by part."""
    # A fixed date: the same triplets give the same bytes.
    member = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
    with archive.open(member, "w", force_zip64=True) as file:
        header = {"descr": "<i8", "fortran_order": False, "shape": (count,)}
        np.lib.format.write_array_header_1_0(file, header)
        for part in parts:
            file.write(np.ascontiguousarray(part, "<i8").tobytes())
