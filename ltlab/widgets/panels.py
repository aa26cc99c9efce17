"""The parts that explorers draw with: axes placed in pixels, classes by frequency, bars that move."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from .. import plots
from ..calibration import signed_gap
from ..counts import as_counts, in_class_order
from ..metrics import class_groups, group_accuracy, top1_error
from .explorer import CSS_DPI

REFERENCE = {"color": "0.45", "linewidth": 1.5}  # of lines to compare with
LEGEND = {"frameon": False, "fontsize": plots.FONT_SIZE, "handlelength": 1.8, "borderaxespad": 0.2}
A_COLOUR, B_COLOUR = "#832db6", "#a96b59"  # of a pair; blue, green and vermilion belong to the groups
SIGNS = LEGEND | {"loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": 2, "handlelength": 1, "columnspacing": 1}
TITLE = {"fontsize": plots.FONT_SIZE, "loc": "left"}


def axes_at(figure: Figure, left: float, top: float, width: float, height: float, **settings: Any) -> Axes:
    """Axes in CSS pixels, `left` and `top` from the figure's upper left corner."""
    w, h = CSS_DPI * figure.get_size_inches()
    return figure.add_axes((left / w, 1 - (top + height) / h, width / w, height / h), **settings)


def plot_at(
    figure: Figure, left: float, top: float, width: float, height: float, *, xlabel: str = "", ylabel: str = "",
    **settings: Any,
) -> Axes:  # fmt: skip
    """The same, dressed as the figures of `plots`: large labels, no frame on the right and above."""
    return plots.dress(axes_at(figure, left, top, width, height, **settings), xlabel=xlabel, ylabel=ylabel)


def check_bars(classes: int) -> None:
    """ValueError where there are more classes than an explorer can draw a bar for."""
    if classes > plots.BARS_UP_TO:
        raise ValueError(f"{classes} classes: the explorer draws a bar for each, at most {plots.BARS_UP_TO}")


class ByFrequency:
    """Classes in the order of their training images, the most frequent first.

    Args:
        class_counts: (C,) training images per class.
        names: (C,) class names; the class indices if None.

    Raises:
        ValueError: bad counts, or the number of names is not that of classes.
    """

    def __init__(self, class_counts: Any, names: Sequence[str] | None = None) -> None:
        counts = in_class_order(class_counts).cpu()
        names = plots.check_names(names, len(counts))
        self.order = counts.argsort(descending=True, stable=True)  # (C,) class indices
        self.rank = self.order.argsort()  # (C,) the place of each class
        self.counts = counts[self.order]
        self.names = [names[c] for c in self.order]
        self.colours = plots.group_colours(self.counts)

    def __len__(self) -> int:
        return len(self.names)


class Bars:
    """Bars whose heights change, `ax.bar(x, heights, **look)`; black outlines, if asked for, keep the first heights."""

    def __init__(self, ax: Axes, heights: Any, *, x: Any = None, outlined: bool = False, **look: Any) -> None:
        heights = np.asarray(heights)
        x = range(len(heights)) if x is None else x
        self.ax, self.bars = ax, ax.bar(x, heights, **look).patches
        outlines = ax.bar(x, heights, fill=False, edgecolor="black", linewidth=1.5).patches if outlined else []
        self.artists: list[Any] = [*self.bars, *outlines]

    def show(self, heights: Any, colours: Sequence[str] = ()) -> None:
        """Set all heights, NaN as 0, and all colours if there are any."""
        for bar, height in zip(self.bars, np.nan_to_num(np.asarray(heights)).tolist(), strict=True):
            bar.set_height(height)
        for bar, colour in zip(self.bars, colours, strict=False):
            bar.set_color(colour)


class GroupBars:
    """Bars of all images and of the groups of classes, in percent, with their numbers; outlines keep the first heights.

    Args:
        left, width: CSS pixels of the axes.
        values: {"all" or the name of a group: percent}, which the outlines keep.
        ylim: the lower and upper end of the axis; numbers stand above bars, and below those that hang.
    """

    def __init__(
        self, figure: Figure, left: float, width: float, values: Mapping[str, float], ylabel: str,
        ylim: tuple[float, float] = (0, 108),
    ) -> None:  # fmt: skip
        colours = [({"all": "0.45"} | plots.GROUP_COLOURS)[name] for name in values]
        ticks = range(-100, 101, 20)
        self.ax = plot_at(figure, left, 38, width, 266, ylabel=ylabel)
        self.ax.set(ylim=ylim, yticks=[tick for tick in ticks if ylim[0] <= tick <= ylim[1]])
        self.ax.set_xlim(-0.6, len(values) - 0.4)
        self.bars = Bars(self.ax, [*values.values()], outlined=True, color=colours)
        plots.name_ticks(self.ax, [*values])
        style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": plots.FONT_SIZE}
        style["bbox"] = {"facecolor": "white", "edgecolor": "none", "pad": 1}  # no outline strikes a number through
        self.numbers = [self.ax.text(x, 0, "", **style) for x in range(len(values))]
        self.artists: list[Any] = [*self.bars.artists, *self.numbers]

    def show(self, values: Iterable[float], form: str = ".1f") -> None:
        """Set all heights, and the numbers to them in a format."""
        heights = [*values]
        self.bars.show(heights)
        for number, height in zip(self.numbers, heights, strict=True):
            number.set(text=f"{height:{form}}".replace("-", "−"), y=height + (5 if height >= 0 else -5))


class ByGroup:
    """Error, and confidence minus accuracy, of logits (N, C) in percent: {"all" or the name of a group: value}.

    Args:
        labels: (N,) int64, of every class.
        class_counts: (C,) training images per class, above zero.

    Raises:
        ValueError: bad counts, or a class without an image.
    """

    def __init__(self, labels: Tensor, class_counts: Any) -> None:
        self.labels, self.counts = labels.cpu(), as_counts(class_counts).cpu()
        self.images = torch.bincount(self.labels, minlength=len(self.counts))  # (C,)
        if (self.images == 0).any():
            raise ValueError(f"labels: class {int(self.images.argmin())} has no image, so nothing can be said of it")
        groups = {name: mask for name, mask in class_groups(self.counts).items() if mask.any()}
        self.groups = {"all": torch.ones_like(self.counts, dtype=torch.bool)} | groups

    def errors(self, logits: Tensor) -> dict[str, float]:
        """Top-1 error."""
        accuracy = {"all": 1 - top1_error(logits, self.labels)} | group_accuracy(logits, self.labels, self.counts)
        return {name: 100 * (1 - accuracy[name]) for name in self.groups}

    def gaps(self, logits: Tensor) -> dict[str, float]:
        """Mean confidence minus accuracy."""
        return {name: 100 * gap for name, gap in signed_gap(logits, self.labels, self.groups).items()}


class OverTau:
    """A curve over tau, its least value, and where the slider stands.

    Args:
        taus: (T,), where the curve is known.
        ylim: the lower and upper end of the axis; the dot stays below the upper one.
    """

    def __init__(self, figure: Figure, taus: Tensor, ylim: tuple[float, float], *, xlabel: str, ylabel: str) -> None:
        self.taus, self.ylim = taus, ylim
        ax = plot_at(figure, 722, 38, 256, 266, xlabel=xlabel, ylabel=ylabel)
        ax.set(xlim=(0, 2), ylim=ylim, xticks=[0, 0.5, 1, 1.5, 2])
        ax.set_title("line: least; dot: the slider", **TITLE)
        colour = plots.GROUP_COLOURS["many"]
        (self.curve,) = ax.plot([], [], color=colour)
        (self.least,) = ax.plot([], [], **REFERENCE, linestyle="--")
        (self.here,) = ax.plot([], [], color=colour, marker="o", markersize=8, linestyle="")
        self.artists = [self.curve, self.least, self.here]

    def show(self, values: Tensor, tau: float) -> float:
        """Draw the values, (T,); the tau of the least one."""
        best = self.taus[values.argmin()].item()
        self.curve.set_data(self.taus.tolist(), values.tolist())
        self.least.set_data([best, best], self.ylim)
        at = int((self.taus - tau).abs().argmin())
        self.here.set_data([tau], [min(values[at].item(), self.ylim[1])])
        return best


def data_sets(counts_by_name: Mapping[str, Any] | None, default: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Class counts by the name of a data set; ValueError where there are none."""
    found = default() if counts_by_name is None else dict(counts_by_name)
    if not found:
        raise ValueError("counts_by_name is empty: pass the class counts of at least one data set")
    return found
