"""The report's figures: SVG whose text stays text, so that a page can recolour it and shows any script."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .. import plots

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none", "svg.hashsalt": "ltlab", "font.family": ["sans-serif"], "figure.facecolor": "none",
    "axes.facecolor": "none", "savefig.facecolor": "none", "text.parse_math": False,
}  # fmt: skip
LONGEST_NAME = 18  # characters of a class name on a figure


@contextmanager
def figure(rows: int, columns: int, width: float, height: float) -> Iterator[tuple[Figure, Any]]:
    """A figure off screen, and its axes; closed at the end."""
    with mpl.rc_context(STYLE), plt.ioff():
        made, axes = plt.subplots(rows, columns, figsize=(width, height), layout="constrained")
        try:
            yield made, axes
        finally:
            plt.close(made)


def svg(made: Figure) -> str:
    """The figure as an <svg> element, without the XML declaration."""
    text = io.StringIO()
    made.savefig(text, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return text.getvalue()[text.getvalue().index("<svg") :]


def shortened(names: Sequence[str]) -> list[str]:
    """Names of at most `LONGEST_NAME` characters."""
    return [name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…" for name in names]


def counts_figure(counts: Any, names: Sequence[str]) -> str:
    """Training images per class."""
    with figure(1, 1, 8, 3.6) as (made, ax):
        plots.class_counts(counts, names=shortened(names), log=max(counts) > 20 * min(counts), ax=ax)
        return svg(made)


def error_figure(counts: Any, errors: dict[str, Any], names: Sequence[str]) -> str:
    """Error of every class against its training images, of plain training and of the recommended recipe.

    errors: {label: (C,) fractions, NaN where there is nothing to judge by}.
    """
    with figure(1, 1, 8, 4.2) as (made, ax):
        counts = np.asarray(counts, dtype=float)
        looks = [{"marker": "o", "facecolor": "none", "edgecolor": "0.5"}, {"marker": "o", "color": plots.style.BLUE}]
        for (label, error), look in zip(errors.items(), looks[-len(errors) :], strict=True):
            ax.scatter(counts, 100 * np.asarray(error), s=42, label=label, zorder=3, **look)
        if len(errors) == 2:
            before, after = (100 * np.asarray(error) for error in errors.values())
            ax.vlines(counts, before, after, color="0.6", linewidth=1, zorder=2)
        if len(counts) <= plots.NUMBERS_UP_TO:
            _name_points(ax, counts, 100 * np.fmin.reduce(list(errors.values())), shortened(names))
        ax.set_xscale("log")
        ax.set_ylim(-8, 104)
        ax.xaxis.set_major_formatter("{x:,.0f}")
        ax.xaxis.set_minor_formatter("")
        ax.legend(**plots.style.LEGEND_ABOVE)
        plots.dress(ax, xlabel="training images of the class", ylabel="error (%)")
        return svg(made)


def _name_points(ax: Axes, x: np.ndarray, y: np.ndarray, names: Sequence[str]) -> None:
    for place, height, name in zip(x, y, names, strict=True):
        if np.isfinite(height):
            ax.annotate(name, (place, height), (0, -6), textcoords="offset points", ha="center", va="top", fontsize=10)


def reliability_figure(before: Any, after: Any, temperature: float) -> str:
    """Accuracy against confidence, before and after the temperature."""
    with figure(1, 2, 9, 4.6) as (made, axes):
        titles = ("as trained", f"divided by the temperature {temperature:.2f}")
        for ax, bins, title in zip(axes, (before, after), titles, strict=True):
            plots.reliability_diagram(bins, title=title, ax=ax)
        return svg(made)
