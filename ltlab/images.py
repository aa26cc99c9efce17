"""How images are passed to a network in evaluation: batches of floats in [0, 1], large ones cropped to their centre."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor, nn

ROUNDING = 1e-3  # by which floats may be below 0 or above 1, as after interpolation


def to_float(images: Tensor) -> Tensor:
    """Images as float32 in [0, 1], channels last in memory, as convolutions prefer; floats are in [0, 1] already."""
    if images.is_floating_point():
        return images.float().contiguous(memory_format=torch.channels_last)
    return images.to(torch.float32, memory_format=torch.channels_last).div_(255)


def centre_crop(images: Tensor, size: int) -> Tensor:
    """The middle `size` x `size` pixels of every image: (..., H, W) -> (..., size, size), a view of the same dtype.

    The margin at the top or left is round(difference / 2) pixels, as Python rounds.
    """
    h, w = images.shape[-2:]
    if not 1 <= size <= min(h, w):
        raise ValueError(f"size={size} must be at least 1 and at most the images' sides, {h} x {w}")
    top, left = round((h - size) / 2), round((w - size) / 2)
    return images[..., top : top + size, left : left + size]


class Images(Protocol):
    """Images that come in batches: a tensor, or files on disk."""

    def split(self, batch_size: int, /) -> Iterable[Tensor]: ...


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode; afterwards every part is in the mode it was in, also where parts differ."""
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def evaluated(
    model: nn.Module, images: Images, function: Callable[[Tensor], Tensor], *, crop: int | None = None,
    batch_size: int = 500,
) -> Tensor:  # fmt: skip
    """A function of batches, evaluated on all images, in order, in evaluation mode and without gradients.

    Args:
        model: keeps its modes, and those of its parts; batches go to the device of its parameters.
        images: (N, 3, H, W), uint8, in memory or on disk, or float in [0, 1].
        function: from float images (n, 3, H, W) in [0, 1] to a tensor (n, ...).
        crop: side in pixels of the centre that is taken of every image, see `centre_crop`; None takes the whole image.
        batch_size: images per call.

    Returns:
        (N, ...), concatenated, with the dtype and on the device that the function gives.

    Raises:
        TypeError: images that are neither a tensor nor on disk, such as an array or a list.
        ValueError: a batch size below 1; images of another dtype or shape, or smaller than `crop`; on the CPU, floats
            outside [0, 1] or NaN.
    """
    if not isinstance(images, Tensor) and not hasattr(images, "batches"):
        raise TypeError(
            f"images must be a tensor (N, 3, H, W), got {type(images).__name__}; torch.as_tensor makes one of an "
            "array, torch.stack of a list of tensors"
        )
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: a forward pass takes at least 1 image")
    device = next(model.parameters()).device
    with evaluating(model), torch.inference_mode():
        parts = [function(as_evaluated(batch, crop, device)) for batch in images.split(batch_size)]
    return torch.cat(parts)  # outside inference mode: a tensor that autograd can use


def as_evaluated(images: Tensor, crop: int | None, device: torch.device) -> Tensor:
    """A batch as evaluation passes it to a network: not augmented, cropped to the centre, `to_float`, on the device.

    Images, crop and errors as in `evaluated`.
    """
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(
            f"images must be (N, 3, H, W), got {tuple(images.shape)}; images[None] makes a batch of one image, "
            "images.permute(0, 3, 1, 2) moves the channels first"
        )
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise ValueError(f"images must be uint8 or float, got {images.dtype}; uint16 / 65535 is a float in [0, 1]")
    if images.is_floating_point() and images.is_cpu and len(images):
        low, high = images.min().item(), images.max().item()
        if not -ROUNDING <= low <= high <= 1 + ROUNDING:  # also for NaN
            raise ValueError(
                f"images must be floats in [0, 1], got {low:g} to {high:g}; divide bytes by 255 or pass uint8 images, "
                "and leave the normalisation to the network"
            )
    return to_float((images if crop is None else centre_crop(images, crop)).to(device))
