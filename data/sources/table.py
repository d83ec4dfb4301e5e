"""Parquet and CSV as a source of items (see data.sources)."""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.dataset as ds

from remine.data.errors import InputError, first_line
from remine.data.schemas import CONTENTS
from remine.data.sources.array import vector_rows
from remine.data.sources.image_folder import stamp
from remine.data.store.records import file_sha256
from remine.data.types import Float32, Int64

SORT_LIMIT = 1 << 30
HOLDS = {
    "image": "the bytes or the paths of pictures",
    "path": "text",
    "text": "text",
    "vector": "lists of numbers",
}


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
        """The files' hashes; for image paths also each picture's size and times."""
        files: list[object] = [file_sha256(file) for file in self.files]
        if self.content == "path":
            for block in self.blocks(65_536):
                files += [stamp(path) for path in block]
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
        count = 0
        try:
            for batch in self.dataset.to_batches([column], batch_size=rows, batch_readahead=1):
                count += len(batch)
                yield batch.column(0)
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{self.path}: {first_line(error)}") from None
        self._check_count(count, [column])

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
            table = self.dataset.to_table(columns=columns)
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{self.path}: {first_line(error)}") from None
        self._check_count(len(table), columns)
        return table

    def _check_count(self, found: int, columns: list[str]) -> None:
        """Refuse damaged Parquet: where a page's header says less, Arrow reads less in silence."""
        if self.files[0].suffix != ".csv" and found != (rows := sum(self._lengths)):
            raise InputError(
                f"{self.path}: {', '.join(columns)} gives {found} of {rows} rows: it is damaged"
            )


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
