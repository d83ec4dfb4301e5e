"""Other names of the validation split, and names of files that look like splits."""

import re
from collections.abc import Iterable
from pathlib import Path

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
    return column, val_note(name, count)


def val_note(name: str, count: int) -> str:
    """A line that says which split was taken as val."""
    return f"split: {name!r} is read as val ({count:,} items)"


def split_names(files: Iterable[Path], folder: Path) -> list[str]:
    """Names of splits in the paths of files, as in `train-00000.parquet` or `test/0.parquet`.

    Returns:
        The names in order if there are two or more, else none.
    """
    words = {
        re.split(r"[-_.]", part.lower())[0]
        for file in files
        for part in file.relative_to(folder).parts
    }
    names = words & {"train", "test", *VAL_NAMES}
    return sorted(names) if len(names) > 1 else []
