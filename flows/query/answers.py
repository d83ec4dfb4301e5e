"""Answers as a table, JSON, Parquet or a page of pictures."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jinja2 import Environment, PackageLoader, StrictUndefined
from rich.console import Console
from rich.table import Table

from remine.data.errors import InputError
from remine.data.items.inputs import open_image
from remine.data.types import SPLITS
from remine.flows.query.snapshot import Answers, Queries, Snapshot
from remine.flows.report.gallery import Card, Gallery, picture_url

SUFFIXES = (".parquet", ".json", ".html")
SHEET_QUERIES = 500
PICTURE_SIDE = 128
"""Largest width and height in pixels of a query's picture on a page."""
Pair = tuple[Queries, Answers]

NEIGHBOURS = pa.schema(
    [
        ("query", pa.int64()),
        ("rank", pa.int32()),
        ("id", pa.int64()),
        ("distance", pa.float32()),
        ("label", pa.string()),
        ("split", pa.string()),
        ("group", pa.string()),
    ]
)


def check_out(out: Path | None) -> None:
    """Refuse a file that cannot be written, before anything is searched."""
    if out is None:
        return
    if out.suffix not in SUFFIXES:
        raise InputError(f"--out {out}: name a file that ends in {', '.join(SUFFIXES)}")
    if not out.parent.is_dir():
        raise InputError(f"--out {out}: the folder {out.parent} does not exist")


def write_answers(snapshot: Snapshot, pairs: Iterable[Pair], out: Path) -> int:
    """Write the file that `out` names, by its suffix; returns the number of queries."""
    if out.suffix == ".parquet":
        return _write_parquet(snapshot, pairs, out)
    whole = list(pairs)
    count = sum(len(queries) for queries, _ in whole)
    if out.suffix == ".json":
        out.write_text(json.dumps([n for _, a in whole for n in neighbours(snapshot, a)]) + "\n")
    else:
        out.write_text(_sheet(snapshot, whole))
    return count


def neighbours(snapshot: Snapshot, answers: Answers) -> Iterator[list[dict[str, Any]]]:
    """One list a query, nearest first."""
    known = snapshot.known
    for rows, distances in zip(answers.rows, answers.distances, strict=True):
        yield [
            {
                "id": int(known.ids[row]),
                "label": snapshot.label_of(row),
                "split": SPLITS[known.splits[row]],
                "distance": float(distance),
            }
            for row, distance in zip(rows, distances, strict=True)
            if row >= 0
        ]


def print_answers(snapshot: Snapshot, pairs: Iterable[Pair], *, as_json: bool) -> None:
    """As JSON (one list a query) or as tables."""
    found = [one for _, answers in pairs for one in neighbours(snapshot, answers)]
    if as_json:
        print(json.dumps(found))  # noqa: T201
        return
    for near in found:
        table = Table("rank", "id", "label", "split", "distance")
        for rank, one in enumerate(near, start=1):
            row = (rank, one["id"], one["label"], one["split"], f"{one['distance']:.4f}")
            table.add_row(*map(str, row))
        Console(markup=False).print(table)


def neighbour_table(snapshot: Snapshot, answers: Answers, first: int = 0) -> pa.Table:
    """A row a neighbour in the columns of NEIGHBOURS; queries are numbered from `first` on."""
    query, rank = np.nonzero(answers.rows >= 0)
    rows = answers.rows[query, rank]
    known = snapshot.known
    groups = known.groups
    columns = [
        query + first,
        (rank + 1).astype(np.int32),
        known.ids[rows],
        answers.distances[query, rank],
        pa.array(known.labels).take(pa.array(known.label_codes[rows])),
        pa.array(SPLITS).take(pa.array(known.splits[rows])),
        groups.take(pa.array(rows)) if groups is not None else pa.nulls(len(rows), pa.string()),
    ]
    return pa.table(columns, schema=NEIGHBOURS)


def _write_parquet(snapshot: Snapshot, pairs: Iterable[Pair], out: Path) -> int:
    """A block at a time, so that millions of queries fit."""
    temp, count = out.with_name(f".{out.name}.part"), 0
    try:
        with pq.ParquetWriter(temp, NEIGHBOURS, compression="zstd") as writer:
            for queries, answers in pairs:
                writer.write_table(neighbour_table(snapshot, answers, count))
                count += len(queries)
        temp.replace(out)
    finally:
        temp.unlink(missing_ok=True)
    return count


def _sheet(snapshot: Snapshot, pairs: Sequence[Pair]) -> str:
    """A page of queries, each with its neighbours; green where the label is the query's."""
    if (count := sum(len(queries) for queries, _ in pairs)) > SHEET_QUERIES:
        raise InputError(
            f"a page of {count:,} queries is too long to look at (at most {SHEET_QUERIES});"
            " --out a .parquet file"
        )
    gallery = Gallery(snapshot.store, snapshot.version)
    shown = []
    for queries, answers in pairs:
        for place, near in enumerate(neighbours(snapshot, answers)):
            own = _own_card(snapshot, gallery, queries, place)
            cards = [
                gallery.card(
                    one["id"],
                    f"{one['distance']:.3f}",
                    good=one["label"] == own.label if own.id >= 0 else None,
                )
                for one in near
            ]
            shown.append({"query": own, "cards": cards})
    environment = Environment(
        loader=PackageLoader("remine.flows"), autoescape=True, undefined=StrictUndefined
    )
    told = pairs[0][1].told.lines() if pairs else []
    page = environment.get_template("sheet.html.j2")
    return page.render(queries=shown, version=snapshot.version, told=told, title="Neighbours")


def _own_card(snapshot: Snapshot, gallery: Gallery, queries: Queries, place: int) -> Card:
    """What was asked: an item, a picture, a text, or a vector that shows nothing."""
    if queries.rows is not None:
        return gallery.card(int(snapshot.known.ids[queries.rows[place]]), "query")
    raw = "" if queries.raw is None else queries.raw[place]
    picture = ""
    if isinstance(raw, bytes):
        image = open_image(raw)
        image.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
        picture = picture_url(image)
    return Card(
        picture=picture, text=raw if isinstance(raw, str) else "", label="", id=-1, note="query"
    )
