"""Mined triplets on the terminal."""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from data import schemas
from data.errors import InputError
from data.prepare import read_catalogue
from data.store import Artifact, Store, Version
from data.types import KINDS, Triplets

BINS, WIDTH = 20, 50
COUNTS = ("anchors", "singletons", "pairs", "strategy", "triplets", "none exists", "not found")


def wide_console() -> Console:
    """Wide where nobody looks: a table cut to 80 columns loses its numbers."""
    return Console(markup=False, highlight=False, width=None if sys.stdout.isatty() else 120)


def print_head(store: Store, version: Version, number: int, rows: int) -> None:
    """The first `rows` triplets of a round."""
    triplets = _read(store, _mined(version, number))
    known = read_catalogue(store, version.artifacts["items"])

    def name(item: int) -> str:
        return f"{item} {known.labels[known.label_codes[np.searchsorted(known.ids, item)]]}"

    table = Table("anchor", "positive", "negative", "d_ap", "d_an", "kind", "rank")
    for i in range(min(rows, len(triplets))):
        ids = (triplets.anchor_id[i], triplets.positive_id[i], triplets.negative_id[i])
        numbers = (f"{triplets.d_ap[i]:.4f}", f"{triplets.d_an[i]:.4f}")
        rank = str(triplets.negative_rank[i])
        table.add_row(*map(name, ids), *numbers, KINDS[triplets.kind[i]], rank)
    wide_console().print(table)


def print_counts(version: Version) -> None:
    """What each round asked for and got."""
    table = Table("round", *COUNTS)
    for name, artifact in sorted(version.artifacts.items()):
        if artifact.kind == "triplets":
            for row in _count_rows(artifact.card):
                table.add_row(name.split("=")[1], *row)
    wide_console().print(table)


def print_card(path: Path) -> None:
    """The account of `remine mine`."""
    card = json.loads(path.read_text())
    table = Table(*COUNTS)
    for row in _count_rows(card):
        table.add_row(*row)
    console = wide_console()
    console.print(table)
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in card["kinds"].items() if count)
    console.print(f"{card['triplets']:,} triplets ({kinds}), engine {card['engine']}:")
    console.print(f"  {card['reason']}")
    if recall := card["recall"]:
        console.print(
            f"  recall on {recall['sampled']:,} anchors: neighbours {recall['neighbours']:.4f}"
            f" (at least {recall['neighbours_low']:.4f}), negatives {recall['negatives']:.4f}"
            f" (at least {recall['negatives_low']:.4f})"
        )
    seconds = ", ".join(f"{name} {value:.1f} s" for name, value in card["seconds"].items())
    console.print(f"  {seconds}; peak memory {card['peak_mb']:,} MB")
    console.print(f"wrote {path.parent}: Parquet shards and card.json")


def _count_rows(card: Mapping[str, Any]) -> Iterator[list[str]]:
    for name, count in card["answered"].items():
        numbers = [card["anchors"], card["singletons"], card["pairs"]]
        missing = [card["none_exists"][name], card["not_found"][name]]
        texts = [f"{value:,}" for value in (*numbers, count, *missing)]
        yield [*texts[:3], name, *texts[3:]]


def print_histogram(store: Store, version: Version, number: int, column: str) -> None:
    """A column's distribution as bars, one block a kind."""
    triplets = _read(store, _mined(version, number))
    columns = {
        "d_ap": triplets.d_ap,
        "d_an": triplets.d_an,
        "margin": triplets.d_an - triplets.d_ap,
        "negative_rank": triplets.negative_rank,
    }
    if column not in columns:
        raise InputError(f"no column {column!r}; known: {', '.join(columns)}")
    console = wide_console()
    for code, kind in enumerate(KINDS):
        values = columns[column][triplets.kind == code]
        if len(values):
            console.print(f"{column} of {len(values):,} {kind} triplets")
            heights, edges = np.histogram(values, BINS)
            for height, low, high in zip(heights, edges, edges[1:], strict=False):
                bar = "█" * round(WIDTH * height / heights.max())
                console.print(f"{low:10.3f} to {high:10.3f} {bar} {height:,}")


def _mined(version: Version, number: int) -> Artifact:
    """The triplets of a round, or of the last one."""
    mined = {
        int(name.split("=")[1]): artifact
        for name, artifact in version.artifacts.items()
        if artifact.kind == "triplets"
    }
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
    return mined[chosen]


def _read(store: Store, artifact: Artifact) -> Triplets:
    return schemas.triplets_from(schemas.read(store.paths(artifact), schema="triplets/1"))
