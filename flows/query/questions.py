"""The queries of a command line: one item, vector, picture or text, or a file of many."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from remine.data.errors import InputError, first_line
from remine.data.items.inputs import vector_transform
from remine.data.sources.array import load_npy, vector_rows
from remine.data.types import unit
from remine.flows.query.snapshot import Queries, Snapshot

BLOCK = 2048
"""Queries in one search."""
COLUMNS = ("id", "text", "path", "image", "vector")
"""Columns that a file of queries may have."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """The queries of a command line: exactly one of item, vector, image, text and file is set.

    Attributes:
        item: Id of an item.
        vector: An .npy file of one vector (d,) or several (q, d).
        image: A picture file.
        text: A text.
        file: A Parquet, CSV or .npy file of many queries.
        itself: Keep an item among its own neighbours.

    Raises:
        InputError: If none or several are set, or the item id is out of range.
    """

    item: int | None = None
    vector: Path | None = None
    image: Path | None = None
    text: str | None = None
    file: Path | None = None
    itself: bool = False

    def __post_init__(self) -> None:
        sources = [self.item, self.vector, self.image, self.text, self.file]
        if sum(source is not None for source in sources) != 1:
            raise InputError("give exactly one of --id, --vector, --image, --text and --queries")
        if self.item is not None and not 0 <= self.item < 2**63:
            raise InputError(f"no item {self.item} in the index: ids are 0 to 2^63 - 1")


def queries_of(snapshot: Snapshot, question: Question) -> Iterator[Queries]:
    """Yield the queries in blocks of at most 2,048."""
    if question.item is not None:
        yield snapshot.item_queries(np.array([question.item]), itself=question.itself)
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
        if array.ndim == 1 and array.dtype.kind in "iu":
            yield from _id_blocks(snapshot, array.astype(np.int64), itself=itself)
        else:
            yield from _vector_blocks(snapshot, array, path)
        return
    table = _read_table(path)
    names = [name for name in COLUMNS if name in table.column_names]
    if len(names) != 1:
        raise InputError(
            f"--queries {path} has {' and '.join(names) or 'none'} of the columns"
            f" {', '.join(COLUMNS)}; exactly one is needed"
        )
    (name,) = names
    column = table[name]
    if column.null_count:
        row = column.is_null().to_pylist().index(True)
        raise InputError(f"--queries {path}: row {row}: {name} is missing")
    for start in range(0, len(column), BLOCK):
        block = column.slice(start, BLOCK)
        locate = partial(_row_of_file, path, start)
        if name == "id":
            yield from _id_blocks(snapshot, _integers(block, path), itself=itself)
        elif name == "vector":
            vectors: Any = vector_rows(block, locate)
            yield snapshot.vector_queries(unit(vector_transform(vectors, locate)))
        elif name == "text":
            yield snapshot.text_queries(_cast(block, pa.string(), path), locate)
        else:
            yield snapshot.picture_queries(_pictures(block, name, path), locate)


def _row_of_file(path: Path, start: int, row: int) -> str:
    return f"{path}: row {start + row}"


def _id_blocks(snapshot: Snapshot, ids: np.ndarray, *, itself: bool) -> Iterator[Queries]:
    for start in range(0, len(ids), BLOCK):
        yield snapshot.item_queries(ids[start : start + BLOCK], itself=itself)


def _vector_blocks(snapshot: Snapshot, array: np.ndarray, path: Path) -> Iterator[Queries]:
    vectors: Any = np.atleast_2d(array)
    if vectors.ndim != 2 or vectors.dtype.kind not in "fiu":
        raise InputError(f"{path} holds {array.dtype} {array.shape}, not (q, d) numbers")
    for start in range(0, len(vectors), BLOCK):
        locate = partial(_row_of_file, path, start)
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


def _integers(block: pa.ChunkedArray, path: Path) -> np.ndarray:
    if not pa.types.is_integer(block.type):
        raise InputError(f"--queries {path}: id is {block.type}; ids are whole numbers")
    numbers: np.ndarray = block.to_numpy().astype(np.int64)
    return numbers


def _read_table(path: Path) -> pa.Table:
    if path.suffix not in (".parquet", ".csv"):
        raise InputError(f"--queries {path}: give a .parquet, .csv or .npy file")
    try:
        return pyarrow.csv.read_csv(path) if path.suffix == ".csv" else pq.read_table(path)
    except FileNotFoundError:
        raise InputError(f"--queries {path} does not exist") from None
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"--queries {path}: {first_line(error)}") from None


def _load_array(option: str, path: Path) -> np.ndarray:
    try:
        return load_npy(path, memory_map=False)
    except InputError as error:
        raise InputError(f"{option} {error}") from None
