"""Label-aware smoothing: how much each class is smoothed, and how sure the best network then is."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from .. import plots
from ..losses import LabelAwareSmoothingLoss, label_aware_smoothing
from .explorer import Explorer, blank_figure
from .panels import REFERENCE, TITLE, Bars, ByFrequency, check_bars, plot_at
from .sliders import choice, class_slider, slider

SHAPES = ("concave", "linear", "convex")
SPREADS = (("all (code)", "all"), ("others (paper)", "others"))
HIGHEST = 10.0  # of the axis of logit gaps; an infinite one ends there


def smoothing_explorer(
    class_counts: Any, *, head: float = 0.4, tail: float = 0.1, names: Sequence[str] | None = None
) -> Explorer:
    """Smoothing, target and optimal logit gap of every class under `losses.LabelAwareSmoothingLoss`.

    Controls: head and tail (0 to 0.8), shape, what the smoothing is spread over, and the class whose target is shown.
    A tail above the head, which the loss refuses, is drawn as equal to it.

    Left, smoothing against training images; middle, by how much the label's logit is above all others where the loss is
    least, log(target of the label / target of another class); right, the target of the chosen class.

    Args:
        class_counts: (C,) training images per class, above zero, of at least two classes.
        head, tail: where the sliders start.
        names: (C,) class names; the class indices if None.

    Raises:
        ValueError: fewer than two classes or more than 200, bad counts, a number of names that is not that of classes,
            or a start that is not on its slider.
    """
    classes = ByFrequency(class_counts, names)
    check_bars(len(classes))
    counts, n = classes.counts.double(), len(classes)
    if n < 2:
        raise ValueError(f"class_counts must be of at least two classes, got {n}")
    low, high = counts.min().item(), counts.max().item()
    grid = torch.linspace(low, high, 200, dtype=torch.float64)
    figure = blank_figure(1000, 400)
    left = plot_at(figure, 65, 34, 250, 270, xlabel="training images", ylabel="smoothing")
    margin = 0.04 * (high - low) or 0.5
    left.set(xlim=(low - margin, high + margin), ylim=(0, 1))
    (curve,) = left.plot([], [], **REFERENCE)
    dots = left.scatter(counts, 0 * counts, c=classes.colours, zorder=3)
    middle = plot_at(figure, 385, 34, 270, 270, ylabel="optimal logit gap")
    middle.set_title(f"cross-entropy: infinite (drawn as {HIGHEST:g})", **TITLE)
    gaps = _bars(middle, classes, HIGHEST)
    target = _bars(plot_at(figure, 730, 34, 260, 270, ylabel="target"), classes, 1.02)

    def update(head: float, tail: float, shape: Any, spread: Any, rank: int) -> str:
        used = min(head, tail)
        rows = _targets(counts, head, used, shape, spread)
        gap = _gaps(rows)
        curve.set_data(grid.numpy(), label_aware_smoothing(grid, head, used, shape))
        dots.set_offsets(np.stack([counts.numpy(), label_aware_smoothing(counts, head, used, shape)], 1))
        gaps.show(gap.clamp(max=HIGHEST))
        target.show(rows[rank])
        row, said = rows[rank], f", tail drawn as {head:.2f}, not above the head" if tail > head else ""
        return (
            f"head {head:.2f}, tail {tail:.2f}{said}, {shape}: {classes.names[rank]} ({counts[rank]:,.0f} training "
            f"images) has the target {row[rank]:.3f} for its label and {row[rank - 1]:.3f} for another class, so the "
            f"optimal logit gap is {_number(gap[rank])}; over all classes {_number(gap.min())} to {_number(gap.max())}"
        )

    controls = {
        "head": slider("head", head, 0, 0.8, 0.05, readout_format=".2f"),
        "tail": slider("tail", tail, 0, 0.8, 0.05, readout_format=".2f"),
        "shape": choice("shape", SHAPES),
        "spread": choice("spread over", SPREADS),
        "rank": class_slider("class", classes.names, range(n), 0),
    }
    moving = [curve, dots, gaps, target]
    return Explorer(controls, figure, update, moving=moving, label="Label-aware smoothing and the optimal logit gap")


def _bars(ax: Axes, classes: ByFrequency, top: float) -> Bars:
    """A bar per class, the most frequent one first, on an axis from 0 to `top`."""
    ax.set(ylim=(0, top), xlim=(-0.6, len(classes) - 0.4))
    plots.name_ticks(ax, classes.names, angle=60)
    if len(classes) > plots.NAMES_UP_TO:
        ax.set_xlabel("class, most frequent first")
    return Bars(ax, [0] * len(classes), color=classes.colours)


def _targets(counts: Tensor, head: float, tail: float, shape: Any, spread: Any) -> Tensor:
    """The smoothed label of every class, a row each, (C, C)."""
    smoothing = LabelAwareSmoothingLoss(counts, head, tail, shape, spread).smoothing.double()[:, None]  # (C, 1)
    return (1 - smoothing) * torch.eye(len(counts), dtype=torch.float64) + smoothing / len(counts)


def _gaps(targets: Tensor) -> Tensor:
    """log(target of the label / target of another class) of every row, (C,); infinite without smoothing."""
    own = targets.diagonal()
    other = (1 - own) / (len(own) - 1)
    return (own / other).log()


def _number(gap: Tensor) -> str:
    return "infinite" if gap.isinf() else f"{gap:.2f}"
