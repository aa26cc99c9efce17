"""A set of your own from arrays in memory."""

import dataclasses
import re
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from .counts import long_tail_indices
from .sets import LongTailedData, Split


def array_set(
    x_train: ArrayLike | Tensor, y_train: ArrayLike | Tensor, x_test: ArrayLike | Tensor, y_test: ArrayLike | Tensor,
    class_names: Sequence[str], *, imbalance: float | None = None, kind: str = "exp", seed: int = 0,
    name: str = "arrays",
) -> LongTailedData:  # fmt: skip
    """A set from arrays or tensors in memory, which are copied.

        x_train, x_test   uint8 from 0 to 255: (N, H, W, 3) in RGB, (N, H, W) or (N, H, W, 1) in grey;
                          of tensors also (N, 3, H, W) and (N, 1, H, W); one H and W for both
        y_train, y_test   (N,) whole numbers, indices into class_names

    Grey is repeated to RGB. Where the last of four dimensions is 3 or 1, it is that of the channels.

    Args:
        class_names: C names.
        imbalance, kind, seed: thin the training images out to this profile, see `long_tail_counts`; N0 is the largest
            class, and the classes keep their order, the first as the head. None keeps every image.
        name: what figures and tables call the set. A benchmark's name, such as "imagenet-lt", says that it is that set:
            it is trained by its protocol, and its published figures stand beside yours.

    Raises:
        ValueError: an array of another type or shape, a class without a training or a test image, a class with fewer
            images than the profile needs, or what `LongTailedData` refuses.
    """
    train, test = _split("train", x_train, y_train), _split("test", x_test, y_test)
    names = tuple(class_names.tolist() if isinstance(class_names, np.ndarray) else class_names)
    options = {"imbalance": imbalance, "kind": kind, "seed": seed}
    natural = LongTailedData(name, train, test, names, options)
    if untested := set(range(len(names))).difference(test.labels.tolist()):
        raise ValueError(f"class {names[min(untested)]!r} has no test image")
    return dataclasses.replace(natural, train=train.take(long_tail_indices(train.labels, names, **options)))


def _split(part: str, x: ArrayLike | Tensor, y: ArrayLike | Tensor) -> Split:
    images = _images(f"x_{part}", x)
    return Split(images, _labels(f"y_{part}", y, len(images)).to(images.device))


def _images(name: str, x: ArrayLike | Tensor) -> Tensor:
    """The images as a copy in RGB, channels first. -> (N, 3, H, W) uint8"""
    x = _array(x)
    grey = x.ndim == 3
    last = x.ndim == 4 and x.shape[3] in (1, 3)
    first = x.ndim == 4 and x.shape[1] in (1, 3) and isinstance(x, Tensor)
    if _type_name(x) != "uint8" or not (grey or last or first):
        also = "; as a tensor also (N, 3, H, W) or (N, 1, H, W)" if isinstance(x, Tensor) else ""
        raise ValueError(
            f"{name} must be (N, H, W, 3) uint8 from 0 to 255, or (N, H, W) or (N, H, W, 1) in grey{also}; it is "
            f"{_type_name(x)} of shape {tuple(x.shape)}"
        )
    x = _tensor(x)
    x = x[:, None] if grey else x.movedim(3, 1) if last else x
    return x.expand(-1, 3, -1, -1).clone(memory_format=torch.contiguous_format)


def _labels(name: str, y: ArrayLike | Tensor, count: int) -> Tensor:
    """-> (N,) int64"""
    y = _array(y)
    if not re.fullmatch(r"u?int\d+", _type_name(y)) or tuple(y.shape) != (count,):
        raise ValueError(
            f"{name} must be ({count},) whole numbers, one for each image, not {_type_name(y)} of shape "
            f"{tuple(y.shape)}"
        )
    return _tensor(y).long()


def _array(values: ArrayLike | Tensor) -> np.ndarray | Tensor:
    return values if isinstance(values, Tensor) else np.asarray(values)


def _tensor(array: np.ndarray | Tensor) -> Tensor:
    """The array as a tensor; torch takes none that is read-only or runs backwards."""
    return array if isinstance(array, Tensor) else torch.from_numpy(np.require(array, requirements=["C", "W"]))


def _type_name(array: np.ndarray | Tensor) -> str:
    return str(array.dtype).removeprefix("torch.")
