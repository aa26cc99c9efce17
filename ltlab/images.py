"""How images are shown to a network: as floats in [0, 1], and where they are large, their centre."""

import torch
from torch import Tensor

ABOVE_ONE = 1e-3  # by which floats may exceed 1, as interpolated ones do


def to_float(images: Tensor) -> Tensor:
    """Images as float32 in [0, 1], channels last in memory, which convolutions prefer; float ones are so already."""
    if images.is_floating_point():
        return images.contiguous(memory_format=torch.channels_last)
    return images.to(torch.float32, memory_format=torch.channels_last).div_(255)


def centre_crop(images: Tensor, size: int) -> Tensor:
    """The middle `size` x `size` pixels of every image: (..., H, W) -> (..., size, size), a view of the same dtype.

    Where the margins differ by one pixel, Python's round(difference / 2) is the one at the top or left.

    Raises:
        ValueError: the images are smaller than that.
    """
    h, w = images.shape[-2:]
    if not 1 <= size <= min(h, w):
        raise ValueError(f"size={size} must be at least 1 and at most the images' sides, {h} x {w}")
    top, left = round((h - size) / 2), round((w - size) / 2)
    return images[..., top : top + size, left : left + size]


def as_evaluated(images: Tensor, crop: int | None, device: torch.device) -> Tensor:
    """A batch as evaluation shows it to a network on a device: un-augmented, `to_float`, of large images the centre.

    Args:
        images: (n, 3, H, W), uint8, or float in [0, 1].
        crop: see `centre_crop`; None takes the whole.

    Raises:
        ValueError: images of another shape or smaller than `crop`; on the CPU, floats above 1.
    """
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(
            f"images must be (N, 3, H, W), not {tuple(images.shape)}: images[None] makes a batch of one image, "
            "images.permute(0, 3, 1, 2) puts the colours first"
        )
    if images.is_floating_point() and images.is_cpu and (images > 1 + ABOVE_ONE).any():
        raise ValueError(
            f"images: floats lie in [0, 1], these reach {images.max().item():g}; divide them by 255, or pass uint8 ones"
        )
    return to_float((images if crop is None else centre_crop(images, crop)).to(device))
