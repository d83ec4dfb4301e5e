"""The report's plots as inline SVG, in the colours of the page around them."""

import io
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, TypeVar

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from remine.data.types import KINDS, Triplets

T = TypeVar("T")
COLOURS = ("#2f7ed8", "#e0672f", "#3a9b5c", "#9a5fc0")
NO_METADATA: dict[str, Any] = dict.fromkeys(("Date", "Creator", "Format", "Type"))
INK = "#010203"  # stands for the page's text colour, light or dark
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "remine",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "legend.frameon": False,
}


def styled(plot: Callable[..., T]) -> Callable[..., T]:
    """Draw in STYLE from the first line to the last."""

    @wraps(plot)
    def styled(*args: Any) -> T:
        with matplotlib.rc_context(STYLE):  # type: ignore[arg-type]
            return plot(*args)

    return styled


@styled
def metric_curves(rows: Sequence[Mapping[str, Any]]) -> str:
    """R@1, R@8 and MAP@R by round."""
    figure, axes = figure_of()
    rounds = [row["round"] for row in rows]
    ends = []
    for colour, (key, name) in zip(
        COLOURS, {"recall@1": "R@1", "recall@8": "R@8", "map@r": "MAP@R"}.items(), strict=False
    ):
        values = [100 * row[key] for row in rows]
        axes.plot(rounds, values, "o-", color=colour, label=name)
        ends.append(values[-1])
    for height, value in zip(spread_apart(ends, gap=9), ends, strict=True):
        axes.annotate(f"{value:.1f}", (rounds[-1], height), (7, -3), **_OFFSET)
    axes.set(xlabel="rounds trained", ylabel="% of test queries", ylim=(0, 102))
    axes.set_xticks(rounds)
    figure.legend(loc="outside upper center", ncols=3)
    return svg(figure)


@styled
def training_curves(histories: Sequence[Mapping[str, Sequence[float]]]) -> str:
    """Loss and active fraction, step by step over all rounds, smoothed over 10 steps."""
    figure, axes = figure_of()
    right = axes.twinx()
    start = 0
    for number, history in enumerate(histories):
        for colour, key, side in (
            (COLOURS[0], "loss", axes),
            (COLOURS[1], "active", right),
        ):
            values = np.asarray(history[key])
            width = min(10, len(values))
            smooth = np.convolve(values, np.ones(width) / width, "valid")
            side.plot(start + width + np.arange(len(smooth)), smooth, color=colour)
        start += len(history["loss"])
        if number < len(histories) - 1:
            axes.axvline(start, color=INK, alpha=0.3, linestyle=":")
    axes.set(xlabel="step", ylim=(0, None))
    axes.set_ylabel("loss", color=COLOURS[0])
    right.set_ylim(0, 1)
    right.set_ylabel("active fraction", color=COLOURS[1])
    right.spines["right"].set_visible(True)
    return svg(figure)


@styled
def health_curves(rounds: Sequence[Mapping[str, Sequence[float]]]) -> list[str]:
    """Two plots over all rounds: stale, overlap and drift; spread and effective rank."""
    return [
        _measures(rounds, {"stale": "stale", "overlap": "overlap"}, "share", "drift"),
        _measures(rounds, {"spread": "spread"}, "spread", "effective_rank"),
    ]


def _measures(
    rounds: Sequence[Mapping[str, Sequence[float]]], left: Mapping[str, str], label: str, right: str
) -> str:
    """Measures by step, one line a round; `right` against an axis of its own."""
    figure, axes = figure_of()
    other, start = axes.twinx(), 0.0
    sides = [(axes, key) for key in left] + [(other, right)]
    for number, readings in enumerate(rounds):
        steps = start + np.asarray(readings["step"])
        for colour, (side, key) in zip(COLOURS, sides, strict=False):
            name = key.replace("_", " ") if not number else None
            side.plot(steps, readings[key], ".-", color=colour, label=name)
        start = steps[-1]
        if number < len(rounds) - 1:
            axes.axvline(start, color=INK, alpha=0.3, linestyle=":")
    axes.set(xlabel="step", ylabel=label, ylim=(0, 1.02 if "stale" in left else None))
    other.set_ylim(0, None)
    other.set_ylabel(right.replace("_", " "), color=COLOURS[len(left)])
    other.spines["right"].set_visible(True)
    figure.legend(loc="outside upper center", ncols=3)
    return svg(figure)


@styled
def distances(triplets: Triplets) -> str:
    """Histograms of d_ap, and of d_an by kind."""
    figure, axes = figure_of(height=2.4)
    top = float(max(triplets.d_ap.max(initial=0.1), triplets.d_an.max(initial=0.1)))
    bins = np.linspace(0, top, 60).tolist()
    axes.hist(triplets.d_ap, bins, color=COLOURS[2], alpha=0.55, label="d_ap (all)")
    for colour, kind in zip((*COLOURS[:2], COLOURS[3]), ("semi_hard", "hard", "easy"), strict=True):
        chosen = triplets.kind == KINDS.index(kind)
        if chosen.any():
            label = f"d_an {kind}"
            axes.hist(triplets.d_an[chosen], bins, histtype="step", color=colour, label=label)
    axes.set(xlabel="squared distance", ylabel="triplets")
    axes.legend(loc="upper right")
    return svg(figure)


@styled
def ranks(mined: Mapping[str, Triplets]) -> str:
    """How many negatives are closer than the semi-hard one: share of triplets up to each rank."""
    figure, axes = figure_of(height=2.4)
    for colour, (name, triplets) in zip(COLOURS * len(mined), mined.items(), strict=False):
        counted = (triplets.kind == KINDS.index("semi_hard")) & (triplets.negative_rank >= 0)
        rank = np.sort(triplets.negative_rank[counted])
        if len(rank):
            thin = np.unique(np.linspace(0, len(rank) - 1, 400).astype(int))
            share = 100 * (thin + 1) / len(rank)
            axes.plot(rank[thin], share, color=colour, label=name.removeprefix("triplets/"))
    axes.set(xlabel="rank of the semi-hard negative", ylabel="% of triplets")
    axes.set_xscale("symlog", linthresh=1)
    axes.set(xlim=(0, None), ylim=(0, 102))
    if axes.lines:
        figure.legend(loc="outside upper center", ncols=4)
    return svg(figure)


def spread_apart(values: Sequence[float], gap: float) -> list[float]:
    """Heights at least `gap` apart, in the order of `values` and near them, none below gap / 2."""
    heights = [0.0] * len(values)
    top = np.inf
    for place in sorted(range(len(values)), key=lambda i: -values[i]):
        top = heights[place] = min(values[place], top - gap)
    lift = max(0.0, gap / 2 - min(heights, default=gap))
    return [height + lift for height in heights]


_OFFSET: dict[str, Any] = {"textcoords": "offset points"}


def figure_of(width: float = 5.2, height: float = 2.8) -> tuple[Figure, Axes]:
    """A figure of that many inches and its axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def svg(figure: Figure) -> str:
    """The figure as an <svg> element that takes the page's text colour."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata=NO_METADATA)
    whole = buffer.getvalue()
    return whole[whole.index("<svg") :].replace(INK, "currentColor")
