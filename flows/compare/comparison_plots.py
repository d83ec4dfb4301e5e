"""Plots of the comparison page. In all of them an arm has the same colour and dashes."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from remine.flows.compare.verdict import cost_table, interval
from remine.flows.report.plot_style import label_line_ends, new_figure, styled, svg
from remine.index.metric_names import METRIC_NAMES

DASHES = {"online": "-", "offline": "--", "hybrid": "-.", "start": ":"}
STAGE_COLOURS = {"train": "#2f7ed8", "embed": "#e0a32f", "index": "#9a5fc0", "mine": "#d64545"}
MARKERS = "os^Dv"
SMOOTHING_STEPS = 20
BUDGET_LABELS = {
    "step": "steps",
    "forwards": "items through the encoder",
    "seconds": "seconds of work",
}


def arm_colours(arms: Sequence[str]) -> dict[str, Any]:
    """A colour for each arm."""
    palette = matplotlib.colormaps["tab10"].colors  # type: ignore[attr-defined]
    return {arm: palette[number % len(palette)] for number, arm in enumerate(arms)}


def wide_figure(height: float) -> tuple[Figure, Axes]:
    """A figure as wide as the page's columns, `height` inches high, and its axes."""
    return new_figure(6.4, height)


def bar_height(count: int) -> float:
    """Height in inches of a figure with one row for each of `count` arms."""
    return 0.9 + 0.28 * count


def dashes(rows: pd.DataFrame) -> str:
    """The line style of the arm that `rows` belong to."""
    return DASHES[rows["family"].iloc[0]]


@styled
def budget_curves(points: pd.DataFrame, budget: str, metric: str) -> str:
    """A metric on test against a budget: the mean over seeds, with a band of all seeds."""
    figure, axes = wide_figure(3.6)
    test_points = points[points["split"] == "test"]
    colours = arm_colours(points["arm"].unique())
    ends = []
    for arm, rows in test_points.groupby("arm", sort=False):
        # By number of the evaluation: seeds may be evaluated at different steps.
        number = rows.groupby("seed").cumcount()
        mean = rows.groupby(number)[[budget, metric]].mean()
        low, high = (rows.groupby(number)[metric].agg(end) for end in ("min", "max"))
        x, colour = mean[budget].to_numpy(), colours[arm]
        axes.plot(x, 100 * mean[metric], dashes(rows), color=colour, label=arm)
        axes.fill_between(x, 100 * low, 100 * high, color=colour, alpha=0.12, linewidth=0)
        ends.append((x[-1], 100 * mean[metric].iloc[-1], arm))
    label_line_ends(axes, ends, colours)
    axes.set(xlabel=BUDGET_LABELS[budget], ylabel=f"{METRIC_NAMES[metric]} on test, %")
    axes.set_xlim(0, None)
    return svg(figure)


@styled
def cost_bars(points: pd.DataFrame) -> str:
    """Seconds of a run by stage, means over seeds, one bar for each arm."""
    table = cost_table(points)
    figure, axes = wide_figure(bar_height(len(table)))
    bar_starts = np.zeros(len(table))
    for stage, colour in STAGE_COLOURS.items():
        axes.barh(table["arm"], table[stage], left=bar_starts, color=colour, label=stage)
        bar_starts += table[stage].to_numpy()
    axes.invert_yaxis()
    axes.set(xlabel="seconds")
    figure.legend(loc="outside upper center", ncols=4)
    return svg(figure)


@styled
def seed_scatter(results: pd.DataFrame, metric: str) -> str:
    """A metric on test at the selected checkpoints: every seed, mean and interval of each arm."""
    arms = list(results["arm"].unique())
    figure, axes = wide_figure(bar_height(len(arms)))
    colours = arm_colours(arms)
    for y, arm in enumerate(arms):
        by_arm = results[(results["arm"] == arm) & (results["metric"] == metric)]
        rows = by_arm[(by_arm["which"] == "selected") & (by_arm["split"] == "test")]
        values, colour = 100 * rows["value"].to_numpy(), colours[arm]
        mean = interval(values)
        axes.plot(values, np.full(len(values), y), "o", color=colour, alpha=0.45, markersize=4)
        axes.plot(mean.mean, y, "|", color=colour, markersize=14, markeredgewidth=2)
        if mean.n > 1:
            axes.plot([mean.low, mean.high], [y, y], color=colour, linewidth=1.5)
    axes.set_yticks(range(len(arms)), arms)
    axes.invert_yaxis()
    axes.set(xlabel=f"{METRIC_NAMES[metric]} on test, %")
    return svg(figure)


@styled
def roc_curves(roc: pd.DataFrame) -> str:
    """True accept rate by false accept rate on test, mean over seeds, at selected checkpoints."""
    figure, axes = wide_figure(3.2)
    colours = arm_colours(roc["arm"].unique())
    selected_rows = roc[roc["which"] == "selected"]
    for arm, rows in selected_rows.groupby("arm", sort=False):
        mean = rows.groupby("far")["tar"].mean()
        axes.plot(mean.index, 100 * mean, dashes(rows), color=colours[arm], label=arm)
    axes.set_xscale("log")
    axes.set(xlabel="false accept rate", ylabel="true accepts, %", xlim=(1e-5, 1), ylim=(0, 102))
    axes.legend(loc="lower right", fontsize=8)
    return svg(figure)


def training_curves(steps: pd.DataFrame, column: str, arms: Sequence[str]) -> str:
    """Active fraction or loss of the first seed, smoothed over SMOOTHING_STEPS."""
    curves = [
        (
            arm,
            dashes(rows),
            rows.set_index("step")[column].rolling(SMOOTHING_STEPS, min_periods=1).mean(),
        )
        for arm, rows in steps[steps["seed"] == 0].groupby("arm", sort=False)
    ]
    labels = {"active": "active fraction", "loss": "loss"}
    return _step_plot(curves, arms, labels[column])


def spread_curves(points: pd.DataFrame) -> str:
    """Mean squared distance of the test embeddings by step, mean over seeds."""
    curves = [
        (arm, dashes(rows), rows.groupby("step")["spread"].mean())
        for arm, rows in points[points["split"] == "test"].groupby("arm", sort=False)
    ]
    return _step_plot(curves, points["arm"].unique(), "mean squared distance")


def health_curves(health: pd.DataFrame, column: str, arms: Sequence[str]) -> str:
    """A health measure of the first seed by step; empty if no arm was measured."""
    first_seed = health[(health["seed"] == 0) & health[column].notna()]
    curves = [
        (arm, dashes(rows), rows.set_index("step")[column])
        for arm, rows in first_seed.groupby("arm", sort=False)
    ]
    labels = {"stale": "share of triplets", "effective_rank": "effective rank"}
    return _step_plot(curves, arms, labels[column])


@styled
def _step_plot(
    curves: Sequence[tuple[str, str, pd.Series]], arms: Sequence[str], ylabel: str
) -> str:
    """A line for each arm, with its name at the end.

    Args:
        curves: Arm, line style, and values indexed by step.
        arms: All arms, for their colours.
        ylabel: Label of the vertical axis.

    """
    figure, axes = wide_figure(2.8)
    colours = arm_colours(arms)
    for arm, style, values in curves:
        axes.plot(values.index, values, style, color=colours[arm])
    axes.set(xlabel="step", ylabel=ylabel, ylim=(0, None), xlim=(0, None))
    if curves:
        ends = [(values.index[-1], values.iloc[-1], arm) for arm, _, values in curves]
        label_line_ends(axes, ends, colours)
    return svg(figure)


@styled
def embedding_map(rows: pd.DataFrame) -> str:
    """Test items in two dimensions, one colour and marker for each class."""
    figure, axes = new_figure(4.2, 4.2)
    codes = pd.factorize(rows["label"], sort=True)[0]
    palette = np.array(matplotlib.colormaps["tab20"].colors)  # type: ignore[attr-defined]
    # With more classes than colours the next marker takes over.
    for turn in range(codes.max(initial=0) // len(palette) + 1):
        has_marker = codes // len(palette) == turn
        axes.scatter(
            rows["x"][has_marker],
            rows["y"][has_marker],
            s=11,
            c=palette[codes[has_marker] % len(palette)],
            marker=MARKERS[turn % len(MARKERS)],
            linewidths=0,
        )
    axes.set(xticks=[], yticks=[], aspect="equal")
    for side in axes.spines.values():
        side.set_visible(False)
    return svg(figure)
