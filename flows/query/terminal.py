"""Mined triplets printed as tables on the terminal."""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from remine.data.errors import InputError
from remine.data.store.records import Version
from remine.flows.query.item_contents import shortened
from remine.flows.query.triplet_stats import DISTANCES, coarse_histograms, role_counts
from remine.flows.query.triplets import MEASURES, ROLES, TripletQuery, TripletTable

BINS, BAR_WIDTH = 20, 50
PIPE_WIDTH = 1_000_000
TEXT_WIDTH = 160
"""Characters of a text that a terminal shows."""
COUNTS = ("anchors", "singletons", "pairs", "strategy", "triplets", "none exists", "not found")


def wide_console() -> Console:
    """A console of the terminal's width; when piped, wide enough to break no line of a table."""
    return Console(markup=False, highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)


def fitted(content: Any, name: str) -> str:
    """A value on one line; on a terminal a long text is cut, a path or other column never."""
    text = "" if content is None else str(content)
    return shortened(text, TEXT_WIDTH if name == "text" and sys.stdout.isatty() else None)


def folding_table(*names: str) -> Table:
    """A table that breaks words where the terminal is narrow: an id that is cut finds no item."""
    table = Table()
    for name in names:
        table.add_column(name, overflow="fold")
    return table


def print_triplets(triplets: TripletTable, query: TripletQuery) -> None:
    """Print a page of triplets with their labels, and their texts or paths if they have any."""
    rows = triplets.page(query)
    table = folding_table("anchor", "positive", "negative", "d_ap", "d_an", "kind", "rank")
    for row in triplets.with_contents(rows):
        names = [f"{row[f'{role}_id']} {row[f'{role}_label']}" for role in ROLES]
        for name in triplets.contents.columns:
            texts = [fitted(row[f"{role}_{name}"], name) for role in ROLES]
            names = [f"{first}\n{text}" for first, text in zip(names, texts, strict=True)]
        numbers = (f"{row['d_ap']:.4f}", f"{row['d_an']:.4f}", row["kind"])
        table.add_row(*names, *numbers, str(row["negative_rank"]))
    wide_console().print(table)


def print_stats(stats: Mapping[str, Any]) -> None:
    """Print the result of `triplet_stats.stats`."""
    console = wide_console()
    console.print(
        f"round {stats['round']}: {stats['rows']:,} triplets of {stats['anchors']:,} anchors;"
        f" {stats['negatives']:,} items serve as negatives"
    )
    table = Table("kind", "triplets", "share", "", "mean", "5 %", "median", "95 %", "min", "max")
    for kind, row in stats["kinds"].items():
        first = [kind, f"{row['rows']:,}", f"{row['share']:.1%}"]
        for name in DISTANCES:
            values = [row[name][key] for key in ("mean", "p5", "p50", "p95", "min", "max")]
            table.add_row(*first, name, *(f"{value:.4f}" for value in values))
            first = [""] * 3
    console.print(table)
    hubs = folding_table("hub", "label", "times negative", "anchors")
    for row in stats["hubs"]:
        hubs.add_row(str(row["id"]), row["label"], f"{row['count']:,}", f"{row['anchors']:,}")
    console.print(hubs)
    classes = folding_table("anchor's class", "negative's class", "triplets")
    for row in stats["confused"]:
        classes.add_row(row["label"], row["negative_label"], f"{row['count']:,}")
    console.print(classes)


def print_item(triplets: TripletTable, number: int, item_id: str, rows: int) -> None:
    """Print the first triplets that contain an item, whose id was typed.

    Raises:
        InputError: If the version has no such item.
    """
    catalogue = triplets.catalogue
    item = catalogue.typed_id(item_id)
    row = int(catalogue.rows_of_ids([item])[0])
    if row < 0:
        raise InputError(f"no item {item!r} in version {triplets.version.number}")
    counts = role_counts(triplets, number, item)
    roles = ", ".join(f"{role} of {count:,}" for role, count in counts.items())
    console = wide_console()
    console.print(f"{item} {catalogue.labels[catalogue.label_codes[row]]}: {roles} triplets")
    print_triplets(triplets, TripletQuery(round=number, item=item, limit=rows))


def print_comparison(comparison: Mapping[str, Any]) -> None:
    """Print the result of `triplet_stats.compare`."""
    console, pairs = wide_console(), comparison["pairs"]
    first, second = f"round {comparison['first']}", f"round {comparison['second']}"
    console.print(
        f"pairs of anchor and positive: {pairs['first']:,} in {first}, {pairs['second']:,} in"
        f" {second}, {pairs['both']:,} in both"
    )
    if pairs["both"]:
        console.print(
            f"over the pairs in both, d_ap changed by {pairs['d_ap_change']:+.4f} and d_an by"
            f" {pairs['d_an_change']:+.4f} on average"
        )
    table = Table("kind", first, second, f"of {second}, also in {first}")
    for kind, row in comparison["kinds"].items():
        share = f" ({row['same_triplet'] / row['second']:.1%})" if row["second"] else ""
        counts = (f"{row['first']:,}", f"{row['second']:,}", f"{row['same_triplet']:,}{share}")
        table.add_row(kind, *counts)
    console.print(table)
    means = Table("mean", first, second)
    for name, values in comparison["means"].items():
        means.add_row(name, *("" if value is None else f"{value:.4f}" for value in values))
    console.print(means)


def print_counts(version: Version) -> None:
    """Print the triplets of each round by strategy, and those that were missing."""
    table = Table("round", *COUNTS)
    for name, artifact in sorted(version.artifacts.items()):
        if artifact.kind == "triplets":
            for row in _count_rows(artifact.card):
                table.add_row(name.split("=")[1], *row)
    wide_console().print(table)


def read_card(folder: Path) -> dict[str, Any]:
    """The card that `remine mine` wrote into `folder`; version 0.1 called it card.json."""
    path = folder / "_card.json"
    card: dict[str, Any] = json.loads(
        (path if path.exists() else folder / "card.json").read_text("utf-8")
    )
    return card


def print_card(folder: Path) -> None:
    """Print the card that `remine mine` wrote into `folder`."""
    card = read_card(folder)
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
    console.print(f"wrote {folder}: Parquet shards and _card.json")


def _count_rows(card: Mapping[str, Any]) -> Iterator[list[str]]:
    """Yield the columns COUNTS of a triplets card, one row per strategy."""
    for name, count in card["answered"].items():
        numbers = [card["anchors"], card["singletons"], card["pairs"]]
        missing = [card["none_exists"][name], card["not_found"][name]]
        texts = [f"{value:,}" for value in (*numbers, count, *missing)]
        yield [*texts[:3], name, *texts[3:]]


def print_histogram(triplets: TripletTable, number: int, column: str) -> None:
    """Print the histogram of a measure as bars, one block per kind."""
    if column not in MEASURES:
        raise InputError(f"no column {column!r}; known: {', '.join(MEASURES)}")
    console = wide_console()
    for kind, (heights, edges) in coarse_histograms(triplets, number, column, BINS).items():
        console.print(f"{column} of {sum(heights):,} {kind} triplets")
        for height, low, high in zip(heights, edges, edges[1:], strict=False):
            bar = "█" * round(BAR_WIDTH * height / max(heights))
            console.print(f"{low:10.3f} to {high:10.3f} {bar} {height:,}")
