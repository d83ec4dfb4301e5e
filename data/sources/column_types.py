"""The type that columns of several files can have without changing a value."""

import pyarrow as pa

from remine.data.sources.array import is_vector_type

TEXT = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
BINARY = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)


def value_type(column_type: pa.DataType) -> pa.DataType:
    """The type of the values of a column that may be encoded as a dictionary."""
    if pa.types.is_dictionary(column_type):
        return column_type.value_type
    return column_type


def common_type(first: pa.DataType, second: pa.DataType) -> pa.DataType | None:
    """A type that holds the values of both as they are; None if there is none.

    Numbers and text have no common type ("00" is not 0), nor have integers and floats (1.0 is
    another text than 1), nor floats of several widths (0.1 has other digits).
    """
    if first == second or pa.types.is_null(second):
        return first
    if pa.types.is_null(first):
        return second
    pair = (first, second)
    if all(map(pa.types.is_integer, pair)):
        return pa.uint64() if all(map(pa.types.is_unsigned_integer, pair)) else pa.int64()
    for checks, common in ((TEXT, pa.large_string()), (BINARY, pa.large_binary())):
        if all(any(check(column_type) for check in checks) for column_type in pair):
            return common
    if all(map(is_vector_type, pair)):
        # All become float32 in the end; the way there must not round.
        number = first.value_type
        return pa.large_list(number if number == second.value_type else pa.float64())
    return None
