"""Neighbours as a table, JSON, Parquet or a page of pictures, and the path they are written to."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from remine.data.errors import InputError
from remine.data.items.pictures import open_image
from remine.data.types import SPLITS
from remine.flows.query.rejection import Rejection
from remine.flows.query.snapshot import Answers, Queries, Snapshot
from remine.flows.query.terminal import fitted, folding_table, wide_console
from remine.flows.report.item_cards import Card, Gallery, picture_url
from remine.flows.report.rendering import render
from remine.index.search_report import merge_reports

SUFFIXES = (".parquet", ".json", ".html")
"""Files that neighbours are written to."""
MAX_PAGE_QUERIES = 500
PICTURE_SIDE = 128
"""Largest width and height in pixels of a query's picture on a page."""
Pair = tuple[Queries, Answers]


def neighbour_schema(snapshot: Snapshot, *, has_limit: bool = False) -> pa.Schema:
    """The columns of a table of neighbours.

    Ids are of the type of the user's. Items that are texts, or pictures in files, have a column
    text or path; the columns of data.extra_columns come after it. has_limit: Whether there is a
    column unknown.
    """
    return pa.schema(
        [
            ("query", pa.int64()),
            ("rank", pa.int32()),
            ("id", pa.int64() if snapshot.catalogue.keys is None else pa.string()),
            ("distance", pa.float32()),
            ("label", pa.string()),
            ("split", pa.string()),
            ("group", pa.string()),
            *snapshot.item_contents.columns.items(),
            *([("unknown", pa.bool_())] if has_limit else []),
        ]
    )


def check_output_path(out: Path | None, suffixes: Sequence[str] = SUFFIXES) -> None:
    """Check before a search that its results can be written to `out`; None is fine.

    Raises:
        InputError: If `out` has none of the suffixes, or its folder does not exist.
    """
    if out is None:
        return
    if out.suffix not in suffixes:
        raise InputError(f"--out {out}: name a file that ends in {', '.join(suffixes)}")
    if not out.parent.is_dir():
        raise InputError(f"--out {out}: the folder {out.parent} does not exist")


def write_answers(
    snapshot: Snapshot, pairs: Iterable[Pair], out: Path, rejection: Rejection | None = None
) -> int:
    """Write the neighbours in the format that the suffix of `out` names.

    rejection: Which queries to mark as unknown; None for none.

    Returns:
        The number of queries.

    Raises:
        InputError: If a page would have more than 500 queries.
    """
    if out.suffix == ".parquet":
        return _write_parquet(snapshot, pairs, out, rejection)
    blocks = list(pairs)
    count = sum(len(queries) for queries, _ in blocks)
    if out.suffix == ".json":
        lists = [one for _, answers in blocks for one in neighbours(snapshot, answers, rejection)]
        out.write_text(json.dumps(lists) + "\n")
    else:
        out.write_text(_neighbour_page(snapshot, blocks, rejection))
    return count


def neighbours(
    snapshot: Snapshot, answers: Answers, rejection: Rejection | None = None
) -> Iterator[list[dict[str, Any]]]:
    """Yield one list per query of its neighbours, nearest first.

    A neighbour has id, label, split, distance, its text or path if it has one, the columns of
    data.extra_columns, and, if there is a rejection, unknown: whether the query is.
    """
    marks = answers.unknown(rejection.limit).tolist() if rejection else [None] * len(answers.rows)
    catalogue, contents = snapshot.catalogue, snapshot.item_contents
    # All at once: single lookups would read whole row groups again and again.
    all_rows = answers.rows[answers.rows >= 0]
    fields = iter(contents.rows(all_rows))
    for rows, distances, mark in zip(answers.rows, answers.distances, marks, strict=True):
        yield [
            {
                "id": catalogue.id_at(row),
                "label": snapshot.label_of(row),
                "split": SPLITS[catalogue.splits[row]],
                "distance": float(distance),
                **next(fields),
                **({} if mark is None else {"unknown": mark}),
            }
            for row, distance in zip(rows, distances, strict=True)
            if row >= 0
        ]


def print_answers(
    snapshot: Snapshot,
    pairs: Iterable[Pair],
    *,
    as_json: bool,
    rejection: Rejection | None = None,
) -> None:
    """Print the neighbours as JSON (one list per query) or as one table per query."""
    lists, headings = [], []
    for _, answers in pairs:
        lists += list(neighbours(snapshot, answers, rejection))
        places = range(len(answers.rows))
        headings += [rejection.heading(answers, n) if rejection else "" for n in places]
    if as_json:
        print(json.dumps(lists))  # noqa: T201
        return
    names = snapshot.item_contents.columns
    for query_neighbours, heading in zip(lists, headings, strict=True):
        if heading:
            wide_console().print(heading)
        table = folding_table("rank", "id", "label", "split", "distance", *names)
        for rank, one in enumerate(query_neighbours, start=1):
            row = (rank, one["id"], one["label"], one["split"], f"{one['distance']:.4f}")
            table.add_row(*map(str, row), *(fitted(one[name], name) for name in names))
        wide_console().print(table)


def neighbour_table(
    snapshot: Snapshot, answers: Answers, first: int = 0, rejection: Rejection | None = None
) -> pa.Table:
    """One row per neighbour in columns of `neighbour_schema`; queries are numbered from `first`."""
    query, rank = np.nonzero(answers.rows >= 0)
    rows = answers.rows[query, rank]
    catalogue = snapshot.catalogue
    groups = catalogue.groups
    columns = [
        query + first,
        (rank + 1).astype(np.int32),
        catalogue.ids_at(rows),
        answers.distances[query, rank],
        pa.array(catalogue.labels).take(pa.array(catalogue.label_codes[rows])),
        pa.array(SPLITS).take(pa.array(catalogue.splits[rows])),
        groups.take(pa.array(rows)) if groups is not None else pa.nulls(len(rows), pa.string()),
        *(snapshot.item_contents.values(n, rows) for n in snapshot.item_contents.columns),
        *([answers.unknown(rejection.limit)[query]] if rejection else []),
    ]
    schema = neighbour_schema(snapshot, has_limit=rejection is not None)
    return pa.table(columns, schema=schema)


def render_page(
    snapshot: Snapshot, queries: Sequence[dict[str, Any]], summary: Sequence[str], title: str
) -> str:
    """Render an HTML page of queries, each beside the cards of other items.

    Args:
        snapshot: The version that was searched.
        queries: One per query: `query`, its own card, and `cards`, those beside it.
        summary: Lines above the queries.
        title: Heading of the page.
    """
    content = {
        "queries": queries,
        "version": snapshot.version,
        "summary": summary,
        "title": title,
    }
    return render("sheet.html.j2", content)


def _write_parquet(
    snapshot: Snapshot, pairs: Iterable[Pair], out: Path, rejection: Rejection | None
) -> int:
    """Write block by block, so that millions of queries fit in memory."""
    # Written beside the target and renamed, so that a failure leaves no partial file.
    temp, count = out.with_name(f".{out.name}.part"), 0
    try:
        schema = neighbour_schema(snapshot, has_limit=rejection is not None)
        with pq.ParquetWriter(temp, schema, compression="zstd") as writer:
            for queries, answers in pairs:
                writer.write_table(neighbour_table(snapshot, answers, count, rejection))
                count += len(queries)
        temp.replace(out)
    finally:
        temp.unlink(missing_ok=True)
    return count


def _neighbour_page(snapshot: Snapshot, pairs: Sequence[Pair], rejection: Rejection | None) -> str:
    """A page of queries and their neighbours; green marks those with the query's label."""
    if (count := sum(len(queries) for queries, _ in pairs)) > MAX_PAGE_QUERIES:
        raise InputError(
            f"a page holds at most {MAX_PAGE_QUERIES} queries, not {count:,}: --out a .parquet file"
        )
    gallery = Gallery(snapshot.store, snapshot.version)
    cases = []
    for queries, answers in pairs:
        for place, query_neighbours in enumerate(neighbours(snapshot, answers)):
            query_card = _query_card(snapshot, gallery, queries, place)
            if rejection and answers.unknown(rejection.limit)[place]:
                query_card = replace(query_card, note="query, unknown")
            is_item = query_card.id is not None
            rows = answers.rows[place]
            cards = [
                gallery.card(
                    int(gallery.catalogue.ids[row]),
                    f"{one['distance']:.3f}",
                    good=one["label"] == query_card.label if is_item else None,
                )
                for one, row in zip(query_neighbours, rows[rows >= 0], strict=True)
            ]
            cases.append({"query": query_card, "cards": cards})
    report = merge_reports([answers.explanation for _, answers in pairs]) if pairs else None
    summary = [*report.lines(), *report.notices()] if report else []
    return render_page(snapshot, cases, summary, "Neighbours")


def _query_card(snapshot: Snapshot, gallery: Gallery, queries: Queries, place: int) -> Card:
    """The card of a query: an item, a picture, a text, or an empty one for a vector."""
    if queries.rows is not None:
        return gallery.card(int(snapshot.catalogue.ids[queries.rows[place]]), "query")
    raw = "" if queries.raw_contents is None else queries.raw_contents[place]
    picture = ""
    if isinstance(raw, bytes):
        image = open_image(raw)
        image.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
        picture = picture_url(image)
    return Card(
        picture=picture, text=raw if isinstance(raw, str) else "", label="", id=None, note="query"
    )
