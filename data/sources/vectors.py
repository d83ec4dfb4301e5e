"""Readers of vectors that were computed elsewhere, for mining without items, splits or a store."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from remine.data.errors import InputError, first_line
from remine.data.sources import table_folder
from remine.data.sources.array import (
    arrow_errors_as_input_errors,
    float32,
    is_vector_type,
    load_matrix,
    read_labels,
    vector_rows,
)
from remine.data.sources.csv_table import CsvTable
from remine.data.sources.keys import Keys, holds_text, id_texts, read_keys
from remine.data.sources.labels import Cleaning, clean_values, spellings
from remine.data.sources.parquet_table import ParquetTable
from remine.data.types import Float32, Int64, unit


@dataclass(frozen=True, kw_only=True)
class VectorFile:
    """Vectors with ids and labels.

    Attributes:
        ids: (n,) int64, unique; the row numbers if the file's ids are texts.
        vectors: (n, d) float32 of length 1.
        labels: n labels, or n lists of labels, or None.
        cleaning: What was done to the spellings of labels.
        reader_notes: Lines of the reader: files that were passed over, numbers read as names.
        keys: The ids if they are texts, by row; else None.
    """

    ids: Int64
    vectors: Float32
    labels: Sequence[object] | None
    cleaning: Cleaning = field(default_factory=Cleaning)
    reader_notes: Sequence[str] = ()
    keys: Keys | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def notes(self) -> list[str]:
        """Lines for the user: what was passed over or taken for something else."""
        return [*self.reader_notes, *self.cleaning.lines()]


def read_vectors(
    path: Path, labels: Path | None = None, *, needs_labels: bool = True
) -> VectorFile:
    """Read Parquet with the columns `vector`, `label` and perhaps `id`, or an .npy file.

    Args:
        path: The file, or a folder of Parquet files. A label in Parquet is a text, a number, or a
            list of them for an item of several classes. Ids are integers or texts; without ids the
            items are numbered from 0.
        labels: An .npy or text file with the n labels of an .npy file.
        needs_labels: Whether labels are required; if not, a label column is not read.

    Raises:
        InputError: The file is damaged, a column or value is missing, a vector has no direction,
            or an id occurs more than once.
    """
    _check_exists(path)
    raw_labels: Sequence[object] | None
    keys: Keys | None = None
    notes: Sequence[str] = ()
    if path.suffix == ".npy":
        matrix = load_matrix(path, memory_map=False)
        if needs_labels and labels is None:
            raise InputError(f"{path} has no labels: name an .npy or text file with --labels")
        ids = np.arange(len(matrix))
        vectors = float32(matrix)
        raw_labels = _label_values(labels, len(vectors)) if labels else None
    else:
        table = _open_parquet(path)
        notes = table.notes
        ids, keys, vectors, raw_labels = _read_parquet(path, table, needs_labels=needs_labels)
        if labels:
            raise InputError(f"{path} has a label column; --labels is for .npy files")
    if not len(vectors):
        raise InputError(f"{path} holds no vectors")
    _check_unique(path, ids)
    label_values, cleaning = None, Cleaning()
    if raw_labels is not None:
        label_values = clean_values(raw_labels, lambda row: f"{labels or path}: row {row}")
        cleaning = Cleaning.of(spellings(raw_labels))
    try:
        return VectorFile(
            ids=ids,
            vectors=unit(vectors),
            labels=label_values,
            cleaning=cleaning,
            reader_notes=notes,
            keys=keys,
        )
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def vector_shape(path: Path) -> tuple[int, int]:
    """(n, d) of the vectors at `path`, without reading them."""
    _check_exists(path)
    if path.suffix == ".npy":
        n, d = load_matrix(path, memory_map=True).shape
        return int(n), int(d)
    n, d = 0, 0
    for part in parquet_files(path):
        with arrow_errors_as_input_errors(part):
            file = pq.ParquetFile(part)
            names = file.schema_arrow.names
        if "vector" not in names:
            raise InputError(f"{part} has no column 'vector'; it has {names}")
        _check_vector_column(part, file.schema_arrow.field("vector").type)
        # Lists of variable length state no dimension in the schema, so one row is read.
        first = None if d else next(file.iter_batches(1, columns=["vector"]), None)
        n, d = n + file.metadata.num_rows, d or (len(first["vector"][0]) if first else 0)
    return n, d


def parquet_files(path: Path) -> list[Path]:
    """The Parquet files that `path` stands for: itself, or those in and below a folder, by name.

    Raises:
        InputError: The folder has none.
    """
    return _parquet_files(path)[0]


def _parquet_files(path: Path) -> tuple[list[Path], list[Path]]:
    """The Parquet files, and the other files of the folder."""
    if not path.is_dir():
        return [path], []
    files, other_files = table_folder.parquet_files(path)
    if not files:
        raise InputError(f"{path} holds no Parquet file")
    return files, other_files


def _open_parquet(path: Path) -> ParquetTable:
    """The columns that mining reads, each of one type over all files, as `remine run` does."""
    files, other_files = _parquet_files(path)
    names = {name: name for name in ("vector", "label", "id")}
    with arrow_errors_as_input_errors(path):
        table = ParquetTable(files, path if path.is_dir() else None, names)
        _ = table.schema.names  # raises if a name is not UTF-8
    if other_files:
        table.notes.append(f"{path}: passed over {table_folder.count_endings(other_files)}")
    return table


def read_label_column(path: Path) -> Sequence[object] | None:
    """The labels of a Parquet file at `path`; None if it has no label column, or is an .npy."""
    if path.suffix == ".npy":
        return None
    table = _open_parquet(path)
    if "label" not in table.schema.names:
        return None
    with arrow_errors_as_input_errors(path):
        column = table.to_table(columns=["label"])["label"]
        column.validate(full=True)
    return clean_values(column.to_pylist(), table.row_name)


def read_id_pairs(
    path: Path, columns: tuple[str, str], keys: tuple[Keys | None, Keys | None] = (None, None)
) -> Int64:
    """Read pairs of ids (p, 2) from two columns of a Parquet or CSV file.

    Args:
        path: The file.
        columns: The names of the columns.
        keys: For each column the items' ids if they are texts; their rows are returned for them.

    Raises:
        InputError: A column or an id is missing, of another kind than the items' ids, or unknown.
    """
    _check_exists(path)
    with arrow_errors_as_input_errors(path):
        dataset = (
            CsvTable(
                path, integers=[c for c, texts in zip(columns, keys, strict=True) if not texts]
            )
            if path.suffix == ".csv"
            else ds.dataset(path, format="parquet", partitioning=None)
        )
        names = dataset.schema.names  # raises if a name is not UTF-8
        for name in columns:
            if name not in names:
                raise InputError(
                    f"{path} has no column {name!r}; it needs {columns[0]}, {columns[1]}"
                )
        table = dataset.to_table(columns=list(columns))
    row_name = (
        dataset.row_name if isinstance(dataset, CsvTable) else lambda row: f"{path}: row {row}"
    )
    _check_no_missing(table, row_name)
    numbers = [
        _integer_column(path, table, name) if texts is None else _rows(table, name, texts, row_name)
        for name, texts in zip(columns, keys, strict=True)
    ]
    return np.stack(numbers, axis=1)


def _rows(table: pa.Table, name: str, keys: Keys, row_name: Callable[[int], str]) -> Int64:
    """The rows of the items with the ids in a column of texts."""
    if not holds_text(table[name].type):
        raise InputError(
            f"{row_name(0)}: {name} is {table[name].type}; the ids of these items are texts"
        )
    texts = id_texts(table[name], row_name, name)
    rows = keys.rows(texts)
    if (unknown := rows < 0).any():
        row = int(unknown.argmax())
        raise InputError(f"{row_name(row)}: {name}: no item {texts[row].as_py()!r}")
    return rows


def _check_no_missing(table: pa.Table, row_name: Callable[[int], str]) -> None:
    for name in table.column_names:
        if table[name].null_count:
            row = pc.index(pc.is_null(table[name]), True).as_py()
            raise InputError(f"{row_name(row)}: {name} is missing")


def _check_exists(path: Path) -> None:
    if not path.exists():
        raise InputError(f"{path} does not exist")


def _read_parquet(
    path: Path, parquet: ParquetTable, *, needs_labels: bool
) -> tuple[Int64, Keys | None, Float32, Sequence[object] | None]:
    """The ids (n,), also as texts, vectors (n, d) of any length, and labels if needed."""
    names = ["vector", "label"] if needs_labels else ["vector"]
    for name in names:
        if name not in parquet.schema.names:
            raise InputError(f"{path} has no column {name!r}; it has {parquet.schema.names}")
    _check_vector_column(path, parquet.schema.field("vector").type)
    if "id" in parquet.schema.names:
        names.append("id")
    with arrow_errors_as_input_errors(path):
        table = parquet.to_table(columns=names)
        # A file may declare arbitrary bytes to be strings; only full validation notices.
        table.validate(full=True)
    parquet.check_count(path, table)
    _check_no_missing(
        table.drop_columns([name for name in names if name == "id"]), parquet.row_name
    )
    if not len(table):
        return np.empty(0, np.int64), None, np.empty((0, 0), np.float32), None
    vectors = vector_rows(table["vector"], parquet.row_name)
    labels = table["label"].to_pylist() if needs_labels else None
    if "id" not in table.column_names:
        return np.arange(len(table)), None, vectors, labels
    if holds_text(table["id"].type):
        return np.arange(len(table)), read_keys(table["id"], parquet.row_name), vectors, labels
    return _integer_column(path, table, "id"), None, vectors, labels


def _check_vector_column(path: Path, column_type: pa.DataType) -> None:
    if not is_vector_type(column_type):
        raise InputError(f"{path}: vector is {column_type}; it must be lists of numbers")


def _integer_column(path: Path, table: pa.Table, name: str) -> Int64:
    """A column of integers, none of them missing, each within int64."""
    column = table[name]
    if not pa.types.is_integer(column.type) or column.null_count:
        raise InputError(f"{path}: {name} is {column.type}; it must be whole numbers, none missing")
    try:
        values: Int64 = column.cast(pa.int64()).to_numpy()
    except pa.ArrowInvalid as error:
        raise InputError(f"{path}: {name}: {first_line(error)}") from None
    return values


def _label_values(path: Path, n: int) -> Sequence[object]:
    """The n labels in a file, as Python values."""
    _check_exists(path)
    labels = read_labels(path, n)
    if isinstance(labels, np.ndarray):
        values: Sequence[object] = labels.tolist()
        return values
    return labels


def _check_unique(path: Path, ids: Int64) -> None:
    order = np.argsort(ids, kind="stable")
    repeats = np.flatnonzero(ids[order][1:] == ids[order][:-1])
    if len(repeats):
        first, second = order[repeats[0]], order[repeats[0] + 1]
        raise InputError(f"{path}: row {second}: id {ids[first]} is also that of row {first}")
