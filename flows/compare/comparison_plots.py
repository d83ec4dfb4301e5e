"""The plots of a comparison, as inline SVG."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from remine.flows.compare.verdict import cost_table, interval
from remine.flows.report.metric_names import NAMES
from remine.flows.report.plots import INK, figure_of, spread_apart, styled, svg

DASHES = {"online": "-", "offline": "--", "hybrid": "-."}
STAGES = {"train": "#2f7ed8", "embed": "#e0a32f", "index": "#9a5fc0", "mine": "#d64545"}


def colours(arms: Sequence[str]) -> dict[str, Any]:
    """A colour for each arm, the same in all plots."""
    wheel = matplotlib.colormaps["tab10"].colors  # type: ignore[attr-defined]
    return {arm: wheel[number % len(wheel)] for number, arm in enumerate(arms)}


@styled
def curves(points: pd.DataFrame, budget: str, metric: str) -> str:
    """A metric on test against what was spent: the mean over seeds, and a band of all of them."""
    figure, axes = figure_of(width=6.4, height=3.6)
    test = points[points["split"] == "test"]
    of = colours(points["arm"].unique())
    ends = []
    for arm, rows in test.groupby("arm", sort=False):
        number = rows.groupby("seed").cumcount()  # seeds may stop at steps of their own
        mean = rows.groupby(number)[[budget, metric]].mean()
        low, high = (rows.groupby(number)[metric].agg(end) for end in ("min", "max"))
        x = mean[budget].to_numpy()
        style = DASHES[rows["family"].iloc[0]]
        axes.plot(x, 100 * mean[metric], style, color=of[arm], label=arm)
        axes.fill_between(x, 100 * low, 100 * high, color=of[arm], alpha=0.12, linewidth=0)
        ends.append((x[-1], 100 * mean[metric].iloc[-1], arm))
    _end_labels(axes, ends, of)
    what = {"step": "steps", "forwards": "items through the encoder", "seconds": "seconds of work"}
    axes.set(xlabel=what[budget], ylabel=f"{NAMES[metric]} on test, %")
    axes.set_xlim(0, None)
    return svg(figure)


@styled
def costs(points: pd.DataFrame) -> str:
    """Seconds of a run by stage, mean over seeds, an arm a bar."""
    table = cost_table(points)
    figure, axes = figure_of(width=6.4, height=0.9 + 0.28 * len(table))
    left = np.zeros(len(table))
    for stage, colour in STAGES.items():
        axes.barh(table["arm"], table[stage], left=left, color=colour, label=stage)
        left += table[stage].to_numpy()
    axes.invert_yaxis()
    axes.set(xlabel="seconds")
    figure.legend(loc="outside upper center", ncols=4)
    return svg(figure)


@styled
def seeds(results: pd.DataFrame, metric: str) -> str:
    """Every seed of every arm on test at its selected checkpoint, with mean and interval."""
    chosen = results[
        (results["metric"] == metric)
        & (results["which"] == "selected")
        & (results["split"] == "test")
    ]
    arms = list(results["arm"].unique())
    figure, axes = figure_of(width=6.4, height=0.9 + 0.28 * len(arms))
    of = colours(arms)
    for place, arm in enumerate(arms):
        values = 100 * chosen.loc[chosen["arm"] == arm, "value"].to_numpy()
        found = interval(values)
        axes.plot(values, np.full(len(values), place), "o", color=of[arm], alpha=0.45, markersize=4)
        axes.plot(found.mean, place, "|", color=of[arm], markersize=14, markeredgewidth=2)
        if found.n > 1:
            axes.plot([found.low, found.high], [place, place], color=of[arm], linewidth=1.5)
    axes.set_yticks(range(len(arms)), arms)
    axes.invert_yaxis()
    axes.set(xlabel=f"{NAMES[metric]} on test, %")
    return svg(figure)


@styled
def roc_curves(roc: pd.DataFrame) -> str:
    """True accepts by false accepts on test, mean over seeds, at the selected checkpoints."""
    figure, axes = figure_of(width=6.4, height=3.2)
    of = colours(roc["arm"].unique())
    chosen = roc[roc["which"] == "selected"]
    for arm, rows in chosen.groupby("arm", sort=False):
        mean = rows.groupby("far")["tar"].mean()
        axes.plot(mean.index, 100 * mean, DASHES[rows["family"].iloc[0]], color=of[arm], label=arm)
    axes.set_xscale("log")
    axes.set(xlabel="false accept rate", ylabel="true accepts, %", xlim=(1e-5, 1), ylim=(0, 102))
    axes.legend(loc="lower right", fontsize=8)
    return svg(figure)


@styled
def training(steps: pd.DataFrame, column: str, arms: Sequence[str]) -> str:
    """Active fraction or loss of the first seed, smoothed over 20 steps."""
    figure, axes = figure_of(width=6.4, height=2.8)
    of = colours(arms)
    ends = []
    for arm, rows in steps[steps["seed"] == 0].groupby("arm", sort=False):
        smooth = rows[column].rolling(20, min_periods=1).mean()
        axes.plot(rows["step"], smooth, DASHES[rows["family"].iloc[0]], color=of[arm])
        ends.append((rows["step"].iloc[-1], smooth.iloc[-1], arm))
    axes.set(xlabel="step", ylabel={"active": "active fraction", "loss": "loss"}[column])
    axes.set_ylim(0, None)
    axes.set_xlim(0, None)
    _end_labels(axes, ends, of)
    return svg(figure)


@styled
def spread(points: pd.DataFrame) -> str:
    """The test embedding's mean squared distance by step, mean over seeds."""
    figure, axes = figure_of(width=6.4, height=2.8)
    of = colours(points["arm"].unique())
    ends = []
    for arm, rows in points[points["split"] == "test"].groupby("arm", sort=False):
        mean = rows.groupby("step")["spread"].mean()
        axes.plot(mean.index, mean, DASHES[rows["family"].iloc[0]], color=of[arm])
        ends.append((mean.index[-1], mean.iloc[-1], arm))
    axes.set(xlabel="step", ylabel="mean squared distance", ylim=(0, None), xlim=(0, None))
    _end_labels(axes, ends, of)
    return svg(figure)


@styled
def health(rows: pd.DataFrame, column: str, arms: Sequence[str]) -> str:
    """A measure that was taken while training, of the first seed; empty where none has it."""
    figure, axes = figure_of(width=6.4, height=2.8)
    of = colours(arms)
    ends = []
    first = rows[(rows["seed"] == 0) & rows[column].notna()]
    for arm, part in first.groupby("arm", sort=False):
        axes.plot(part["step"], part[column], DASHES[part["family"].iloc[0]], color=of[arm])
        ends.append((part["step"].iloc[-1], part[column].iloc[-1], arm))
    names = {"stale": "share of triplets", "effective_rank": "effective rank"}
    axes.set(xlabel="step", ylabel=names[column], ylim=(0, None), xlim=(0, None))
    if ends:
        _end_labels(axes, ends, of)
    return svg(figure)


@styled
def embedding_map(rows: pd.DataFrame) -> str:
    """Test items in two dimensions, a colour a class; the label on hover."""
    figure, axes = figure_of(width=4.2, height=4.2)
    codes = pd.factorize(rows["label"], sort=True)[0]
    wheel = np.array(matplotlib.colormaps["tab20"].colors)  # type: ignore[attr-defined]
    marks = "os^Dv"
    for turn in range(codes.max(initial=0) // len(wheel) + 1):
        mine = codes // len(wheel) == turn
        axes.scatter(
            rows["x"][mine],
            rows["y"][mine],
            s=11,
            c=wheel[codes[mine] % len(wheel)],
            marker=marks[turn % len(marks)],
            linewidths=0,
        )
    axes.set(xticks=[], yticks=[], aspect="equal")
    for side in axes.spines.values():
        side.set_visible(False)
    return svg(figure)


def _end_labels(
    axes: Axes, ends: Sequence[tuple[float, float, str]], of: Mapping[str, Any]
) -> None:
    """Each line's name beside its end, no two over one another."""
    low, high = axes.get_ylim()
    gap = (high - low) / 16
    heights = spread_apart([y - low for _, y, _ in ends], gap)
    right = max(x for x, _, _ in ends)
    for height, (x, y, name) in zip(heights, ends, strict=True):
        axes.plot([x, right * 1.02], [y, height + low], color=of[name], linewidth=0.5, alpha=0.6)
        axes.annotate(
            name,
            (right * 1.02, height + low),
            (3, -3),
            color=INK,
            fontsize=8,
            textcoords="offset points",
            annotation_clip=False,
        )
    axes.set_ylim(low, high)
