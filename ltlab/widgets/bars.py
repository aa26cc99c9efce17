"""Bars that move."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes


class Bars:
    """Bars whose heights change, `ax.bar(x, heights, **look)`; black outlines, if asked for, keep the first heights."""

    def __init__(self, ax: Axes, x: Sequence[float], heights: Any, *, outlined: bool = False, **look: Any) -> None:
        heights = np.asarray(heights)
        self.bars = ax.bar(x, heights, **look).patches
        outlines = ax.bar(x, heights, fill=False, edgecolor="black", linewidth=1.5).patches if outlined else []
        self.artists = [*self.bars, *outlines]

    def show(self, heights: Any) -> None:
        """Set all heights, NaN as 0."""
        for bar, height in zip(self.bars, np.nan_to_num(np.asarray(heights)).tolist(), strict=True):
            bar.set_height(height)
