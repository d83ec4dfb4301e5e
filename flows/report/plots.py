"""Plots of the report page."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from remine.data.types import KINDS, Triplets
from remine.flows.report.plot_style import (
    COLOURS,
    mark_round_end,
    new_figure,
    spread_apart,
    styled,
    svg,
)

CURVES = {"recall@1": "R@1", "recall@8": "R@8", "map@r": "MAP@R"}
SMOOTHING_STEPS = 10


@styled
def metric_curves(rows: Sequence[Mapping[str, Any]]) -> str:
    """R@1, R@8 and MAP@R by round."""
    figure, axes = new_figure()
    rounds = [row["round"] for row in rows]
    ends = []
    for colour, (key, name) in zip(COLOURS, CURVES.items(), strict=False):
        values = [100 * row[key] for row in rows]
        axes.plot(rounds, values, "o-", color=colour, label=name)
        ends.append(values[-1])
    # The last values beside the curves, moved apart where curves meet.
    for height, value in zip(spread_apart(ends, gap=9), ends, strict=True):
        axes.annotate(f"{value:.1f}", (rounds[-1], height), (7, -3), textcoords="offset points")
    axes.set(xlabel="rounds trained", ylabel="% of test queries", ylim=(0, 102))
    axes.set_xticks(rounds)
    figure.legend(loc="outside upper center", ncols=3)
    return svg(figure)


@styled
def training_curves(histories: Sequence[Mapping[str, Sequence[float]]]) -> str:
    """Loss and active fraction by step over all rounds, smoothed over SMOOTHING_STEPS."""
    figure, axes = new_figure()
    right_axes = axes.twinx()
    start = 0
    for number, history in enumerate(histories):
        for colour, key, side in (
            (COLOURS[0], "loss", axes),
            (COLOURS[1], "active", right_axes),
        ):
            values = np.asarray(history[key])
            width = min(SMOOTHING_STEPS, len(values))
            smooth = np.convolve(values, np.ones(width) / width, "valid")
            side.plot(start + width + np.arange(len(smooth)), smooth, color=colour)
        start += len(history["loss"])
        if number < len(histories) - 1:
            mark_round_end(axes, start)
    axes.set(xlabel="step", ylim=(0, None))
    axes.set_ylabel("loss", color=COLOURS[0])
    right_axes.set_ylim(0, 1)
    right_axes.set_ylabel("active fraction", color=COLOURS[1])
    right_axes.spines["right"].set_visible(True)
    return svg(figure)


@styled
def health_plots(rounds: Sequence[Mapping[str, Sequence[float]]]) -> list[str]:
    """Two plots over all rounds: stale, overlap and drift; spread and effective rank."""
    return [
        _measure_plot(rounds, ("stale", "overlap"), "share", "drift"),
        _measure_plot(rounds, ("spread",), "spread", "effective_rank"),
    ]


def _measure_plot(
    rounds: Sequence[Mapping[str, Sequence[float]]],
    left_measures: Sequence[str],
    left_label: str,
    right_measure: str,
) -> str:
    """Measures by step, one line for each round; `right_measure` has an axis of its own."""
    figure, axes = new_figure()
    right_axes, start = axes.twinx(), 0.0
    lines = [(axes, key) for key in left_measures] + [(right_axes, right_measure)]
    for number, readings in enumerate(rounds):
        steps = start + np.asarray(readings["step"])
        for colour, (side, key) in zip(COLOURS, lines, strict=False):
            name = _title(key) if not number else None  # one entry in the legend for all rounds
            side.plot(steps, readings[key], ".-", color=colour, label=name)
        start = steps[-1]
        if number < len(rounds) - 1:
            mark_round_end(axes, start)
    axes.set(xlabel="step", ylabel=left_label, ylim=(0, 1.02 if left_label == "share" else None))
    right_axes.set_ylim(0, None)
    right_axes.set_ylabel(_title(right_measure), color=COLOURS[len(left_measures)])
    right_axes.spines["right"].set_visible(True)
    figure.legend(loc="outside upper center", ncols=3)
    return svg(figure)


def _title(measure: str) -> str:
    return measure.replace("_", " ")


@styled
def distance_histograms(triplets: Triplets) -> str:
    """Histograms of d_ap, and of d_an by kind."""
    figure, axes = new_figure(height=2.4)
    top = float(max(triplets.d_ap.max(initial=0.1), triplets.d_an.max(initial=0.1)))
    bins = np.linspace(0, top, 60).tolist()
    axes.hist(triplets.d_ap, bins, color=COLOURS[2], alpha=0.55, label="d_ap (all)")
    for colour, kind in zip((*COLOURS[:2], COLOURS[3]), ("semi_hard", "hard", "easy"), strict=True):
        is_kind = triplets.kind == KINDS.index(kind)
        if is_kind.any():
            label = f"d_an {kind}"
            axes.hist(triplets.d_an[is_kind], bins, histtype="step", color=colour, label=label)
    axes.set(xlabel="squared distance", ylabel="triplets")
    axes.legend(loc="upper right")
    return svg(figure)


@styled
def negative_ranks(triplet_sets: Mapping[str, Triplets]) -> str:
    """Cumulative share of triplets by rank, the number of negatives closer than the semi-hard."""
    figure, axes = new_figure(height=2.4)
    for colour, (name, triplets) in zip(
        COLOURS * len(triplet_sets), triplet_sets.items(), strict=False
    ):
        is_semi_hard = triplets.kind == KINDS.index("semi_hard")
        # Negatives that were drawn at random have no rank.
        ranks = np.sort(triplets.negative_rank[is_semi_hard & (triplets.negative_rank >= 0)])
        if len(ranks):
            # 400 points of a curve that may have millions.
            points = np.unique(np.linspace(0, len(ranks) - 1, 400).astype(int))
            share = 100 * (points + 1) / len(ranks)
            axes.plot(ranks[points], share, color=colour, label=name.removeprefix("triplets/"))
    axes.set(xlabel="rank of the semi-hard negative", ylabel="% of triplets")
    axes.set_xscale("symlog", linthresh=1)
    axes.set(xlim=(0, None), ylim=(0, 102))
    if axes.lines:
        figure.legend(loc="outside upper center", ncols=4)
    return svg(figure)
