"""Label suspects of a version: found from its index, shown with their neighbours."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from rich.console import Console as RichConsole
from rich.table import Table

from remine.data.errors import InputError
from remine.data.types import SPLITS, Embeddings, Float32, Int64
from remine.flows.query.snapshot import Snapshot, Wish
from remine.flows.report.gallery import Gallery
from remine.mining.suspects import Leanings, SuspectConfig, leanings, near_limit, twins

BLOCK = 2048
SHEET = 200
SUFFIXES = (".parquet", ".csv", ".html")
NEIGHBOURS = 8


@dataclass(frozen=True, kw_only=True)
class Found:
    """suspects: a row each, the worst first. near: (n, k) rows of all items' neighbours."""

    suspects: pd.DataFrame
    near: Int64
    distances: Float32


def find_suspects(
    snapshot: Snapshot, config: SuspectConfig, progress: Callable[[int, int], None]
) -> Found:
    """Every item against all classes, and unlike items that are nearly in one place.

    Holds the embeddings and 12 NEIGHBOURS bytes an item.
    """
    known, k = snapshot.known, NEIGHBOURS
    n = len(known.ids)
    near, distances = np.full((n, k), -1), np.full((n, k), np.inf, np.float32)
    for start in range(0, n, BLOCK):
        part = slice(start, min(start + BLOCK, n))
        answers = snapshot.ask(snapshot.by_id(known.ids[part]), Wish(k=k))
        near[part], distances[part] = answers.rows, answers.distances
        progress(part.stop, n)
    codes = known.label_codes
    vectors = snapshot.searcher.vectors(known.ids)
    said = leanings(Embeddings(ids=known.ids, label_codes=codes, vectors=vectors))
    mine = (near >= 0) & (codes[near] == codes[:, None])
    contents = snapshot.contents.codes
    same = (near >= 0) & (contents[near] == contents[:, None])
    limit = near_limit(distances, mine, config.twin_share)
    rows = _mislabelled(snapshot, said, said.mislabelled(config.margin))
    rows += _twins(snapshot, twins(near, distances, codes, same, limit), contents)
    frame = pd.DataFrame(rows, columns=COLUMNS).astype({"other_id": "Int64"})
    return Found(suspects=frame, near=near, distances=distances)


REASONS = ("mislabelled", "same content, two labels", "near twin of another label")
COLUMNS = ["id", "label", "suspected_label", "reason", "score", "other_id", "distance", "split"]
"""score: how much nearer the suspected class's centroid is. other_id, distance: of a twin."""


def check_out(out: Path | None) -> None:
    """Refuse a file that cannot be written, before anything is searched."""
    if out and out.suffix not in SUFFIXES:
        raise InputError(f"--out {out}: name a file that ends in {', '.join(SUFFIXES)}")
    if out and not out.parent.is_dir():
        raise InputError(f"--out {out}: the folder {out.parent} does not exist")


def write_suspects(snapshot: Snapshot, found: Found, out: Path) -> None:
    """All of them as Parquet or CSV, or the worst SHEET with pictures as a page."""
    if out.suffix == ".parquet":
        found.suspects.to_parquet(out, index=False)
    elif out.suffix == ".csv":
        found.suspects.to_csv(out, index=False)
    else:
        out.write_text(_sheet(snapshot, found))


def print_suspects(found: Found, rows: int) -> None:
    """The first `rows` as a table, and how many there are."""
    table = Table(*COLUMNS)
    for row in found.suspects.head(rows).itertuples(index=False):
        table.add_row(*(_text(value) for value in row))
    console = RichConsole(markup=False)
    console.print(table)
    reasons = found.suspects["reason"].value_counts()
    said = ", ".join(f"{number:,} {reason}" for reason, number in reasons.items())
    console.print(
        f"{len(found.suspects):,} suspects of {len(found.near):,} items: {said or 'none'}"
    )


def _text(value: Any) -> str:
    if value is None or value is pd.NA:
        return ""
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.3f}"
    return str(value)


def _mislabelled(snapshot: Snapshot, said: Leanings, rows: np.ndarray) -> list[tuple[Any, ...]]:
    known = snapshot.known
    return [
        (
            int(known.ids[row]),
            snapshot.label_of(row),
            known.labels[said.other[row]],
            REASONS[0],
            float(said.score[row]),
            None,
            float("nan"),
            SPLITS[known.splits[row]],
        )
        for row in rows
    ]


def _twins(snapshot: Snapshot, pairs: Int64, contents: np.ndarray) -> list[tuple[Any, ...]]:
    known, found = snapshot.known, []
    vectors = snapshot.searcher.vectors
    for first, second in pairs.T:
        equal = contents[first] == contents[second]
        ids = known.ids[[first, second]]
        distance = float(np.square(np.subtract(*vectors(ids))).sum())
        found.append(
            (
                int(ids[0]),
                snapshot.label_of(first),
                snapshot.label_of(second),
                REASONS[1] if equal else REASONS[2],
                float("nan"),
                int(ids[1]),
                distance,
                SPLITS[known.splits[first]],
            )
        )
    return found


def _sheet(snapshot: Snapshot, found: Found) -> str:
    """The worst with their nearest items: green has the item's label, red another."""
    gallery = Gallery(snapshot.store, snapshot.version)
    ids = snapshot.known.ids
    shown = []
    for one in found.suspects.head(SHEET).itertuples(index=False):
        row = int(np.searchsorted(ids, one.id))
        cards = [
            gallery.card(
                int(ids[other]), f"{distance:.3f}", good=snapshot.label_of(other) == one.label
            )
            for other, distance in zip(found.near[row], found.distances[row], strict=True)
            if other >= 0
        ]
        shown.append({"query": gallery.card(one.id, one.reason), "cards": cards})
    environment = Environment(
        loader=PackageLoader("remine.flows"), autoescape=True, undefined=StrictUndefined
    )
    told = [
        f"{len(found.suspects):,} suspects of {len(ids):,} items; the worst {len(shown)}.",
        "Green: has the item's label. Red: another.",
    ]
    page = environment.get_template("sheet.html.j2")
    return page.render(queries=shown, version=snapshot.version, told=told, title="Suspects")
