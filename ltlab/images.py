"""How images are passed to a network in evaluation: batches of floats in [0, 1], large ones cropped to their centre."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

BEYOND = 1e-3  # by which floats may lie outside [0, 1], as after interpolation


def to_float(images: Tensor) -> Tensor:
    """Images as float32 in [0, 1], channels last in memory, as convolutions prefer; floats are in [0, 1] already.

    Features, (N, K, 1, 1) floating point, are any numbers and stay so.
    """
    floats = images.to(torch.float32, memory_format=torch.channels_last)
    return floats if images.is_floating_point() else floats.div_(255)


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
        model: the batches get the device and the floating-point dtype of its first parameter.
        images: (N, 3, H, W), uint8, in memory or on disk, or float in [0, 1]; a tensor, or an array of NumPy.
        function: from float images (n, 3, H, W) in [0, 1] to a tensor (n, ...).
        crop: side in pixels of the centre that is taken of every image, see `centre_crop`; None takes the whole image.
        batch_size: images per call.

    Returns:
        (N, ...), concatenated, with the dtype and on the device that the function gives.

    Raises:
        ValueError: a batch size below 1; what `as_evaluated` refuses; a list, or anything else without batches.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: a forward pass takes at least 1 image")
    batches, like = in_batches(images), next(model.parameters(), torch.empty(0, dtype=torch.float32, device="cpu"))
    dtype = like.dtype if like.is_floating_point() else torch.float32
    with evaluating(model), torch.inference_mode():
        parts = [function(as_evaluated(batch, crop, like.device).to(dtype)) for batch in batches.split(batch_size)]
    return torch.cat(parts)  # outside inference mode: a tensor that autograd can use


def in_batches(images: Any) -> Images:
    """Images that can be split: a tensor or files unchanged, an array as a tensor, in the byte order of torch."""
    if isinstance(images, Tensor) or (hasattr(images, "split") and hasattr(images, "shape")):
        return images
    if hasattr(images, "__array__"):
        array = images.__array__()
        if array.dtype.kind in "biuf":
            return torch.as_tensor(array.astype(array.dtype.newbyteorder("=")), device="cpu")
    raise ValueError(
        f"images must be a tensor (N, 3, H, W), got a {type(images).__name__}; torch.stack(images) makes one of a list "
        "of tensors"
    )


def as_evaluated(images: Tensor, crop: int | None, device: torch.device) -> Tensor:
    """A batch as evaluation passes it to a network: not augmented, cropped to the centre, `to_float`, on the device.

    Args:
        images: (N, 3, H, W) uint8, or float in [0, 1]; or features, (N, K, 1, 1) floating point.
        crop: see `centre_crop`; None keeps the whole image.

    Raises:
        ValueError: images of another shape or dtype, or smaller than `crop`; floats outside [0, 1], or NaN.
    """
    if images.shape[2:] == (1, 1) and images.is_floating_point():
        return to_float(images.to(device))
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(
            f"images must be (N, 3, H, W), got {tuple(images.shape)}; images[None] makes a batch of one image, "
            "images.permute(0, 3, 1, 2) moves the channels first"
        )
    if not images.is_floating_point():
        if images.dtype != torch.uint8:
            raise ValueError(
                f"images must be uint8 from 0 to 255, or floats in [0, 1], got {images.dtype}; of 16 bits take "
                "images / 65535"
            )
    elif not ((images >= -BEYOND) & (images <= 1 + BEYOND)).all():
        low, high = (end.item() for end in images.aminmax())
        raise ValueError(
            f"images must be floats in [0, 1], got {low:g} to {high:g}; divide them by 255, or pass uint8 images, and "
            "leave normalising them to the model"
        )
    return to_float((images if crop is None else centre_crop(images, crop)).to(device))
