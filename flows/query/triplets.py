"""Mined triplets through DuckDB: filtered, sorted and paged without loading them."""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb

from remine.data import schemas
from remine.data.errors import InputError
from remine.data.items.catalogue import Catalogue, read_catalogue
from remine.data.store.records import Artifact, Version
from remine.data.store.store import Store
from remine.data.types import KINDS

MARGIN = "(d_an - d_ap)"
MEASURES = {"d_ap": "d_ap", "d_an": "d_an", "margin": MARGIN, "negative_rank": "negative_rank"}
SORTS = ("anchor", *MEASURES)
COLUMNS = "anchor_id, positive_id, negative_id, d_ap, d_an, kind, negative_rank"
MAX_LIMIT = 10_000
OFFLINE = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}


@dataclass(frozen=True, kw_only=True)
class Range:
    """From `low` to `high`, both included; None for no bound."""

    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class TripletQuery:
    """Which triplets of a round, in what order.

    kinds: of these; empty for all. label, negative_label: of the anchor, of the negative. item: in
    any place; anchor: as the anchor. d_ap, d_an, margin, negative_rank: within a range. sort:
    `anchor` is the order in which they lie.
    """

    round: int = -1
    kinds: tuple[str, ...] = ()
    label: str | None = None
    negative_label: str | None = None
    item: int | None = None
    anchor: int | None = None
    d_ap: Range = field(default_factory=Range)
    d_an: Range = field(default_factory=Range)
    margin: Range = field(default_factory=Range)
    negative_rank: Range = field(default_factory=Range)
    sort: str = "anchor"
    descending: bool = False
    offset: int = 0
    limit: int = 50

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.kinds) - set(KINDS)):
            raise InputError(f"no kind {unknown[0]!r}; known: {', '.join(KINDS)}")
        if self.sort not in SORTS:
            raise InputError(f"no sorting by {self.sort!r}; known: {', '.join(SORTS)}")
        if not 0 <= self.limit <= MAX_LIMIT:
            raise InputError(f"{self.limit} rows; it must be 0 to {MAX_LIMIT}")
        if self.offset < 0:
            raise InputError(f"offset is {self.offset}; it must be 0 or more")


class Mined:
    """The triplets of a version's rounds and the labels of its items, as DuckDB sees them."""

    def __init__(self, store: Store, version: Version, *, threads: int = 0) -> None:
        """Name the files; each is verified before its round is first read."""
        self.store, self.version = store, version
        self.artifacts = mined_rounds(version)
        self._items = version.artifacts["items"]
        self._threads = threads or os.cpu_count() or 1
        self._seen: set[int] = set()

    def round(self, number: int) -> int:
        """The number of a round with triplets; -1 for the last one."""
        return chosen_round(self.version, number)

    def relation(self, number: int) -> str:
        """What to select from for a round."""
        number = self.round(number)
        if number not in self._seen:
            paths = self.store.paths(self.artifacts[number])
            for path in paths:
                schemas.check(path, schema="triplets/1")
            files = ", ".join(f"'{quoted(path)}'" for path in paths)
            self._database.execute(
                f"CREATE OR REPLACE VIEW round_{number} AS"
                f" SELECT * FROM read_parquet([{files}], hive_partitioning = false)"
            )
            self._seen.add(number)
        return f"round_{number}"

    def items(self) -> Catalogue:
        """Who is who."""
        return self._catalogue

    @cached_property
    def _catalogue(self) -> Catalogue:
        return read_catalogue(self.store, self._items)

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """All rows of a query as dictionaries."""
        cursor = self.cursor()
        cursor.execute(sql, list(values))
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection of one's own to the same tables, with the items' labels at hand."""
        return self._labelled.cursor()

    def page(self, query: TripletQuery) -> list[dict[str, Any]]:
        """The rows that `query` asks for, with the labels of the three items."""
        where, values = self._where(query)
        order = "" if query.sort == "anchor" else self._order(query)
        if query.sort == "anchor" and query.descending:
            raise InputError("sort by a measure to see the largest first")
        inner = (
            f"SELECT {COLUMNS}, row_number() OVER () AS place FROM"
            f" (SELECT {COLUMNS} FROM {self.relation(query.round)} {where} {order}"
            f" LIMIT {query.limit} OFFSET {query.offset})"
        )
        return self.rows(f"SELECT * EXCLUDE place FROM ({_labelled(inner)}) ORDER BY place", values)

    def count(self, query: TripletQuery) -> int:
        """How many rows there are, whatever the page."""
        where, values = self._where(query)
        sql = f"SELECT count(*) AS n FROM {self.relation(query.round)} {where}"
        return int(self.rows(sql, values)[0]["n"])

    def selection(self, query: TripletQuery) -> tuple[str, list[Any]]:
        """The SQL of all rows that fit `query`, whatever the page, in the order they lie in."""
        where, values = self._where(query)
        return f"SELECT * FROM {self.relation(query.round)} {where}", values

    @cached_property
    def _database(self) -> duckdb.DuckDBPyConnection:
        settings: dict[str, Any] = {
            **OFFLINE,
            "threads": self._threads,
            # Not the store's: a cycle that starts empties it.
            "temp_directory": str(Path(tempfile.gettempdir()) / f"remine-{os.getpid()}"),
        }
        return duckdb.connect(":memory:", config=settings)

    @cached_property
    def _labelled(self) -> duckdb.DuckDBPyConnection:
        """The database with its tables of items and label names."""
        *shards, _ = self.store.paths(self._items)
        files = ", ".join(f"'{quoted(path)}'" for path in shards)
        self._database.execute(
            f"CREATE TABLE items AS SELECT id, label_code FROM read_parquet([{files}])"
        )
        self._database.execute(
            "CREATE TABLE labels AS SELECT DISTINCT label_code, label"
            f" FROM read_parquet([{files}]) ORDER BY label_code"
        )
        return self._database

    def _where(self, query: TripletQuery) -> tuple[str, list[Any]]:
        tests: list[str] = []
        values: list[Any] = []
        if query.kinds:
            tests.append(f"kind IN ({', '.join('?' * len(query.kinds))})")
            values += query.kinds
        for place, label in (("anchor_id", query.label), ("negative_id", query.negative_label)):
            if label is not None:
                tests.append(
                    f"{place} IN (SELECT id FROM items JOIN labels USING (label_code)"
                    " WHERE label = ?)"
                )
                values.append(label)
        if query.anchor is not None:
            tests.append("anchor_id = ?")
            values.append(query.anchor)
        if query.item is not None:
            tests.append("(anchor_id = ? OR positive_id = ? OR negative_id = ?)")
            values += [query.item] * 3
        for name, measure in MEASURES.items():
            within: Range = getattr(query, name)
            for bound, sign in ((within.low, ">="), (within.high, "<=")):
                if bound is not None:
                    tests.append(f"{measure} {sign} ?")
                    values.append(bound)
        return ("WHERE " + " AND ".join(tests) if tests else ""), values

    @staticmethod
    def _order(query: TripletQuery) -> str:
        # Ties in one order, so that pages do not overlap.
        way = "DESC" if query.descending else "ASC"
        return f"ORDER BY {MEASURES[query.sort]} {way}, anchor_id, positive_id, negative_id, kind"


def mined_rounds(version: Version) -> dict[int, Artifact]:
    """The triplets of a version by round."""
    return {
        int(name.split("=")[1]): artifact
        for name, artifact in sorted(version.artifacts.items())
        if artifact.kind == "triplets"
    }


def chosen_round(version: Version, number: int) -> int:
    """`number`, or the last round for -1; refuses a round without triplets."""
    mined = mined_rounds(version)
    if not mined and not version.rounds:
        raise InputError(
            f"version {version.number} has no triplets: it only took up what changed in the items;"
            " name one of a trained cycle (remine history) with --version"
        )
    if not mined:
        raise InputError(
            f"version {version.number} has no triplets: none were mined yet, or its rounds trained"
            " on PK batches"
        )
    if number < -1:
        raise InputError(f"--round is {number}; it must be a round, or -1 for the last one")
    chosen = max(mined) if number < 0 else number
    if chosen not in mined:
        raise InputError(f"round {chosen} has no triplets; known: {sorted(mined)}")
    return chosen


def quoted(path: Path) -> str:
    """A path inside single quotes in SQL."""
    return str(path).replace("'", "''")


def _labelled(inner: str) -> str:
    """The rows of `inner` with anchor_label, positive_label and negative_label."""
    names = ("anchor", "positive", "negative")
    labels = ", ".join(f"{name}_labels.label AS {name}_label" for name in names)
    joins = " ".join(
        f"LEFT JOIN items AS {name}s ON {name}s.id = t.{name}_id"
        f" LEFT JOIN labels AS {name}_labels ON {name}_labels.label_code = {name}s.label_code"
        for name in names
    )
    return f"SELECT t.*, {labels} FROM ({inner}) AS t {joins}"
