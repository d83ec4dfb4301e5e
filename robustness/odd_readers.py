"""What pandas, DuckDB and remine read of a table: rows of Python values, row by row."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa

from remine.data import schemas
from remine.data.items.inputs import Inputs
from remine.data.sources.vectors import read_vectors
from remine.flows.config.settings import load_config
from remine.flows.jobs.console import Console
from remine.flows.stages.prepare import prepare
from robustness.odd_files import OddTable

Row = dict[str, Any]
READ = ("id", "label", "split", "group", "image", "text", "vector")
"""The columns that are compared."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a reader of remine read.

    Attributes:
        rows: The items in its order.
        lines: What it said.
    """

    rows: list[Row]
    lines: list[str]


def read_by_run(table: OddTable, store: Path) -> Reading:
    """The items that `remine run` stores."""
    lines: list[str] = []
    settings = {"run": {"store": str(store)}, "data": {"source": str(table.source)}}
    config = load_config(settings)
    opened, items, inputs = prepare(config, Console(quiet=True, on_line=lines.append))
    rows = schemas.read(opened.paths(items)[:-1], schema="items/1").to_pylist()
    if table.content == "vector":
        vectors = Inputs(opened.paths(inputs))
        for row, value in zip(rows, vectors[np.arange(len(vectors))], strict=True):
            row["vector"] = value
    return Reading(rows=rows, lines=lines)


def read_by_mine(table: OddTable) -> Reading:
    """The items that `remine mine` reads."""
    file = read_vectors(table.source)
    labels = file.labels or [None] * len(file)
    columns = zip(file.ids.tolist(), labels, file.vectors, strict=True)
    rows = [{"id": i, "label": label, "vector": vector} for i, label, vector in columns]
    return Reading(rows=rows, lines=file.notes)


def read_by_pandas(table: OddTable) -> list[Row]:
    """The rows of all files in order, by pandas."""
    frames = [
        pd.read_csv(file, dtype=str, keep_default_na=False, na_values=[""], encoding="utf-8-sig")
        if file.suffix.lower() == ".csv"
        else pd.read_parquet(file, dtype_backend="pyarrow", partitioning=None)
        for file in table.files
    ]
    rows = []
    for file, frame in zip(table.files, frames, strict=True):
        names = [name for name in frame.columns if name in READ]
        columns = [pa.array(frame[name]).to_pylist() if len(frame) else [] for name in names]
        values = zip(*columns, strict=True)
        rows += [_row(table, file, names, row) for row in values]
    return rows


def read_by_duckdb(table: OddTable) -> list[Row]:
    """The rows of all files in order, by DuckDB."""
    rows = []
    with duckdb.connect() as connection:
        for file in table.files:
            relation = (
                connection.read_csv(
                    str(file), all_varchar=True, header=True, sep=",", quotechar='"',
                    escapechar='"',
                )
                if file.suffix.lower() == ".csv"
                else connection.read_parquet(str(file), hive_partitioning=False)
            )  # fmt: skip
            names = [name for name in relation.columns if name in READ]
            quoted = ", ".join(f'"{name}"' for name in names)
            values = relation.project(quoted).fetchall()
            rows += [_row(table, file, names, row) for row in values]
    return rows


def _row(table: OddTable, file: Path, names: Sequence[str], values: Sequence[Any]) -> Row:
    """A row with the columns in the names of the folders above its file."""
    row = dict(zip(names, values, strict=True))
    if isinstance(row.get("id"), str):  # of CSV, where all values are texts
        row["id"] = int(row["id"])
    if not table.folder_columns:
        return row
    parts = file.relative_to(table.source).parent.parts
    return row | {key: value for key, _, value in (part.partition("=") for part in parts)}
