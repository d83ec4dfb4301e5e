"""An .npy file of vectors as a source of items, and helpers that other readers share."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from remine.data.errors import InputError, first_line
from remine.data.sources.labels import read_label_lines
from remine.data.store.records import file_sha256
from remine.data.types import Float32, Int64


class ArraySource:
    """An .npy file of n vectors, mapped into memory, and a file of n labels.

    Implements `remine.data.sources.source.Source`.
    """

    content = "vector"
    notes: Sequence[str] = ()
    lacks_ids = True

    def __init__(self, path: Path, labels: Path | None) -> None:
        """Map the vectors and read the labels."""
        if labels is None:
            raise InputError(f"{path} has no labels: name an .npy or text file in data.labels")
        if not labels.exists():
            raise InputError(f"data.labels: {labels} does not exist")
        self.root, self.path, self.label_path = path.parent, path, labels
        self.vectors = load_matrix(path, memory_map=True)
        self.labels = _label_column(labels, read_labels(labels, len(self.vectors)))

    def fingerprint(self) -> object:
        """The hashes of the two files."""
        return ["array", file_sha256(self.path), file_sha256(self.label_path)]

    def row_name(self, row: int) -> str:
        """The file and the row in it."""
        return f"{self.path}: row {row}"

    def metadata(self) -> pa.Table:
        """The labels."""
        return pa.table({"label": self.labels})

    def blocks(self, rows: int) -> Iterator[Float32]:
        """The vectors, `rows` at a time."""
        for start in range(0, len(self.vectors), rows):
            yield float32(self.vectors[start : start + rows])

    def ordered_blocks(self, order: Int64, rows: int) -> Iterator[Float32]:
        """The vectors in the given order, `rows` at a time."""
        for start in range(0, len(order), rows):
            yield float32(self.vectors[order[start : start + rows]])


def _label_column(path: Path, labels: Sequence[str] | np.ndarray) -> pa.Array:
    if not isinstance(labels, np.ndarray):
        return pa.array(labels, pa.string())
    try:
        return pa.array(labels)
    except (pa.ArrowException, ValueError):
        raise InputError(
            f"{path} holds {labels.dtype}, which is neither text nor numbers"
        ) from None


def load_npy(path: Path, *, memory_map: bool) -> np.ndarray:
    """Load the array in an .npy file; never unpickles objects."""
    try:
        array = np.load(path, mmap_mode="r" if memory_map else None, allow_pickle=False)
    except MemoryError:
        raise InputError(f"{path}: its header declares more than fits into memory") from None
    except Exception as error:  # noqa: BLE001 - a damaged header goes through Python's own parser
        raise InputError(f"{path}: not a readable .npy file ({first_line(error)})") from None
    if not isinstance(array, np.ndarray):  # np.load opens .npz archives whatever their suffix
        array.close()
        raise InputError(f"{path} holds several arrays, not one")
    return array


def load_matrix(path: Path, *, memory_map: bool) -> np.ndarray:
    """Load the (n, d) numbers in an .npy file."""
    array = load_npy(path, memory_map=memory_map)
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise InputError(f"{path} holds {array.dtype} {array.shape}, not (n, d) numbers")
    return array


def read_labels(path: Path, n: int) -> Sequence[str] | np.ndarray:
    """The n labels in an .npy file (an array of any type) or a text file (one label per line)."""
    labels: Sequence[str] | np.ndarray
    if path.suffix == ".npy":
        labels = load_npy(path, memory_map=False).reshape(-1)
    else:
        labels = read_label_lines(path)
    if len(labels) != n:
        raise InputError(f"{path} has {len(labels)} labels for {n} vectors")
    return labels


@contextmanager
def arrow_errors_as_input_errors(path: Path) -> Iterator[None]:
    """Raise what Arrow raises for a damaged or unreadable file as an InputError that names it."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {first_line(error)}") from None


def is_vector_type(column_type: pa.DataType) -> bool:
    """Whether a column of this type holds lists of numbers."""
    if not is_list_type(column_type):
        return False
    number = column_type.value_type
    return bool(pa.types.is_integer(number) or pa.types.is_floating(number))


def is_list_type(column_type: pa.DataType) -> bool:
    """Whether a column of this type holds lists, in any of Arrow's layouts."""
    t = pa.types
    checks = (
        t.is_list,
        t.is_large_list,
        t.is_fixed_size_list,
        t.is_list_view,
        t.is_large_list_view,
    )
    return any(check(column_type) for check in checks)


def vector_rows(values: pa.ChunkedArray, row_name: Callable[[int], str]) -> Float32:
    """A column of n lists as (n, d) float32.

    Args:
        values: Lists of numbers, none missing.
        row_name: Names a row in messages.

    Raises:
        InputError: A list has another length than the first.
    """
    lengths = pc.list_value_length(values).to_numpy()
    if (lengths != lengths[0]).any():
        row = int((lengths != lengths[0]).argmax())
        raise InputError(
            f"{row_name(row)}: the vector has {lengths[row]} numbers, the first has {lengths[0]}"
        )
    numbers = np.concatenate([np.asarray(chunk.flatten()) for chunk in values.chunks])
    return float32(numbers).reshape(len(values), -1)


def float32(numbers: np.ndarray) -> Float32:
    """`numbers` as float32; numbers too large for it become infinite, which is refused later."""
    with np.errstate(over="ignore"):
        return np.asarray(numbers, dtype=np.float32)
