"""Augmentation of large images, in batches on their device, every image by its own draw.

    random_resized_crop    a random part of each image, resized
    colour_jitter          brightness, contrast and saturation
    crop_and_jitter        the one after the other
    centre_crop            for evaluation, see `ltlab.images`

They do what torchvision's transforms of these names do, for a whole batch at once. Nothing here waits for the device,
so a CUDA graph can record it. A CPU takes a few images at a time through all of it, so that what lies between fits into
its cache; all draws are made before, so that the result does not depend on how many.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..defaults import usual_defaults
from ..images import centre_crop

__all__ = ["centre_crop", "colour_jitter", "crop_and_jitter", "crop_boxes", "random_resized_crop"]

TRIES = 10  # draws of a crop until one fits
IN_CACHE = 2  # images that each thread of a CPU works on at a time
GREY = (0.2989, 0.587, 0.114)  # of red, green and blue, ITU-R 601-2, as torchvision has them
BRIGHTNESS, CONTRAST, SATURATION = range(3)


@dataclass(frozen=True)
class _Drawn:
    """A transform whose random draws are made: apply(images, *draws), of `draws` one row per image, gives float32."""

    apply: Callable[..., Tensor]
    draws: tuple[Tensor, ...]


def random_resized_crop(
    images: Tensor, size: int, *, generator: torch.Generator, flip: bool = False,
    scale: tuple[float, float] = (0.08, 1.0), ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Tensor:  # fmt: skip
    """Cut a random rectangle out of every image and resize it to `size` x `size` pixels, bilinearly.

        area = U(scale) H W,   width / height = exp(U(log ratio)),   place uniform

    The law is torchvision's RandomResizedCrop: of ten draws the first that fits into the image; if none does, the
    largest centred rectangle whose ratio is within `ratio`. So is the resizing, except that rectangles larger than
    `size` are antialiased there and interpolated only here. On a photograph shrunk from 256 to 224 pixels this makes a
    difference of 0.6 of 255 grey levels on average and 21 at most; from 512 to 224, of 3.4 and 96: keep images not much
    larger than `size`.

    Args:
        images: (N, 3, H, W), uint8 or float in [0, 1].
        size: pixels of a side of the result.
        generator: on the images' device.
        flip: mirror every image with probability 1/2, which costs nothing here.
        scale, ratio: the range of the fraction of the area, and of width over height.

    Returns:
        (N, 3, size, size) float32 in [0, 1], on a CPU channels last in memory, which convolutions prefer.

    Limit cases: scale = (1, 1) and ratio = (1, 1) resize the whole of a square image.

    Raises:
        ValueError: a size below 1, or a range that is empty or outside (0, 1] for scale, (0, inf) for ratio.

    Source: Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, section 6.
    """
    return _apply(images, (size, size), _drawn_crop(images, size, generator, flip, scale, ratio))


def crop_boxes(
    shape: Tensor, place: Tensor, image_size: tuple[int, int], scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The rectangles that uniform draws in [0, 1) stand for: top, left, height, width, each (N,), in whole pixels.

    Args:
        shape: (2, N, tries), for the area and the ratio of every try.
        place: (2, N), for top and left.
        image_size: (H, W).
        scale, ratio: as for `random_resized_crop`.
    """
    h, w = image_size
    area = h * w * (scale[0] + (scale[1] - scale[0]) * shape[0])  # (N, tries)
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspect = torch.exp(low + (high - low) * shape[1])
    heights, widths = (area / aspect).sqrt().round(), (area * aspect).sqrt().round()
    fits = (heights > 0) & (heights <= h) & (widths > 0) & (widths <= w)
    first = fits.int().argmax(1, keepdim=True)  # of equal values argmax takes the first; (N, 1)
    some = fits.gather(1, first)[:, 0]  # (N,)
    centred_height, centred_width = _largest_centred(h, w, ratio)
    height = heights.gather(1, first)[:, 0].where(some, centred_height)
    width = widths.gather(1, first)[:, 0].where(some, centred_width)
    top = (place[0] * (h - height + 1)).floor().where(some, (h - centred_height) // 2)
    left = (place[1] * (w - width + 1)).floor().where(some, (w - centred_width) // 2)
    return top, left, height, width


def _largest_centred(h: int, w: int, ratio: tuple[float, float]) -> tuple[int, int]:
    """Height and width of the largest rectangle whose width over height is within `ratio`."""
    if w / h < ratio[0]:
        return max(1, round(w / ratio[0])), w
    if w / h > ratio[1]:
        return h, max(1, round(h * ratio[1]))
    return h, w


@usual_defaults()
def _drawn_crop(
    images: Tensor, size: int, generator: torch.Generator, flip: bool, scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> _Drawn:  # fmt: skip
    if size < 1:
        raise ValueError(f"size={size} must be at least 1 pixel")
    if not 0 < scale[0] <= scale[1] <= 1:
        raise ValueError(f"scale={scale} must be a range of shares of the area, 0 < low <= high <= 1")
    if not 0 < ratio[0] <= ratio[1] < math.inf:
        raise ValueError(f"ratio={ratio} must be a range of width over height, 0 < low <= high")
    n, _, h, w = images.shape
    shape = torch.rand(2, n, TRIES, generator=generator, device=images.device)
    place = torch.rand(2, n, generator=generator, device=images.device)
    top, left, height, width = crop_boxes(shape, place, (h, w), scale, ratio)
    y, x = _pixels_to_read(top, height, h, size), _pixels_to_read(left, width, w, size)  # (N, size) in [-1, 1]
    if flip:
        mirrored = torch.rand(n, 1, generator=generator, device=images.device) < 0.5
        x = torch.where(mirrored, x.flip(1), x)
    return _Drawn(_read_pixels, (y, x))


def _pixels_to_read(start: Tensor, length: Tensor, full: int, size: int) -> Tensor:
    """Where the pixels of a resized part of a line lie in it, in [-1, 1] as `grid_sample` counts. (N,) -> (N, size)

    c_i = start + (i + 1/2) length / size,   kept half a pixel inside, so that nothing outside the part is seen
    """
    start, length = start[:, None], length[:, None]
    centre = start + (torch.arange(size, device=start.device) + 0.5) * (length / size)
    return torch.clamp(centre, start + 0.5, start + length - 0.5) * (2 / full) - 1


def _read_pixels(images: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Bilinear values at y and x, each (N, size) in [-1, 1]: (N, 3, H, W) -> (N, 3, size, size) float32."""
    n, size = y.shape
    grid = torch.stack([x[:, None].expand(n, size, size), y[:, :, None].expand(n, size, size)], 3)
    return F.grid_sample(_to_float(images), grid, align_corners=False)


def colour_jitter(
    images: Tensor, brightness: float = 0.0, contrast: float = 0.0, saturation: float = 0.0, *,
    generator: torch.Generator,
) -> Tensor:  # fmt: skip
    """Change brightness, contrast and saturation of every image by random factors, in a random order.

        x  <-  clamp(f x + (1 - f) r, 0, 1),   f uniform on [max(0, 1 - b), 1 + b]
        r = 0 for brightness, the mean of the image's grey values for contrast, its grey values for saturation

    Factors and order are drawn for every image, as torchvision's ColorJitter does.

    Args:
        images: (N, 3, H, W), uint8 or float in [0, 1].
        brightness, contrast, saturation: b of each, at least 0.
        generator: on the images' device.

    Returns:
        (N, 3, H, W) float32 in [0, 1], on a CPU channels last in memory.

    Limit cases: b = 0 changes nothing.

    Raises:
        ValueError: a negative or infinite b.
    """
    jitter = _drawn_jitter(images, (brightness, contrast, saturation), generator)
    return _apply(images, (images.shape[2], images.shape[3]), jitter)


def crop_and_jitter(
    images: Tensor, size: int, jitter: tuple[float, float, float], *, generator: torch.Generator, flip: bool = False
) -> Tensor:
    """`random_resized_crop` and then `colour_jitter` by the strengths `jitter`, draw for draw, with less copying."""
    crop = _drawn_crop(images, size, generator, flip)
    return _apply(images, (size, size), crop, _drawn_jitter(images, jitter, generator))


@usual_defaults()
def _drawn_jitter(images: Tensor, strengths: tuple[float, float, float], generator: torch.Generator) -> _Drawn:
    for name, b in zip(("brightness", "contrast", "saturation"), strengths, strict=True):
        if not 0 <= b < math.inf:
            raise ValueError(f"{name}={b} must be finite and at least 0; 0 changes nothing")
    shape = (3, len(images), 1, 1, 1)
    uniform = torch.rand(shape, generator=generator, device=images.device)
    turn = torch.rand(shape, generator=generator, device=images.device)  # the one with the smallest comes first
    steps = []
    for kind, b in enumerate(strengths):
        if b > 0:
            low, high = max(0.0, 1 - b), 1 + b
            steps.append((turn[kind], _weights(kind, low + (high - low) * uniform[kind])))
    if not steps:
        return _Drawn(_adjust, ())
    turns, weights = map(torch.stack, zip(*steps, strict=True))  # (steps, N, 1, 1, 1), (steps, N, 3, 1, 1)
    return _Drawn(_adjust, tuple(weights.gather(0, turns.argsort(0).expand_as(weights))))


def _weights(kind: int, factor: Tensor) -> Tensor:
    """What an adjusted image has of the image, of its grey values and of their mean: (N, 1, 1, 1) -> (N, 3, 1, 1)

    (f, 0, 0) for brightness,   (f, 0, 1 - f) for contrast,   (f, 1 - f, 0) for saturation
    """
    rest, nothing = 1 - factor, torch.zeros_like(factor)
    grey, mean = (rest if kind == SATURATION else nothing), (rest if kind == CONTRAST else nothing)
    return torch.cat([factor, grey, mean], 1)


def _adjust(images: Tensor, *steps: Tensor) -> Tensor:
    """Take one step after the other, each by its weights (N, 3, 1, 1): (N, 3, H, W) -> the same in float32."""
    x = _to_float(images)
    for weights in steps:
        of_itself, of_grey, of_mean = weights.split(1, 1)  # each (N, 1, 1, 1)
        red, green, blue = x.split(1, 1)  # each (N, 1, H, W)
        grey = (GREY[0] * red).add_(green, alpha=GREY[1]).add_(blue, alpha=GREY[2])
        mean = grey.mean((2, 3), keepdim=True)
        reference = grey.mul_(of_grey).add_(of_mean * mean)
        x = torch.addcmul(reference, x, of_itself).clamp_(0, 1)
    return x


def _apply(images: Tensor, size: tuple[int, int], *transforms: _Drawn) -> Tensor:
    """One transform after the other: (N, 3, H, W) -> (N, 3, *size) float32; on a CPU a few images at a time."""
    if images.device.type != "cpu":
        for each in transforms:
            images = each.apply(images, *each.draws)
        return images
    out = torch.empty(
        (len(images), 3, *size), dtype=torch.float32, device=images.device, memory_format=torch.channels_last
    )
    group = IN_CACHE * torch.get_num_threads()
    for start in range(0, len(images), group):
        part = slice(start, start + group)
        some = images[part]
        for each in transforms:
            some = each.apply(some, *(draws[part] for draws in each.draws))
        out[part] = some
    return out


def _to_float(images: Tensor) -> Tensor:
    return images.float().div_(255) if images.dtype == torch.uint8 else images.float()
