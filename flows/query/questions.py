"""The queries of a command line: one item, vector, picture or text, or a file of many."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from remine.data.errors import InputError
from remine.data.items.inputs import vector_transform
from remine.data.sources.array import arrow_errors_as_input_errors, load_npy, vector_rows
from remine.data.sources.csv_table import CsvTable
from remine.data.sources.keys import holds_text
from remine.data.sources.table import CONTENT_NOUNS, can_hold
from remine.data.types import unit
from remine.flows.query.item_ids import RowName, numbers_of
from remine.flows.query.snapshot import Queries, Snapshot

BLOCK = 2048
"""Queries in one search."""
COLUMNS = ("id", "text", "path", "image", "vector")
"""Columns that a file of queries may have."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """The queries of a command line: exactly one of item, vector, image, text and file is set.

    Attributes:
        item: Id of an item; one that was typed is a text.
        vector: An .npy file of one vector (d,) or several (q, d).
        image: A picture file.
        text: A text.
        file: A Parquet, CSV or .npy file of many queries.
        itself: Keep an item among its own neighbours.

    Raises:
        InputError: If none or several are set, or the item id is out of range.
    """

    item: int | str | None = None
    vector: Path | None = None
    image: Path | None = None
    text: str | None = None
    file: Path | None = None
    itself: bool = False

    def __post_init__(self) -> None:
        sources = [self.item, self.vector, self.image, self.text, self.file]
        if sum(source is not None for source in sources) != 1:
            raise InputError("give exactly one of --id, --vector, --image, --text and --queries")
        if isinstance(self.item, int) and not 0 <= self.item < 2**63:
            raise InputError(f"no item {self.item} in the index: ids are 0 to 2^63 - 1")


def queries_of(snapshot: Snapshot, question: Question) -> Iterator[Queries]:
    """Yield the queries in blocks of at most 2,048."""
    if question.item is not None:
        item = question.item
        item = snapshot.catalogue.typed_id(item) if isinstance(item, str) else item
        yield snapshot.item_queries(snapshot.numbers([item]), itself=question.itself)
    elif question.image is not None:
        yield snapshot.picture_queries([question.image], lambda _row: f"--image {question.image}")
    elif question.text is not None:
        yield snapshot.text_queries([question.text], lambda _row: "--text")
    elif question.vector is not None:
        array = _load_array("--vector", question.vector)
        yield from _vector_blocks(snapshot, array, question.vector)
    else:
        assert question.file is not None
        yield from _file_blocks(snapshot, question.file, itself=question.itself)


def _file_blocks(snapshot: Snapshot, path: Path, *, itself: bool) -> Iterator[Queries]:
    """Read one query per row: an .npy of vectors or ids, or a table with one of COLUMNS."""
    if path.suffix == ".npy":
        array = _load_array("--queries", path)
        if array.ndim == 1 and array.dtype.kind in "iuU":
            ids = pa.chunked_array([pa.array(array)])
            yield from _id_blocks(snapshot, ids, partial(_row_of_file, path), itself=itself)
        else:
            yield from _vector_blocks(snapshot, array, path)
        return
    name, column, locate = _read_column(path)
    if name == "id":
        is_csv = path.suffix == ".csv"
        yield from _id_blocks(snapshot, column, locate, itself=itself, is_csv=is_csv)
        return
    for start in range(0, len(column), BLOCK):
        block, locate_in_block = column.slice(start, BLOCK), partial(_shifted, locate, start)
        if name == "vector":
            vectors: Any = vector_rows(block, locate_in_block)
            yield snapshot.vector_queries(unit(vector_transform(vectors, locate_in_block)))
        elif name == "text":
            yield snapshot.text_queries(_cast(block, pa.string(), path), locate_in_block)
        else:
            yield snapshot.picture_queries(_pictures(block, name, path), locate_in_block)


def _read_column(path: Path) -> tuple[str, pa.ChunkedArray, RowName]:
    """The kind of the queries, the queries, and a function that names a row in messages."""
    table = _open_table(path)
    names = [name for name in COLUMNS if name in table.schema.names]
    if len(names) != 1:
        raise InputError(
            f"--queries {path} has {' and '.join(names) or 'none'} of the columns"
            f" {', '.join(COLUMNS)}; exactly one is needed"
        )
    (name,) = names
    with _named_option(), arrow_errors_as_input_errors(path):
        column = table.to_table(columns=[name])[name]
    kind = _check_type(path, name, column.type)
    if pa.types.is_struct(column.type):  # the layout of Hugging Face datasets
        column = pc.struct_field(column, "bytes")
    locate = table.row_name if isinstance(table, CsvTable) else partial(_row_of_file, path)
    if column.null_count:
        row = pc.index(pc.is_null(column), True).as_py()
        raise InputError(f"--queries {locate(row)}: {name} is missing")
    return kind, column, locate


def _check_type(path: Path, name: str, column_type: pa.DataType) -> str:
    """The kind of the queries in a column, which is "path" for an image column of texts."""
    if name == "id":
        if not (pa.types.is_integer(column_type) or holds_text(column_type)):
            raise InputError(
                f"--queries {path}: id is {column_type}; ids are whole numbers or texts"
            )
        return name
    kind = "path" if name == "image" and can_hold(column_type, "path") else name
    if not can_hold(column_type, kind):
        raise InputError(
            f"--queries {path}: column {name!r} is {column_type}, not {CONTENT_NOUNS[kind]}"
        )
    return kind


def _shifted(locate: RowName, start: int, row: int) -> str:
    return locate(start + row)


def _row_of_file(path: Path, row: int) -> str:
    return f"{path}: row {row}"


def _id_blocks(
    snapshot: Snapshot,
    ids: pa.ChunkedArray,
    locate: RowName,
    *,
    itself: bool,
    is_csv: bool = False,
) -> Iterator[Queries]:
    with _named_option():
        numbers = numbers_of(snapshot.catalogue, ids, locate, is_csv=is_csv)
    for start in range(0, len(numbers), BLOCK):
        yield snapshot.item_queries(numbers[start : start + BLOCK], itself=itself)


def _vector_blocks(snapshot: Snapshot, array: np.ndarray, path: Path) -> Iterator[Queries]:
    vectors: Any = np.atleast_2d(array)
    if vectors.ndim != 2 or vectors.dtype.kind not in "fiu":
        raise InputError(f"{path} holds {array.dtype} {array.shape}, not (q, d) numbers")
    for start in range(0, len(vectors), BLOCK):
        locate = partial(_shifted, partial(_row_of_file, path), start)
        block = vector_transform(vectors[start : start + BLOCK], locate)
        yield snapshot.vector_queries(unit(block))


def _pictures(block: pa.ChunkedArray, name: str, path: Path) -> Sequence[bytes | Path]:
    if name == "path":
        # Paths are relative to the file that lists them.
        return [path.parent / picture for picture in _cast(block, pa.string(), path)]
    return _cast(block, pa.binary(), path)


def _cast(block: pa.ChunkedArray, kind: pa.DataType, path: Path) -> list[Any]:
    try:
        values: list[Any] = block.cast(kind).to_pylist()
    except (pa.ArrowException, UnicodeDecodeError):
        raise InputError(
            f"--queries {path}: a column of {block.type} cannot be read as {kind}"
        ) from None
    return values


def _open_table(path: Path) -> ds.Dataset | CsvTable:
    if path.suffix not in (".parquet", ".csv"):
        raise InputError(f"--queries {path}: give a .parquet, .csv or .npy file")
    with _named_option(), arrow_errors_as_input_errors(path):
        if not path.exists():
            raise InputError(f"{path} does not exist")
        if path.suffix == ".csv":
            return CsvTable(path)
        return ds.dataset(path, format="parquet", partitioning=None)


@contextmanager
def _named_option() -> Iterator[None]:
    """Errors about the file of queries name the option."""
    try:
        yield
    except InputError as error:
        raise InputError(f"--queries {error}") from None


def _load_array(option: str, path: Path) -> np.ndarray:
    try:
        return load_npy(path, memory_map=False)
    except InputError as error:
        raise InputError(f"{option} {error}") from None
