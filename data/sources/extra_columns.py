"""The user's other columns, which are kept with the items as text, numbers or booleans.

Integers become int64, floats float64. Dates, times, decimals and UUIDs are kept as their texts,
since JSON and CSV have no others. A float that is not a number is a missing value. In CSV, where
every field is text, a column holds booleans if all its values are true or false, numbers if all are
written as numbers with at most 15 digits and no zeros in front, and else texts.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from remine.data.errors import InputError
from remine.data.sources.column_types import BINARY, plain_values, value_type

ITEM_COLUMNS = "id key label label_code split group content_hash image path text vector"
RESULT_COLUMNS = "query rank distance other_id suspected_label reason score judge"
RESERVED = frozenset(f"{ITEM_COLUMNS} {RESULT_COLUMNS}".split())
"""Names of columns of items and of results."""

WHOLE = r"^(0|-?[1-9][0-9]{0,14})$"
DECIMAL = r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]{1,2})?$"
MAX_DIGITS = 15
"""Digits of a number that float64 gives back as they were."""


def check_extra(
    names: Sequence[str], columns: Mapping[str, str], schema: pa.Schema, place: str
) -> None:
    """Refuse columns that cannot be kept.

    Args:
        names: The columns named in data.extra_columns.
        columns: The user's column names by ours, of those that are read anyway.
        schema: Of the table.
        place: The table, for messages.

    Raises:
        InputError: A column does not exist, is read as something else, has a name that results
            use, or a type that is no text, number or boolean.
    """
    roles = {theirs: ours for ours, theirs in columns.items()}
    for name in names:
        problem = ""
        if name not in schema.names:
            problem = f"which {place} does not have; it has {', '.join(schema.names)}"
        elif names.count(name) > 1:
            problem = "twice"
        elif name in roles:
            problem = f"which is read as {roles[name]} already: leave it out"
        elif name in RESERVED or name.startswith("other_"):
            problem = "a name that results use for something else: rename the column"
        elif is_nested(schema.field(name).type):
            kind = schema.field(name).type
            problem = f"which is {kind}; only texts, numbers and booleans are kept: leave it out"
        if problem:
            raise InputError(f"data.extra_columns names {name!r}, {problem}")


def is_nested(column_type: pa.DataType) -> bool:
    """Whether values of this type are neither text nor one number or boolean."""
    plain_type = value_type(column_type)
    is_binary = any(check(plain_type) for check in BINARY)
    return pa.types.is_nested(plain_type) or is_binary or pa.types.is_fixed_size_binary(plain_type)


def unread_columns(
    names: Iterable[str], columns: Mapping[str, str], extra: Sequence[str]
) -> list[str]:
    """The columns of a table that are not read."""
    read_names = {*columns.values(), *extra}
    return [name for name in names if name not in read_names]


def extra_values(
    column: pa.ChunkedArray, name: str, row_name: Callable[[int], str], *, is_csv: bool
) -> pa.ChunkedArray:
    """A column as string, int64, float64 or bool.

    Raises:
        InputError: A value is not UTF-8, or an integer beyond 2^63.
    """
    values = plain_values(column)
    if is_csv:
        return _parsed(values)
    target = _target(values.type)
    try:
        result = values.cast(target)
        result.validate(full=True)
    except (pa.ArrowException, UnicodeDecodeError):
        row = next(row for row, value in enumerate(values) if not _is_castable(value, target))
        raise InputError(
            f"{row_name(row)}: {name} is not UTF-8, or beyond 2^63: mend it, or leave the column"
            " out of data.extra_columns"
        ) from None
    return _without_nan(result) if pa.types.is_floating(target) else result


def _target(column_type: pa.DataType) -> pa.DataType:
    if pa.types.is_boolean(column_type):
        return pa.bool_()
    if pa.types.is_integer(column_type):
        return pa.int64()
    return pa.float64() if pa.types.is_floating(column_type) else pa.string()


def _is_castable(value: pa.Scalar, target: pa.DataType) -> bool:
    try:
        pa.array([value.as_py()]).cast(target)
    except (pa.ArrowException, UnicodeError, OverflowError):
        return False
    return True


def _without_nan(values: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.if_else(pc.is_nan(values), pa.scalar(None, pa.float64()), values)


def _parsed(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """The values of a CSV column."""
    if texts.null_count == len(texts):
        return texts
    if _all(pc.is_in(pc.utf8_lower(texts), pa.array(["true", "false"])), texts):
        return pc.equal(pc.utf8_lower(texts), "true")
    if _all(pc.match_substring_regex(texts, WHOLE), texts):
        return texts.cast(pa.int64())
    digits = pc.utf8_length(pc.replace_substring_regex(texts, r"[eE].*|[^0-9]", ""))
    is_decimal = pc.and_(
        pc.match_substring_regex(texts, DECIMAL), pc.less_equal(digits, MAX_DIGITS)
    )
    return texts.cast(pa.float64()) if _all(is_decimal, texts) else texts


def _all(matches: pa.ChunkedArray, texts: pa.ChunkedArray) -> bool:
    """Whether all values that are not missing match."""
    return bool(pc.all(pc.or_kleene(matches, pc.is_null(texts)), skip_nulls=False).as_py())
