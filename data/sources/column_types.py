"""The type that columns of several files can have without changing a value.

Arrow's views are read as the layouts that offsets describe: some of its kernels lack views, and its
cast of a list view gives an array that is not valid (pyarrow 25).
"""

import uuid

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from remine.data.sources.array import is_list_type, is_vector_type

TEXT = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
BINARY = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)


def value_type(column_type: pa.DataType) -> pa.DataType:
    """The type that `plain_values` gives a column of this type."""
    if pa.types.is_dictionary(column_type):
        return value_type(column_type.value_type)
    if isinstance(column_type, pa.BaseExtensionType):
        return pa.string() if _is_uuid(column_type) else value_type(column_type.storage_type)
    if pa.types.is_string_view(column_type):
        return pa.large_string()
    if pa.types.is_binary_view(column_type):
        return pa.large_binary()
    if pa.types.is_list_view(column_type) or pa.types.is_large_list_view(column_type):
        return pa.large_list(column_type.value_type)
    return column_type


def plain_values(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column without dictionary, extension or view; UUIDs become their texts."""
    target = value_type(column.type)
    if target == column.type:
        return column
    if pa.types.is_dictionary(column.type):
        return plain_values(column.cast(column.type.value_type))
    if isinstance(column.type, pa.BaseExtensionType):
        storage = [chunk.storage for chunk in column.chunks]
        values = pa.chunked_array(storage, column.type.storage_type)
        return uuid_texts(values) if _is_uuid(column.type) else plain_values(values)
    if pa.types.is_large_list(target):
        return pa.chunked_array(map(_list_of_view, column.chunks), target)
    return column.cast(target)


def uuid_texts(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The texts of UUIDs of 16 bytes each."""
    values = column.to_pylist()
    texts = [None if value is None else str(uuid.UUID(bytes=value)) for value in values]
    return pa.chunked_array([pa.array(texts, pa.string())])


def _is_uuid(column_type: pa.DataType) -> bool:
    return getattr(column_type, "extension_name", "") == "arrow.uuid"


def _list_of_view(view: pa.Array) -> pa.Array:
    lengths = pc.fill_null(pc.list_value_length(view), 0).to_numpy()
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int64())
    mask = view.is_null() if view.null_count else None
    return pa.LargeListArray.from_arrays(offsets, view.flatten(), mask=mask)


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
    if all(map(is_list_type, pair)):
        return _common_list(first, second)
    for checks, common in ((TEXT, pa.large_string()), (BINARY, pa.large_binary())):
        if all(any(check(column_type) for check in checks) for column_type in pair):
            return common
    return _common_number(first, second)


def _common_list(first: pa.DataType, second: pa.DataType) -> pa.DataType | None:
    items = (first.value_type, second.value_type)
    if is_vector_type(first) and is_vector_type(second) and items[0] != items[1]:
        # All become float32 in the end; the way there must not round.
        return pa.large_list(pa.float64())
    item = common_type(*items)
    return None if item is None else pa.large_list(item)


def _common_number(first: pa.DataType, second: pa.DataType) -> pa.DataType | None:
    pair = (first, second)
    if all(map(pa.types.is_integer, pair)):
        return pa.uint64() if all(map(pa.types.is_unsigned_integer, pair)) else pa.int64()
    if all(map(pa.types.is_decimal, pair)) and first.scale == second.scale:
        precision = max(first.precision, second.precision)
        make = pa.decimal128 if precision <= 38 else pa.decimal256
        return make(precision, first.scale)
    return None
