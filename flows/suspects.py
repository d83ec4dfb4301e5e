"""Label suspects of a version: found from its index, shown with their neighbours."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from rich.console import Console as RichConsole
from rich.table import Table

from data.errors import InputError
from data.types import SPLITS, Float32, Int64
from flows.report import Gallery
from flows.snapshot import Snapshot, Wish
from mining.suspects import SuspectConfig, Votes, near_limit, twins, votes

BLOCK = 2048
SHEET = 200
SUFFIXES = (".parquet", ".csv", ".html")
SHOWN = 8


@dataclass(frozen=True, kw_only=True)
class Found:
    """suspects: a row each, the worst first. near: (n, k) rows of all items' neighbours."""

    suspects: pd.DataFrame
    near: Int64
    distances: Float32


def find_suspects(
    snapshot: Snapshot, config: SuspectConfig, progress: Callable[[int, int], None]
) -> Found:
    """Every item's neighbours vote on its label; unlike twins are compared by distance.

    Holds 12 k bytes an item.
    """
    known, k = snapshot.known, config.neighbours
    n = len(known.ids)
    near, distances = np.full((n, k), -1), np.full((n, k), np.inf, np.float32)
    for start in range(0, n, BLOCK):
        part = slice(start, min(start + BLOCK, n))
        answers = snapshot.ask(snapshot.by_id(known.ids[part]), Wish(k=k))
        near[part], distances[part] = answers.rows, answers.distances
        progress(part.stop, n)
    codes = known.label_codes
    labels = np.where(near >= 0, codes[near], -1).astype(np.int32)
    said = votes(labels, codes, np.bincount(codes)[codes])
    limit = near_limit(distances, labels == codes[:, None])
    contents = snapshot.contents.codes
    same = (near >= 0) & (contents[near] == contents[:, None])
    pairs = twins(near, distances, codes, same, limit)
    rows = _mislabelled(snapshot, said, said.mislabelled(config), near, labels, distances)
    rows += _twins(snapshot, pairs, contents)
    return Found(suspects=pd.DataFrame(rows, columns=COLUMNS), near=near, distances=distances)


COLUMNS = [
    "id",
    "label",
    "suspected_label",
    "reason",
    "agree",
    "own",
    "other_id",
    "distance",
    "split",
]


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


def print_suspects(found: Found, count: int) -> None:
    """The first `count` as a table, and how many there are."""
    table = Table(*COLUMNS)
    for row in found.suspects.head(count).itertuples(index=False):
        table.add_row(*(_text(value) for value in row))
    console = RichConsole(markup=False)
    console.print(table)
    reasons = found.suspects["reason"].value_counts()
    said = ", ".join(f"{number:,} {reason}" for reason, number in reasons.items())
    console.print(
        f"{len(found.suspects):,} suspects of {len(found.near):,} items: {said or 'none'}"
    )


def _text(value: Any) -> str:
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.3f}"
    return str(value)


def _mislabelled(
    snapshot: Snapshot,
    said: Votes,
    rows: Sequence[int] | np.ndarray,
    near: Int64,
    labels: np.ndarray,
    distances: Float32,
) -> list[tuple[Any, ...]]:
    known = snapshot.known
    found = []
    for row in rows:
        place = int(np.argmax(labels[row] == said.other[row]))  # the nearest of that label
        found.append(
            (
                int(known.ids[row]),
                snapshot.label_of(row),
                known.labels[said.other[row]],
                "mislabelled",
                float(said.agree[row]),
                float(said.own[row]),
                int(known.ids[near[row, place]]),
                float(distances[row, place]),
                SPLITS[known.splits[row]],
            )
        )
    return found


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
                "same content, two labels" if equal else "near twin of another label",
                float("nan"),
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
            for other, distance in zip(
                found.near[row, :SHOWN], found.distances[row, :SHOWN], strict=True
            )
            if other >= 0
        ]
        shown.append({"query": gallery.card(one.id, one.reason), "cards": cards})
    environment = Environment(
        loader=PackageLoader("flows"), autoescape=True, undefined=StrictUndefined
    )
    told = [
        f"{len(found.suspects):,} suspects of {len(ids):,} items; the worst {len(shown)}.",
        "Green: has the item's label. Red: another.",
    ]
    page = environment.get_template("sheet.html.j2")
    return page.render(queries=shown, version=snapshot.version, told=told, title="Suspects")
