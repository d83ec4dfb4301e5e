"""Mined triplets through DuckDB: filtered, sorted and paged without loading them."""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from remine.data import schemas
from remine.data.errors import InputError
from remine.data.items.catalogue import Catalogue, read_catalogue
from remine.data.sources.labels import clean_label
from remine.data.store.records import Artifact, Version
from remine.data.store.store import Store
from remine.data.types import KINDS
from remine.flows.query.item_contents import ItemContents

MARGIN = "(d_an - d_ap)"
MEASURES = {"d_ap": "d_ap", "d_an": "d_an", "margin": MARGIN, "negative_rank": "negative_rank"}
SORTS = ("anchor", *MEASURES)
ROLES = ("anchor", "positive", "negative")
COLUMNS = "anchor_id, positive_id, negative_id, d_ap, d_an, kind, negative_rank"
MAX_LIMIT = 10_000
# DuckDB must never download extensions.
OFFLINE = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}


@dataclass(frozen=True, kw_only=True)
class Range:
    """From `low` to `high`, both included; None for no bound."""

    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class TripletQuery:
    """A filter, an order and a page of one round's triplets.

    Attributes:
        round: The round, or -1 for the last one with triplets.
        kinds: Kinds to keep; empty for all.
        label: Label of the anchor.
        negative_label: Label of the negative.
        item: The user's id of the anchor, the positive or the negative.
        anchor: The user's id of the anchor.
        d_ap: Range of the squared distance from anchor to positive.
        d_an: Range of the squared distance from anchor to negative.
        margin: Range of d_an - d_ap.
        negative_rank: Range of the negative's rank.
        sort: A measure, or `anchor` for the order in which the triplets are stored.
        descending: Sort from the largest.
        offset: Rows before the page.
        limit: Rows of the page, 0 to 10,000.

    Raises:
        InputError: If a kind, the order, the offset or the limit is invalid.
    """

    round: int = -1
    kinds: tuple[str, ...] = ()
    label: str | None = None
    negative_label: str | None = None
    item: int | str | None = None
    anchor: int | str | None = None
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


class TripletTable:
    """The triplets of a version's rounds and the labels of its items, as tables in DuckDB."""

    def __init__(self, store: Store, version: Version, *, threads: int = 0) -> None:
        """Open nothing yet: each round's files are verified before it is first read.

        Args:
            store: The store that holds the version.
            version: The version.
            threads: Threads of DuckDB; 0 for one per processor.
        """
        self.store, self.version = store, version
        self.artifacts = triplet_artifacts(version)
        self._items = version.artifacts["items"]
        self._threads = threads or os.cpu_count() or 1
        self._open_rounds: set[int] = set()

    def round(self, number: int) -> int:
        """The number of a round with triplets; -1 stands for the last one."""
        return resolve_round(self.version, number)

    def relation(self, number: int) -> str:
        """The name of the view that holds a round's triplets."""
        number = self.round(number)
        if number not in self._open_rounds:
            paths = self.store.paths(self.artifacts[number])
            for path in paths:
                schemas.check(path, schema="triplets/1")
            files = ", ".join(f"'{escape_quotes(path)}'" for path in paths)
            # hive_partitioning is off: a folder `round=1` must not become a column.
            self._database.execute(
                f"CREATE OR REPLACE VIEW round_{number} AS"
                f" SELECT * FROM read_parquet([{files}], hive_partitioning = false)"
            )
            self._open_rounds.add(number)
        return f"round_{number}"

    @cached_property
    def catalogue(self) -> Catalogue:
        """The version's items: ids, labels, splits."""
        return read_catalogue(self.store, self._items)

    @cached_property
    def contents(self) -> ItemContents:
        """The items' texts, or the paths of their pictures."""
        return ItemContents(self.store, self._items)

    def with_contents(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Rows of a page with the texts or paths of the three items, if they have any.

        And the columns of data.extra_columns.
        """
        for role in ROLES if self.contents.columns else ():
            places = self.catalogue.rows_of_ids([row[f"{role}_id"] for row in rows])
            for row, fields in zip(rows, self.contents.rows(places), strict=True):
                row |= {f"{role}_{name}": value for name, value in fields.items()}
        return rows

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """All rows of a SQL query as dictionaries."""
        cursor = self.cursor()
        cursor.execute(sql, list(values))
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A new connection to the rounds and to the tables `items` and `labels`."""
        return self._database_with_labels.cursor()

    def page(self, query: TripletQuery) -> list[dict[str, Any]]:
        """The rows of the page that `query` selects, with ids and labels of the three items."""
        condition, values = self._condition(query)
        order = "" if query.sort == "anchor" else self._order(query)
        if query.sort == "anchor" and query.descending:
            raise InputError("sort by a measure to see the largest first")
        # The page is cut before the labels are joined; `place` restores its order after the join.
        page = (
            f"SELECT {COLUMNS}, row_number() OVER () AS place FROM"
            f" (SELECT {COLUMNS} FROM {self.relation(query.round)} {condition} {order}"
            f" LIMIT {query.limit} OFFSET {query.offset})"
        )
        rows = self.rows(
            f"SELECT * EXCLUDE place FROM ({_with_labels(page)}) ORDER BY place", values
        )
        return self._with_user_ids(rows)

    def number_of(self, item: int | str) -> int:
        """The number of the item with this id of the user's; -1 if there is none.

        Raises:
            InputError: The id is of another kind than the items'.
        """
        row = int(self.catalogue.rows_of_ids([item])[0])
        return int(self.catalogue.ids[row]) if row >= 0 else -1

    def _with_user_ids(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Rows of triplets with the user's ids for the numbers of items."""
        if self.catalogue.keys is not None:
            for name in (f"{role}_id" for role in ROLES):
                numbers = pa.array([row[name] for row in rows], pa.int64())
                for row, item_id in zip(rows, self.catalogue.ids_of(numbers), strict=True):
                    row[name] = item_id.as_py()
        return rows

    def count(self, query: TripletQuery) -> int:
        """The number of rows that pass the filters, on all pages."""
        condition, values = self._condition(query)
        sql = f"SELECT count(*) AS n FROM {self.relation(query.round)} {condition}"
        return int(self.rows(sql, values)[0]["n"])

    def selection(self, query: TripletQuery) -> tuple[str, list[Any]]:
        """SQL and its values for all rows that pass the filters, in the order they are stored.

        Their ids are the numbers of items; `Catalogue.ids_of` gives the user's.
        """
        condition, values = self._condition(query)
        return f"SELECT * FROM {self.relation(query.round)} {condition}", values

    @cached_property
    def _database(self) -> duckdb.DuckDBPyConnection:
        settings: dict[str, Any] = {
            **OFFLINE,
            "threads": self._threads,
            # Not the store's temporary folder: a cycle that starts empties that.
            "temp_directory": str(Path(tempfile.gettempdir()) / f"remine-{os.getpid()}"),
        }
        return duckdb.connect(":memory:", config=settings)

    @cached_property
    def _database_with_labels(self) -> duckdb.DuckDBPyConnection:
        *shards, _ = self.store.paths(self._items)  # the last file holds the label names
        files = ", ".join(f"'{escape_quotes(path)}'" for path in shards)
        self._database.execute(
            f"CREATE TABLE items AS SELECT id, label_code FROM read_parquet([{files}])"
        )
        self._database.execute(
            "CREATE TABLE labels AS SELECT DISTINCT label_code, label"
            f" FROM read_parquet([{files}]) ORDER BY label_code"
        )
        return self._database

    def _condition(self, query: TripletQuery) -> tuple[str, list[Any]]:
        """The WHERE clause of the filters, or "", and the values of its placeholders."""
        tests: list[str] = []
        values: list[Any] = []
        if query.kinds:
            tests.append(f"kind IN ({', '.join('?' * len(query.kinds))})")
            values += query.kinds
        for column, label in (("anchor_id", query.label), ("negative_id", query.negative_label)):
            if label is not None:
                tests.append(
                    f"{column} IN (SELECT id FROM items JOIN labels USING (label_code)"
                    " WHERE label IN (?, ?))"
                )
                values += [label, clean_label(label)]
        if query.anchor is not None:
            tests.append("anchor_id = ?")
            values.append(self.number_of(query.anchor))
        if query.item is not None:
            tests.append("(anchor_id = ? OR positive_id = ? OR negative_id = ?)")
            values += [self.number_of(query.item)] * 3
        for name, measure in MEASURES.items():
            bounds: Range = getattr(query, name)
            for bound, sign in ((bounds.low, ">="), (bounds.high, "<=")):
                if bound is not None:
                    tests.append(f"{measure} {sign} ?")
                    values.append(bound)
        return ("WHERE " + " AND ".join(tests) if tests else ""), values

    @staticmethod
    def _order(query: TripletQuery) -> str:
        # Ties are broken by the ids, so that pages do not overlap.
        direction = "DESC" if query.descending else "ASC"
        return (
            f"ORDER BY {MEASURES[query.sort]} {direction},"
            " anchor_id, positive_id, negative_id, kind"
        )


def triplet_artifacts(version: Version) -> dict[int, Artifact]:
    """The triplet artifacts of a version by round."""
    return {
        int(name.split("=")[1]): artifact
        for name, artifact in sorted(version.artifacts.items())
        if artifact.kind == "triplets"
    }


def resolve_round(version: Version, number: int) -> int:
    """`number`, or the last round with triplets for -1.

    Raises:
        InputError: If the round has no triplets.
    """
    artifacts = triplet_artifacts(version)
    if not artifacts and not version.rounds:
        raise InputError(
            f"version {version.number} has no triplets: it only applied changes of the items;"
            " choose one of a trained cycle (remine history) with --version"
        )
    if not artifacts:
        raise InputError(
            f"version {version.number} has no triplets: none were mined yet, or its rounds trained"
            " on PK batches"
        )
    if number < -1:
        raise InputError(f"--round is {number}; it must be a round, or -1 for the last one")
    resolved_round = max(artifacts) if number < 0 else number
    if resolved_round not in artifacts:
        raise InputError(f"round {resolved_round} has no triplets; known: {sorted(artifacts)}")
    return resolved_round


def escape_quotes(path: Path) -> str:
    """Escape a path for use between single quotes in SQL."""
    return str(path).replace("'", "''")


def _with_labels(page: str) -> str:
    """SQL for the rows of `page` with anchor_label, positive_label and negative_label."""
    labels = ", ".join(f"{role}_labels.label AS {role}_label" for role in ROLES)
    joins = " ".join(
        f"LEFT JOIN items AS {role}s ON {role}s.id = t.{role}_id"
        f" LEFT JOIN labels AS {role}_labels ON {role}_labels.label_code = {role}s.label_code"
        for role in ROLES
    )
    return f"SELECT t.*, {labels} FROM ({page}) AS t {joins}"
