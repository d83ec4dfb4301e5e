"""Style of all plots: inline SVG in the colours of the page around it."""

import io
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, TypeVar

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

T = TypeVar("T")
COLOURS = ("#2f7ed8", "#e0672f", "#3a9b5c", "#9a5fc0")

INK = "#010203"
"""Stands for the page's text colour, light or dark; `svg` replaces it by currentColor."""

STYLE = {
    "svg.fonttype": "none",
    # A fixed salt and no metadata: the same numbers give the same bytes.
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
NO_METADATA: dict[str, Any] = dict.fromkeys(("Date", "Creator", "Format", "Type"))


def styled(plot: Callable[..., T]) -> Callable[..., T]:
    """Decorate a function so that all its drawing happens in STYLE."""

    @wraps(plot)
    def wrapper(*args: Any) -> T:
        with matplotlib.rc_context(STYLE):  # type: ignore[arg-type]
            return plot(*args)

    return wrapper


def new_figure(width: float = 5.2, height: float = 2.8) -> tuple[Figure, Axes]:
    """A figure of that size in inches, and its axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def svg(figure: Figure) -> str:
    """The figure as an <svg> element that takes the page's text colour."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata=NO_METADATA)
    document = buffer.getvalue()
    return document[document.index("<svg") :].replace(INK, "currentColor")


def mark_round_end(axes: Axes, step: float) -> None:
    """Draw a dotted line where a round ends."""
    axes.axvline(step, color=INK, alpha=0.3, linestyle=":")


def spread_apart(values: Sequence[float], gap: float) -> list[float]:
    """Heights for labels: at least `gap` apart, near `values`, in their order.

    The highest value keeps its height. If the lowest label would come below gap / 2, all are
    lifted.
    """
    heights = [0.0] * len(values)
    top = np.inf
    for position in sorted(range(len(values)), key=lambda i: -values[i]):
        top = heights[position] = min(values[position], top - gap)
    lift = max(0.0, gap / 2 - min(heights, default=gap))
    return [height + lift for height in heights]


def label_line_ends(
    axes: Axes, ends: Sequence[tuple[float, float, str]], colours: Mapping[str, Any]
) -> None:
    """Write the name of each line beside its end, without overlaps.

    Args:
        axes: Axes whose vertical limits are final.
        ends: The last x, the last y and the name of each line; at least one.
        colours: The colour of each name.

    """
    low, high = axes.get_ylim()
    gap = (high - low) / 16
    heights = spread_apart([y - low for _, y, _ in ends], gap)
    right = max(x for x, _, _ in ends)
    for height, (x, y, name) in zip(heights, ends, strict=True):
        colour = colours[name]
        axes.plot([x, right * 1.02], [y, height + low], color=colour, linewidth=0.5, alpha=0.6)
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
