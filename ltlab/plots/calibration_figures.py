"""Figures of probabilities: how often a network is right, against how sure it is."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.patches import Patch

from .style import FONT_SIZE, LEGEND_ABOVE, dress, new_axes

ACCURACY_COLOUR, OVER_COLOUR, UNDER_COLOUR = "0.75", "#de8f05", "#56b4e9"


def reliability_diagram(bins: Any, *, title: str = "", ax: Axes | None = None) -> Axes:
    """Accuracy against confidence, bin by bin, with the number of images of every bin below.

    Grey bars are the accuracy. The gap to the mean confidence is orange where the network is over-confident and blue
    where it is under-confident. A black line is where 95 % of the accuracies of a perfectly calibrated network lie,
    p ± 1.96 sqrt(p (1 - p) / n) for a bin of n images of mean confidence p: a gap that ends on it is noise. An empty
    bin has no bar.

    Args:
        bins: of `calibration.reliability`: vectors counts, accuracy and confidence of M bins, and edges of M + 1.
        title: above the legend.
    """
    ax = ax or new_axes(6, 5)
    below = ax.inset_axes((0, -0.42, 1, 0.24))
    ReliabilityBars(ax, below).show(bins)
    ax.legend(handles=gap_signs(), title=title, **LEGEND_ABOVE)
    return ax


def gap_signs() -> list[Patch]:
    """What a legend says of the two colours of a gap."""
    colours = {"over-confident": OVER_COLOUR, "under-confident": UNDER_COLOUR}
    return [Patch(color=colour, label=name) for name, colour in colours.items()]


class ReliabilityBars:
    """The parts of a reliability diagram, in two axes, that change with its bins; `artists` are what moves."""

    def __init__(self, ax: Axes, below: Axes) -> None:
        self.accuracy = PolyCollection([], facecolor=ACCURACY_COLOUR, edgecolor="white", linewidth=0.5)
        self.over = PolyCollection([], facecolor=OVER_COLOUR, edgecolor="white", linewidth=0.5)
        self.under = PolyCollection([], facecolor=UNDER_COLOUR, edgecolor="white", linewidth=0.5)
        self.noise = LineCollection([], color="black", linewidth=1.2)
        self.images = PolyCollection([], facecolor="0.45", edgecolor="white", linewidth=0.5)
        for artist in (self.accuracy, self.over, self.under, self.noise):
            ax.add_collection(artist, autolim=False)
        below.add_collection(self.images, autolim=False)
        ax.plot([0, 1], [0, 1], color="0.45", linewidth=1, linestyle="--")
        ax.set(xlim=(0, 1), ylim=(0, 1.02))
        below.set(xlim=(0, 1), ylim=(0, 1))
        dress(ax, ylabel="accuracy")
        dress(below, xlabel="confidence", ylabel="images")
        below.set_yticks([])
        self.most = below.text(0.01, 0.97, "", va="top", fontsize=FONT_SIZE, transform=below.transAxes)
        self.most.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1})
        self.artists = [self.accuracy, self.over, self.under, self.noise, self.images, self.most]

    def show(self, bins: Any) -> None:
        """Move all parts to these bins; the tallest bar below is the largest bin, whose count is written."""
        edges, n, accuracy, p = (
            np.asarray(x, float) for x in (bins.edges, bins.counts, bins.accuracy, bins.confidence)
        )
        left, right = edges[:-1], edges[1:]
        self.accuracy.set_verts(_boxes(left, right, 0 * p, accuracy, n > 0))
        self.over.set_verts(_boxes(left, right, accuracy, p, p > accuracy))
        self.under.set_verts(_boxes(left, right, p, accuracy, p < accuracy))
        noise = 1.96 * np.sqrt(p * (1 - p) / np.maximum(n, 1))
        ends = np.stack([(p - noise).clip(0, 1), (p + noise).clip(0, 1)], 1)  # (M, 2)
        middle = ((left + right) / 2)[:, None].repeat(2, 1)
        self.noise.set_segments(list(np.stack([middle, ends], 2)[n > 0]))
        self.images.set_verts(_boxes(left, right, 0 * n, n / n.max(), n > 0))
        self.most.set_text(f"largest: {n.max():,.0f}")


def _boxes(left: Any, right: Any, low: Any, high: Any, shown: Any) -> list[Any]:
    """The corners (4, 2) of the rectangles that are shown."""
    corners = np.stack([left, low, left, high, right, high, right, low], 1).reshape(-1, 4, 2)
    return list(corners[shown])
