"""Move the foreground and leave the background where it is; or move the whole image.

Both are one inverse warp: for every pixel of the result, the nearest pixel of the source. Nearest, because then every
result pixel is one source pixel, unblended: shifts by whole pixels, flips and quarter turns are exact to the bit, the
mask and the colours move by the same index, and uint8 needs no rounding.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..counts import as_tensor
from .masks import bounding_boxes, check_masks

PIXELS_AT_ONCE = 2**17  # 128 images of 32 x 32: their coordinates fit a core's cache


def transform_foreground(
    images: Tensor, masks: Tensor, *, flip: Tensor, translate: Tensor, rotate: Tensor, scale: Tensor,
    fill: bool = False, boxes: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Flip, scale, turn and shift the foreground of every image, in this order, over its own background.

        (u, v) -> scale * R(rotate) * (±u, v) + translate,   u right and v down from the centre of the foreground

    The foreground's centre is the centre of its bounding box, so that a flip keeps the box. The shift is changed by
    as little as keeps the transformed foreground inside the frame, in each direction; where the frame is too small
    for it, the foreground is centred and its margins are cut off. A shift that fits is never changed.

    Pixels outside the old and the new foreground keep their value, to the bit. flip False, translate 0, rotate 0 and
    scale 1 give the image back, to the bit; so does an empty mask.

    Args:
        images: (N, channels, H, W) uint8.
        masks: (N, H, W) bool, True on the foreground, of any colour.
        flip: (N,) bool, left to right.
        translate: (N, 2) pixels, right and down.
        rotate: (N,) degrees, counter-clockwise.
        scale: (N,) factor above 0.
        fill: False pastes over the image, as the paper does: where the foreground has left, the original still shows,
            a ghost. True fills that hole from the background, see `fill_holes`.
        boxes: (N, 4), the masks' `bounding_boxes`, if you have them; None computes them.

    Raises:
        ValueError: shapes or dtypes that do not fit; on the CPU also a value that is not finite or a scale that is not
            above 0.

    Source: Zhang et al., AAAI 2021, CAM-based sampling; the order of the four and the frame's rule are ours.
    """
    _check_images(images)
    check_masks(masks, (len(images), *images.shape[2:]))
    boxes = bounding_boxes(masks) if boxes is None else boxes
    inputs = images, masks, boxes, *_as_parameters(images, flip, translate, rotate, scale)
    n = _at_once(images)
    return torch.cat(
        [_transform_foreground(*part, fill=fill) for part in zip(*(x.split(n) for x in inputs), strict=True)]
    )


def transform_images(
    images: Tensor, *, flip: Tensor, translate: Tensor, rotate: Tensor, scale: Tensor
) -> Tensor:  # fmt: skip
    """Flip, scale, turn and shift whole images about the frame's centre: the control of `transform_foreground`.

    The shift is not limited. What the image no longer covers is black, as in a random crop from a padded image.
    The neutral values give the images back, to the bit. Arguments, returns and errors as in `transform_foreground`.
    """
    _check_images(images)
    inputs = images, *_as_parameters(images, flip, translate, rotate, scale)
    n = _at_once(images)
    return torch.cat([_transform_images(*part) for part in zip(*(x.split(n) for x in inputs), strict=True)])


def fill_holes(images: Tensor, holes: Tensor) -> Tensor:
    """Fill the holes of every image from around them, smoothly: push-pull.

    Pull: halve the image again and again; a coarse pixel is the mean of those of its four that are known. Push: from
    the coarsest back up, an unknown pixel takes the bilinear interpolation of the level above. So a pixel by the rim
    is filled from the rim, one in the middle of a large hole from far around. Known pixels keep their value, to the
    bit; an image that is all hole is left unchanged.

    Shapes: images (N, channels, H, W) uint8, holes (N, H, W) bool -> uint8.

    Source: Gortler et al., "The Lumigraph", SIGGRAPH 1996, section 3.4.
    """
    _check_images(images)
    check_masks(holes, (len(images), *images.shape[2:]), "holes")
    known = (~holes)[:, None].float()  # (N, 1, H, W)
    colours = images * known
    levels = [(colours, known)]
    while max(known.shape[2:]) > 1:
        fraction = F.avg_pool2d(known, 2, ceil_mode=True)  # known
        colours = F.avg_pool2d(colours, 2, ceil_mode=True) / fraction.where(fraction > 0, 1)
        known = (fraction > 0).float()
        levels.append((colours, known))
    for finer, known in reversed(levels[:-1]):
        coarser = F.interpolate(colours, finer.shape[2:], mode="bilinear", align_corners=False)
        colours = torch.where(known > 0, finer, coarser.contiguous())
    filled = colours.round_().to(torch.uint8)  # a mean of bytes, so within 0 and 255
    some_known = ~holes.flatten(1).all(1)[:, None, None]
    return torch.where((holes & some_known)[:, None], filled, images)


def _transform_foreground(
    images: Tensor, masks: Tensor, boxes: Tensor, flip: Tensor, translate: Tensor, rotate: Tensor, scale: Tensor,
    fill: bool,
) -> Tensor:  # fmt: skip
    left, top, right, bottom = boxes.float().unbind(1)
    centre = torch.stack([left + right, top + bottom], 1) / 2  # (N, 2), multiples of 1/2
    turn = _turn(rotate, flip)
    translate = _into_frame(translate, masks, centre, turn * scale[:, None, None])
    colours, source, inside = _warp(images, centre, translate, turn, scale)
    foreground = (masks.flatten(1).gather(1, source) & inside)[:, None]  # (N, 1, H * W), where it is now
    background = fill_holes(images, masks) if fill else images
    return torch.where(foreground, colours, background.flatten(2)).view_as(images)


def _transform_images(images: Tensor, flip: Tensor, translate: Tensor, rotate: Tensor, scale: Tensor) -> Tensor:
    n, _, h, w = images.shape
    middle = translate.new_full((n, 1), 0.5)
    centre = torch.cat([middle * (w - 1), middle * (h - 1)], 1)
    colours, _, inside = _warp(images, centre, translate, _turn(rotate, flip), scale)
    return (colours * inside[:, None]).view_as(images)


def _turn(rotate: Tensor, flip: Tensor) -> Tensor:
    """The matrices of flip, then turn, (u, v) to (u, v) with v down. -> (N, 2, 2), whole at quarter turns"""
    quarters = (rotate / 90).round()
    rest = (rotate - 90 * quarters).deg2rad()  # within an eighth of a turn, where cos and sin are most exact
    cos, sin = rest.cos(), rest.sin()
    odd, sign = quarters % 2 == 1, 1 - quarters % 4 // 2 * 2
    cos, sin = sign * torch.where(odd, -sin, cos), sign * torch.where(odd, cos, sin)
    mirror = 1 - 2 * flip.float()
    return torch.stack([torch.stack([mirror * cos, sin], 1), torch.stack([-mirror * sin, cos], 1)], 1)


def _into_frame(translate: Tensor, masks: Tensor, centre: Tensor, matrix: Tensor) -> Tensor:
    """The shifts nearest to `translate` that keep the foreground, its pixels taken as squares, inside the frame."""
    h, w = masks.shape[1:]
    u = torch.arange(w, device=masks.device) - centre[:, :1]  # (N, W)
    v = torch.arange(h, device=masks.device) - centre[:, 1:]  # (N, H)
    reach = matrix.abs().sum(2) / 2  # of half a pixel, (N, 2)
    shifts = []
    for axis, side in enumerate((w, h)):
        to_u, to_v = matrix[:, axis, :1] * u, matrix[:, axis, 1:] * v
        place = to_u[:, None, :] + to_v[:, :, None] + centre[:, axis, None, None]  # (N, H, W)
        first = place.where(masks, torch.inf).amin((1, 2)) - reach[:, axis]
        last = place.where(masks, -torch.inf).amax((1, 2)) + reach[:, axis]
        least, most = -0.5 - first, side - 0.5 - last
        shift = translate[:, axis].clamp(least, most)
        shifts.append(torch.where(least <= most, shift, (least + most) / 2))
    return torch.stack(shifts, 1)


def _warp(
    images: Tensor, centre: Tensor, translate: Tensor, turn: Tensor, scale: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The inverse of `scale * turn * (u, v) + translate` for every pixel of the result; a turn's is its transpose.

    Returns:
        The colours (N, channels, H * W), the index of their source pixel (N, H * W), and whether that lies inside the
        frame (N, H * W).
    """
    channels, h, w = images.shape[1:]
    x, y = (
        (torch.arange(side, device=scale.device) - (centre + translate)[:, axis, None]) / scale[:, None]
        for axis, side in enumerate((w, h))
    )  # (N, W), (N, H)
    column, row = (
        ((turn[:, 0, axis, None] * x)[:, None, :] + (turn[:, 1, axis, None] * y)[:, :, None] + nearest)
        for axis, nearest in enumerate((centre + 0.5)[:, :, None, None].unbind(1))
    )  # (N, H, W)
    column, row = column.floor().int(), row.floor().int()
    inside = (column >= 0) & (column < w) & (row >= 0) & (row < h)
    source = (row.clamp(0, h - 1) * w + column.clamp(0, w - 1)).flatten(1).long()
    return images.flatten(2).gather(2, source[:, None].expand(-1, channels, -1)), source, inside.flatten(1)


def _at_once(images: Tensor) -> int:
    """How many images fit into a processor's cache; on an accelerator 32 times as many."""
    pixels = PIXELS_AT_ONCE if images.is_cpu else 32 * PIXELS_AT_ONCE
    return max(1, pixels // (images.shape[2] * images.shape[3]))


def _as_parameters(images: Tensor, flip: Tensor, translate: Tensor, rotate: Tensor, scale: Tensor) -> list[Tensor]:
    """The four parameters on the images' device, checked; numbers as float32."""
    n = len(images)
    parameters = []
    for name, values, shape in (
        ("flip", flip, (n,)), ("translate", translate, (n, 2)), ("rotate", rotate, (n,)), ("scale", scale, (n,))
    ):  # fmt: skip
        values = as_tensor(values)
        if values.shape != shape or (values.dtype == torch.bool) != (name == "flip") or values.is_complex():
            kind = "bool" if name == "flip" else "numbers"
            raise ValueError(
                f"{name} must be {kind} of shape {shape}, one per image, "
                f"got {values.dtype} of shape {tuple(values.shape)}"
            )
        if name != "flip":
            values = values.float()
            if values.is_cpu and not values.isfinite().all():
                raise ValueError(f"{name} must be finite, got {values[~values.isfinite()][0].item()}")
        parameters.append(values.to(images.device))
    smallest = parameters[3]
    if smallest.is_cpu and not (smallest > 0).all():
        raise ValueError(f"scale must be above 0, got {smallest.amin().item():g}; flip mirrors an image")
    return parameters


def _check_images(images: Tensor) -> None:
    if images.dtype != torch.uint8 or images.ndim != 4 or 0 in images.shape[1:]:
        raise ValueError(f"images must be uint8 (N, channels, H, W), got {images.dtype} of shape {tuple(images.shape)}")
