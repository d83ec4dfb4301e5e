"""Staleness and health of each round, as rows and curves for the report page."""

import math
from typing import Any

from remine.data import schemas
from remine.data.store.records import Version
from remine.data.store.store import Store

COLUMNS = {
    "round": "round",
    "steps": "steps",
    "stale": "stale %",
    "drift": "drift",
    "overlap": "overlap in round %",
    "index_overlap": "overlap of indexes %",
    "active": "active %",
    "spread": "spread",
    "effective_rank": "effective rank",
}
PERCENT = ("stale", "overlap", "index_overlap", "active")
MEASURES = ("stale", "overlap", "drift", "spread", "effective_rank")


def health_rows(version: Version) -> list[dict[str, str]]:
    """One row of texts for each round that was measured: its last measurement, and its first.

    The overlap of indexes compares the index before a round with the one after it.
    """
    rows = []
    for number in range(version.round + 1):
        training = version.artifacts.get(f"training/round={number}")
        if training is None or "health" not in training.card:
            continue
        first, last = (training.card["health"][key] for key in ("first", "last"))
        row = {"round": str(number), "steps": str(training.card["round_steps"])}
        next_health = version.artifacts.get(f"health/round={number + 1}")
        values = {**last, "index_overlap": next_health.card["overlap"] if next_health else None}
        row |= {key: _percent(values[key]) for key in PERCENT}
        row["drift"] = f"{last['drift']:.3f}"
        row["spread"] = f"{first['spread']:.3f} to {last['spread']:.3f}"
        row["effective_rank"] = f"{first['effective_rank']:.1f} to {last['effective_rank']:.1f}"
        rows.append(row)
    return rows


def health_curves(store: Store, version: Version) -> list[dict[str, list[float]]]:
    """The measurements of each round by name, NaN where a round lacks one."""
    curves = []
    for number in range(version.round + 1):
        training = version.artifacts.get(f"training/round={number}")
        files = [f for f in training.files if f.name == "health.parquet"] if training else []
        if files:
            table = schemas.read([store.path(files[0])], schema="health/1")
            columns = {name: table[name].to_pylist() for name in ("step", *MEASURES)}
            curves.append({name: _nan_for_none(values) for name, values in columns.items()})
    return curves


def _nan_for_none(values: list[float | None]) -> list[float]:
    return [math.nan if value is None else value for value in values]


def _percent(value: Any) -> str:
    return "" if value is None else f"{100 * value:.1f}"
