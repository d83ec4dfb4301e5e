"""Readers of vectors that somebody else computed: no items, no splits, no store."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from remine.data.errors import InputError, first_line
from remine.data.sources.array import load_npy, read_lines, vector_rows
from remine.data.types import Float32, Int64, unit


@dataclass(frozen=True, kw_only=True)
class VectorFile:
    """ids (n,) int64; vectors (n, d) float32 of length 1; labels: n labels or lists, or None."""

    ids: Int64
    vectors: Float32
    labels: Sequence[object] | None

    def __len__(self) -> int:
        return len(self.ids)


def read_vectors(path: Path, labels: Path | None = None, *, labelled: bool = True) -> VectorFile:
    """A Parquet file with the columns `vector`, `label` and perhaps `id`, or an .npy file.

    label: a text, a number, or a list of them (an item of several classes). labels: an .npy or text
    file of n labels, for an .npy. labelled: whether labels are needed.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist")
    if path.suffix == ".npy":
        vectors = _numbers(path, mapped=False)
        if labelled and labels is None:
            raise InputError(f"{path} has no labels: name an .npy or text file with --labels")
        ids = np.arange(len(vectors))
        vectors = vectors.astype(np.float32)
        found = _labels_beside(labels, len(vectors)) if labels else None
    else:
        ids, vectors, found = _read_parquet(path, labelled=labelled)
        if labels:
            raise InputError(f"{path} has a label column; --labels is for .npy files")
    if not len(vectors):
        raise InputError(f"{path} holds no vectors")
    _refuse_twice(path, ids)
    try:
        return VectorFile(ids=ids, vectors=unit(vectors), labels=found)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def vector_shape(path: Path) -> tuple[int, int]:
    """(n, d) of the vectors at `path`, without reading them."""
    if not path.exists():
        raise InputError(f"{path} does not exist")
    if path.suffix == ".npy":
        n, d = _numbers(path, mapped=True).shape
        return int(n), int(d)
    try:
        file = pq.ParquetFile(path)
        names = file.schema_arrow.names
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {first_line(error)}") from None
    if "vector" not in names:
        raise InputError(f"{path} has no column 'vector'; it has {names}")
    _check_lists(path, file.schema_arrow.field("vector").type)
    first = next(file.iter_batches(1, columns=["vector"]), None)
    return file.metadata.num_rows, len(first["vector"][0]) if first else 0


def read_id_pairs(path: Path, columns: tuple[str, str]) -> Int64:
    """(p, 2) ids from two columns of a Parquet or CSV file."""
    if not path.exists():
        raise InputError(f"{path} does not exist")
    try:
        table = pyarrow.csv.read_csv(path) if path.suffix == ".csv" else pq.read_table(path)
        _ = table.column_names
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {first_line(error)}") from None
    for name in columns:
        if name not in table.column_names:
            raise InputError(f"{path} has no column {name!r}; it needs {columns[0]}, {columns[1]}")
    return np.stack([_whole_numbers(path, table, name) for name in columns], axis=1)


def _read_parquet(path: Path, *, labelled: bool) -> tuple[Int64, Float32, Sequence[object] | None]:
    try:
        table = pq.read_table(path, partitioning=None)
        _ = table.column_names
        table.validate(full=True)  # a file may say that any bytes are text
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {first_line(error)}") from None
    for name in ("vector", "label") if labelled else ("vector",):
        if name not in table.column_names:
            raise InputError(f"{path} has no column {name!r}; it has {table.column_names}")
        if table[name].null_count:
            row = pc.index(pc.is_null(table[name]), True).as_py()
            raise InputError(f"{path}: row {row}: {name} is missing")
    column = table["vector"]
    _check_lists(path, column.type)
    if not len(table):
        return np.empty(0, np.int64), np.empty((0, 0), np.float32), None
    vectors = vector_rows(column, lambda row: f"{path}: row {row}")
    labels = table["label"].to_pylist() if labelled else None
    if "id" not in table.column_names:
        return np.arange(len(table)), vectors, labels
    return _whole_numbers(path, table, "id"), vectors, labels


def _numbers(path: Path, *, mapped: bool) -> np.ndarray:
    """The (n, d) numbers in an .npy file."""
    vectors = load_npy(path, mapped=mapped)
    if vectors.ndim != 2 or vectors.dtype.kind not in "fiu":
        raise InputError(f"{path} holds {vectors.dtype} {vectors.shape}, not (n, d) numbers")
    return vectors


def _check_lists(path: Path, found: pa.DataType) -> None:
    """Refuse a column `vector` of anything but lists of numbers."""
    listed = any(
        check(found)
        for check in (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    )
    number = listed and any(
        check(found.value_type) for check in (pa.types.is_floating, pa.types.is_integer)
    )
    if not number:
        raise InputError(f"{path}: vector is {found}; it must be lists of numbers")


def _whole_numbers(path: Path, table: pa.Table, name: str) -> Int64:
    """A column of integers, none missing, each within int64."""
    column = table[name]
    if not pa.types.is_integer(column.type) or column.null_count:
        raise InputError(f"{path}: {name} is {column.type}; it must be whole numbers, none missing")
    try:
        found: Int64 = column.cast(pa.int64()).to_numpy()
    except pa.ArrowInvalid as error:
        raise InputError(f"{path}: {name}: {first_line(error)}") from None
    return found


def _labels_beside(path: Path, n: int) -> Sequence[object]:
    if not path.exists():
        raise InputError(f"{path} does not exist")
    npy = path.suffix == ".npy"
    labels = load_npy(path, mapped=False).reshape(-1).tolist() if npy else read_lines(path)
    if len(labels) != n:
        raise InputError(f"{path} has {len(labels)} labels for {n} vectors")
    found: Sequence[object] = labels
    return found


def _refuse_twice(path: Path, ids: Int64) -> None:
    order = np.argsort(ids, kind="stable")
    twice = np.flatnonzero(ids[order][1:] == ids[order][:-1])
    if len(twice):
        first, second = order[twice[0]], order[twice[0] + 1]
        raise InputError(f"{path}: row {second}: id {ids[first]} is also that of row {first}")
