"""Other names of the validation split."""

import pyarrow as pa
import pyarrow.compute as pc

VAL_NAMES = ("val", "validation", "valid", "dev")
"""Names of the split that remine calls val; the first is remine's own."""


def canonical_splits(column: pa.ChunkedArray) -> tuple[pa.ChunkedArray, str]:
    """A column of split names with val for another name of the validation split.

    If it has two of these names they may be two splits, and both are left as they are.

    Returns:
        The column, and a line for the user; an empty one if nothing changed.
    """
    if not any(check(column.type) for check in (pa.types.is_string, pa.types.is_large_string)):
        return column, ""
    try:
        names = set(pc.unique(column).to_pylist()) & set(VAL_NAMES)
    except UnicodeDecodeError:  # refused where the names are read
        return column, ""
    if len(names) != 1 or names == {"val"}:
        return column, ""
    name = names.pop()
    is_val = pc.equal(column, name)
    count = pc.sum(is_val).as_py()
    column = pc.if_else(is_val, pa.scalar("val", column.type), column)
    return column, f"split: {name!r} is read as val ({count:,} items)"
