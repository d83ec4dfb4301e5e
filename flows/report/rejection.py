"""How well the served round rejects unknown items: as a line, and as rows of a table."""

from collections.abc import Mapping
from typing import Any

from remine.data.store.pins import CHOICE
from remine.data.store.records import Version

LINE_RATE = 0.05
"""The rate of false alarms that the line speaks of."""


def rejection(version: Version) -> Mapping[str, Any]:
    """What evaluation measured of the round that `version` serves; empty if it did not."""
    choice = version.artifacts.get(CHOICE)
    number = choice.card["round"] if choice else version.round
    card: Mapping[str, Any] = version.artifacts[f"metrics/round={number}"].card
    result: Mapping[str, Any] = card.get("rejection", {})
    return result


def rejection_line(version: Version) -> str:
    """AUROC and the rates at 5 % in one line; empty without unknown items."""
    card = rejection(version)
    if "auroc" not in card:
        return ""
    line = f"unknown items ({card['unknown']:,}): AUROC {100 * card['auroc']:.1f} %"
    for row in card.get("rates", ()):
        if row["wished"] == LINE_RATE:
            line += (
                f"; with a limit for {row['wished']:.0%} false alarms {100 * row['rejected']:.1f} %"
                f" of them are rejected, and {100 * row['false_alarms']:.1f} % of the test items"
            )
    return line


def rejection_rows(version: Version) -> list[dict[str, str]]:
    """One row for each rate of false alarms that was measured, by column title."""
    rows = []
    for row in rejection(version).get("rates", ()):
        texts = {
            "false alarms wished": f"{100 * row['wished']:g} %",
            "limit of the nearest distance": f"{row['limit']:.4f}",
        }
        for name, title in (("false_alarms", "test items"), ("rejected", "unknown items")):
            if name in row:
                texts[f"{title} rejected"] = f"{100 * row[name]:.1f} %"
        rows.append(texts)
    return rows
