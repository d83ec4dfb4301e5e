"""Readers of users' data. Each gives the metadata of all items at once and their content in blocks.

A source knows how to name a row in a message (`where`); what is wrong with a row is found by
data.prepare.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.dataset as ds

from data.config import DataConfig
from data.errors import InputError
from data.schemas import CONTENTS
from data.store import file_sha256
from data.types import SPLITS, Float32, Int64

IMAGE_SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
)
SORT_LIMIT = 1 << 30
HOLDS = {
    "image": "the bytes or the paths of pictures",
    "path": "text",
    "text": "text",
    "vector": "lists of numbers",
}


class Source(Protocol):
    """Items in order of id. `content` is image, path, text or vector; paths start at `root`.

    numbered: whether the items have no ids of their own. Such a source has a method more, `taken`,
    which gives the contents in another order.
    """

    content: str
    root: Path

    @property
    def numbered(self) -> bool:
        """See above."""

    def fingerprint(self) -> object:
        """JSON that changes when the data does."""

    def where(self, row: int) -> str:
        """A name for `row` in messages: the file and the row in it, counted from 0."""

    def metadata(self) -> pa.Table:
        """`label` of every item and, where the source has them, `id`, `split` and `group`."""

    def blocks(self, rows: int) -> Iterator[Sequence[Any] | Float32]:
        """The contents, `rows` at a time: bytes, Path, str, or a (rows, d) float32 array."""


def open_source(config: DataConfig, base: Path) -> Source:
    """The source that `config` names; relative paths start at `base`."""
    if config.source == "glyphs":
        from data.glyphs import GlyphSource  # with matplotlib, which only they need

        return GlyphSource(config.glyphs)
    path = (base / config.source).resolve()
    if not path.exists():
        raise InputError(f"data.source: {path} does not exist")
    if path.suffix == ".npy":
        return ArraySource(path, base / config.labels if config.labels else None)
    if path.suffix in (".parquet", ".csv") or (path.is_dir() and any(path.glob("*.parquet"))):
        return TableSource(path, dict(config.columns))
    if path.is_dir():
        return FolderSource(path)
    raise InputError(f"data.source: {path} is not a Parquet, CSV or .npy file, nor a folder")


class TableSource:
    """Parquet or CSV with one row an item: image bytes, image paths, text, or vectors."""

    def __init__(self, path: Path, columns: dict[str, str]) -> None:
        """Read the schema, see which columns are there."""
        self.path, self.root = path, path if path.is_dir() else path.parent
        self.files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
        try:
            self.dataset = _dataset(self.files, columns.get("id", "id"))
            self.columns = self._columns(path, columns)
        except UnicodeDecodeError:
            raise InputError(f"{path}: a column's name is no UTF-8") from None
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{path}: {first_line(error)}") from None
        found = [c for c in ("image", "path", "text", "vector") if c in self.columns]
        if len(found) != 1:
            raise InputError(
                f"{path} has {' and '.join(found) or 'none'} of the columns image, path, text,"
                f" vector; exactly one is needed (name yours in data.columns)"
            )
        self.content: str = found[0]
        column = self.columns[self.content]
        kind = self.dataset.schema.field(column).type
        if self.content == "image" and _holds(kind, "path"):
            self.content, self.columns["path"] = "path", column
        if not _holds(kind, self.content):
            raise InputError(f"{path}: column {column!r} is {kind}, not {HOLDS[self.content]}")
        self.order: np.ndarray | None = None

    @property
    def numbered(self) -> bool:
        """Whether there is no column of ids."""
        return "id" not in self.columns

    def _columns(self, path: Path, named: dict[str, str]) -> dict[str, str]:
        have = self.dataset.schema.names
        for ours, theirs in named.items():
            if theirs not in have:
                raise InputError(f"{path} has no column {theirs!r} (data.columns.{ours})")
        known = ("id", "label", "split", "group", *CONTENTS, "vector")
        columns = {c: named.get(c, c) for c in known if named.get(c, c) in have}
        if "label" not in columns:
            raise InputError(
                f"{path} has no column 'label'; it has {', '.join(have)}"
                " (name yours: data.columns.label)"
            )
        return columns

    def fingerprint(self) -> object:
        """The files' hashes; for image paths also each picture's size and time."""
        files: list[object] = [file_sha256(file) for file in self.files]
        if self.content == "path":
            for block in self.blocks(65_536):
                files += [_stat(path) for path in block]
        return ["table", files, self.columns]

    def where(self, row: int) -> str:
        """The file and the row in it."""
        return self._named(row if self.order is None else int(self.order[row]))

    def _named(self, row: int) -> str:
        """As `where`, of a row as it lies in the files."""
        for file, rows in zip(self.files, self._lengths, strict=True):
            if row < rows:
                return f"{file}: row {row}"
            row -= rows
        raise IndexError(row)

    @cached_property
    def _lengths(self) -> list[int]:
        return [fragment.count_rows() for fragment in self.dataset.get_fragments()]

    def metadata(self) -> pa.Table:
        """The named columns, in order of id."""
        wanted = [c for c in ("id", "label", "split", "group") if c in self.columns]
        table = self._read([self.columns[c] for c in wanted]).rename_columns(wanted)
        if "id" in wanted and pa.types.is_integer(table["id"].type) and not table["id"].null_count:
            ids = table["id"].to_numpy()
            if (ids[1:] < ids[:-1]).any():
                self.order = np.argsort(ids, kind="stable")
                table = table.take(self.order)
        return table

    def blocks(self, rows: int) -> Iterator[Sequence[Any] | Float32]:
        """The content column, in order of id."""
        column = self.columns[self.content]
        if self.order is not None:
            yield from self.taken(self.order, rows)
            return
        yield from self._read_blocks(_regrouped(self._batches(column, rows), rows), self._named)

    def taken(self, order: Int64, rows: int) -> Iterator[Sequence[Any] | Float32]:
        """The content column in `order`, read whole."""
        table = self._taken(self.columns[self.content], order)
        tables = (table.slice(i, rows) for i in range(0, len(table), rows))
        yield from self._read_blocks(tables, lambda row: self._named(int(order[row])))

    def _read_blocks(
        self, tables: Iterator[pa.ChunkedArray], named: Callable[[int], str]
    ) -> Iterator[Sequence[Any] | Float32]:
        start = 0
        for values in tables:
            yield self._contents(values, start, named)
            start += len(values)

    def _batches(self, column: str, rows: int) -> Iterator[pa.Array]:
        try:
            for batch in self.dataset.to_batches([column], batch_size=rows, batch_readahead=1):
                yield batch.column(0)
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{self.path}: {first_line(error)}") from None

    def _taken(self, column: str, order: Int64) -> pa.ChunkedArray:
        values = self._read([column])[column]
        if values.nbytes > SORT_LIMIT:
            if self.numbered:
                raise InputError(
                    f"{self.path}: rows moved, and without ids they are too large to bring in order"
                    " in memory; add new rows at the end, or a column of ids"
                )
            raise InputError(
                f"{self.files[0]} is not sorted by id and too large to sort in memory; sort it"
                " once, for example with DuckDB: COPY (FROM 'it' ORDER BY id) TO 'sorted.parquet'"
            )
        return values.take(order)

    def _contents(
        self, values: pa.ChunkedArray, start: int, named: Callable[[int], str]
    ) -> Sequence[Any] | Float32:
        if pa.types.is_struct(values.type):  # the layout of Hugging Face datasets
            values = pc.struct_field(values, "bytes")
        if values.null_count:
            row = start + pc.index(pc.is_null(values), True).as_py()
            raise InputError(f"{named(row)}: {self.content} is missing")
        if self.content == "vector":
            return vector_rows(values, lambda row: named(start + row))
        try:
            contents = values.to_pylist()
        except UnicodeDecodeError:
            row = start + _no_text(values)
            raise InputError(f"{named(row)}: {self.content} is no UTF-8") from None
        return [self.root / c for c in contents] if self.content == "path" else contents

    def _read(self, columns: list[str]) -> pa.Table:
        try:
            return self.dataset.to_table(columns=columns)
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{self.path}: {first_line(error)}") from None


class FolderSource:
    """Images in a folder a class, optionally below folders train, val and test."""

    content = "path"
    numbered = True

    def __init__(self, root: Path) -> None:
        """List the pictures; hidden files and files of other kinds are passed over."""
        self.root = root
        tops = [p for p in sorted(root.iterdir()) if p.is_dir() and not p.name.startswith(".")]
        if not tops:
            raise InputError(f"{root} holds no folders: one folder of images per class is needed")
        names = {p.name for p in tops}
        others = sorted(names - set(SPLITS))
        if others and (named := sorted(names & {"train", "test"})):
            raise InputError(
                f"{root} holds {', '.join(named)} beside {', '.join(others[:5])}: name splits"
                " train, val and test alone; a class of such a name needs another, or a table"
            )
        self.split = bool(names & {"train"}) and not others
        folders = [(f, t.name) for t in tops for f in _folders(t)] if self.split else None
        self.paths: list[Path] = []
        self.splits: list[str] = []
        self.labels: list[str] = []
        for folder, split in folders or [(t, "") for t in tops]:
            self._add(folder, split)

    def _add(self, folder: Path, split: str) -> None:
        found = _pictures(folder)
        if not found:
            raise InputError(f"class {folder.name!r} is empty: no image in {folder}")
        for path in found:
            _check_utf8(path.relative_to(self.root))
        self.paths += found
        self.labels += [folder.name] * len(found)
        self.splits += [split] * len(found)

    def fingerprint(self) -> object:
        """Each picture's place, size and time."""
        return ["folder", [[str(p.relative_to(self.root)), _stat(p)] for p in self.paths]]

    def where(self, row: int) -> str:
        """The picture's path."""
        return str(self.paths[row])

    def metadata(self) -> pa.Table:
        """label, and split where the folders name it."""
        columns = {"label": self.labels}
        return pa.table({**columns, "split": self.splits} if self.split else columns)

    def blocks(self, rows: int) -> Iterator[Sequence[Path]]:
        """The paths."""
        for start in range(0, len(self.paths), rows):
            yield self.paths[start : start + rows]

    def taken(self, order: Int64, rows: int) -> Iterator[Sequence[Path]]:
        """The paths in `order`."""
        for start in range(0, len(order), rows):
            yield [self.paths[row] for row in order[start : start + rows]]


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
            yield _float32(self.vectors[start : start + rows])

    def taken(self, order: Int64, rows: int) -> Iterator[Float32]:
        """The vectors in `order`."""
        for start in range(0, len(order), rows):
            yield _float32(self.vectors[order[start : start + rows]])


def _npy_labels(path: Path) -> pa.Array:
    labels = load_npy(path, mapped=False).reshape(-1)
    try:
        return pa.array(labels)
    except (pa.ArrowException, ValueError):
        raise InputError(f"{path} holds {labels.dtype}, which is neither text nor whole") from None


def _dataset(files: list[Path], id_column: str) -> ds.Dataset:
    if files[0].suffix != ".csv":
        return ds.dataset(files, format="parquet", partitioning=None)
    parse = pyarrow.csv.ParseOptions(newlines_in_values=True)
    names = pyarrow.csv.open_csv(files[0], parse_options=parse).schema.names
    # Labels stay text ("007"); an empty field is a missing one, the text NA is not.
    texts = {n: pa.string() for n in names if n != id_column}
    options = pyarrow.csv.ConvertOptions(
        column_types=texts, strings_can_be_null=True, null_values=[""]
    )
    return ds.dataset(files, format=ds.CsvFileFormat(parse, convert_options=options))


def _holds(kind: pa.DataType, content: str) -> bool:
    """Whether a column of type `kind` can be `content` (see HOLDS)."""
    of = pa.types
    if of.is_dictionary(kind):
        return _holds(kind.value_type, content)
    if content in ("path", "text"):
        return bool(of.is_string(kind) or of.is_large_string(kind) or of.is_string_view(kind))
    if content == "vector":
        lists = of.is_list(kind) or of.is_large_list(kind) or of.is_fixed_size_list(kind)
        return bool(lists and (of.is_integer(kind.value_type) or of.is_floating(kind.value_type)))
    if of.is_struct(kind):  # the layout of Hugging Face datasets
        return bool(kind.get_field_index("bytes") >= 0)
    return bool(of.is_binary(kind) or of.is_large_binary(kind) or of.is_binary_view(kind))


def _no_text(values: pa.ChunkedArray) -> int:
    """The first row whose bytes are no UTF-8; one is."""
    for row, value in enumerate(values):
        try:
            value.as_py()
        except UnicodeDecodeError:
            return row
    raise IndexError(values)


def _regrouped(arrays: Iterator[pa.Array], rows: int) -> Iterator[pa.ChunkedArray]:
    """`arrays` joined and cut again to `rows` each (Parquet hands out shorter batches)."""
    held: list[pa.Array] = []
    count = 0
    for array in arrays:
        held.append(array)
        count += len(array)
        while count >= rows:
            whole = pa.chunked_array(held)
            yield whole.slice(0, rows)
            held = whole.slice(rows).chunks
            count -= rows
    if count:
        yield pa.chunked_array(held)


def vector_rows(values: pa.ChunkedArray, where: Callable[[int], str]) -> Float32:
    """A column of lists as (rows, d) float32; every list as long as the first."""
    lengths = pc.list_value_length(values).to_numpy()
    if (lengths != lengths[0]).any():
        row = int((lengths != lengths[0]).argmax())
        raise InputError(
            f"{where(row)}: the vector has {lengths[row]} numbers, the first has {lengths[0]}"
        )
    flat = np.concatenate([np.asarray(chunk.flatten()) for chunk in values.chunks])
    return _float32(flat).reshape(len(values), -1)


def _float32(numbers: np.ndarray) -> Float32:
    """`numbers` as float32; those too large for it become infinite, and are refused as such."""
    with np.errstate(over="ignore"):
        return np.asarray(numbers, dtype=np.float32)


def _folders(folder: Path) -> list[Path]:
    return [p for p in sorted(folder.iterdir()) if p.is_dir() and not p.name.startswith(".")]


def _pictures(folder: Path) -> list[Path]:
    found = (p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    return sorted(p for p in found if not any(n[0] == "." for n in p.relative_to(folder).parts))


def _check_utf8(path: Path) -> None:
    """Refuse a file name that cannot be stored as text (Linux allows any bytes)."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        shown = os.fsencode(path).decode(errors="backslashreplace")
        raise InputError(f"{shown}: its name is no UTF-8; rename it") from None


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


def _stat(path: Path) -> list[int]:
    """Size and time of a file, zeros when it is not there (data.prepare says so, with the row)."""
    if not path.exists():
        return [0, 0]
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]


def first_line(error: Exception) -> str:
    """What an error says first."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
