"""Mined triplets on the terminal."""

import numpy as np
from rich.console import Console
from rich.table import Table

from data import schemas
from data.errors import InputError
from data.prepare import read_catalogue
from data.store import Artifact, Store, Version
from data.types import KINDS, Triplets

BINS, WIDTH = 20, 50


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
    Console(markup=False).print(table)


def print_counts(version: Version) -> None:
    """What each round asked for and got."""
    table = Table("round", "anchors", "singletons", "pairs", "kind", "triplets", "none exists")
    for name, artifact in sorted(version.artifacts.items()):
        if artifact.kind == "triplets":
            card = artifact.card
            for kind, count in card["answered"].items():
                numbers = (card["anchors"], card["singletons"], card["pairs"])
                texts = [f"{value:,}" for value in numbers]
                none = f"{card['none_exists'][kind]:,}"
                table.add_row(name.split("=")[1], *texts, kind, f"{count:,}", none)
    Console(markup=False).print(table)


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
    console = Console(markup=False, highlight=False)
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
        raise InputError(f"version {version.number} has no triplets yet")
    chosen = max(mined) if number < 0 else number
    if chosen not in mined:
        raise InputError(f"round {chosen} has no triplets; known: {sorted(mined)}")
    return mined[chosen]


def _read(store: Store, artifact: Artifact) -> Triplets:
    return schemas.triplets_from(schemas.read(store.paths(artifact), schema="triplets/1"))
