"""Valid but odd tables: `run` and `mine` read what pandas and DuckDB read, refuse it, or tell.

    TORTURE_TABLES=2000 TORTURE_SEED=1 python -m robustness.odd_tables

A case is a Parquet file, a folder of shards or a CSV file. What `remine run` stores and what
`remine mine` reads is compared row by row with pandas and DuckDB. A refusal must be one line; a
label that was cleaned or merged, or a split read under another name, must have been told.
"""

import random
import shutil
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from remine.data.errors import InputError
from robustness.kit import env_number, print_table, seed_of, workshop
from robustness.odd_compare import mine_difference, run_difference
from robustness.odd_files import OddTable, write_csv, write_parquet
from robustness.odd_readers import (
    Reading,
    Row,
    read_by_duckdb,
    read_by_mine,
    read_by_pandas,
    read_by_run,
)

REFERENCES: dict[str, Callable[[OddTable], list[Row]]] = {
    "pandas": read_by_pandas,
    "DuckDB": read_by_duckdb,
}
LEAST_TAKEN = 0.5
"""Share of the tables that must be read, not refused: a reader that refuses all differs in none."""


def main() -> None:
    """Read all cases and print the outcomes; a difference ends the run."""
    seed = seed_of("odd_tables")
    count = env_number("TORTURE_TABLES", 2000)
    outcomes: dict[str, Counter[str]] = {}
    with workshop() as folder:
        for case in range(count):
            try:
                _add_case(outcomes, folder / "case", random.Random(seed * 1_000_003 + case))  # noqa: S311 - no secret
            except Exception as error:
                raise AssertionError(f"case {case}: {error}") from error
    rows = [(name, *(counts[word] for word in COLUMNS)) for name, counts in outcomes.items()]
    print_table("odd tables", ("reader, table", *COLUMNS), rows)
    for name, counts in outcomes.items():
        if counts["taken"] < LEAST_TAKEN * (counts["taken"] + counts["refused"]):
            raise AssertionError(f"{name}: most tables were refused: {counts}")
    print(f"{count} tables: 0 differences that were not told or refused", flush=True)


COLUMNS = ("taken", "refused", "pandas", "DuckDB")
"""Outcomes, and by how many references the tables that were taken were compared."""


def _add_case(outcomes: dict[str, Counter[str]], folder: Path, draw: random.Random) -> None:
    """Write a table, read it by all readers, and count the outcomes."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    table = (write_csv if draw.random() < 0.25 else write_parquet)(folder, draw)
    kind = "CSV" if table.source.suffix.lower() == ".csv" else "Parquet"
    readers: dict[str, tuple[Callable[[], Reading], Callable[[Reading, Sequence[Row]], str]]] = {
        f"run, {kind}": (lambda: read_by_run(table, folder / "store"), run_difference)
    }
    if table.content == "vector":
        readers[f"mine, {kind}"] = (lambda: read_by_mine(table), mine_difference)
    for name, (read, difference) in readers.items():
        counts = outcomes.setdefault(name, Counter())
        try:
            reading = read()
        except InputError as error:
            if "\n" in str(error) or not str(error):
                raise AssertionError(f"{table}: the refusal is no line: {error}") from None
            counts["refused"] += 1
            counts[f"refused: {error}"] += 1
            continue
        except Exception as error:
            raise AssertionError(f"{name}, {table}: {error!r}") from error
        counts["taken"] += 1
        for reference, rows in _references(table).items():
            counts[reference] += 1
            if text := difference(reading, rows):
                raise AssertionError(f"{name}, {reference}: {text}; {table}")


def _references(table: OddTable) -> dict[str, list[Row]]:
    """What the other readers read; one of them may not know a type."""
    references = {}
    for name, read in REFERENCES.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                references[name] = read(table)
            except Exception as error:  # noqa: BLE001 - each library has its own
                reasons = error
    if not references:
        raise AssertionError(f"neither pandas nor DuckDB reads {table}: {reasons}")
    return references


if __name__ == "__main__":
    main()
