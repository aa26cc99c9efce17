"""From a map to a foreground: thresholds, boxes, bits, and how well a mask fits the true one."""

import math
from typing import Literal

import torch
from torch import Tensor

from ..counts import comparable

LEVELS = 256  # of Otsu's histogram


def foreground_masks(cams: Tensor, threshold: float | Literal["otsu"] = 1.0) -> Tensor:
    """The foreground of every map: where it reaches a multiple of its own mean.

        mask = CAM >= threshold * mean(CAM)

    threshold = 1 is the paper's rule, and the one where the map's scaling does not matter: m >= mean(m) is the same
    before and after it. 0.75 is the authors' code, 0 the whole image. "otsu" cuts the histogram of 256 levels where the
    variance between the two sides is largest, see `otsu_thresholds`.

    An all-zero map, which `class_activation_maps` makes of a constant one, gives the empty mask. Any other constant map
    equals its mean: all is foreground at a threshold of at most 1, and nothing above.

    Args:
        cams: (N, H, W) floating point in [0, 1]; the masks are (N, H, W) bool.
        threshold: at least 0 and finite, or "otsu".

    Raises:
        ValueError: `cams` of another shape or dtype, on the CPU also with values outside [0, 1] or NaN; another
            threshold.

    Source: Zhang et al., AAAI 2021, CAM-based sampling; Otsu, "A Threshold Selection Method from Gray-Level
    Histograms", IEEE Transactions on Systems, Man, and Cybernetics, 1979.
    """
    _check_cams(cams)
    check_threshold(threshold)
    if threshold == "otsu":
        return _levels(cams) > otsu_thresholds(cams)[:, None, None]
    low, high = cams.amin((1, 2), keepdim=True), cams.amax((1, 2), keepdim=True)
    mean = cams.mean((1, 2), keepdim=True).clamp(low, high)  # that of a constant map may be rounded past its value
    return (cams >= threshold * mean) & (mean > 0)


def check_threshold(threshold: float | Literal["otsu"]) -> None:
    """ValueError unless it is "otsu", or finite and at least 0."""
    if threshold != "otsu" and not 0 <= comparable(threshold) < math.inf:
        raise ValueError(f"threshold={threshold!r} must be 'otsu', or a finite multiple of the mean of at least 0")


def otsu_thresholds(cams: Tensor) -> Tensor:
    """The level that best separates every map's histogram: the foreground is above it.

        t = argmax_k (mu omega(k) - mu(k))^2 / (omega(k) (1 - omega(k)))

    omega(k) is the fraction of pixels at levels 0 to k, mu(k) their part of the mean level mu. A map with one level
    gives 0.

    Shapes: (N, H, W) in [0, 1] -> (N,) int64 in 0 to 255; a value's level is round(255 * value).

    Source: Otsu, 1979, eq. 18.
    """
    _check_cams(cams)
    levels = _levels(cams).flatten(1)  # (N, H * W)
    histogram = torch.zeros(len(cams), LEVELS, dtype=torch.float32, device=cams.device)
    histogram.scatter_add_(1, levels, torch.ones_like(levels, dtype=torch.float32))
    fraction = histogram / levels.shape[1]
    omega = fraction.cumsum(1)
    mu = (fraction * torch.arange(LEVELS, device=cams.device)).cumsum(1)
    within = omega * (1 - omega)  # 0 where one side is empty
    between = (mu[:, -1:] * omega - mu) ** 2 / within
    return torch.where(within > 0, between, 0).argmax(1)


def _levels(cams: Tensor) -> Tensor:
    return (cams * (LEVELS - 1)).round().long()


def _check_cams(cams: Tensor) -> None:
    if cams.ndim != 3 or not cams.is_floating_point():
        raise ValueError(f"cams must be floating point (N, H, W), got {cams.dtype} of shape {tuple(cams.shape)}")
    if cams.is_cpu and cams.numel() and not (cams.amin() >= 0 and cams.amax() <= 1):  # also true for NaN
        raise ValueError("cams must lie in [0, 1] without NaN, as class_activation_maps scales them")


def bounding_boxes(masks: Tensor) -> Tensor:
    """First and last column and row of every mask: (left, top, right, bottom), all inside the mask.

    The box of an empty mask is the whole frame.

    Shapes: (N, H, W) bool -> (N, 4) int64.
    """
    h, w = masks.shape[1:]
    columns, rows = masks.any(1).byte(), masks.any(2).byte()  # (N, W), (N, H)
    return torch.stack([
        columns.argmax(1), rows.argmax(1), w - 1 - columns.flip(1).argmax(1), h - 1 - rows.flip(1).argmax(1)
    ], 1)  # fmt: skip


def intersection_over_union(masks: Tensor, true_masks: Tensor) -> Tensor:
    """How well masks fit the true ones: |A and B| / |A or B|, 1 for equal masks, also for two empty ones.

    Shapes: two of (N, H, W) bool -> (N,) float32.
    """
    check_masks(masks, masks.shape)
    check_masks(true_masks, masks.shape, "true_masks")
    both = (masks & true_masks).sum((1, 2))
    either = (masks | true_masks).sum((1, 2))
    return torch.where(either > 0, both.float() / either, 1)


def check_masks(masks: Tensor, shape: tuple[int, ...], name: str = "masks") -> None:
    """ValueError unless the masks are bool (N, H, W) of this shape."""
    if masks.dtype != torch.bool or masks.ndim != 3 or masks.shape != shape:
        raise ValueError(
            f"{name} must be bool (N, H, W) = {tuple(shape)}, got {masks.dtype} of shape {tuple(masks.shape)}"
        )


def pack_masks(masks: Tensor) -> Tensor:
    """Eight pixels per byte, in row order, the first in the lowest bit; the last byte is padded with zeros.

    Shapes: (N, H, W) bool -> (N, ceil(H * W / 8)) uint8.
    """
    bits = masks.flatten(1)
    bits = torch.nn.functional.pad(bits, (0, -bits.shape[1] % 8)).unflatten(1, (-1, 8))  # (N, bytes, 8)
    return (bits << torch.arange(8, dtype=torch.uint8, device=masks.device)).sum(2, dtype=torch.uint8)


def unpack_masks(packed_masks: Tensor, size: tuple[int, int]) -> Tensor:
    """The reverse of `pack_masks`: (N, ceil(H * W / 8)) uint8 and size (H, W) -> (N, H, W) bool."""
    h, w = size
    if packed_masks.dtype != torch.uint8 or packed_masks.ndim != 2 or packed_masks.shape[1] != -(-h * w // 8):
        raise ValueError(
            f"packed masks of {h} x {w} pixels must be uint8 (N, {-(-h * w // 8)}), "
            f"got {packed_masks.dtype} of shape {tuple(packed_masks.shape)}"
        )
    bits = (packed_masks[:, :, None] >> torch.arange(8, dtype=torch.uint8, device=packed_masks.device)) & 1
    return bits.bool().flatten(1)[:, : h * w].unflatten(1, (h, w))
