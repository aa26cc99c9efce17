"""What all figures share: colours, sizes, axes and the legend above them."""

from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes

BLUE, _ORANGE, _GREEN, _VERMILION, _PURPLE, _BROWN, *_ = sns.color_palette("colorblind").as_hex()
GROUP_COLOURS = {"many": BLUE, "medium": _GREEN, "few": _VERMILION}
FREQUENCY_COLOURS = {"rare": _VERMILION, "common": _GREEN, "frequent": BLUE}  # of LVIS's groups, in order of number
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


def family_colours(families: Iterable[str]) -> dict[str, str]:
    """A colour for every family of recipes that occurs, in the order of `FAMILY_COLOURS`; grey for unknown families."""
    found = set(families)
    known = {family: colour for family, colour in FAMILY_COLOURS.items() if family in found}
    return known | dict.fromkeys(sorted(found - set(known)), "0.4")


def frequency_names(groups: Any) -> list[str]:
    """LVIS's group of every class by its number, 0 rare, 1 common, 2 frequent; ValueError for other numbers."""
    numbers, names = np.asarray(groups), [*FREQUENCY_COLOURS]
    if numbers.ndim != 1 or not np.isin(numbers, range(len(names))).all():
        raise ValueError(f"groups must be one of 0 (rare), 1 (common) and 2 (frequent) per class, got {groups!r:.80}")
    return [names[number] for number in numbers.astype(int)]


def new_axes(width: float, height: float) -> Axes:
    """Axes of a new figure of that many inches."""
    return plt.subplots(figsize=(width, height), layout="constrained")[1]


def dress(ax: Axes, *, xlabel: str = "", ylabel: str = "") -> Axes:
    """Labels that can be read from the back row, and no frame on the right and at the top."""
    ax.set_xlabel(xlabel or ax.get_xlabel(), fontsize=FONT_SIZE)
    ax.set_ylabel(ylabel or ax.get_ylabel(), fontsize=FONT_SIZE)
    ax.tick_params(labelsize=FONT_SIZE)
    sns.despine(ax=ax)
    return ax


def name_ticks(ax: Axes, names: Sequence[str], *, angle: float = 0, **look: Any) -> None:
    """A name under every integer of the x axis, tilted by an angle in degrees; none where too many would overlap."""
    if len(names) <= NAMES_UP_TO:
        tilted = {"rotation": angle, "ha": "right", "rotation_mode": "anchor"} if angle else {}
        ax.set_xticks(range(len(names)), names, **tilted, **look)


def check_names(names: Sequence[str] | None, n: int) -> list[str]:
    """One name per class; without names, the class indices."""
    names = [str(name) for name in (range(n) if names is None else names)]
    if len(names) != n:
        raise ValueError(f"{len(names)} names for {n}: pass one for each")
    return names
