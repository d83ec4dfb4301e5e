"""The table round by round: as rows of plain values, and for the terminal."""

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from remine.data.store.records import Version

COLUMNS = {
    "round": "round",
    "batches": "batches",
    "recall@1": "R@1 %",
    "recall@8": "R@8 %",
    "map@r": "MAP@R %",
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

PERCENT = ("recall@1", "recall@8", "map@r", "active", "stale", "overlap")


def round_rows(version: Version) -> list[dict[str, Any]]:
    """One row a round: retrieval among the test items before it, what it mined, how it trained.

    loss and active are means of the round's last 50 steps; they are known once it was trained, so
    a round that only evaluates (the last) has none. stale: the share of its triplets of another
    kind at its end than when they were mined. overlap: the share of nearest neighbours that the
    index before it shares with the one before that.
    """
    rows = []
    for number in range(version.round + 1):
        metrics = version.artifacts[f"metrics/round={number}"].card
        row: dict[str, Any] = {"round": number}
        row |= {k: round(metrics[k], 4) for k in ("recall@1", "recall@8", "map@r", "spread")}
        if mined := version.artifacts.get(f"triplets/round={number}"):
            row |= {"pairs": mined.card["pairs"], **mined.card["kinds"]}
        if trained := version.artifacts.get(f"training/round={number}"):
            row |= {k: round(trained.card[k], 4) for k in ("loss", "active")}
            row |= {"batches": trained.card["batches"], "steps": trained.card["round_steps"]}
            stale = trained.card.get("health", {}).get("last", {}).get("stale")
            row |= {} if stale is None else {"stale": round(stale, 4)}
        if compared := version.artifacts.get(f"health/round={number}"):
            row["overlap"] = round(compared.card["overlap"], 4)
        rows.append(row)
    return rows


def column_titles(rows: list[dict[str, Any]]) -> dict[str, str]:
    """The columns that say something: no steps where they are all alike, no batches where plain."""
    there = {key for row in rows for key in row}
    if all(row.get("batches", "triplets") == "triplets" for row in rows):
        there.discard("batches")
    if len({row["steps"] for row in rows if "steps" in row}) < 2:
        there.discard("steps")
    return {key: name for key, name in COLUMNS.items() if key in there}


def round_table(version: Version) -> Table:
    """The rows as a table."""
    seen = version.artifacts["items"].card["test_classes_seen"]
    classes = f"{seen} of the test classes are trained on" if seen else "unseen classes"
    title = f"cycle {version.cycle}: retrieval ({classes}) before each round, and what it mined"
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    rows = round_rows(version)
    columns = column_titles(rows)
    for name in columns.values():
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*(cell_text(name, row.get(name)) for name in columns))
    return table


def cell_text(name: str, value: float | str | None) -> str:
    """A value as the table shows it, under the key of its column."""
    if value is None or isinstance(value, str):
        return value or ""
    if name in PERCENT:
        return f"{100 * value:.1f}"
    if name == "spread":
        return f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
