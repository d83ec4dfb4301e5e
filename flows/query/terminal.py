"""Mined triplets on the terminal."""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from remine.data.errors import InputError
from remine.data.store.records import Version
from remine.flows.query.triplet_export import ROLES
from remine.flows.query.triplet_stats import DISTANCES, coarse, roles
from remine.flows.query.triplets import MEASURES, Mined, TripletQuery

BINS, WIDTH = 20, 50
COUNTS = ("anchors", "singletons", "pairs", "strategy", "triplets", "none exists", "not found")


def wide_console() -> Console:
    """Wide where nobody looks: a table cut to 80 columns loses its numbers."""
    return Console(markup=False, highlight=False, width=None if sys.stdout.isatty() else 120)


def print_triplets(mined: Mined, query: TripletQuery) -> None:
    """Triplets of a round with their labels."""
    table = Table("anchor", "positive", "negative", "d_ap", "d_an", "kind", "rank")
    for row in mined.page(query):
        names = [f"{row[f'{role}_id']} {row[f'{role}_label']}" for role in ROLES]
        numbers = (f"{row['d_ap']:.4f}", f"{row['d_an']:.4f}", row["kind"])
        table.add_row(*names, *numbers, str(row["negative_rank"]))
    wide_console().print(table)


def print_stats(found: Mapping[str, Any]) -> None:
    """What `mined_stats.stats` gives."""
    console = wide_console()
    console.print(
        f"round {found['round']}: {found['rows']:,} triplets of {found['anchors']:,} anchors;"
        f" {found['negatives']:,} items serve as negatives"
    )
    table = Table("kind", "triplets", "share", "", "mean", "5 %", "median", "95 %", "min", "max")
    for kind, row in found["kinds"].items():
        first = [kind, f"{row['rows']:,}", f"{row['share']:.1%}"]
        for name in DISTANCES:
            values = [row[name][key] for key in ("mean", "p5", "p50", "p95", "min", "max")]
            table.add_row(*first, name, *(f"{value:.4f}" for value in values))
            first = [""] * 3
    console.print(table)
    hubs = Table("hub", "label", "times negative", "anchors")
    for row in found["hubs"]:
        hubs.add_row(str(row["id"]), row["label"], f"{row['count']:,}", f"{row['anchors']:,}")
    console.print(hubs)
    confused = Table("anchor's class", "negative's class", "triplets")
    for row in found["confused"]:
        confused.add_row(row["label"], row["negative_label"], f"{row['count']:,}")
    console.print(confused)


def print_item(mined: Mined, number: int, item: int, rows: int) -> None:
    """The triplets that an item is in."""
    row = int(np.searchsorted(mined.items().ids, item))
    known = mined.items()
    if row == len(known.ids) or known.ids[row] != item:
        raise InputError(f"no item {item} in version {mined.version.number}")
    counts = roles(mined, number, item)
    said = ", ".join(f"{name} of {count:,}" for name, count in counts.items())
    console = wide_console()
    console.print(f"{item} {known.labels[known.label_codes[row]]}: {said} triplets")
    print_triplets(mined, TripletQuery(round=number, item=item, limit=rows))


def print_comparison(found: Mapping[str, Any]) -> None:
    """What `mined_stats.compare` gives."""
    console, pairs = wide_console(), found["pairs"]
    first, second = f"round {found['first']}", f"round {found['second']}"
    console.print(
        f"pairs of anchor and positive: {pairs['first']:,} in {first}, {pairs['second']:,} in"
        f" {second}, {pairs['both']:,} in both"
    )
    if pairs["both"]:
        console.print(
            f"over the pairs of both, d_ap changed by {pairs['d_ap_change']:+.4f} and d_an by"
            f" {pairs['d_an_change']:+.4f} in the mean"
        )
    table = Table("kind", first, second, f"of {second}, also in {first}")
    for kind, row in found["kinds"].items():
        share = f" ({row['same_triplet'] / row['second']:.1%})" if row["second"] else ""
        counts = (f"{row['first']:,}", f"{row['second']:,}", f"{row['same_triplet']:,}{share}")
        table.add_row(kind, *counts)
    console.print(table)
    means = Table("mean", first, second)
    for name, values in found["means"].items():
        means.add_row(name, *("" if value is None else f"{value:.4f}" for value in values))
    console.print(means)


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


def print_histogram(mined: Mined, number: int, column: str) -> None:
    """A column's distribution as bars, one block a kind."""
    if column not in MEASURES:
        raise InputError(f"no column {column!r}; known: {', '.join(MEASURES)}")
    console = wide_console()
    for kind, (heights, edges) in coarse(mined, number, column, BINS).items():
        console.print(f"{column} of {sum(heights):,} {kind} triplets")
        for height, low, high in zip(heights, edges, edges[1:], strict=False):
            bar = "█" * round(WIDTH * height / max(heights))
            console.print(f"{low:10.3f} to {high:10.3f} {bar} {height:,}")
