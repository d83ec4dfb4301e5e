"""Ids that are texts: one rule for all readers, and the search for them.

A column of ids is numbers or texts. Text stays as written: nothing is stripped, folded or parsed.
In CSV, where every field is text, ids are numbers if all are whole numbers in their usual spelling;
"007", "1.0" or a number beyond 2^63 make all of them texts.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from remine.data.errors import InputError
from remine.data.sources.column_types import BINARY, TEXT, value_type
from remine.data.sources.labels import clean_label
from remine.data.types import Int64

WHOLE_NUMBER = r"^(0|-?[1-9][0-9]*)$"
"""The usual spelling of a whole number, which can be written back from its value."""

STRING_LIMIT = (1 << 31) - 1
"""Bytes that an array of strings can hold."""

FEW = 64
"""Ids up to which each is searched by itself; for more all texts are hashed once."""


class Keys:
    """The text ids of n items by row; once searched, 8 bytes an item beside the texts."""

    def __init__(self, texts: pa.Array | pa.ChunkedArray) -> None:
        """texts: n different texts, none missing."""
        self.texts = _combined(texts)

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, row: int) -> str:
        """The id of the item at `row`."""
        return str(self.texts[row].as_py())

    def take(self, rows: Int64 | pa.Array) -> pa.Array:
        """The ids at `rows` as strings, large ones beyond 2 GiB; null where the row is null."""
        texts = self.texts.take(pa.array(rows))
        return texts if texts.nbytes > STRING_LIMIT else texts.cast(pa.string())

    def rows(self, texts: "Sequence[str] | pa.Array | pa.ChunkedArray") -> Int64:
        """The row (q,) of each text, -1 for a text that is no item's id."""
        array = texts if isinstance(texts, pa.Array | pa.ChunkedArray) else pa.array(texts)
        if len(array) <= FEW:
            return np.array([self._row(text.as_py()) for text in array], np.int64)
        matches = pc.index_in(_combined(array), value_set=self.texts)
        rows: Int64 = pc.fill_null(matches, -1).to_numpy(zero_copy_only=False).astype(np.int64)
        return rows

    @cached_property
    def _order(self) -> Int64:
        """The rows in order of their texts."""
        order: Int64 = pc.sort_indices(self.texts).to_numpy().astype(np.int64)
        return order

    def _row(self, text: str) -> int:
        # Arrow sorts by the bytes of UTF-8, which is the order of Python's characters.
        place = bisect_left(range(len(self)), text, key=lambda i: self[int(self._order[i])])
        if place == len(self) or self[row := int(self._order[place])] != text:
            return -1
        return row


def holds_text(column_type: pa.DataType) -> bool:
    """Whether ids of this type are texts."""
    return any(check(value_type(column_type)) for check in (*TEXT, *BINARY))


def read_keys(column: pa.ChunkedArray, row_name: Callable[[int], str]) -> Keys:
    """A column of text ids, checked.

    Args:
        column: Text, or bytes that are UTF-8; perhaps encoded as a dictionary.
        row_name: Names a row in messages.

    Raises:
        InputError: An id is missing, empty or not UTF-8, or two are the same but for white space
            around them or their Unicode form.
    """
    texts = id_texts(column, row_name)
    _check_different(texts, texts, row_name)
    _check_different(_clean(texts), texts, row_name)
    return Keys(texts)


def id_texts(column: pa.ChunkedArray, row_name: Callable[[int], str], name: str = "id") -> pa.Array:
    """A column of text ids as one array of large strings, none missing or blank.

    Raises:
        InputError: A text is missing, blank or not UTF-8.
    """
    if column.null_count:
        row = pc.index(pc.is_null(column), True).as_py()
        raise InputError(f"{row_name(row)}: {name} is missing")
    try:
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        texts = _combined(column)
        # A file may declare arbitrary bytes to be strings; only full validation notices.
        texts.validate(full=True)
    except pa.ArrowException:
        row = _first_invalid(column)
        raise InputError(f"{row_name(row)}: {name} is not UTF-8 text") from None
    blank = pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(texts)), 0)
    if (row := pc.index(blank, True).as_py()) >= 0:
        raise InputError(f"{row_name(row)}: {name} is empty")
    return texts


def number_or_text(
    values: pa.ChunkedArray, row_name: Callable[[int], str], name: str
) -> tuple[pa.ChunkedArray, str | None]:
    """A column of a CSV as int64 if that loses nothing, else as it is.

    Returns:
        The column, and a line that says why it is text; None if it is numbers.
    """
    trimmed = pc.utf8_trim_whitespace(values)
    row = pc.index(pc.match_substring_regex(trimmed, WHOLE_NUMBER), False).as_py()
    if row < 0:
        try:
            return trimmed.cast(pa.int64()), None
        except pa.ArrowInvalid:
            row = next(i for i, text in enumerate(trimmed.to_pylist()) if text and not _fits(text))
    value = values[row].as_py()
    return values, f"{name}: read as texts, because {row_name(row)} has {value!r}"


def _fits(number: str) -> bool:
    return -(2**63) <= int(number) < 2**63


def _combined(texts: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Texts as one array of large strings."""
    large = texts.cast(pa.large_string())
    return pa.concat_arrays(large.chunks) if isinstance(large, pa.ChunkedArray) else large


def _clean(texts: pa.Array) -> pa.Array:
    """The texts in the form in which labels are compared."""
    if pc.all(pc.string_is_ascii(texts)).as_py():
        return pc.utf8_trim_whitespace(texts)
    return pa.array((clean_label(text.as_py()) for text in texts), pa.large_string())


def _check_different(forms: pa.Array, texts: pa.Array, row_name: Callable[[int], str]) -> None:
    """Refuse two texts of one form."""
    codes = forms.dictionary_encode()
    if len(codes.dictionary) == len(texts):
        return
    # Codes count up with each new text, so that the first repetition breaks the sequence.
    numbers = codes.indices.to_numpy()
    row = int((numbers != np.arange(len(numbers))).argmax())
    first = int(numbers[row])
    value, earlier = texts[row].as_py(), texts[first].as_py()
    if value == earlier:
        raise InputError(f"{row_name(row)}: id {value!r} is also that of {row_name(first)}")
    raise InputError(
        f"{row_name(row)}: id {value!r} differs from {earlier!r} of {row_name(first)} in white"
        " space or Unicode form only: write both the same way, or make them different"
    )


def _first_invalid(column: pa.ChunkedArray) -> int:
    """The first row whose bytes are not UTF-8; there is one."""
    for row, value in enumerate(column.cast(pa.large_binary())):
        try:
            value.as_py().decode()
        except UnicodeDecodeError:
            return row
    raise IndexError(column)
