"""The page of a comparison, drawn from its tables alone."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from rich.box import SIMPLE_HEAD
from rich.table import Table

from remine.data.store.views import verified_path
from remine.flows.compare import comparison_plots as plots
from remine.flows.compare.verdict import (
    Interval,
    best,
    by_seed,
    contrasts,
    cost_table,
    interval,
    paired,
    verdict,
)
from remine.flows.config.settings import Config
from remine.flows.report.metric_names import NAMES

TABLES = ("points", "results", "roc", "steps", "health", "map")
RETRIEVAL = ("recall@1", "recall@2", "recall@4", "recall@8", "map@r", "r_precision")
SHORT = ("recall@1", "recall@8", "map@r")


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
        """What of val chose checkpoints and arms."""
        return str(self.settings["compare"]["select"])

    @property
    def arms(self) -> list[str]:
        """In their order."""
        return list(self.points["arm"].unique())

    def verdict(self) -> list[str]:
        """The sentences that follow from the tables."""
        found = contrasts(self.results, self.points, self.select)
        return verdict(found, self.results, cost_table(self.points))


def read_comparison(folder: Path) -> Comparison:
    """The tables in `folder`."""
    frames = {name: pd.read_parquet(verified_path(folder / f"{name}.parquet")) for name in TABLES}
    settings = json.loads(verified_path(folder / "arms.json").read_text())
    return Comparison(**frames, settings=settings)


def write_page(folder: Path) -> Path:
    """Draw compare.html from the tables in `folder`, beside them."""
    environment = Environment(
        loader=PackageLoader("remine.flows"), autoescape=True, undefined=StrictUndefined
    )
    page = environment.get_template("compare.html.j2").render(_content(read_comparison(folder)))
    temp = folder / ".compare.html"
    temp.write_text(page)
    return temp.replace(folder / "compare.html")


def summary(found: Comparison) -> Table:
    """The arms for the terminal: test at val's choice, and the cost."""
    table = Table(title="on test, at the checkpoint that val chose", box=SIMPLE_HEAD)
    for name in ("arm", "family", *(f"{NAMES[m]} %" for m in SHORT), "step", "seconds"):
        table.add_column(name, justify="left" if name in ("arm", "family") else "right")
    for row in _rows(found, SHORT):
        cells = [f"{c['mean']} ± {c['half']}" if c["half"] else c["mean"] for c in row["cells"]]
        table.add_row(row["arm"], row["family"], *cells, row["step"], row["seconds"])
    return table


def _content(found: Comparison) -> dict[str, Any]:
    points, results = found.points, found.results
    compare = found.settings["compare"]
    metrics = [name for name in NAMES if name in set(results["metric"])]
    online = best(results, ("online",), found.select)
    reference = online or best(results, list(results["family"].unique()), found.select)
    assert reference is not None
    return {
        "arms": found.arms,
        "compare": compare,
        "unit": {"steps": "steps", "forwards": "items through the encoder"}.get(
            compare["budget"], "seconds of work"
        ),
        "verdict": found.verdict(),
        "stopped": found.settings["stopped"],
        "resumed": ", ".join(points.loc[points["resumed"], "arm"].unique()),
        "tables": [
            {"names": [NAMES[name] for name in part], "rows": _rows(found, part)}
            for part in (
                [name for name in metrics if name in RETRIEVAL],
                [name for name in metrics if name not in RETRIEVAL],
            )
        ],
        "reference": reference,
        "online": online is not None,
        "differences": _differences(found, reference, ("recall@1", "map@r")),
        "costs": cost_table(points).to_dict("records"),
        "curves": [
            (plots.curves(points, budget, metric), f"{NAMES[metric]} by {text}")
            for metric in ("recall@1", "map@r")
            for budget, text in (
                ("step", "steps of the optimizer"),
                ("forwards", "items through the encoder, mining included"),
                ("seconds", "seconds of work, mining included"),
            )
        ],
        "plots": {
            "seeds": plots.seeds(results, "recall@1"),
            "costs": plots.costs(points),
            "roc": plots.roc_curves(found.roc),
            "active": plots.training(found.steps, "active", found.arms),
            "loss": plots.training(found.steps, "loss", found.arms),
            "spread": plots.spread(points),
            "stale": plots.health(found.health, "stale", found.arms),
            "rank": plots.health(found.health, "effective_rank", found.arms),
        },
        "maps": [
            (name, plots.embedding_map(rows.reset_index()))
            for name, rows in found.map.groupby("panel", sort=False)
        ],
        "settings": [(name, _changed(found.settings["arms"][name])) for name in found.arms],
    }


def _rows(found: Comparison, metrics: Sequence[str]) -> list[dict[str, Any]]:
    """A row an arm: family, a cell a metric, the mean step that val chose, seconds."""
    costs = cost_table(found.points).set_index("arm")
    results = found.results
    values = {
        (arm, metric): interval(by_seed(results, arm, metric, "selected", "test").to_numpy())
        for arm in found.arms
        for metric in metrics
    }
    tops = {metric: _top(metric, [values[arm, metric] for arm in found.arms]) for metric in metrics}
    chosen = results[results["which"] == "selected"].groupby("arm")["step"].mean()
    return [
        {
            "arm": arm,
            "family": results.loc[results["arm"] == arm, "family"].iloc[0],
            "cells": [
                {**_cell(values[arm, metric]), "best": values[arm, metric].mean == tops[metric]}
                for metric in metrics
            ],
            "step": f"{chosen[arm]:,.0f}",
            "seconds": f"{costs.loc[arm, 'seconds']:,.0f}",
        }
        for arm in found.arms
    ]


def _top(metric: str, values: Sequence[Interval]) -> float:
    """The best mean; a false accept rate is best where it is what was asked for, so none is."""
    if metric.startswith("far@"):
        return np.nan
    means = [value.mean for value in values]
    return min(means) if metric == "eer" else max(means)


def _cell(found: Interval) -> dict[str, str]:
    digits = 2 if found.mean < 0.02 else 1
    half = f"{100 * (found.high - found.mean):.{digits}f}" if found.n > 1 else ""
    return {"mean": f"{100 * found.mean:.{digits}f}", "half": half}


def _differences(found: Comparison, reference: str, metrics: Sequence[str]) -> dict[str, Any]:
    rows = []
    for arm in found.arms:
        if arm == reference:
            continue
        cells = []
        for metric in metrics:
            mine, other = (
                by_seed(found.results, name, metric, "selected", "test")
                for name in (arm, reference)
            )
            d = paired(mine, other)
            span = f"{100 * d.low:+.1f} to {100 * d.high:+.1f}" if d.n > 1 else ""
            cells.append({"mean": f"{100 * d.mean:+.1f}", "interval": span})
        rows.append({"arm": arm, "cells": cells})
    return {"names": [NAMES[metric] for metric in metrics], "rows": rows}


def _changed(arm: Mapping[str, Any]) -> str:
    """The settings of an arm that are not at their defaults, as TOML keys."""
    defaults = Config().to_json()
    found = []
    for name in ("train", "mining", "online"):
        found += list(_leaves(name, arm[name], defaults[name]))
    return ", ".join(found)


def _leaves(prefix: str, value: Any, default: Any) -> Iterable[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            known = default.get(key) if isinstance(default, Mapping) else None
            yield from _leaves(f"{prefix}.{key}", inner, known)
    elif value != (list(default) if isinstance(default, tuple) else default):
        yield f"{prefix} = {json.dumps(value)}"
