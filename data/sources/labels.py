"""Labels: one rule for all readers, and the reader of a file of labels.

A label is compared in Unicode's composed form (NFC), without white space around it and without a
byte order mark. A label that is then empty is missing.
"""

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from remine.data.errors import InputError, first_line


def clean_label(label: str) -> str:
    """The form of a label that is compared and stored."""
    return unicodedata.normalize("NFC", label).strip().strip("\ufeff").strip()


def clean_labels(labels: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of texts, each in the form of `clean_label`; null where it is missing."""
    spellings = pc.unique(labels).drop_null()
    names = [clean_label(name) or None for name in spellings.to_pylist()]
    return pa.array(names, pa.string()).take(pc.index_in(labels, spellings))


@dataclass(frozen=True, kw_only=True)
class Cleaning:
    """What the form of `clean_label` did to the spellings of labels.

    Attributes:
        changed: Spellings that are stored in another form.
        merged: Spellings beyond the classes: each differs from another one in its form only.
    """

    changed: int = 0
    merged: int = 0

    @classmethod
    def of(cls, spellings: Iterable[str]) -> "Cleaning":
        """Count over distinct spellings, none of them missing."""
        names = {spelling: clean_label(spelling) for spelling in spellings}
        changed = sum(name != spelling for spelling, name in names.items())
        return cls(changed=changed, merged=len(names) - len(set(names.values())))

    def lines(self) -> list[str]:
        """Lines for the user; none if nothing was changed."""
        lines = []
        if self.changed:
            lines.append(
                f"labels: {self.changed:,} spelling(s) are stored without the white space around"
                " them and in Unicode's composed form"
            )
        if self.merged:
            lines.append(
                f"labels: {self.merged:,} spelling(s) differ from others in white space or Unicode"
                " form only: they are the same class"
            )
        return lines


def spellings(labels: Iterable[object]) -> set[str]:
    """The distinct texts among labels, or within lists of them; bytes are UTF-8.

    Raises:
        UnicodeDecodeError: Bytes are not UTF-8.
    """
    lists = (label if isinstance(label, list) else [label] for label in labels)
    parts = {part for parts in lists for part in parts if isinstance(part, str | bytes)}
    return {part.decode() if isinstance(part, bytes) else part for part in parts}


def clean_values(labels: Sequence[object], row_name: Callable[[int], str]) -> list[object]:
    """Labels of any type, texts among them and within lists in the form of `clean_label`.

    Raises:
        InputError: A text is empty, or bytes are not UTF-8.
    """

    def clean(label: object, row: int) -> object:
        if isinstance(label, list):
            return [clean(item, row) for item in label]
        if isinstance(label, bytes):
            label = _decode(label, row_name(row))
        if not isinstance(label, str):
            return label
        if name := clean_label(label):
            return name
        raise InputError(f"{row_name(row)}: label is missing")

    return [clean(label, row) for row, label in enumerate(labels)]


def _decode(label: bytes, place: str) -> str:
    try:
        return label.decode()
    except UnicodeDecodeError:
        raise InputError(f"{place}: label is not UTF-8 text") from None


def read_label_lines(path: Path) -> list[str]:
    r"""The labels in a UTF-8 text file as written, one a line; only \n and \r\n end a line.

    Raises:
        InputError: The file cannot be read or is not UTF-8, or a line is blank.
    """
    try:
        content = path.read_bytes()
        lines = content.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}: line {line}: not UTF-8; save the file as UTF-8") from None
    except OSError as error:
        raise InputError(f"{path}: {first_line(error)}") from None
    if not lines[-1]:  # the last line is ended, too
        lines.pop()
    for line, label in enumerate(lines, start=1):
        if not clean_label(label):
            raise InputError(f"{path}: line {line}: label is missing")
    return [line.removesuffix("\r") for line in lines]
