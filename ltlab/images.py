"""How images are passed to a network: as floats in [0, 1], and large ones cropped to their centre."""

import torch
from torch import Tensor

ABOVE_ONE = 1e-3  # by which floats may exceed 1, as after interpolation


def to_float(images: Tensor) -> Tensor:
    """Images as float32 in [0, 1], channels last in memory, as convolutions prefer; floats are in [0, 1] already."""
    if images.is_floating_point():
        return images.contiguous(memory_format=torch.channels_last)
    return images.to(torch.float32, memory_format=torch.channels_last).div_(255)


def centre_crop(images: Tensor, size: int) -> Tensor:
    """The middle `size` x `size` pixels of every image: (..., H, W) -> (..., size, size), a view of the same dtype.

    The margin at the top or left is round(difference / 2) pixels, as Python rounds.

    Raises:
        ValueError: the images are smaller than `size`.
    """
    h, w = images.shape[-2:]
    if not 1 <= size <= min(h, w):
        raise ValueError(f"size={size} must be at least 1 and at most the images' sides, {h} x {w}")
    top, left = round((h - size) / 2), round((w - size) / 2)
    return images[..., top : top + size, left : left + size]


def as_evaluated(images: Tensor, crop: int | None, device: torch.device) -> Tensor:
    """A batch as evaluation passes it to a network: not augmented, cropped to the centre, `to_float`, on the device.

    Args:
        images: (N, 3, H, W) uint8, or float in [0, 1].
        crop: see `centre_crop`; None keeps the whole image.

    Raises:
        ValueError: images of another shape or smaller than `crop`; on the CPU, floats above 1.
    """
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(
            f"images must be (N, 3, H, W), got {tuple(images.shape)}; images[None] makes a batch of one image, "
            "images.permute(0, 3, 1, 2) moves the channels first"
        )
    if images.is_floating_point() and images.is_cpu and (images > 1 + ABOVE_ONE).any():
        raise ValueError(
            f"images must be floats in [0, 1], got {images.max().item():g}; divide them by 255, or pass uint8 images"
        )
    return to_float((images if crop is None else centre_crop(images, crop)).to(device))
