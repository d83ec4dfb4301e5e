"""The reader of CSV files, for items, queries and pairs of ids alike.

Every column is text, except those that the caller names as integers, and one of ids, which is
integers only if that loses nothing (`keys`). Nothing else is inferred from the values. Arrow parses
blocks that end between two rows; blocks that it cuts itself may end inside a quoted field, where it
stops or loses characters.
"""

import mmap
from array import array
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from remine.data.errors import InputError, first_line
from remine.data.sources.csv_quotes import ADVICE, NEWLINE, Quotes
from remine.data.sources.keys import WHOLE_NUMBER, number_or_text

BLOCK = 16 << 20
"""Bytes parsed at a time; a block is longer where a row is."""

HEADER = 1 << 20
"""Bytes in which the line of the header is looked for."""

MIN_ROWS = 3
"""Lines of a field after the first that must look like rows to be refused, if no labels show it."""


class CsvTable:
    """A CSV file with a header, mapped into memory.

    Has the methods of `pyarrow.dataset.Dataset` that `TableSource` calls.
    """

    def __init__(
        self,
        path: Path,
        *,
        integers: Collection[str] = (),
        ids: str | None = None,
        label: str | None = None,
    ) -> None:
        """Map the file, check its quotes and read its header.

        Args:
            path: The file.
            integers: Names of the columns that hold integers; all others hold text.
            ids: Name of the column of ids, integers or text as its values are.
            label: Name of the column of labels. Its values show whether the lines of a text are
                rows that a stray quote swallowed.

        Raises:
            InputError: The file is missing, empty or not UTF-8, or its quotes are not balanced.
        """
        self.path, self.label, self.ids = path, label, ids
        self.notes: list[str] = []
        self.content = _map(path)
        _check_delimiter(path, self.content)
        self.quotes = Quotes(path, self.content)
        self.names, self.start = self._read_header()
        types = {name: pa.int64() for name in integers}
        self.schema = pa.schema([(name, types.get(name, pa.string())) for name in self.names])
        number_columns = {*integers, *([ids] if ids and self._starts_with_number(ids) else [])}
        integer_places = [i for i, name in enumerate(self.names) if name in number_columns]
        self.suspects = self.quotes.swallowed_rows(len(self.names), integer_places)
        if label not in self.names:
            for field in self.suspects:
                if len(field.rows) > MIN_ROWS:
                    raise self.quotes.refuse_rows(field)

    def to_table(self, columns: Sequence[str]) -> pa.Table:
        """The named columns."""
        schema = pa.schema([self.schema.field(name) for name in self._check_names(columns)])
        table = pa.Table.from_batches(self.to_batches(columns), schema)
        if self.label in columns:
            self._check_labels(table[self.label])
        return self._with_ids(table) if self.ids in columns else table

    def to_batches(self, columns: Sequence[str], **_options: object) -> Iterator[pa.RecordBatch]:
        """The named columns, block by block."""
        self._check_names(columns)
        start = self.start
        row = 0
        while start < len(self.content):
            end = self.quotes.next_row(start + BLOCK)
            table = self._parse(start, end, columns)
            for place, name in enumerate(columns):
                if pa.types.is_integer(self.schema.field(name).type):
                    column = integers(table[name], self._namer(row), name)
                    table = table.set_column(place, name, column)
            yield from table.to_batches()
            start, row = end, row + len(table)

    def _with_ids(self, table: pa.Table) -> pa.Table:
        """The table with its ids as integers, if that loses nothing."""
        ids = str(self.ids)
        column, note = number_or_text(table[ids], self.row_name, ids)
        if note and note not in self.notes:
            self.notes.append(note)
        return table.set_column(table.column_names.index(ids), ids, column)

    def _starts_with_number(self, column: str) -> bool:
        """Whether the first row has an integer in this column."""
        for start, end, _ in self._rows() if self.names.count(column) == 1 else ():
            value = self._parse(start, end, [column])[column]
            return bool(pa.types.is_integer(number_or_text(value, str, column)[0].type))
        return False

    def row_name(self, row: int) -> str:
        """The file and the line at which a row starts."""
        return f"{self.path}: line {self._lines[row]}"

    @cached_property
    def _lines(self) -> "array[int]":
        """The line of each row."""
        return array("q", (line for _, _, line in self._rows()))

    def _namer(self, start: int) -> Callable[[int], str]:
        return lambda row: self.row_name(start + row)

    @property
    def _skips_empty_lines(self) -> bool:
        """Whether an empty line is no row; in a table of one column it is a missing value."""
        return len(self.names) > 1

    def _rows(self) -> Iterator[tuple[int, int, int]]:
        """Start, end and line of each row below the header."""
        for start, end, line in self.quotes.rows():
            if start >= self.start and not (self._skips_empty_lines and start == end):
                yield start, end, line

    def _read_header(self) -> tuple[list[str], int]:
        """The names of the columns, and the offset after the header."""
        for start, end, _ in self.quotes.rows():
            if start < end:
                names = self._parse_names(start, end)
                if self.quotes.spans_lines(start, end):
                    name = self.quotes.line_name(start)
                    raise InputError(f"{name}: the header spans lines; {ADVICE}")
                return names, self.quotes.next_row(end)
        raise InputError(f"{self.path}: the file is empty; the first line names the columns")

    def _parse_names(self, start: int, end: int) -> list[str]:
        options = pyarrow.csv.ParseOptions(newlines_in_values=True)
        header = pa.py_buffer(self.content[start:end] + b"\n")
        try:
            names: list[str] = pyarrow.csv.read_csv(header, parse_options=options).column_names
        except UnicodeDecodeError:
            raise InputError(
                f"{self.quotes.line_name(start)}: a column's name is not UTF-8; save the file as"
                " UTF-8"
            ) from None
        return names

    def _check_names(self, columns: Sequence[str]) -> Sequence[str]:
        for name in columns:
            if self.names.count(name) > 1:
                raise InputError(f"{self.path}: the header names {name!r} more than once")
        return columns

    def _parse(self, start: int, end: int, columns: Sequence[str]) -> pa.Table:
        """The rows between two offsets, as text."""
        block = self.content[start:end]
        try:
            return self._parse_block(block, columns)
        except pa.ArrowException as error:
            raise self._parse_error(error, start, block, columns) from None

    def _parse_block(
        self,
        block: bytes,
        columns: Sequence[str],
        on_invalid_row: Callable[[pyarrow.csv.InvalidRow], str] | None = None,
    ) -> pa.Table:
        return pyarrow.csv.read_csv(
            pa.py_buffer(block),
            read_options=pyarrow.csv.ReadOptions(
                column_names=self.names, block_size=len(block) + 1
            ),
            parse_options=pyarrow.csv.ParseOptions(
                newlines_in_values=True,
                ignore_empty_lines=self._skips_empty_lines,
                invalid_row_handler=on_invalid_row,
            ),
            # An empty field is a missing one; the text NA is not.
            convert_options=pyarrow.csv.ConvertOptions(
                include_columns=columns,
                column_types=dict.fromkeys(columns, pa.string()),
                strings_can_be_null=True,
                null_values=[""],
            ),
        )

    def _parse_error(
        self, error: pa.ArrowException, start: int, block: bytes, columns: Sequence[str]
    ) -> InputError:
        """The error about a block, with the line."""
        try:
            block.decode()
        except UnicodeDecodeError as fault:
            place = self.quotes.line_name(start + fault.start)
            return InputError(f"{place}: not UTF-8; save the file as UTF-8")
        invalid_rows: list[pyarrow.csv.InvalidRow] = []

        def skip(row: pyarrow.csv.InvalidRow) -> str:
            invalid_rows.append(row)
            return "skip"

        # Arrow prints a traceback if it hands over a row that is not UTF-8, hence the second pass.
        with suppress(pa.ArrowException):
            self._parse_block(block, columns, skip)
        for row in invalid_rows:
            place = self.quotes.line_name(start + max(block.find(row.text.encode()), 0))
            return InputError(
                f"{place}: {row.actual_columns} field(s), but the header has"
                f" {row.expected_columns}; put a field that holds a comma or a line break between"
                " quotes"
            )
        return InputError(f"{self.path}: {first_line(error)}")

    def _check_labels(self, labels: pa.ChunkedArray) -> None:
        """Refuse a text whose lines look like rows and hold a label of this table."""
        place = self.names.index(self.label or "")
        for field in self.suspects:
            candidates = pa.array(field.swallowed_fields(place), pa.string())
            if pc.any(pc.is_in(candidates, labels)).as_py():
                raise self.quotes.refuse_rows(field)


def integers(values: pa.ChunkedArray, row_name: Callable[[int], str], name: str) -> pa.ChunkedArray:
    """A column of texts as int64; a missing value stays missing.

    Raises:
        InputError: A value is not an integer, or does not fit.
    """
    trimmed = pc.utf8_trim_whitespace(values)
    row = pc.index(pc.match_substring_regex(trimmed, WHOLE_NUMBER), False).as_py()
    if row >= 0:
        value = values[row].as_py()
        reason = "; one has no zeros in front" if value.strip(" -0123456789") == "" else ""
        raise InputError(f"{row_name(row)}: {name} is {value!r}, not a whole number{reason}")
    try:
        return trimmed.cast(pa.int64())
    except pa.ArrowInvalid:
        row = next(i for i, v in enumerate(trimmed) if v.is_valid and not _fits(v.as_py()))
        raise InputError(
            f"{row_name(row)}: {name} {trimmed[row]} is not between 0 and 2^63 - 1"
        ) from None


def _fits(number: str) -> bool:
    return -(2**63) <= int(number) < 2**63


def _check_delimiter(path: Path, content: mmap.mmap) -> None:
    """Refuse a table whose header holds no comma but another sign that programs write instead."""
    header = NEWLINE.split(content[:HEADER], 1)[0]
    for sign, name in ((b";", "semicolons"), (b"\t", "tabs"), (b"|", "vertical bars")):
        if sign in header and b"," not in header:
            raise InputError(
                f"{path}: the header has {name} and no comma; save the table with commas between"
                " the columns"
            )


def _map(path: Path) -> mmap.mmap:
    """The content of a file, mapped into memory."""
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except ValueError:  # an empty file cannot be mapped
        raise InputError(f"{path}: the file is empty; the first line names the columns") from None
    except OSError as error:
        raise InputError(f"{path}: {first_line(error)}") from None
