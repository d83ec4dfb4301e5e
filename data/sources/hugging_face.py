"""What Parquet files of Hugging Face data sets say beside their columns."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from remine.data.errors import InputError


def class_names(schema: pa.Schema, columns: Sequence[str], file: Path) -> dict[str, list[str]]:
    """The names of the integers in columns of the type ClassLabel.

    Args:
        schema: The schema of the file, with its metadata.
        columns: The columns that are looked up.
        file: For messages.

    Raises:
        InputError: Two integers have one name.
    """
    features = _features(schema)
    names_of = {}
    for column in columns:
        feature = features.get(column)
        if not isinstance(feature, dict) or feature.get("_type") != "ClassLabel":
            continue
        names = feature.get("names")
        if column not in schema.names or not pa.types.is_integer(schema.field(column).type):
            continue
        if not isinstance(names, list):
            continue
        names_of[column] = [str(name) for name in names]
        if len({name.strip() for name in names_of[column]}) < len(names):
            raise InputError(
                f"{file}: two classes of column {column!r} have one name in the Hugging Face"
                " metadata: rename one"
            )
    return names_of


def _features(schema: pa.Schema) -> dict[str, Any]:
    """The features by column that `datasets` writes into the metadata of a schema."""
    try:
        info = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = info["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    return features if isinstance(features, dict) else {}


def decode_classes(
    column: pa.ChunkedArray, names: Sequence[str], row_prefix: str, name: str
) -> pa.ChunkedArray:
    """The names of class numbers; null stays null.

    Raises:
        InputError: A number has no name, as -1 of a data set whose labels are withheld.
    """
    is_outside = pc.or_(pc.less(column, 0), pc.greater_equal(column, len(names)))
    if pc.any(is_outside).as_py():
        row = pc.index(is_outside, True).as_py()
        raise InputError(
            f"{row_prefix}{row}: {name} is {column[row].as_py()}, which has no name in the"
            f" Hugging Face metadata (0 to {len(names) - 1} have): leave such rows out"
        )
    texts = pa.array(names, pa.string())
    return pa.chunked_array([texts.take(chunk) for chunk in column.chunks], pa.string())


def has_bytes(fragment: ds.Fragment, column: str) -> bool | None:
    """Whether all pictures of a struct column have bytes, by the file's statistics.

    Returns:
        True if all have, False if none has, None if some have or the statistics do not say.
    """
    metadata = fragment.metadata
    missing = 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        leaves = [group.column(index) for index in range(group.num_columns)]
        leaf = next((leaf for leaf in leaves if leaf.path_in_schema == f"{column}.bytes"), None)
        if leaf is None or not leaf.is_stats_set or leaf.statistics.null_count is None:
            return None
        missing += leaf.statistics.null_count
    if 0 < missing < metadata.num_rows:
        return None
    return missing == 0


def picture_bytes(
    values: pa.ChunkedArray, root: Path, row_name: Callable[[int], str]
) -> pa.ChunkedArray:
    """The bytes of pictures; where a row has none they are read from the file at its path.

    Args:
        values: Structs with a field `bytes` and perhaps one `path`.
        root: The folder that paths start at.
        row_name: Names a row of `values` in messages.

    Raises:
        InputError: A file does not exist or cannot be read.
    """
    contents = pc.struct_field(values, "bytes")
    if not contents.null_count or values.type.get_field_index("path") < 0:
        return contents
    pictures = contents.to_pylist()
    for row, path in enumerate(pc.struct_field(values, "path").to_pylist()):
        if pictures[row] is None and path is not None:
            pictures[row] = _read_picture(root / path, row_name(row))
    return pa.chunked_array([pa.array(pictures, pa.large_binary())])


def _read_picture(path: Path, place: str) -> bytes:
    try:
        if path.exists() and not path.is_file():  # reading a pipe would block
            raise InputError(f"{place}: {path} is not a file")
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{place}: {path} does not exist") from None
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{place}: {path} cannot be read ({error})") from None
