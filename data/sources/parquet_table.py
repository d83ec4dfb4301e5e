"""Parquet files as one table, whose columns have one type without changing a value.

Every file is opened before anything is read. Integers of several widths become one width, lists of
numbers one type of number; anything else that differs between files is refused. A class number of
a Hugging Face data set becomes the name that the file has for it.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from remine.data.errors import InputError, first_line
from remine.data.sources.array import arrow_errors_as_input_errors
from remine.data.sources.column_types import common_type, plain_values, uuid_texts, value_type
from remine.data.sources.hugging_face import class_names, decode_classes, has_bytes
from remine.data.sources.table_folder import folder_values


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One Parquet file.

    Attributes:
        file: Its path.
        fragment: The opened file.
        folder_values: Columns in the names of the folders above it.
        class_names: Names of the integers of a column, by column.
        path_columns: Columns of pictures of which only the field `path` is read.
        uuid_columns: Columns of UUIDs, which are read as texts.
    """

    file: Path
    fragment: ds.Fragment
    folder_values: Mapping[str, str | None]
    class_names: Mapping[str, Sequence[str]]
    path_columns: frozenset[str] = frozenset()
    uuid_columns: frozenset[str] = frozenset()

    @classmethod
    def open(cls, file: Path, folder: Path | None, columns: Sequence[str]) -> "Shard":
        """Read the footer of a file.

        Args:
            file: The file.
            folder: The folder that is read, None if it is one file.
            columns: The columns whose integers may have names.
        """
        if not file.is_file():  # opening a pipe would block
            raise InputError(f"{file} is not a file, or a link to nothing: remove it")
        with arrow_errors_as_input_errors(file), _named_duplicates(file):
            dataset = ds.dataset([file], format="parquet", partitioning=None)
            (fragment,) = dataset.get_fragments()
            fragment.ensure_complete_metadata()
        return cls(
            file=file,
            fragment=fragment,
            folder_values=folder_values(file, folder) if folder else {},
            class_names=class_names(fragment.physical_schema, columns, file),
            uuid_columns=frozenset(_uuid_columns(fragment.metadata.schema)),
        )

    @property
    def names(self) -> list[str]:
        """The names of its columns, with those of the folders last."""
        names = self.fragment.physical_schema.names
        return [*names, *(name for name in self.folder_values if name not in names)]

    def column_type(self, name: str) -> pa.DataType:
        """The type of a column as `read` and `batches` give it, before types are unified."""
        schema = self.fragment.physical_schema
        if name in self.class_names or name not in schema.names:
            return pa.string()
        column_type = schema.field(name).type
        if name in self.uuid_columns:
            return pa.string()
        if name in self.path_columns:
            column_type = column_type.field("path").type
        return value_type(column_type)

    def count_rows(self) -> int:
        """The number of rows that the footer states."""
        return int(self.fragment.metadata.num_rows)

    def read(self, columns: Sequence[str], types: Mapping[str, pa.DataType]) -> pa.Table:
        """Some columns, cast to `types`; a column that the file lacks is null."""
        with arrow_errors_as_input_errors(self.file):
            table = self.fragment.to_table(columns=self._expressions(columns))
            rows = len(table) if table.num_columns else self.count_rows()
            arrays = [self._convert(table, name, types[name], rows) for name in columns]
        return pa.table(arrays, names=list(columns))

    def batches(
        self, column: str, column_type: pa.DataType, rows: int, readahead: int = 1
    ) -> Iterator[pa.Array]:
        """One column, `rows` or fewer at a time, cast to `column_type`."""
        with arrow_errors_as_input_errors(self.file):
            for batch in self.fragment.to_batches(
                columns=self._expressions([column]), batch_size=rows, batch_readahead=readahead
            ):
                table = pa.Table.from_batches([batch])
                yield from self._convert(table, column, column_type, len(batch)).chunks

    def _expressions(self, columns: Sequence[str]) -> dict[str, pc.Expression]:
        """What Arrow reads for the columns that are in the file."""
        present = set(self.fragment.physical_schema.names)
        return {
            name: pc.field(name, "path") if name in self.path_columns else pc.field(name)
            for name in columns
            if name in present
        }

    def _convert(
        self, table: pa.Table, name: str, column_type: pa.DataType, rows: int
    ) -> pa.ChunkedArray:
        """A column of `table`, which has `rows` rows, cast to a type that holds its values."""
        column = self._values(table, name, rows)
        try:
            return column.cast(column_type)
        except pa.ArrowInvalid as error:
            raise InputError(
                f"{self.file}: column {name!r} has another type in other files, and a value that"
                f" would change: {first_line(error)}"
            ) from None

    def _values(self, table: pa.Table, name: str, rows: int) -> pa.ChunkedArray:
        """A column of `table` with names for class numbers, or the value of a folder's name."""
        if name not in table.column_names:
            value = self.folder_values.get(name)
            return pa.chunked_array([pa.repeat(pa.scalar(value, pa.string()), rows)])
        column = plain_values(table[name])
        if name in self.uuid_columns and pa.types.is_fixed_size_binary(column.type):
            column = uuid_texts(column)
        if name in self.class_names:
            column = decode_classes(column, self.class_names[name], f"{self.file}: row ", name)
        if name in self.folder_values:
            self._check_folder_value(column, name)
        return column

    def _check_folder_value(self, column: pa.ChunkedArray, name: str) -> None:
        """Refuse a column that differs from the name of the folder."""
        value = pa.scalar(self.folder_values[name], pa.string())
        is_equal = pc.fill_null(pc.equal(column.cast(pa.string()), value), not value.is_valid)
        if not pc.all(is_equal, min_count=0).as_py():
            row = pc.index(is_equal, False).as_py()
            raise InputError(
                f"{self.file}: row {row}: {name} is {column[row].as_py()!r}, but the folder is"
                f" {name}={value.as_py()}: correct one of them"
            )


class ParquetTable:
    """Parquet files with one type per column that is used."""

    def __init__(
        self, files: Sequence[Path], folder: Path | None, columns: Mapping[str, str]
    ) -> None:
        """Open the files and unify the types of the columns that are used.

        Args:
            files: The files in order.
            folder: The folder that they are in, None for a single file.
            columns: The user's column names by ours, of all columns that may be used.

        Raises:
            InputError: A column is missing in one file, or has another type there.
        """
        classes = [columns[name] for name in ("label", "split", "group") if name in columns]
        shards = [Shard.open(file, folder, classes) for file in files]
        # A file without rows has nothing to read; its types are often those of an empty list.
        shards = [shard for shard in shards if shard.count_rows()] or shards[:1]
        self.shards = _as_paths(shards, columns.get("image", ""))
        self.files = [shard.file for shard in self.shards]
        self.notes = self._class_notes()
        fields: dict[str, pa.DataType] = {}
        for shard in self.shards:
            for name in shard.names:
                fields.setdefault(name, shard.column_type(name))
        for name in (name for name in columns.values() if name in fields):
            self._check_presence(name, is_optional=name == columns.get("group"))
            fields[name] = self._unified_type(name)
        self.schema = pa.schema(list(fields.items()))

    def _class_notes(self) -> list[str]:
        """A line for each column whose numbers are read as names."""
        names: dict[str, set[str]] = {}
        for shard in self.shards:
            for column, column_names in shard.class_names.items():
                names.setdefault(column, set()).update(column_names)
        return [
            f"{column}: numbers are read as the {len(class_set):,} names in the Hugging Face"
            " metadata"
            for column, class_set in names.items()
        ]

    def _check_presence(self, name: str, *, is_optional: bool) -> None:
        present = [shard for shard in self.shards if name in shard.names]
        lacking = [shard for shard in self.shards if name not in shard.names]
        if not lacking:
            return
        if not is_optional:
            raise InputError(
                f"{lacking[0].file} has no column {name!r}, but {present[0].file} has: add it"
                " there, or leave it out of all files"
            )
        rows = sum(shard.count_rows() for shard in lacking)
        self.notes.append(
            f"{name}: {len(lacking)} of {len(self.shards)} files have no such column; their"
            f" {rows:,} items are in no {name}"
        )

    def _unified_type(self, name: str) -> pa.DataType:
        result, first = pa.null(), self.shards[0]
        for shard in (shard for shard in self.shards if name in shard.names):
            column_type = shard.column_type(name)
            if pa.types.is_null(result):
                first = shard
            common = common_type(result, column_type)
            if common is None:
                raise InputError(
                    f"{shard.file}: column {name!r} is {column_type}, but in {first.file} it is"
                    f" {first.column_type(name)}: write it with one type in all files"
                )
            result = common
        return result

    def get_fragments(self) -> Sequence[Shard]:
        """The files, as Arrow calls them."""
        return self.shards

    def to_table(self, columns: Sequence[str]) -> pa.Table:
        """Some columns of all files."""
        types = {name: self.schema.field(name).type for name in columns}
        return pa.concat_tables([shard.read(columns, types) for shard in self.shards])

    def to_batches(
        self, columns: Sequence[str], batch_size: int, batch_readahead: int
    ) -> Iterator[pa.RecordBatch]:
        """One column of all files, `batch_size` or fewer rows at a time."""
        (column,) = columns
        column_type = self.schema.field(column).type
        for shard in self.shards:
            for values in shard.batches(column, column_type, batch_size, batch_readahead):
                yield pa.RecordBatch.from_arrays([values], names=[column])

    def row_name(self, row: int) -> str:
        """The file and the row in it, for a row counted over all files."""
        for shard in self.shards:
            if row < shard.count_rows():
                return f"{shard.file}: row {row}"
            row -= shard.count_rows()
        raise IndexError(row)

    def check_count(self, path: Path, table: pa.Table) -> None:
        """Refuse damaged Parquet: Arrow silently reads fewer rows if a page header states fewer."""
        rows = sum(shard.count_rows() for shard in self.shards)
        if len(table) != rows:
            names = ", ".join(table.column_names)
            raise InputError(f"{path}: {names} gives {len(table)} of {rows} rows: it is damaged")

    def folder_columns(self) -> list[Any]:
        """The columns in the names of folders, by file; empty if there are none."""
        values = [dict(shard.folder_values) for shard in self.shards]
        return values if any(values) else []

    def picture_paths(self, column: str) -> Iterator[str]:
        """The paths of pictures whose bytes are not in the files."""
        column_type = self.schema.field(column).type
        if not _is_picture_struct(column_type):
            return
        for shard in self.shards:
            if has_bytes(shard.fragment, column) is True:
                continue
            for values in shard.batches(column, column_type, 1024):
                yield from _paths_of_missing_bytes(values)


def _uuid_columns(schema: Any) -> Iterator[str]:
    """The columns that Parquet itself calls UUIDs, whatever Arrow's schema in the file says."""
    for leaf in range(len(schema)):
        column = schema.column(leaf)
        if column.logical_type.type == "UUID" and column.path == column.name:
            yield column.name


@contextmanager
def _named_duplicates(file: Path) -> Iterator[None]:
    """Say what Arrow means if two columns of a file have one name."""
    try:
        yield
    except pa.ArrowInvalid as error:
        if "duplicate field names" not in str(error):
            raise
        raise InputError(f"{file}: two columns have one name: rename one") from None


def _paths_of_missing_bytes(values: pa.Array) -> Iterator[str]:
    is_missing = pc.is_null(pc.struct_field(values, "bytes"))
    paths = pc.struct_field(values, "path").filter(is_missing)
    yield from (path for path in paths.to_pylist() if path is not None)


def _as_paths(shards: Sequence[Shard], column: str) -> list[Shard]:
    """The shards, told to read paths only if no picture has its bytes in any of them."""
    is_struct = [_is_picture_struct(shard.column_type(column)) for shard in shards]
    for shard in itertools.compress(shards, is_struct):
        if has_bytes(shard.fragment, column) is not False:
            return list(shards)
    return [
        replace(shard, path_columns=frozenset([column])) if has_struct else shard
        for shard, has_struct in zip(shards, is_struct, strict=True)
    ]


def _is_picture_struct(column_type: pa.DataType) -> bool:
    """Whether a type is a struct of bytes and path, as Hugging Face data sets write pictures."""
    if not pa.types.is_struct(column_type):
        return False
    return all(column_type.get_field_index(name) >= 0 for name in ("bytes", "path"))
