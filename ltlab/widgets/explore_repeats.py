"""Repeat factor sampling: how often an epoch shows each class, at any threshold."""

from collections.abc import Sequence
from typing import Any

import torch

from .. import plots
from ..samplers import repeat_factors
from .explorer import Explorer, blank_figure
from .panels import TITLE, Bars, plot_at
from .sliders import stops

THRESHOLDS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.146, 0.2, 0.3, 0.5)


def repeat_factor_explorer(
    labels: Sequence[torch.Tensor], groups: Any, *, names: Sequence[str] | None = None, threshold: float = 0.1,
    thresholds: Sequence[float] = THRESHOLDS,
) -> Explorer:  # fmt: skip
    """Boxes per class in an epoch, as the data have them and with repeated images.

        r_c = max(1, sqrt(threshold / f_c)), an image as often as the largest r_c of its classes

    Control: the threshold. Left the factors, right the boxes in an epoch, outlines without repeats: frequent classes
    are repeated too, as they are in the same images.

    Args:
        labels: of the objects of every image.
        groups: (C,), 0 rare, 1 common, 2 frequent.
        names: (C,) class names; the class indices if None.
        threshold: where the slider stands, one of `thresholds`.

    Raises:
        ValueError: bad labels, or groups or names that do not fit.
    """
    frequency = plots.frequency_names(groups)
    names = plots.check_names(names, len(frequency))
    colours = [plots.FREQUENCY_COLOURS[group] for group in frequency]
    objects = torch.cat([*labels])
    images = torch.arange(len(labels)).repeat_interleave(torch.tensor([len(each) for each in labels]))
    plain = torch.bincount(objects, minlength=len(names)).double()
    figure = blank_figure(1000, 430)
    most = repeat_factors(labels, max(thresholds))
    left = plot_at(figure, 75, 38, 410, 270, ylabel="repeat factor", ylim=(0, 1.05 * most[1].max().item()))
    factors = Bars(left, [1.0] * len(names), color=colours)
    left.set_title("repeats of a class on its own", **TITLE)
    right = plot_at(figure, 570, 38, 420, 270, ylabel="boxes in an epoch")
    right.set(yscale="log", ylim=(1, 3 * plain.max().item() * most[0].mean().item()))
    boxes = Bars(right, plain, outlined=True, color=colours)
    right.set_title("outlines: every image once", **TITLE)
    for ax in (left, right):
        plots.name_ticks(ax, names, angle=40)

    def update(threshold: float) -> str:
        of_image, of_class = repeat_factors(labels, threshold)
        factors.show([*of_class.tolist(), *[1.0] * (len(names) - len(of_class))])
        shown = torch.zeros(len(names), dtype=torch.float64).index_add(0, objects, of_image[images])
        boxes.show(shown)
        before, after = (counts.max() / counts.clamp(min=1).min() for counts in (plain, shown))
        return (
            f"threshold {threshold:g}: an epoch of {of_image.sum():.0f} images instead of {len(of_image)}; the most "
            f"frequent class has {after:.0f} times as many boxes as the least frequent one, instead of {before:.0f}"
        )

    controls = {"threshold": stops("threshold", threshold, thresholds, description="threshold t")}
    return Explorer(
        controls, figure, update, moving=[factors, boxes], label="Repeat factors and boxes per class in an epoch"
    )
