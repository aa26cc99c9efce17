"""Figures of classes: how many images, how many mistakes, and which."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import StrMethodFormatter

from . import style
from .style import BARS_UP_TO, FONT_SIZE, GROUP_COLOURS, NUMBERS_UP_TO, check_names, dress, new_axes


def class_counts(
    counts: Any, *, names: Sequence[str] | None = None, log: bool = False, many: int = 100, few: int = 20,
    ax: Axes | None = None,
) -> Axes:  # fmt: skip
    """Training images per class, the most frequent class first, coloured by many, medium and few.

    Args:
        counts: (C,) training images per class.
        names: (C,) class names; written while there are at most 25 classes.
        log: whether the count axis is logarithmic; a class without images is then invisible.
        many, few: a class with more than `many` images is many-shot, with fewer than `few` few-shot.

    Up to 12 classes carry their count as a number; beyond 200 classes the bars become a filled step line.

    Raises:
        ValueError: `counts` is not a vector of numbers of at least 0, or `names` has another length.
    """
    counts = _in_class_order(counts)
    ax = ax or new_axes(8, 4)
    order = _class_bars(ax, counts, counts, names, many, few)
    count_axis(ax, counts.max(), log=log)
    if len(counts) <= NUMBERS_UP_TO:
        _number_bars(ax, counts[order])
    _group_legend(ax, many, few)
    return dress(ax, ylabel="training images")


def count_axis(ax: Axes, largest: float, *, log: bool) -> None:
    """Scale the y axis for counts up to `largest`, with room for a number on the largest bar."""
    if log:
        ax.set_yscale("log")
        ax.set_ylim(0.5, 2 * largest)  # from a half, so that a class with one image still shows
    else:
        ax.set_yscale("linear")
        ax.set_ylim(0, 1.1 * largest)
    ax.yaxis.set_major_formatter(StrMethodFormatter("{x:.0f}"))


def per_class_error(
    error: Any, counts: Any, *, names: Sequence[str] | None = None, many: int = 100, few: int = 20,
    ax: Axes | None = None,
) -> Axes:  # fmt: skip
    """Top-1 error of every class, the most frequent class first, with the mean over classes as a line.

    Args:
        error: (C,) fractions in [0, 1]; NaN where a class has no test image: it has no bar and is left out of the mean.
        counts: (C,) training images per class; they give order and colour.
        names, many, few: as for `class_counts`.

    On a balanced test set the mean over classes is the top-1 error. Beyond 200 classes single errors look like noise:
    they turn pale, and a black line shows their mean over the nearest hundredth of the classes.

    Raises:
        ValueError: an error outside [0, 1], vectors of different lengths, or nothing but NaN.
    """
    counts, error = _in_class_order(counts), np.asarray(error, dtype=float)
    if error.shape != counts.shape:
        raise ValueError(f"error has shape {error.shape} but counts has {counts.shape}: give one error per class")
    if np.isnan(error).all() or ((error < 0) | (error > 1)).any():
        raise ValueError(f"error={error} must hold fractions in [0, 1], not percent, and not only NaN")
    ax = ax or new_axes(8, 4)
    order = _class_bars(ax, 100 * error, counts, names, many, few)
    mean = 100 * np.nanmean(error)
    line = ax.axhline(mean, color="black", linewidth=1.5, linestyle="--", label=f"mean {mean:.1f} %")
    if len(counts) <= NUMBERS_UP_TO:
        _number_bars(ax, 100 * error[order])
    elif len(counts) > BARS_UP_TO:
        plt.setp(ax.patches, alpha=0.4)
        local = pd.Series(100 * error[order]).rolling(len(counts) // 100, center=True, min_periods=1).mean()
        ax.plot(local, color="black", linewidth=1.5)
    _group_legend(ax, many, few, line)
    ax.set_ylim(0, 108 if len(counts) <= NUMBERS_UP_TO else 100)  # room for a number on a bar of 100 %
    ax.set_yticks(range(0, 101, 20))
    return dress(ax, ylabel="top-1 error (%)")


def confusion_matrix(
    matrix: Any, names: Sequence[str] | None = None, *, normalise: bool = True, ax: Axes | None = None
) -> Axes:
    """Heat map of how often test images of a true class (row) are predicted as each class (column).

    Args:
        matrix: (C, C) counts, rows are true classes.
        names: (C,) class names in the matrix's order; written while there are at most 25 classes.
        normalise: each row in percent of its sum, blank for a class without test images; otherwise the counts.

    Cells carry their number while there are at most 12 classes.

    Raises:
        ValueError: `matrix` is not square or holds a negative count, or `names` has another length.
    """
    matrix = np.asarray(matrix, dtype=float)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not (matrix >= 0).all():
        raise ValueError(f"matrix of shape {matrix.shape} must be square and hold counts of at least 0")
    classes = len(matrix)
    names = check_names(names, classes)
    if normalise:
        total = matrix.sum(axis=1, keepdims=True)
        matrix = 100 * np.divide(matrix, total, out=np.full_like(matrix, np.nan), where=total > 0)
    side = min(max(0.65 * classes, 5), 9)
    ax = ax or new_axes(side + 1.5, side)
    ticks = names if classes <= style.NAMES_UP_TO else False
    sns.heatmap(
        matrix, ax=ax, cmap="cividis", vmin=0, vmax=100 if normalise else None, square=True, rasterized=True,
        annot=classes <= NUMBERS_UP_TO, fmt=".0f", annot_kws={"fontsize": FONT_SIZE},
        xticklabels=ticks, yticklabels=ticks,
        cbar_kws={"label": "fraction of the true class (%)" if normalise else "test images"},
    )  # fmt: skip
    colours: Any = ax.collections[0]
    style.dress(colours.colorbar.ax)
    dress(ax, xlabel="predicted class", ylabel="true class")
    plt.setp(ax.get_xticklabels(), rotation=45, ha="right", rotation_mode="anchor")
    plt.setp(ax.get_yticklabels(), rotation=0)
    return ax


def group_colours(counts: Any, *, many: int = 100, few: int = 20) -> list[str]:
    """The colour of every class's group, many, medium or few, by its training images, (C,)."""
    counts, colours = _in_class_order(counts), [*GROUP_COLOURS.values()]
    return [colours[group] for group in (counts <= many).astype(int) + (counts < few)]


def _in_class_order(counts: Any) -> np.ndarray:
    from ..counts import in_class_order  # here, as it imports torch

    return _vector("counts", in_class_order(counts, "counts").numpy(force=True))


def _vector(name: str, values: Any) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or not values.size or not (np.isfinite(values) & (values >= 0)).all():
        raise ValueError(f"{name} of shape {values.shape} must be a vector of one number of at least 0 per class")
    return values


def _group_legend(ax: Axes, many: int, few: int, *more: Any) -> None:
    """The groups' colours above the axes, and other handles."""
    labels = (f"many (> {many})", f"medium ({few} to {many})", f"few (< {few})")
    patches = [Patch(color=c, label=label) for c, label in zip(GROUP_COLOURS.values(), labels, strict=True)]
    ax.legend(handles=[*patches, *more], title="training images of a class", **style.LEGEND_ABOVE)


def _class_bars(
    ax: Axes, heights: np.ndarray, counts: np.ndarray, names: Sequence[str] | None, many: int, few: int
) -> np.ndarray:
    """Bars of `heights` by descending `counts` in the groups' colours. Returns the order, (C,) class indices."""
    classes = len(counts)
    names = check_names(names, classes)
    order = np.argsort(-counts, kind="stable")
    heights, colours = heights[order], group_colours(counts[order], many=many, few=few)
    if classes <= BARS_UP_TO:
        ax.bar(range(classes), heights, width=0.85 if classes <= 50 else 1.0, color=colours)
    else:
        start = 0
        for colour in GROUP_COLOURS.values():
            stop = start + colours.count(colour)
            ax.stairs(heights[start:stop], np.arange(start, stop + 1) - 0.5, fill=True, color=colour)
            start = stop
    ax.set_xlim(-0.6, classes - 0.4)
    one_line = max(map(len, names)) * classes <= 60  # about the characters that fit
    style.name_ticks(ax, [names[c] for c in order], angle=0 if one_line else 35)
    ax.set_xlabel("class, most frequent first")
    return order


def _number_bars(ax: Axes, heights: np.ndarray) -> None:
    look: dict[str, Any] = {"xytext": (0, 2), "textcoords": "offset points", "ha": "center", "fontsize": FONT_SIZE - 1}
    for x, height in enumerate(heights):
        if np.isfinite(height):
            ax.annotate(f"{height:.0f}", (x, height), **look)
