"""The table round by round: as rows of plain values, and for the terminal."""

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from data.store import Version

COLUMNS = {
    "round": "round",
    "recall@1": "R@1 %",
    "recall@8": "R@8 %",
    "map@r": "MAP@R %",
    "spread": "spread",
    "pairs": "pairs",
    "semi_hard": "semi-hard",
    "hard": "hard",
    "loss": "loss",
    "active": "active %",
}


def round_rows(version: Version) -> list[dict[str, Any]]:
    """One row a round: retrieval among the test items before it, what it mined, how it trained.

    loss and active are means of the round's last 50 steps; they are known once it was trained, so
    a round that only evaluates (the last) has none.
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
        rows.append(row)
    return rows


def round_table(version: Version) -> Table:
    """The rows as a table."""
    seen = version.artifacts["items"].card["test_classes_seen"]
    classes = f"{seen} of the test classes are trained on" if seen else "unseen classes"
    title = f"cycle {version.cycle}: retrieval ({classes}) before each round, and what it mined"
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in COLUMNS.values():
        table.add_column(name, justify="right")
    for row in round_rows(version):
        table.add_row(*(_text(name, row.get(name)) for name in COLUMNS))
    return table


def _text(name: str, value: float | None) -> str:
    if value is None:
        return ""
    if name in ("recall@1", "recall@8", "map@r", "active"):
        return f"{100 * value:.1f}"
    if name == "spread":
        return f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
