"""Quoted fields of a CSV file: which of them span lines, and which hold swallowed rows."""

import csv
import mmap
import re
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from remine.data.errors import InputError

BOM = b"\xef\xbb\xbf"
NEWLINE = re.compile(rb"\r\n?|\n")
# A quote opens a field only at the start of one. The lookbehind follows the literal, so that the
# search for the literal is fast. The first branch passes over many fields of one line at a time.
OPENS = rb'(?<![^,\r\n]")'
SIMPLE = OPENS + rb'[^"\r\n]*+"(?=[,\r\n])[^"]*+'
QUOTED_FIELD = re.compile(
    rb'"(?:' + SIMPLE + rb'(?:"' + SIMPLE + rb"){0,1000}+"
    rb"|(?:" + OPENS + rb'|(?<=\A\xef\xbb\xbf"))(?P<text>[^"]*+(?:""[^"]*+)*+)(?P<close>"?))'
)
INTEGER = re.compile(rb'\s*"?-?[0-9]+"?\s*')
ADVICE = 'a quote inside a quoted field is written twice (""), and the field needs one at each end'


@dataclass(frozen=True, kw_only=True)
class SwallowedRows:
    """A quoted field of several lines that all look like rows.

    Attributes:
        start: Offset at which the quote opens.
        end: Offset after the closing quote.
        column: The place of the field among the columns.
        rows: The fields of each line, those of the first and the last outside the quotes included.
    """

    start: int
    end: int
    column: int
    rows: list[list[str]]

    def swallowed_fields(self, column: int) -> list[str]:
        """The fields of a column in the lines, without the one that the row has outside quotes."""
        rows = self.rows[:-1] if column > self.column else self.rows[1:]
        return [row[column].strip('" ') for row in rows]


class Quotes:
    """The quoted fields of a CSV file that span lines."""

    def __init__(self, path: Path, content: mmap.mmap) -> None:
        """Find the fields.

        Raises:
            InputError: A quote does not close, or text follows a closing quote.
        """
        self.path, self.content = path, content
        self.starts, self.ends = array("q"), array("q")
        for field in QUOTED_FIELD.finditer(content):
            if field["text"] is None:
                continue
            start, end = field.span()
            if not field["close"]:
                raise InputError(
                    f"{self.line_name(start)}: a quote opens and never closes; {ADVICE}"
                )
            if content[end : end + 1] not in (b"", b",", b"\r", b"\n"):
                raise InputError(
                    f"{self.line_name(start)}: the quote that opens here closes in line"
                    f" {self.line(end)}, before more text; {ADVICE}"
                )
            if NEWLINE.search(content, start, end):
                self.starts.append(start)
                self.ends.append(end)

    def line(self, offset: int) -> int:
        """The line of a byte, counted from 1 as an editor does."""
        return 1 + sum(1 for _ in NEWLINE.finditer(self.content, 0, offset))

    def line_name(self, offset: int) -> str:
        """The file and the line of a byte, for messages."""
        return f"{self.path}: line {self.line(offset)}"

    def end_around(self, offset: int) -> int:
        """The end of the field of several lines that a byte is in; 0 if it is in none."""
        place = bisect_right(self.starts, offset) - 1
        return self.ends[place] if place >= 0 and offset < self.ends[place] else 0

    def spans_lines(self, start: int, end: int) -> bool:
        """Whether a row has a field of several lines."""
        return NEWLINE.search(self.content, start, end) is not None

    def next_row(self, offset: int) -> int:
        """The offset after the first line break from `offset` on that is outside of quotes."""
        while newline := NEWLINE.search(self.content, offset):
            offset = self.end_around(newline.start())
            if not offset:
                return newline.end()
        return len(self.content)

    def rows(self) -> Iterator[tuple[int, int, int]]:
        """Start, end and line of each line or group of lines that is a row, the header included."""
        start = len(BOM) if self.content[:3] == BOM else 0
        row_line = line = 1
        for newline in NEWLINE.finditer(self.content, start):
            line += 1
            if not self.end_around(newline.start()):
                yield start, newline.start(), row_line
                start, row_line = newline.end(), line
        if start < len(self.content):
            yield start, len(self.content), row_line

    def swallowed_rows(self, columns: int, integers: Sequence[int]) -> list[SwallowedRows]:
        """The fields of which each line looks like a row.

        Args:
            columns: The number of columns; a row has as many fields.
            integers: The places of the columns that hold integers.
        """
        result = []
        for start, end in zip(self.starts, self.ends, strict=True) if columns > 1 else ():
            newline = NEWLINE.search(self.content, end)
            last_end = newline.start() if newline else len(self.content)
            before = self._fields_before(start)
            first, *lines = NEWLINE.split(self.content[start:last_end])
            lines = [b",".join([*before, first]), *lines]
            if all(_is_row(line, columns, integers) for line in lines):
                rows = [line.decode(errors="replace").split(",") for line in lines]
                result.append(SwallowedRows(start=start, end=end, column=len(before), rows=rows))
        return result

    def _fields_before(self, offset: int) -> list[bytes]:
        """The fields that stand before a field in its line, each without quotes and commas."""
        line_start = 1 + max(self.content.rfind(sign, 0, offset) for sign in (b"\n", b"\r"))
        text = self.content[line_start:offset].removeprefix(BOM).decode(errors="replace")
        fields = next(csv.reader([text]), [])[:-1]  # the text ends with a comma, or is empty
        return [field.replace(",", " ").encode() for field in fields]

    def refuse_rows(self, field: SwallowedRows) -> InputError:
        """The error about a field that swallowed rows."""
        return InputError(
            f"{self.line_name(field.start)}: the quote that opens here closes in line"
            f" {self.line(field.end)}, and the lines between look like rows; {ADVICE} (if they are"
            " one text, give the table as Parquet)"
        )


def _is_row(line: bytes, columns: int, integers: Sequence[int]) -> bool:
    """Whether a line of a quoted field could be a row of the table."""
    fields = line.split(b",")
    if len(fields) != columns or not all(INTEGER.fullmatch(fields[i]) for i in integers):
        return False
    # Two quotes within a field were written by a program that meant one quote in a text.
    return not any(b'""' in field[1:] for field in fields)
