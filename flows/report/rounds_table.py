"""The table of a cycle's rounds: as rows of plain values, and for the terminal."""

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from remine.data.store.pins import CHOICE
from remine.data.store.records import Version

COLUMNS = {
    "round": "round",
    "batches": "batches",
    "recall@1": "R@1 %",
    "recall@8": "R@8 %",
    "map@r": "MAP@R %",
    "val_map@r": "val MAP@R %",
    "val_recall@1": "val R@1 %",
    "val_r_precision": "val R-precision %",
    "served": "served",
    "spread": "spread",
    "pairs": "pairs",
    "semi_hard": "semi-hard",
    "hard": "hard",
    "loss": "loss",
    "active": "active %",
    "steps": "steps",
    "stale": "stale %",
    "overlap": "overlap %",
}

VAL_COLUMNS = tuple(key for key in COLUMNS if key.startswith("val_"))
PERCENT = ("recall@1", "recall@8", "map@r", *VAL_COLUMNS, "active", "stale", "overlap")
DIGITS = 6
"""After the point, in rows: two more than are shown, as a second rounding could move the last."""


def round_rows(version: Version) -> list[dict[str, Any]]:
    """One row for each round: retrieval among the test items before it, then mining and training.

    Returns:
        Rows with some of the keys of COLUMNS. `loss` and `active` are means over the last 50 steps
        of the round; the last round only evaluates and has neither. `stale` is the share of its
        triplets whose kind has changed by its end. `overlap` is the share of nearest neighbours
        that are the same in the index before the round and the index before that. `val_...` is the
        metric among the val items that chooses the served round, which `served` marks.

    """
    rows = []
    choice = version.artifacts.get(CHOICE)
    for number in range(version.round + 1):
        metrics = version.artifacts[f"metrics/round={number}"].card
        row: dict[str, Any] = {"round": number}
        row |= {k: round(metrics[k], DIGITS) for k in ("recall@1", "recall@8", "map@r", "spread")}
        if choice and (metric := choice.card.get("metric")):
            row[f"val_{metric}"] = round(choice.card["scores"][number], DIGITS)
        if choice and choice.card["round"] == number:
            row["served"] = "yes"
        if triplets := version.artifacts.get(f"triplets/round={number}"):
            row |= {"pairs": triplets.card["pairs"], **triplets.card["kinds"]}
        if training := version.artifacts.get(f"training/round={number}"):
            row |= {k: round(training.card[k], DIGITS) for k in ("loss", "active")}
            row |= {"batches": training.card["batches"], "steps": training.card["round_steps"]}
            stale = training.card.get("health", {}).get("last", {}).get("stale")
            row |= {} if stale is None else {"stale": round(stale, DIGITS)}
        if health := version.artifacts.get(f"health/round={number}"):
            row["overlap"] = round(health.card["overlap"], DIGITS)
        rows.append(row)
    return rows


def column_titles(rows: list[dict[str, Any]]) -> dict[str, str]:
    """Keys and titles of the columns to show.

    Steps are left out if all rounds have the same number, batches if all are of triplets, and which
    round is served if it is the last.
    """
    keys = {key for row in rows for key in row}
    if "served" in rows[-1]:
        keys.discard("served")
    if all(row.get("batches", "triplets") == "triplets" for row in rows):
        keys.discard("batches")
    if len({row["steps"] for row in rows if "steps" in row}) < 2:
        keys.discard("steps")
    return {key: title for key, title in COLUMNS.items() if key in keys}


def round_table(version: Version) -> Table:
    """The rows as a table for the terminal."""
    seen_count = version.artifacts["items"].card["test_classes_seen"]
    classes = f"{seen_count} of the test classes are trained on" if seen_count else "unseen classes"
    title = f"cycle {version.cycle}: retrieval ({classes}) before each round, and what it mined"
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    rows = round_rows(version)
    columns = column_titles(rows)
    for header in columns.values():
        table.add_column(header, justify="right")
    for row in rows:
        table.add_row(*(cell_text(key, row.get(key)) for key in columns))
    return table


def cell_text(key: str, value: float | str | None) -> str:
    """The text of a value in the column with key `key`."""
    if value is None or isinstance(value, str):
        return value or ""
    if key in PERCENT:
        return f"{100 * value:.1f}"
    if key == "spread":
        return f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
