"""Long-tailed data: what imbalance does to a training set, and what real benchmarks look like."""

from collections.abc import Mapping, Sequence
from typing import Any

import ipywidgets
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from .. import plots
from ..data import LongTailedData, benchmark_class_counts, load, long_tail_counts
from ..metrics import class_groups
from .explorer import Explorer, blank_figure, choice

IMBALANCES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60, 80, 100, 120, 150, 200, 256)
COLUMNS = 12  # thumbnails of the most frequent class
ROWS = 10  # classes shown as thumbnails
ON_A_LOG_SCALE = "; the counts on a log scale"


def long_tail_explorer(
    data: LongTailedData | None = None, *, max_count: int = 1000, imbalance: int = 100, many: int = 100, few: int = 20
) -> Explorer:
    """What imbalance does to a training set: images per class, the images themselves, and the groups' shares.

    Controls: imbalance (1 to 256), kind ("exp" or "step"), log (the count axis).

    Each row of thumbnails is one class, and as long as the class is large; the grey rest is what a balanced set would
    have besides. Of more than ten classes, ten are shown, evenly spaced in rank.

    Args:
        data: a balanced pool of images, such as `load("cifar10-lt", imbalance=1)`; the shapes if None.
        max_count: images of the most frequent class.
        imbalance: where the slider begins, one of `IMBALANCES`.
        many, few: the groups' limits, as for `ltlab.metrics.class_groups`.

    Raises:
        ValueError: `imbalance` is not on the slider, `data` has more than 200 classes, or fewer than 12 images of a
            class that is shown.
    """
    if imbalance not in IMBALANCES:
        raise ValueError(f"imbalance={imbalance} is not on the slider: choose one of {IMBALANCES}")
    data = data or load("shapes-lt", imbalance=1, max_count=COLUMNS)
    names, limits = data.class_names, {"many": many, "few": few}
    classes = len(names)
    if classes > plots.BARS_UP_TO:
        raise ValueError(f"data has {classes} classes; the explorer draws one bar each, for at most {plots.BARS_UP_TO}")
    shown = np.linspace(0, classes - 1, min(classes, ROWS)).round().astype(int)

    figure = blank_figure(1000, 440)
    bars = _CountBars(figure.add_axes((0.075, 0.43, 0.42, 0.44)), names, max_count, limits)
    shares = _GroupShares(figure.add_axes((0.075, 0.04, 0.42, 0.17)))
    cells = figure.add_axes((0.58, 0.09, 0.408, 340 / 440))  # 12 x 10 of 34 pixels: images of 32 and a gap of 2
    thumbnails = _Thumbnails(cells, data, shown, max_count)

    def update(imbalance: int, kind: str, log: bool) -> str:
        counts = np.array(long_tail_counts(classes, max_count, imbalance, kind))
        groups = _groups(counts, limits)
        bars.show(counts, groups, log)
        shares.show(counts, groups)
        thumbnails.show(counts)
        rarest = counts[-3:].sum() / counts.sum()
        return (
            f"imbalance {imbalance}, {kind}: {_describe(counts, groups)}; "
            f"the 3 rarest classes hold {rarest:.1%} of the images{ON_A_LOG_SCALE if log else ''}"
        )

    controls = {
        "imbalance": ipywidgets.SelectionSlider(options=IMBALANCES, value=imbalance, description="imbalance"),
        "kind": choice("kind", ("exp", "step")),
        "log": ipywidgets.Checkbox(description="log scale", indent=False),
    }
    moving = bars.artists + thumbnails.artists + shares.artists
    label = "Training images per class, thumbnails of them, and the groups' shares"
    return Explorer(controls, figure, update, moving=moving, label=label)


class _CountBars:
    """Training images per class: bars in the colours of their groups, and numbers."""

    def __init__(self, ax: Axes, names: Sequence[str], max_count: int, limits: Mapping[str, int]) -> None:
        self.ax, self.max_count = ax, max_count
        plots.class_counts([max_count] * len(names), names=names, ax=ax, **limits)
        self.bars, self.numbers = list(ax.patches), list(ax.texts)
        self.artists = self.bars + self.numbers

    def show(self, counts: np.ndarray, groups: Mapping[str, np.ndarray], log: bool) -> None:
        if log != (self.ax.get_yscale() == "log"):
            plots.count_axis(self.ax, self.max_count, log=log)
        for name, mask in groups.items():
            for c in np.flatnonzero(mask):
                self.bars[c].set(height=counts[c], color=plots.GROUP_COLOURS[name])
        for c, number in enumerate(self.numbers):
            number.xy = (c, counts[c])
            number.set_text(f"{counts[c]}")


class _Thumbnails:
    """A row of images for every shown class, and a grey veil over those that are missing."""

    def __init__(self, ax: Axes, data: LongTailedData, shown: np.ndarray, max_count: int) -> None:
        self.shown, self.max_count = shown, max_count
        rows = [(data.train.labels == c).nonzero()[:COLUMNS, 0] for c in shown.tolist()]
        for c, row in zip(shown, rows, strict=True):
            if len(row) < COLUMNS:
                raise ValueError(
                    f"data has {len(row)} training images of class {data.class_names[c]!r} where {COLUMNS} are shown: "
                    "pass a balanced pool, such as load(name, imbalance=1)"
                )
        plots.image_grid(data.train.images[torch.cat(rows)].cpu(), columns=COLUMNS, ax=ax)
        title = f"training images, one of {max_count / COLUMNS:.0f} shown; grey: missing"
        ax.set_title(title, fontsize=plots.FONT_SIZE, loc="left")
        for row, c in enumerate(shown):
            ax.text(-0.15, row + 0.5, data.class_names[c], ha="right", va="center", fontsize=plots.FONT_SIZE)
        self.artists = [ax.add_patch(Rectangle((0, row), 0, 1, color="0.94")) for row in range(len(shown))]

    def show(self, counts: np.ndarray) -> None:
        for veil, share in zip(self.artists, counts[self.shown] / self.max_count, strict=True):
            veil.set(x=COLUMNS * share, width=COLUMNS * (1 - share))


class _GroupShares:
    """Two bars of length 1, of the classes and of the images, each in a piece for every group."""

    def __init__(self, ax: Axes) -> None:
        white = {"color": "white", "ha": "center", "va": "center_baseline", "fontsize": plots.FONT_SIZE}
        colours = plots.GROUP_COLOURS.values()
        self.pieces = [ax.barh(["of the classes", "of the images"], 1, color=c).patches for c in colours]
        self.percents = [[ax.text(0, y, "", **white) for y in (0, 1)] for _ in colours]
        ax.set(xlim=(0, 1), ylim=(1.5, -0.5))
        ax.set_axis_off()
        for y, text in enumerate(("classes", "images")):
            ax.text(-0.01, y, text, ha="right", va="center_baseline", fontsize=plots.FONT_SIZE)
        self.artists = [artist for pair in (*self.pieces, *self.percents) for artist in pair]

    def show(self, counts: np.ndarray, groups: Mapping[str, np.ndarray]) -> None:
        start = np.zeros(2)
        for pieces, percents, mask in zip(self.pieces, self.percents, groups.values(), strict=True):
            widths = np.array([mask.mean(), counts[mask].sum() / counts.sum()])  # of the classes, of the images
            for piece, percent, x, width in zip(pieces, percents, start, widths, strict=True):
                piece.set(x=x, width=width)
                percent.set(x=x + width / 2, text=f"{width:.0%}", visible=width > 0.08)
            start += widths


def real_distributions_explorer(
    counts_by_name: Mapping[str, Any] | None = None, *, many: int = 100, few: int = 20
) -> Explorer:
    """The training images per class of real benchmarks.

    Controls: data set, and log (the count axis).

    Args:
        counts_by_name: data set's name -> (C,) training images per class; if None, ImageNet-LT, iNaturalist 2018,
            Places-LT and CIFAR-100-LT (imbalance 100).
        many, few: the groups' limits, as for `ltlab.metrics.class_groups`.

    Raises:
        ValueError: `counts_by_name` is empty.
    """
    if counts_by_name is None:
        counts_by_name = {
            "ImageNet-LT": benchmark_class_counts("imagenet-lt"),
            "iNaturalist 2018": benchmark_class_counts("inat18"),
            "Places-LT": benchmark_class_counts("places-lt"),
            "CIFAR-100-LT": long_tail_counts(100, 500, 100),
        }
    if not counts_by_name:
        raise ValueError("counts_by_name is empty: give at least one data set's class counts")
    limits = {"many": many, "few": few}
    counts_by_name = {name: np.asarray(counts) for name, counts in counts_by_name.items()}
    figure, panels = blank_figure(900, 400), {}
    for name, counts in counts_by_name.items():  # each drawn once; the chosen one is shown
        panels[name] = figure.add_axes((0.09, 0.15, 0.9, 0.7))
        plots.class_counts(counts, ax=panels[name], **limits)

    def update(data_set: str, log: bool) -> str:
        counts, panel = counts_by_name[data_set], panels[data_set]
        for other in panels.values():
            other.set_visible(other is panel)
        if log != (panel.get_yscale() == "log"):
            plots.count_axis(panel, counts.max(), log=log)
        groups = _groups(counts, limits)
        return (
            f"{data_set}: {len(counts):,} classes, {_describe(counts, groups)}; "
            f"imbalance {counts.max() / counts.min():.0f}; {groups['few'].mean():.1%} of the classes are few-shot"
            f"{ON_A_LOG_SCALE if log else ''}"
        )

    controls = {
        "data_set": choice("data set", counts_by_name, width=140),
        "log": ipywidgets.Checkbox(description="log scale", indent=False),
    }
    label = "Training images per class of a data set, most frequent class first"
    return Explorer(controls, figure, update, moving=panels.values(), label=label)


def _groups(counts: np.ndarray, limits: Mapping[str, int]) -> dict[str, np.ndarray]:
    return {name: mask.numpy() for name, mask in class_groups(counts.tolist(), **limits).items()}


def group_colours(counts: Any) -> list[str]:
    """The colour of every class: that of its group, many, medium or few."""
    groups = class_groups(counts)
    return [next(plots.GROUP_COLOURS[name] for name, mask in groups.items() if mask[c]) for c in range(len(counts))]


def _describe(counts: np.ndarray, groups: Mapping[str, np.ndarray]) -> str:
    sizes = "/".join(f"{mask.sum():,}" for mask in groups.values())
    return (
        f"{counts.sum():,} training images; largest class {counts.max():,}, smallest {counts.min():,}; "
        f"many/medium/few: {sizes} classes"
    )
