"""An .npy file of vectors as a source of items (see data.sources); numbers for other readers."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from remine.data.errors import InputError, first_line
from remine.data.store.records import file_sha256
from remine.data.types import Float32, Int64


class ArraySource:
    """An .npy file of n vectors, mapped into memory, and n labels beside it."""

    content = "vector"
    numbered = True

    def __init__(self, path: Path, labels: Path | None) -> None:
        """Map the vectors; read the labels."""
        if labels is None:
            raise InputError(f"{path} has no labels: name an .npy or text file in data.labels")
        if not labels.exists():
            raise InputError(f"data.labels: {labels} does not exist")
        self.root, self.path, self.label_path = path.parent, path, labels
        self.vectors = load_npy(path, mapped=True)
        if self.vectors.ndim != 2 or self.vectors.dtype.kind not in "fiu":
            raise InputError(
                f"{path} holds {self.vectors.dtype} {self.vectors.shape}, not (n, d) numbers"
            )
        if labels.suffix == ".npy":
            self.labels = _npy_labels(labels)
        else:
            self.labels = pa.array(read_lines(labels), pa.string())
        if len(self.labels) != len(self.vectors):
            raise InputError(
                f"{labels} has {len(self.labels)} labels for {len(self.vectors)} vectors"
            )

    def fingerprint(self) -> object:
        """The files' hashes."""
        return ["array", file_sha256(self.path), file_sha256(self.label_path)]

    def where(self, row: int) -> str:
        """The file and the row in it."""
        return f"{self.path}: row {row}"

    def metadata(self) -> pa.Table:
        """The labels."""
        return pa.table({"label": self.labels})

    def blocks(self, rows: int) -> Iterator[Float32]:
        """The vectors."""
        for start in range(0, len(self.vectors), rows):
            yield float32(self.vectors[start : start + rows])

    def taken(self, order: Int64, rows: int) -> Iterator[Float32]:
        """The vectors in `order`."""
        for start in range(0, len(order), rows):
            yield float32(self.vectors[order[start : start + rows]])


def _npy_labels(path: Path) -> pa.Array:
    labels = load_npy(path, mapped=False).reshape(-1)
    try:
        return pa.array(labels)
    except (pa.ArrowException, ValueError):
        raise InputError(f"{path} holds {labels.dtype}, which is neither text nor whole") from None


def load_npy(path: Path, *, mapped: bool) -> np.ndarray:
    """The one array in an .npy file; never unpickles."""
    try:
        found = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    except MemoryError:
        raise InputError(f"{path}: its header asks for more than there is memory for") from None
    except Exception as error:  # noqa: BLE001 - a damaged header passes through Python's own parser
        raise InputError(f"{path}: not a readable .npy file ({first_line(error)})") from None
    if not isinstance(found, np.ndarray):
        found.close()
        raise InputError(f"{path} holds several arrays, not one")
    return found


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 text file."""
    try:
        return path.read_text("utf-8").splitlines()
    except (ValueError, OSError) as error:
        raise InputError(f"{path}: {first_line(error)}") from None


def vector_rows(values: pa.ChunkedArray, where: Callable[[int], str]) -> Float32:
    """A column of lists as (rows, d) float32; every list as long as the first."""
    lengths = pc.list_value_length(values).to_numpy()
    if (lengths != lengths[0]).any():
        row = int((lengths != lengths[0]).argmax())
        raise InputError(
            f"{where(row)}: the vector has {lengths[row]} numbers, the first has {lengths[0]}"
        )
    flat = np.concatenate([np.asarray(chunk.flatten()) for chunk in values.chunks])
    return float32(flat).reshape(len(values), -1)


def float32(numbers: np.ndarray) -> Float32:
    """`numbers` as float32; those too large for it become infinite, and are refused as such."""
    with np.errstate(over="ignore"):
        return np.asarray(numbers, dtype=np.float32)
