"""Small images with crisp pixels, drawn fast enough to move."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib.transforms import IdentityTransform


class Pixels(AxesImage):
    """An image whose every pixel is a crisp rectangle: `AxesImage` with interpolation "nearest", without a resampling.

    Which image pixel is shown at a drawn pixel depends only on its row and its column, so the picture is one indexing
    of the colours. The axes must be linear, from left to right.
    """

    def make_image(self, renderer: Any, magnification: float = 1.0, unsampled: bool = False) -> tuple:
        colours = self.to_rgba(np.ma.asarray(self.get_array()), alpha=self.get_alpha(), bytes=True)  # (H, W, 4)
        colours = np.ascontiguousarray(colours).view(np.uint32)[..., 0]  # a pixel moves as one number
        x0, x1, y0, y1 = self.get_extent()
        (left, bottom), (right, top) = self.axes.transData.transform([(x0, y0), (x1, y1)])
        height, width = colours.shape
        rows = height - 1 - _nearest(bottom, top, height)  # drawn from below
        drawn = colours.take(_nearest(left, right, width), axis=1).take(rows, axis=0)
        return drawn.view(np.uint8).reshape(*drawn.shape, 4), round(left), round(bottom), IdentityTransform()


def _nearest(low: float, high: float, n: int) -> np.ndarray:
    """Of n image pixels between two places on the canvas, the one at the middle of each drawn pixel."""
    middles = np.arange(round(low), round(high)) + 0.5
    return ((middles - low) / (high - low) * n).astype(int).clip(0, n - 1)


def show_pixels(
    ax: Axes, image: Any, *, vmin: float | None = None, vmax: float | None = None, **settings: Any
) -> Pixels:
    """Add an image to axes that it fills: `ax.imshow(image, interpolation="nearest", **settings)` for `Pixels`.

    Args:
        image: (H, W, 3) uint8, or (H, W) for a colour map.
        vmin, vmax: ends of the colour map; the image's own if None.
        settings: of the image: cmap, extent, alpha.
    """
    picture = Pixels(ax, **settings)
    picture.set_data(image)
    picture.set_clip_path(ax.patch)
    picture.set_extent(picture.get_extent())  # and the axes' limits with it
    picture.set_clim(vmin, vmax)
    ax.set_aspect("equal")
    ax.add_image(picture)
    return picture
