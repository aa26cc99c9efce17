"""Images with boxes, side by side."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from .image_figures import image_grid
from .style import FREQUENCY_COLOURS, check_names, frequency_names, new_axes


def box_grid(
    images: Any, boxes: Sequence[Any], labels: Sequence[Any], groups: Any, *, names: Sequence[str] | None = None,
    columns: int = 6, ax: Axes | None = None,
) -> Axes:  # fmt: skip
    """Images with the boxes and names of their objects, in the colours of rare, common and frequent classes.

    Args:
        images: uint8 (N, 3, H, W).
        boxes, labels: of the objects of every image, (n_i, 4) as (x1, y1, x2, y2) in pixels, and (n_i,).
        groups: (C,), 0 rare, 1 common, 2 frequent.
        names: (C,) class names; the class indices if None.
        columns: images per row.
    """
    frequency = frequency_names(groups)
    names = check_names(names, len(frequency))
    height, width = np.shape(images)[2:]
    columns = min(columns, len(boxes))
    gap = -(-width // 16)  # as `image_grid` has it, also above an image
    if ax is None:
        ax = new_axes(1.9 * columns, 1.9 * -(-len(boxes) // columns) * (height + gap) / (width + gap))
    ax = image_grid(images, columns=columns, ax=ax)
    for k, (corners, kinds) in enumerate(zip(boxes, labels, strict=True)):
        for (x1, y1, x2, y2), kind in zip(np.asarray(corners), np.asarray(kinds), strict=True):
            x = k % columns + np.array([x1, x2, x2, x1, x1]) / (width + gap)
            y = k // columns + (gap + np.array([y1, y1, y2, y2, y1])) / (height + gap)
            for colour, line_width in (("white", 3), (FREQUENCY_COLOURS[frequency[kind]], 1.6)):
                ax.add_collection(LineCollection([np.stack([x, y], 1)], colors=colour, linewidths=line_width))
            style = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.8}
            ax.text(x[0], y[0] - 0.01, names[kind], fontsize=9, va="bottom", bbox=style)
    return ax
