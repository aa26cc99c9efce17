"""Images side by side, and the outlines of masks."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from .style import FONT_SIZE, check_names, new_axes


def image_grid(
    images: Any, titles: Sequence[str] | None = None, *, columns: int = 10, masks: Any = None, ax: Axes | None = None
) -> Axes:
    """Images side by side, row by row, every pixel a crisp square; masks are outlined.

    All images are one mosaic in one `imshow`, so hundreds cost as much as one. The axes' unit is one cell: image k has
    its left upper corner at (k % columns, k // columns).

    Args:
        images: uint8 (N, 3, H, W) or (N, H, W, 3); what fits both is read as the first.
        titles: (N,) one short line above each image.
        columns: images per row.
        masks: bool (N, H, W), the foreground of each image.

    Raises:
        ValueError: not uint8 RGB images, no image at all, or masks or titles that do not fit them.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or 3 not in (images.shape[1], images.shape[3]) or not len(images):
        raise ValueError(
            f"images of shape {images.shape} and type {images.dtype} must be uint8, (N, 3, H, W) or (N, H, W, 3)"
        )
    if images.shape[1] == 3:
        images = images.transpose(0, 2, 3, 1)  # (N, H, W, 3)
    n, height, width, _ = images.shape
    if (columns := min(columns, n)) < 1:
        raise ValueError(f"columns={columns} must be at least 1")
    rows, gap = -(-n // columns), -(-width // 16)
    head = gap if titles is None else -(-height // 3)  # room above an image, in image pixels
    if ax is None:
        cell = max([1.0, *(0.09 * len(title) for title in titles or ())])  # inches, wide enough for the longest title
        ax = new_axes(cell * columns, cell * rows * (height + head) / (width + gap))

    sheet = mosaic(images, rows, columns, head, gap)  # (R, S, 3)
    aspect = (height + head) / (width + gap)
    ax.imshow(sheet, extent=(0, columns, rows, 0), interpolation="nearest", aspect=aspect)
    if masks is not None:
        masks = np.asarray(masks, dtype=bool)
        if masks.shape != (n, height, width):
            raise ValueError(f"masks of shape {masks.shape} must be {(n, height, width)}, one per image")
        edges = mask_outline(mosaic(masks[..., None], rows, columns, head, gap, fill=False)[..., 0])
        edges /= sheet.shape[1] / columns, sheet.shape[0] / rows  # pixels to cells
        for colour, line_width in (("black", 2.5), ("white", 1)):  # seen on dark and on light images
            ax.add_collection(LineCollection([*edges], colors=colour, linewidths=line_width, capstyle="projecting"))
    for k, title in enumerate(check_names(titles, n) if titles is not None else ()):
        centre, above = k % columns + 0.5 * width / (width + gap), k // columns + 0.8 * head / (height + head)
        ax.text(centre, above, title, ha="center", va="baseline", fontsize=FONT_SIZE - 1)
    ax.set_axis_off()
    return ax


def contact_sheet(images: Any, labels: Any, *, rows: int, columns: int = 16) -> Axes:
    """The first images of every class on a new figure, a row per class; a class with fewer leaves white cells.

    Args:
        images: uint8 (N, 3, H, W); also what reads images when they are indexed.
        labels: (N,) class indices.
        rows: the first classes, one a row.
        columns: images of each class.
    """
    labels = np.asarray(labels)
    cells = np.full((rows * columns, *images.shape[1:]), 255, dtype=np.uint8)
    for row in range(rows):
        chosen = np.flatnonzero(labels == row)[:columns]
        cells[row * columns : row * columns + len(chosen)] = np.asarray(images[chosen])
    return image_grid(cells, columns=columns, ax=new_axes(0.6 * columns, 0.6 * rows))


def mosaic(cells: np.ndarray, rows: int, columns: int, head: int = 0, gap: int = 0, fill: float = 255) -> np.ndarray:
    """(N, H, W, K) cells in rows of `columns`, each with `head` pixels above and `gap` on its right -> (R, S, K)"""
    n, height, width, channels = cells.shape
    sheet = np.full((rows * columns, height + head, width + gap, channels), fill, dtype=cells.dtype)
    sheet[:n, head:, :width] = cells
    sheet = sheet.reshape(rows, columns, height + head, width + gap, channels).swapaxes(1, 2)
    return sheet.reshape(rows * (height + head), columns * (width + gap), channels)


def mask_outline(mask: np.ndarray) -> np.ndarray:
    """The pixel edges between true and false of a bool (H, W) mask -> (E, 2, 2) segments of (x, y) in pixels"""
    padded = np.pad(mask, 1)
    y, x = np.nonzero(padded[1:-1, 1:] != padded[1:-1, :-1])  # upright edges, at the left of pixel x
    upright = np.stack([np.stack([x, y], 1), np.stack([x, y + 1], 1)], 1)
    y, x = np.nonzero(padded[1:, 1:-1] != padded[:-1, 1:-1])  # level edges, at the top of pixel y
    level = np.stack([np.stack([x, y], 1), np.stack([x + 1, y], 1)], 1)
    return np.concatenate([upright, level]).astype(float)
