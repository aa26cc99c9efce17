"""Long-tailed data: what imbalance does to a training set, and what real benchmarks look like."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from .. import plots
from ..data import LongTailedData, benchmark_class_counts, load, long_tail_counts
from ..metrics import class_groups
from .explorer import Explorer, blank_figure
from .panels import axes_at, check_bars, data_sets
from .sliders import choice, stops, switch

IMBALANCES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60, 80, 100, 120, 150, 200, 256)
THUMBNAILS, CLASSES_SHOWN = 12, 10  # of the most frequent class, and in how many rows


def long_tail_explorer(
    data: LongTailedData | None = None, *, max_count: int = 1000, imbalance: int = 100, many: int = 100, few: int = 20
) -> Explorer:
    """What imbalance does to a training set: images per class, the images themselves, and the groups' fractions.

    Controls: imbalance (1 to 256), kind ("exp" or "step"), log (the count axis).

    Each row of thumbnails is one class, and its length is the size of the class; the grey rest is what a balanced set
    would have in addition. Of more than ten classes, ten are shown, evenly spaced in rank.

    Args:
        data: a balanced pool of images, such as `load("cifar10-lt", imbalance=1)`; the shapes if None.
        max_count: images of the most frequent class.
        imbalance: where the slider starts, one of `IMBALANCES`.
        many, few: the groups' limits, as for `ltlab.metrics.class_groups`.

    Raises:
        ValueError: `imbalance` is not on the slider, or `data` has more than 200 classes, or fewer than 12 images of a
            class that is shown.
    """
    data = data or load("shapes-lt", imbalance=1, max_count=THUMBNAILS)
    limits, classes = {"many": many, "few": few}, len(data.class_names)
    check_bars(classes)
    shown = np.linspace(0, classes - 1, min(classes, CLASSES_SHOWN)).round().astype(int)

    figure = blank_figure(1000, 440)
    bars = axes_at(figure, 75, 57, 420, 194)
    plots.class_counts([max_count] * classes, names=data.class_names, ax=bars, many=many, few=few)
    numbers: Any = bars.texts  # annotations
    fractions = _GroupFractions(axes_at(figure, 75, 348, 420, 75))
    veils = _thumbnails(axes_at(figure, 580, 60, 408, 340), data, shown, max_count)  # 34 pixels each, of them 2 a gap

    def update(imbalance: int, kind: str, log: bool) -> str:
        counts = np.array(long_tail_counts(classes, max_count, imbalance, kind))
        if log != (bars.get_yscale() == "log"):
            plots.count_axis(bars, max_count, log=log)
        for bar, count, colour in zip(bars.patches, counts, plots.group_colours(counts, **limits), strict=True):
            bar.set(height=count, color=colour)
        for c, number in enumerate(numbers):
            number.xy = (c, counts[c])
            number.set_text(f"{counts[c]}")
        fractions.show(counts, _groups(counts, limits))
        for veil, fraction in zip(veils, counts[shown] / max_count, strict=True):
            veil.set(x=THUMBNAILS * fraction, width=THUMBNAILS * (1 - fraction))
        tail = counts[-3:].sum() / counts.sum()
        words = f"imbalance {imbalance}, {kind}: {_describe(counts, limits)}"
        return f"{words}; the 3 least frequent classes hold {tail:.1%} of the images{_scale(log)}"

    controls = {
        "imbalance": stops("imbalance", imbalance, IMBALANCES),
        "kind": choice("kind", ("exp", "step")),
        "log": switch("log scale"),
    }
    label = "Training images per class, thumbnails of them, and the groups' fractions"
    return Explorer(controls, figure, update, moving=[*bars.patches, *numbers, *veils, fractions], label=label)


def _thumbnails(ax: Axes, data: LongTailedData, shown: np.ndarray, max_count: int) -> list[Any]:
    """A row of images for every class that is shown; the grey veils over those that are missing."""
    rows = [(data.train.labels == c).nonzero()[:THUMBNAILS, 0] for c in shown.tolist()]
    for c, row in zip(shown, rows, strict=True):
        if len(row) < THUMBNAILS:
            raise ValueError(
                f"data has {len(row)} training images of class {data.class_names[c]!r} where {THUMBNAILS} are shown: "
                "pass a balanced pool, such as load(name, imbalance=1)"
            )
    plots.image_grid(data.train.images[torch.cat(rows)].cpu(), columns=THUMBNAILS, ax=ax)
    title = f"training images, one of {max_count / THUMBNAILS:.0f} shown; grey: missing"
    ax.set_title(title, fontsize=plots.FONT_SIZE, loc="left")
    for row, c in enumerate(shown):
        ax.text(-0.15, row + 0.5, data.class_names[c], ha="right", va="center", fontsize=plots.FONT_SIZE)
    return [ax.add_patch(Rectangle((0, row), 0, 1, color="0.94")) for row in range(len(shown))]


class _GroupFractions:
    """Two bars of length 1, of the classes and of the images, each in a piece for every group."""

    def __init__(self, ax: Axes) -> None:
        white = {"color": "white", "ha": "center", "va": "center_baseline", "fontsize": plots.FONT_SIZE}
        colours = plots.GROUP_COLOURS.values()
        self.pieces = [ax.barh(["classes", "images"], 1, color=c).patches for c in colours]
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
    benchmarks = {"ImageNet-LT": "imagenet-lt", "iNaturalist 2018": "inat18", "Places-LT": "places-lt"}
    given = data_sets(counts_by_name, lambda: {
        **{title: benchmark_class_counts(name) for title, name in benchmarks.items()},
        "CIFAR-100-LT": long_tail_counts(100, 500, 100),
    })  # fmt: skip
    all_counts, limits = {name: np.asarray(counts) for name, counts in given.items()}, {"many": many, "few": few}
    figure = blank_figure(900, 400)
    panels = {  # each drawn once; the chosen one is shown
        name: plots.class_counts(counts, ax=axes_at(figure, 81, 60, 810, 280), many=many, few=few)
        for name, counts in all_counts.items()
    }

    def update(data_set: str, log: bool) -> str:
        counts, panel = all_counts[data_set], panels[data_set]
        for other in panels.values():
            other.set_visible(other is panel)
        if log != (panel.get_yscale() == "log"):
            plots.count_axis(panel, counts.max(), log=log)
        return (
            f"{data_set}: {len(counts):,} classes, {_describe(counts, limits)}; imbalance "
            f"{counts.max() / counts.min():.0f}; {_groups(counts, limits)['few'].mean():.1%} of the classes are "
            f"few-shot{_scale(log)}"
        )

    controls = {"data_set": choice("data set", all_counts), "log": switch("log scale")}
    label = "Training images per class of a data set, most frequent class first"
    return Explorer(controls, figure, update, moving=panels.values(), label=label)


def _groups(counts: np.ndarray, limits: Mapping[str, int]) -> dict[str, np.ndarray]:
    return {name: mask.numpy() for name, mask in class_groups(counts.tolist(), **limits).items()}


def _describe(counts: np.ndarray, limits: Mapping[str, int]) -> str:
    sizes = "/".join(f"{mask.sum():,}" for mask in _groups(counts, limits).values())
    return (
        f"{counts.sum():,} training images; largest class {counts.max():,}, smallest {counts.min():,}; "
        f"many/medium/few: {sizes} classes"
    )


def _scale(log: bool) -> str:
    return "; the counts on a log scale" if log else ""
