"""Ids in files of queries: from the user's ids to the numbers of items."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from remine.data.errors import InputError
from remine.data.items.catalogue import Catalogue
from remine.data.sources.csv_table import integers
from remine.data.sources.keys import holds_text, id_texts
from remine.data.types import Int64

RowName = Callable[[int], str]
"""Names a row in messages."""


def numbers_of(
    catalogue: Catalogue, ids: pa.ChunkedArray, row_name: RowName, *, is_csv: bool = False
) -> Int64:
    """The numbers (q,) of the items with these ids.

    Args:
        catalogue: The items.
        ids: Whole numbers or texts, as the items' ids are, none missing.
        row_name: Names a row in messages.
        is_csv: Whether numbers are written as texts.

    Raises:
        InputError: An id is of another kind than the items', or no item has it.
    """
    if catalogue.keys is not None:
        if not holds_text(ids.type):
            raise InputError(f"{row_name(0)}: id is {ids.type}; the ids of these items are texts")
        values: pa.Array | Int64 = id_texts(ids, row_name)
    else:
        values = _integers(ids, row_name, is_csv=is_csv)
    rows = catalogue.rows_of_ids(values)
    if (unknown := rows < 0).any():
        row = int(unknown.argmax())
        value = values[row].as_py() if isinstance(values, pa.Array) else int(values[row])
        raise InputError(f"{row_name(row)}: no item {value!r} in the index")
    numbers: Int64 = catalogue.ids[rows]
    return numbers


def _integers(ids: pa.ChunkedArray, row_name: RowName, *, is_csv: bool) -> Int64:
    if is_csv:
        ids = integers(ids, row_name, "id")
    elif holds_text(ids.type):
        raise InputError(f"{row_name(0)}: id is {ids.type}; the ids of these items are integers")
    values = np.asarray(ids)
    if (too_large := values > np.iinfo(np.int64).max).any():
        row = int(too_large.argmax())
        raise InputError(f"{row_name(row)}: id {values[row]} is not between 0 and 2^63 - 1")
    return values.astype(np.int64)
