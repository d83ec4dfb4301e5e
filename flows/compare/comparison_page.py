"""The page of a comparison, drawn from its tables alone."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table

from remine.data.store.views import verified_path
from remine.flows.compare import comparison_plots as plots
from remine.flows.compare.verdict import (
    OFFLINE,
    START,
    Interval,
    best_arm,
    by_seed,
    contrasts,
    cost_table,
    interval,
    paired_difference,
    start_sentences,
    verdict,
)
from remine.flows.config.settings import Config
from remine.flows.report import rendering
from remine.index.metric_names import METRIC_NAMES

TABLES = ("points", "results", "roc", "steps", "health", "map")
RETRIEVAL_METRICS = ("recall@1", "recall@2", "recall@4", "recall@8", "map@r", "r_precision")
SUMMARY_METRICS = ("recall@1", "recall@8", "map@r")
CONTRAST_METRICS = ("recall@1", "map@r")
BUDGETS = {
    "step": "steps of the optimizer",
    "forwards": "items through the encoder, mining included",
    "seconds": "seconds of work, mining included",
}
BUDGET_UNITS = {"steps": "steps", "forwards": "items through the encoder"}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The tables of a comparison, and its settings."""

    points: pd.DataFrame
    results: pd.DataFrame
    roc: pd.DataFrame
    steps: pd.DataFrame
    health: pd.DataFrame
    map: pd.DataFrame
    settings: Mapping[str, Any]

    @property
    def select(self) -> str:
        """The metric that selects checkpoints and arms on val."""
        return str(self.settings["compare"]["select"])

    @property
    def arms(self) -> list[str]:
        """The names of the arms, in the order of the config."""
        return list(self.points["arm"].unique())

    @property
    def rows(self) -> list[str]:
        """The arms, after the start that they share."""
        has_start = START in set(self.results["arm"])  # comparisons of 0.1 lack it
        return [START, *self.arms] if has_start else self.arms

    def values(self, arm: str, metric: str) -> pd.Series:
        """A metric on test at the selected checkpoints, by seed."""
        return by_seed(self.results, arm, metric, "selected", "test")

    def verdict(self) -> list[str]:
        """The verdict as sentences."""
        pairs = contrasts(self.results, self.points, self.select)
        seen_count = self.settings.get("test_classes_seen", 0)
        return [
            *verdict(pairs, self.results, cost_table(self.points)),
            *start_sentences(self.results, self.select, seen_count),
        ]


def read_comparison(folder: Path) -> Comparison:
    """Read the tables in `folder`.

    Raises:
        StoreError: If a file does not match its hash.

    """
    frames = {name: pd.read_parquet(verified_path(folder / f"{name}.parquet")) for name in TABLES}
    settings = json.loads(verified_path(folder / "arms.json").read_text())
    return Comparison(**frames, settings=settings)


def write_page(folder: Path) -> Path:
    """Draw compare.html from the tables in `folder`, beside them; returns its path."""
    content = _content(read_comparison(folder))
    return rendering.write_page("compare.html.j2", content, folder / "compare.html")


def summary(comparison: Comparison) -> Table:
    """The arms for the terminal: metrics on test, and the cost."""
    table = Table(title="on test, at the checkpoint selected on val", box=SIMPLE_HEAD)
    metric_columns = [f"{METRIC_NAMES[metric]} %" for metric in SUMMARY_METRICS]
    for name in ("arm", "family", *metric_columns, "step", "seconds"):
        table.add_column(name, justify="left" if name in ("arm", "family") else "right")
    for row in _metric_rows(comparison, SUMMARY_METRICS):
        cells = [f"{c['mean']} ± {c['half']}" if c["half"] else c["mean"] for c in row["cells"]]
        table.add_row(row["arm"], row["family"], *cells, row["step"], row["seconds"])
    return table


def _content(comparison: Comparison) -> dict[str, Any]:
    """All that the template shows."""
    points, results = comparison.points, comparison.results
    compare = comparison.settings["compare"]
    online = best_arm(results, ("online",), comparison.select)
    reference = online or best_arm(results, OFFLINE, comparison.select)
    assert reference is not None
    return {
        "arms": comparison.arms,
        "compare": compare,
        "unit": BUDGET_UNITS.get(compare["budget"], "seconds of work"),
        "verdict": comparison.verdict(),
        "stopped": comparison.settings["stopped"],
        "resumed": ", ".join(points.loc[points["resumed"], "arm"].unique()),
        "tables": _metric_tables(comparison),
        "reference": reference,
        "has_online": online is not None,
        "differences": _differences(comparison, reference),
        "costs": cost_table(points).to_dict("records"),
        "curves": [
            (plots.budget_curves(points, budget, metric), f"{METRIC_NAMES[metric]} by {text}")
            for metric in CONTRAST_METRICS
            for budget, text in BUDGETS.items()
        ],
        "plots": _plots(comparison),
        "maps": [
            (name, plots.embedding_map(rows.reset_index()))
            for name, rows in comparison.map.groupby("panel", sort=False)
        ],
        "settings": [
            (arm, _changed_settings(comparison.settings["arms"][arm])) for arm in comparison.arms
        ],
    }


def _plots(comparison: Comparison) -> dict[str, str]:
    """Inline SVG by the name that the template gives it."""
    steps, health, arms = comparison.steps, comparison.health, comparison.arms
    return {
        "seeds": plots.seed_scatter(comparison.results, "recall@1"),
        "costs": plots.cost_bars(comparison.points),
        "roc": plots.roc_curves(comparison.roc),
        "active": plots.training_curves(steps, "active", arms),
        "loss": plots.training_curves(steps, "loss", arms),
        "spread": plots.spread_curves(comparison.points),
        "stale": plots.health_curves(health, "stale", arms),
        "rank": plots.health_curves(health, "effective_rank", arms),
    }


def _metric_tables(comparison: Comparison) -> list[dict[str, Any]]:
    """Two tables of all metrics: retrieval, then clustering and verification."""
    available = set(comparison.results["metric"])
    metrics = [name for name in METRIC_NAMES if name in available]
    retrieval = [name for name in metrics if name in RETRIEVAL_METRICS]
    further = [name for name in metrics if name not in RETRIEVAL_METRICS]
    return [
        {
            "names": [METRIC_NAMES[name] for name in table_metrics],
            "rows": _metric_rows(comparison, table_metrics),
        }
        for table_metrics in (retrieval, further)
    ]


def _metric_rows(comparison: Comparison, metrics: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each arm: family, a cell for each metric, mean selected step, seconds."""
    results = comparison.results
    families = results.drop_duplicates("arm").set_index("arm")["family"]
    rows = comparison.rows
    seconds = cost_table(comparison.points).set_index("arm")["seconds"]
    steps = results[results["which"] == "selected"].groupby("arm")["step"].mean()
    columns = [_metric_cells(comparison, metric) for metric in metrics]
    return [
        {
            "arm": arm,
            "family": families[arm],
            "cells": [cells[arm] for cells in columns],
            "step": f"{steps[arm]:,.0f}",
            "seconds": f"{seconds.get(arm, 0.0):,.0f}",
        }
        for arm in rows
    ]


def _metric_cells(comparison: Comparison, metric: str) -> dict[str, dict[str, Any]]:
    """The cell of each arm for one metric, the best mean marked."""
    intervals = {arm: interval(comparison.values(arm, metric)) for arm in comparison.rows}
    best_mean = _best_mean(metric, [value.mean for value in intervals.values()])
    return {
        arm: {**_cell(value), "best": value.mean == best_mean} for arm, value in intervals.items()
    }


def _best_mean(metric: str, means: Sequence[float]) -> float:
    """The best of the means; NaN for a false accept rate, which is to hit its target."""
    if metric.startswith("far@"):
        return np.nan
    return min(means) if metric == "eer" else max(means)


def _cell(value: Interval) -> dict[str, str]:
    """Mean and half interval in per cent; the latter is empty for one seed."""
    digits = 2 if value.mean < 0.02 else 1
    half = f"{100 * (value.high - value.mean):.{digits}f}" if value.n > 1 else ""
    return {"mean": f"{100 * value.mean:.{digits}f}", "half": half}


def _differences(comparison: Comparison, reference: str) -> dict[str, Any]:
    """Paired differences of each arm to `reference`, in percentage points."""
    rows = []
    for arm in comparison.arms:
        if arm == reference:
            continue
        cells = []
        for metric in CONTRAST_METRICS:
            arm_values = comparison.values(arm, metric)
            d = paired_difference(arm_values, comparison.values(reference, metric))
            span = f"{100 * d.low:+.1f} to {100 * d.high:+.1f}" if d.n > 1 else ""
            cells.append({"mean": f"{100 * d.mean:+.1f}", "interval": span})
        rows.append({"arm": arm, "cells": cells})
    return {"names": [METRIC_NAMES[metric] for metric in CONTRAST_METRICS], "rows": rows}


def _changed_settings(arm: Mapping[str, Any]) -> str:
    """The settings of an arm that differ from the defaults, as TOML keys."""
    defaults = Config().to_json()
    lines: list[str] = []
    for table in ("train", "mining", "online"):
        lines += _changed_leaves(table, arm[table], defaults[table])
    return ", ".join(lines)


def _changed_leaves(key: str, value: Any, default: Any) -> Iterable[str]:
    """Yield "key = value" for `value`, or each value in it, that differs from its default."""
    if isinstance(value, Mapping):
        for name, inner_value in value.items():
            inner_default = default.get(name) if isinstance(default, Mapping) else None
            yield from _changed_leaves(f"{key}.{name}", inner_value, inner_default)
    elif value != (list(default) if isinstance(default, tuple) else default):
        yield f"{key} = {json.dumps(value)}"
