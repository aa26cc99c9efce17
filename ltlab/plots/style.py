"""What all figures share: colours, sizes, axes and the legend above them."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.axes import Axes

BLUE, _ORANGE, _GREEN, _VERMILION, _PURPLE, _BROWN, *_ = sns.color_palette("colorblind").as_hex()
GROUP_COLOURS = {"many": BLUE, "medium": _GREEN, "few": _VERMILION}
FAMILY_COLOURS = {
    "baseline": "black", "re-weighting": _VERMILION, "re-sampling": BLUE, "mixup": _ORANGE, "two-stage": _GREEN,
    "cam": _PURPLE, "combinations": _BROWN,
}  # fmt: skip
FAMILY_MARKERS = {
    "re-weighting": "s", "re-sampling": "o", "mixup": "D", "two-stage": "^", "cam": "v", "combinations": "P",
}  # fmt: skip
FONT_SIZE = 12  # points
BARS_UP_TO = 200  # classes; more bars would be narrower than a pixel, so a filled step line replaces them
NAMES_UP_TO = 25  # classes whose names fit under an axis
NUMBERS_UP_TO = 12  # classes whose numbers fit on bars and cells

LEGEND_ABOVE = {  # a legend above the axes, where no bar can reach it
    "loc": "lower left", "bbox_to_anchor": (0, 1.0), "ncols": 4, "frameon": False, "alignment": "left",
    "fontsize": FONT_SIZE, "title_fontsize": FONT_SIZE, "handlelength": 1.2, "columnspacing": 1.2,
    "borderaxespad": 0.2, "borderpad": 0, "handletextpad": 0.6,
}  # fmt: skip


def family_colours(families: Sequence[str]) -> dict[str, str]:
    """A colour for every family of recipes that occurs, in the order of `FAMILY_COLOURS`."""
    there = set(families)
    return {family: colour for family, colour in FAMILY_COLOURS.items() if family in there} | {
        family: "0.4" for family in sorted(there - set(FAMILY_COLOURS))
    }


def new_axes(width: float, height: float) -> Axes:
    """Axes of a new figure of that many inches."""
    return plt.subplots(figsize=(width, height), layout="constrained")[1]


def dress(ax: Axes, *, xlabel: str | None = None, ylabel: str | None = None) -> Axes:
    """Labels large enough for the back row, and no frame on the right and above."""
    if xlabel:
        ax.set_xlabel(xlabel)
    if ylabel:
        ax.set_ylabel(ylabel)
    for label in (ax.xaxis.label, ax.yaxis.label):
        label.set_size(FONT_SIZE)
    ax.tick_params(labelsize=FONT_SIZE)
    sns.despine(ax=ax)
    return ax


def check_names(names: Sequence[str] | None, n: int) -> list[str]:
    """One name per class; without names, the class indices."""
    names = [str(name) for name in (range(n) if names is None else names)]
    if len(names) != n:
        raise ValueError(f"{len(names)} names for {n}: give one each")
    return names
