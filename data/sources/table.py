"""Parquet and CSV as a source of items."""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from remine.data.errors import InputError
from remine.data.schemas import CONTENTS
from remine.data.sources.array import arrow_errors_as_input_errors, is_vector_type, vector_rows
from remine.data.sources.csv_table import CsvTable
from remine.data.sources.extra_columns import check_extra, extra_values, unread_columns
from remine.data.sources.hugging_face import picture_bytes
from remine.data.sources.image_folder import stamp
from remine.data.sources.parquet_table import ParquetTable
from remine.data.sources.splits import canonical_splits, split_names
from remine.data.sources.table_folder import count_endings, is_picture, parquet_files
from remine.data.store.records import file_sha256
from remine.data.types import Float32, Int64

SORT_LIMIT = 1 << 30
"""Bytes of a content column up to which it is read whole to bring it into another order."""

CONTENT_NOUNS = {
    "image": "the bytes or the paths of pictures",
    "path": "text",
    "text": "text",
    "vector": "lists of numbers",
}
"""What the column of a content must hold, for messages."""

METADATA = ("id", "label", "split", "group")


class TableSource:
    """Parquet or CSV with one row per item: image bytes, image paths, text, or vectors.

    Implements `remine.data.sources.source.Source`.
    """

    def __init__(
        self,
        path: Path,
        columns: dict[str, str],
        *,
        extra: Sequence[str] = (),
        needs_labels: bool = True,
    ) -> None:
        """Open the file or folder and read its schema.

        Args:
            path: A Parquet or .csv file, or a folder with Parquet files in it or below it.
            columns: The user's column names by ours, where they differ.
            extra: Further columns that are kept.
            needs_labels: Refuse a table without a column of labels.
        """
        self.path, self.root = path, path if path.is_dir() else path.parent
        self.files, other_files = parquet_files(path) if path.is_dir() else ([path], [])
        with arrow_errors_as_input_errors(path):
            try:
                self.dataset = _open_dataset(self.files, path, columns, extra)
                self.columns = self._find_columns(path, columns, needs_labels=needs_labels)
            except UnicodeDecodeError:
                raise InputError(f"{path}: a column's name is not UTF-8") from None
        contents = [c for c in (*CONTENTS, "vector") if c in self.columns]
        if len(contents) != 1:
            raise InputError(
                f"{path} has {' and '.join(contents) or 'none'} of the columns image, path, text,"
                f" vector; exactly one is needed (name yours in data.columns)"
            )
        self.content: str = contents[0]
        self.extra = tuple(extra)
        check_extra(self.extra, self.columns, self.dataset.schema, str(path))
        column = self.columns[self.content]
        column_type = self.dataset.schema.field(column).type
        if self.content == "image" and can_hold(column_type, "path"):
            self.content, self.columns["path"] = "path", column
        if not can_hold(column_type, self.content):
            raise InputError(
                f"{path}: column {column!r} is {column_type}, not {CONTENT_NOUNS[self.content]}"
            )
        # Set by `metadata` when the rows are not sorted by id.
        self.order: np.ndarray | None = None
        self.notes: list[str] = []
        if isinstance(self.dataset, ParquetTable):
            self.files = self.dataset.files
            self.notes += self.dataset.notes + self._passed_over(other_files)
            if "split" not in self.columns and (names := split_names(self.files, self.root)):
                self.notes.append(
                    f"split: names of files ({', '.join(names)}) are not read; add a column split,"
                    " or name folders split=train/"
                )

    @property
    def lacks_ids(self) -> bool:
        """Whether there is no column of ids."""
        return "id" not in self.columns

    @property
    def unread_columns(self) -> list[str]:
        """The columns of the table that are not read."""
        return unread_columns(self.dataset.schema.names, self.columns, self.extra)

    def _passed_over(self, files: list[Path]) -> list[str]:
        """A line that counts files of the folder that are not read."""
        is_struct = pa.types.is_struct(self.dataset.schema.field(self.columns[self.content]).type)
        if self.content == "path" or is_struct:  # the rows name the pictures beside the tables
            files = [file for file in files if not is_picture(file)]
        return [f"{self.path}: passed over {count_endings(files)}"] if files else []

    def _find_columns(
        self, path: Path, columns: dict[str, str], *, needs_labels: bool
    ) -> dict[str, str]:
        """The user's column names by ours, of the columns that exist."""
        names = self.dataset.schema.names
        for ours, theirs in columns.items():
            if theirs not in names:
                raise InputError(f"{path} has no column {theirs!r} (data.columns.{ours})")
        ours_to_theirs = {c: columns.get(c, c) for c in (*METADATA, *CONTENTS, "vector")}
        present = {ours: theirs for ours, theirs in ours_to_theirs.items() if theirs in names}
        if needs_labels and "label" not in present:
            raise InputError(
                f"{path} has no column 'label'; it has {', '.join(names)}"
                " (name yours: data.columns.label)"
            )
        return present

    def fingerprint(self) -> object:
        """The hashes of the files; for image paths also the size and times of each picture."""
        files: list[object] = [file_sha256(file) for file in self.files]
        if self.content == "path":
            for block in self.blocks(65_536):
                files += [stamp(path) for path in block]
        if not isinstance(self.dataset, ParquetTable):
            return ["table", files, self.columns]
        if self.content == "image":
            paths = self.dataset.picture_paths(self.columns["image"])
            files += [stamp(self.root / path) for path in paths]
        return ["table", files, self.columns, *self.dataset.folder_columns()]

    def row_name(self, row: int) -> str:
        """The file and the row in it."""
        return self._file_row_name(row if self.order is None else int(self.order[row]))

    def _file_row_name(self, row: int) -> str:
        """The file and the row in it, for a row counted in the order of the files."""
        if isinstance(self.dataset, CsvTable):
            return self.dataset.row_name(row)
        for file, rows in zip(self.files, self._lengths, strict=True):
            if row < rows:
                return f"{file}: row {row}"
            row -= rows
        raise IndexError(row)

    @cached_property
    def _lengths(self) -> list[int]:
        """The number of rows of each file."""
        assert not isinstance(self.dataset, CsvTable)
        return [fragment.count_rows() for fragment in self.dataset.get_fragments()]

    def metadata(self) -> pa.Table:
        """The columns `label` and, if present, `id`, `split` and `group`; then the extra ones.

        In order of id if ids are integers, else as the rows lie.
        """
        names = [name for name in METADATA if name in self.columns]
        if not names:  # without labels: only the number of rows counts
            content = self.columns[self.content]
            return self._read([content]).select([])
        table = self._read([*(self.columns[name] for name in names), *self.extra])
        table = table.rename_columns([*names, *self.extra])
        for name in self.extra:
            table = self._with_extra(table, name)
        if isinstance(self.dataset, CsvTable):
            self.notes += [note for note in self.dataset.notes if note not in self.notes]
        if "split" in names:
            table = self._with_canonical_splits(table)
        if "id" in names and pa.types.is_integer(table["id"].type) and not table["id"].null_count:
            ids = table["id"].to_numpy()
            if (ids[1:] < ids[:-1]).any():
                self.order = np.argsort(ids, kind="stable")
                table = table.take(self.order)
        return table

    def _with_extra(self, table: pa.Table, name: str) -> pa.Table:
        is_csv = isinstance(self.dataset, CsvTable)
        values = extra_values(table[name], name, self._file_row_name, is_csv=is_csv)
        return table.set_column(table.column_names.index(name), name, values)

    def _with_canonical_splits(self, table: pa.Table) -> pa.Table:
        column, note = canonical_splits(table["split"])
        if note and note not in self.notes:
            self.notes.append(note)
        return table.set_column(table.column_names.index("split"), "split", column)

    def blocks(self, rows: int) -> Iterator[Sequence[Any] | Float32]:
        """The content column in order of id, `rows` at a time."""
        column = self.columns[self.content]
        if self.order is not None:
            yield from self.ordered_blocks(self.order, rows)
            return
        yield from self._convert(_regroup(self._batches(column, rows), rows), self._file_row_name)

    def ordered_blocks(self, order: Int64, rows: int) -> Iterator[Sequence[Any] | Float32]:
        """The content column in the given order, `rows` at a time; the column is read whole."""
        values = self._read_in_order(self.columns[self.content], order)
        slices = (values.slice(start, rows) for start in range(0, len(values), rows))
        yield from self._convert(slices, lambda row: self._file_row_name(int(order[row])))

    def _convert(
        self, arrays: Iterator[pa.ChunkedArray], row_name: Callable[[int], str]
    ) -> Iterator[Sequence[Any] | Float32]:
        start = 0
        for values in arrays:
            yield self._contents(values, start, row_name)
            start += len(values)

    def _batches(self, column: str, rows: int) -> Iterator[pa.Array]:
        count = 0
        with arrow_errors_as_input_errors(self.path):
            for batch in self.dataset.to_batches([column], batch_size=rows, batch_readahead=1):
                count += len(batch)
                yield batch.column(0)
        self._check_count(count, [column])

    def _read_in_order(self, column: str, order: Int64) -> pa.ChunkedArray:
        values = self._read([column])[column]
        if values.nbytes > SORT_LIMIT:
            if self.order is None:
                raise InputError(
                    f"{self.path}: rows changed places, and without ids that are integers they are"
                    " too large to reorder in memory; add new rows at the end, or integer ids"
                )
            raise InputError(
                f"{self.files[0]} is not sorted by id and too large to sort in memory; sort it"
                " once, for example with DuckDB: COPY (FROM 'it' ORDER BY id) TO 'sorted.parquet'"
            )
        return values.take(order)

    def _contents(
        self, values: pa.ChunkedArray, start: int, row_name: Callable[[int], str]
    ) -> Sequence[Any] | Float32:
        """Convert a block of the content column, whose first row is `start`."""
        if pa.types.is_struct(values.type):  # the layout of Hugging Face datasets
            values = picture_bytes(values, self.root, lambda row: row_name(start + row))
        if values.null_count:
            row = start + pc.index(pc.is_null(values), True).as_py()
            raise InputError(f"{row_name(row)}: {self.content} is missing")
        if self.content == "vector":
            return vector_rows(values, lambda row: row_name(start + row))
        try:
            contents = values.to_pylist()
        except UnicodeDecodeError:
            row = start + _first_invalid_text(values)
            raise InputError(f"{row_name(row)}: {self.content} is not UTF-8") from None
        return [self.root / c for c in contents] if self.content == "path" else contents

    def _read(self, columns: list[str]) -> pa.Table:
        with arrow_errors_as_input_errors(self.path):
            table = self.dataset.to_table(columns=columns)
        self._check_count(len(table), columns)
        return table

    def _check_count(self, rows_read: int, columns: list[str]) -> None:
        """Refuse damaged Parquet.

        If a damaged page header states fewer rows, Arrow silently reads fewer rows.
        """
        if not isinstance(self.dataset, ParquetTable):
            return
        if rows_read != (rows := sum(self._lengths)):
            raise InputError(
                f"{self.path}: {', '.join(columns)} gives {rows_read} of {rows} rows: it is damaged"
            )


def _open_dataset(
    files: list[Path], path: Path, columns: dict[str, str], extra: Sequence[str]
) -> CsvTable | ParquetTable:
    names = {name: columns.get(name, name) for name in (*METADATA, *CONTENTS, "vector")}
    if files[0].suffix.lower() == ".csv":
        return CsvTable(files[0], ids=names["id"], label=names["label"])
    # Under their own names, which no name of ours has, since those are refused.
    names |= {name: name for name in extra if name not in names}
    return ParquetTable(files, path if path.is_dir() else None, names)


def can_hold(column_type: pa.DataType, content: str) -> bool:
    """Whether a column of this type can hold `content` (see CONTENT_NOUNS)."""
    t = pa.types
    checks: tuple[Callable[[pa.DataType], bool], ...]
    if t.is_dictionary(column_type):
        return can_hold(column_type.value_type, content)
    if content in ("path", "text"):
        checks = (t.is_string, t.is_large_string, t.is_string_view)
    elif content == "vector":
        checks = (is_vector_type,)
    elif t.is_struct(column_type):  # the layout of Hugging Face datasets
        return bool(column_type.get_field_index("bytes") >= 0)
    else:
        checks = (t.is_binary, t.is_large_binary, t.is_binary_view)
    return any(check(column_type) for check in checks)


def _first_invalid_text(values: pa.ChunkedArray) -> int:
    """The first row whose bytes are not UTF-8; there must be one."""
    for row, value in enumerate(values):
        try:
            value.as_py()
        except UnicodeDecodeError:
            return row
    raise IndexError(values)


def _regroup(arrays: Iterator[pa.Array], rows: int) -> Iterator[pa.ChunkedArray]:
    """Yield the values of `arrays` in blocks of `rows` (Arrow's batches end at row groups)."""
    pending: list[pa.Array] = []
    count = 0
    for array in arrays:
        pending.append(array)
        count += len(array)
        while count >= rows:
            values = pa.chunked_array(pending)
            yield values.slice(0, rows)
            pending = values.slice(rows).chunks
            count -= rows
    if count:
        yield pa.chunked_array(pending)
