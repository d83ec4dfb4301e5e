"""Questions on the command line: one thing, or a file of many."""

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
COLUMNS = ("id", "text", "path", "image", "vector")


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is nearest to what: exactly one of item, vector, image, text and file is given.

    itself: keep an item among its own neighbours.
    """

    item: int | None = None
    vector: Path | None = None
    image: Path | None = None
    text: str | None = None
    file: Path | None = None
    itself: bool = False

    def __post_init__(self) -> None:
        given = [self.item, self.vector, self.image, self.text, self.file]
        if sum(part is not None for part in given) != 1:
            raise InputError("give exactly one of --id, --vector, --image, --text and --queries")
        if self.item is not None and not 0 <= self.item < 2**63:
            raise InputError(f"no item {self.item} in the index: ids are 0 to 2^63 - 1")


def queries_of(snapshot: Snapshot, question: Question) -> Iterator[Queries]:
    """The queries, at most 2,048 at a time."""
    if question.item is not None:
        yield snapshot.by_id(np.array([question.item]), itself=question.itself)
    elif question.image is not None:
        yield snapshot.by_picture([question.image], lambda _row: f"--image {question.image}")
    elif question.text is not None:
        yield snapshot.by_text([question.text], lambda _row: "--text")
    elif question.vector is not None:
        yield from _vectors(snapshot, _load_array("--vector", question.vector), question.vector)
    else:
        assert question.file is not None
        yield from _from_file(snapshot, question.file, itself=question.itself)


def _from_file(snapshot: Snapshot, path: Path, *, itself: bool) -> Iterator[Queries]:
    """A query a row: an .npy of vectors or ids, Parquet or CSV with one of the COLUMNS."""
    if path.suffix == ".npy":
        array = _load_array("--queries", path)
        if array.ndim == 1 and array.dtype.kind in "iu":
            yield from _ids(snapshot, array.astype(np.int64), itself=itself)
        else:
            yield from _vectors(snapshot, array, path)
        return
    table = _read_table(path)
    found = [name for name in COLUMNS if name in table.column_names]
    if len(found) != 1:
        raise InputError(
            f"--queries {path} has {' and '.join(found) or 'none'} of the columns"
            f" {', '.join(COLUMNS)}; exactly one is needed"
        )
    column = table[found[0]]
    if column.null_count:
        row = column.is_null().to_pylist().index(True)
        raise InputError(f"--queries {path}: row {row}: {found[0]} is missing")
    for start in range(0, len(column), BLOCK):
        part = column.slice(start, BLOCK)

        where = partial(_where, path, start)
        if found[0] == "id":
            yield from _ids(snapshot, _whole_numbers(part, path), itself=itself)
        elif found[0] == "vector":
            vectors: Any = vector_rows(part, where)
            yield snapshot.by_vector(unit(vector_transform(vectors, where)))
        elif found[0] == "text":
            yield snapshot.by_text(_checked(part, pa.string(), path), where)
        else:
            yield snapshot.by_picture(_pictures(part, found[0], path), where)


def _where(path: Path, start: int, row: int) -> str:
    return f"{path}: row {start + row}"


def _ids(snapshot: Snapshot, ids: np.ndarray, *, itself: bool) -> Iterator[Queries]:
    for start in range(0, len(ids), BLOCK):
        yield snapshot.by_id(ids[start : start + BLOCK], itself=itself)


def _vectors(snapshot: Snapshot, array: np.ndarray, path: Path) -> Iterator[Queries]:
    given: Any = np.atleast_2d(array)
    if given.ndim != 2 or given.dtype.kind not in "fiu":
        raise InputError(f"{path} holds {array.dtype} {array.shape}, not (q, d) numbers")
    for start in range(0, len(given), BLOCK):
        where = partial(_where, path, start)
        yield snapshot.by_vector(unit(vector_transform(given[start : start + BLOCK], where)))


def _pictures(part: pa.ChunkedArray, name: str, path: Path) -> Sequence[bytes | Path]:
    if name == "path":
        return [path.parent / place for place in _checked(part, pa.string(), path)]
    return _checked(part, pa.binary(), path)


def _checked(part: pa.ChunkedArray, kind: pa.DataType, path: Path) -> list[Any]:
    try:
        values: list[Any] = part.cast(kind).to_pylist()
    except (pa.ArrowException, UnicodeDecodeError):
        raise InputError(f"--queries {path}: a column of {part.type} is no {kind}") from None
    return values


def _whole_numbers(part: pa.ChunkedArray, path: Path) -> np.ndarray:
    if not pa.types.is_integer(part.type):
        raise InputError(f"--queries {path}: id is {part.type}; ids are whole numbers")
    numbers: np.ndarray = part.to_numpy().astype(np.int64)
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
