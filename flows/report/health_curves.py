"""What the report page shows of staleness and health."""

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
    """One row a round that was measured, as texts: its last measurement, and what it began with."""
    rows = []
    for number in range(version.round + 1):
        trained = version.artifacts.get(f"training/round={number}")
        if trained is None or "health" not in trained.card:
            continue
        first, last = (trained.card["health"][key] for key in ("first", "last"))
        row = {"round": str(number), "steps": str(trained.card["round_steps"])}
        after = version.artifacts.get(f"health/round={number + 1}")
        values = {**last, "index_overlap": after.card["overlap"] if after else None}
        row |= {key: _percent(values[key]) for key in PERCENT}
        row["drift"] = f"{last['drift']:.3f}"
        row["spread"] = f"{first['spread']:.3f} to {last['spread']:.3f}"
        row["effective_rank"] = f"{first['effective_rank']:.1f} to {last['effective_rank']:.1f}"
        rows.append(row)
    return rows


def health_curves(store: Store, version: Version) -> list[dict[str, list[float]]]:
    """Of each round its measurements by name, NaN for what a round has none of."""
    curves = []
    for number in range(version.round + 1):
        trained = version.artifacts.get(f"training/round={number}")
        files = [f for f in trained.files if f.name == "health.parquet"] if trained else []
        if files:
            table = schemas.read([store.path(files[0])], schema="health/1")
            columns = {name: table[name].to_pylist() for name in ("step", *MEASURES)}
            curves.append(
                {k: [math.nan if v is None else v for v in col] for k, col in columns.items()}
            )
    return curves


def _percent(value: Any) -> str:
    return "" if value is None else f"{100 * value:.1f}"
