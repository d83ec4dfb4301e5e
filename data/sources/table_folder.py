"""Folders of Parquet files: which files are read, which are passed over, and names of folders."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from remine.data.errors import InputError
from remine.data.sources.picture_formats import is_picture_ending

PARQUET_SUFFIXES = frozenset((".parquet", ".parq", ".pq"))
"""Endings of Parquet files, in any case."""

HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
"""The folder name that Hive, Spark and Arrow write for a missing value."""


def is_parquet(path: Path) -> bool:
    """Whether the name of a file is that of a Parquet file."""
    return path.suffix.lower() in PARQUET_SUFFIXES


def is_picture(path: Path) -> bool:
    """Whether the name of a file is that of a picture."""
    return is_picture_ending(path.suffix.lower())


def is_table_folder(folder: Path) -> bool:
    """Whether a folder is read as a table: Parquet files in it, or below it and no pictures.

    Raises:
        InputError: There are files, but neither Parquet files nor pictures.
    """
    if any(_is_table_file(path) and path.is_file() for path in folder.iterdir()):
        return True
    paths = []
    for path in list_files(folder, include_hidden=True):
        if is_picture(path) and not _is_hidden(path):
            return False
        paths.append(path)
    if paths and not any(map(_is_table_file, paths)):
        raise InputError(
            f"data.source: {folder} holds neither Parquet files nor pictures, but"
            f" {count_endings(paths)}: name one Parquet, CSV or .npy file, a folder of Parquet"
            " files, or a folder of pictures by class"
        )
    return bool(paths)


def parquet_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """The Parquet files in and below a folder, in order of their paths, and all other files.

    Raises:
        InputError: The folder is a Delta table, whose files also hold rows that were deleted.
    """
    if (folder / "_delta_log").is_dir():
        raise InputError(
            f"{folder} is a Delta table, whose files also hold deleted rows: export its present"
            " rows to Parquet, for example with DuckDB's delta_scan"
        )
    files: list[Path] = []
    other_files: list[Path] = []
    for path in list_files(folder, include_hidden=True):
        (files if _is_table_file(path) else other_files).append(path)
    return sorted(files), other_files


def list_files(folder: Path, *, include_hidden: bool = False) -> Iterator[Path]:
    """The files in and below a folder; links are followed, a folder is visited once.

    include_hidden: also give hidden files, and hidden folders (not the files in them). Their names
        begin with a dot or an underscore, as those that Spark and Delta write for themselves.
    """
    visited_paths = {os.path.realpath(folder)}
    for root, folder_names, file_names in os.walk(folder, followlinks=True):
        parent = Path(root)
        names = list(file_names)
        remaining = []
        for name in sorted(folder_names):
            place = os.path.realpath(parent / name)
            if _is_hidden(Path(name)):
                names.append(name)
            elif place not in visited_paths:
                visited_paths.add(place)
                remaining.append(name)
        folder_names[:] = remaining
        yield from (
            parent / name for name in sorted(names) if include_hidden or not _is_hidden(Path(name))
        )


def count_endings(paths: list[Path]) -> str:
    """How many files there are of each ending, as in "3 .csv, 1 without ending"."""
    counts = Counter(map(_ending, paths))
    pairs = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{count:,} {ending}" for ending, count in pairs)


def folder_values(file: Path, folder: Path) -> dict[str, str | None]:
    """Columns in the names of the folders between `folder` and `file`, as in `label=cat/`.

    The values stay text, so that `label=00` is not 0.
    """
    pairs = (name.partition("=") for name in file.relative_to(folder).parent.parts)
    return {
        unquote(key): None if value == HIVE_NULL else unquote(value)
        for key, equals, value in pairs
        if key and equals
    }


def _ending(path: Path) -> str:
    if _is_hidden(path):
        return "hidden"
    return path.suffix.lower() or "without ending"


def _is_hidden(path: Path) -> bool:
    return path.name.startswith((".", "_"))


def _is_table_file(path: Path) -> bool:
    return is_parquet(path) and not _is_hidden(path)
