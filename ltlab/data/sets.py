"""What every data set looks like once loaded: a training and a test split, each an `ImageSplit`.

The `Split` of a small set holds its images as one tensor on one device; a set that does not fit into memory has the
`StreamedSplit` of `streaming`, with the same interface.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from .streaming import ImageFiles

ARRAY_SET = "ltlab.data.array_set makes a set from NumPy arrays, from (N, H, W, 3) and from grey images"


class ImageSplit(Protocol):
    """What training needs of a split; `Split` has it in memory, `StreamedSplit` on disk, and says what the methods do.

    images: (N, 3, H, W) uint8, or files that can be read like such a tensor. labels: (N,) int64, class indices from 0.
    masks: (N, H, W) bool, or None. on_error: "raise" or "skip" unreadable images. damaged: why each image that was
    skipped could not be read, by path.
    """

    @property
    def images(self) -> "Tensor | ImageFiles": ...
    @property
    def labels(self) -> Tensor: ...
    @property
    def masks(self) -> Tensor | None: ...
    @property
    def on_error(self) -> str: ...
    @property
    def damaged(self) -> dict[str, str]: ...
    def __len__(self) -> int: ...
    def take(self, indices: Tensor) -> Self: ...
    def batches(self, indices: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor, Tensor]]: ...
    def add_to(self, digest: "hashlib._Hash") -> None: ...
    def to(self, device: torch.device | str) -> Self: ...


class Whole:
    """What a split says whose images can all be read."""

    @property
    def on_error(self) -> str:
        """An unreadable image would be an error."""
        return "raise"

    @property
    def damaged(self) -> dict[str, str]:
        """No image was unreadable."""
        return {}


@dataclass(frozen=True, eq=False)
class Split(Whole):
    """Images with labels and, where they are known, the true foreground masks.

    Args:
        images: (N, 3, H, W) uint8, RGB from 0 to 255, contiguous; or features, (N, K, 1, 1) float32.
        labels: (N,) int64, class indices from 0.
        masks: (N, H, W) bool, True on the object; or None.

    Raises:
        ValueError: a tensor of another dtype, shape, layout or device.
    """

    images: Tensor
    labels: Tensor
    masks: Tensor | None = None

    def __post_init__(self) -> None:
        shape = tuple(np.shape(self.images))
        are_features = shape[2:] == (1, 1) and getattr(self.images, "dtype", None) == torch.float32
        if len(shape) != 4 or (shape[1] != 3 and not are_features):
            raise ValueError(f"images must be (N, 3, H, W), not {shape}: {ARRAY_SET}")
        device = getattr(self.images, "device", None)
        _check_tensor("images", self.images, torch.float32 if are_features else torch.uint8, shape, device)
        _check_tensor("labels", self.labels, torch.int64, shape[:1], device)
        if self.masks is not None:
            _check_tensor("masks", self.masks, torch.bool, (shape[0], *shape[2:]), device)
        if not self.images.is_contiguous():
            raise ValueError("images must be contiguous: pass images.contiguous()")

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Tensor) -> Self:
        """The images at `indices`, (M,) int64, in that order, as a new split."""
        masks = None if self.masks is None else self.masks[indices]
        return dataclasses.replace(self, images=self.images[indices], labels=self.labels[indices], masks=masks)

    def batches(self, indices: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """For every batch of indices, (n,) int64: the indices, their images (n, 3, H, W) uint8, their labels (n,)."""
        for chosen in indices:
            yield chosen, self.images.index_select(0, chosen), self.labels[chosen]  # twice as fast as by brackets

    def add_to(self, digest: "hashlib._Hash") -> None:
        """Add images, labels and masks to a fingerprint."""
        for tensor in (self.images, self.labels, self.masks):
            if tensor is None:
                digest.update(b"none")
            else:
                digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
                digest.update(tensor.flatten().cpu().numpy().data)

    def to(self, device: torch.device | str) -> Self:
        """The same split on `device`."""
        masks = None if self.masks is None else self.masks.to(device)
        return dataclasses.replace(self, images=self.images.to(device), labels=self.labels.to(device), masks=masks)


def _check_tensor(
    name: str, tensor: Tensor, dtype: torch.dtype, shape: tuple[int, ...], device: torch.device | None
) -> None:
    if not isinstance(tensor, Tensor):
        raise ValueError(f"{name} must be a tensor, not {type(tensor).__name__}: {ARRAY_SET}")
    if tensor.dtype != dtype or tensor.shape != shape or tensor.device != device:
        raise ValueError(
            f"{name} must be {dtype} of shape {shape} on {device}, "
            f"not {tensor.dtype} of shape {tuple(tensor.shape)} on {tensor.device}"
        )


@dataclass(frozen=True, eq=False, repr=False)
class LongTailedData:
    """A long-tailed training split with a test split of the same classes.

    Args:
        name: the set's name in figures and tables.
        train, test: the two splits, with images of one size.
        class_names: C >= 2 different names; label c means `class_names[c]`.
        options: the arguments that made this set (imbalance, kind, seed, ...); they are converted to plain JSON values.

    Raises:
        ValueError: a label outside 0 ... C - 1, a class without a training image, train and test images of different
            sizes, or options that JSON cannot hold.
    """

    name: str
    train: ImageSplit
    test: ImageSplit
    class_names: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = self.class_names
        if not isinstance(names, tuple) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"class_names must be a tuple of strings, not {names!r:.80}")
        if len(names) < 2:
            raise ValueError(f"class_names={names!r} must be at least two: a classifier takes two classes or more")
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"class_names has {twice!r} more than once; every class needs its own name")
        for part, split in (("train", self.train), ("test", self.test)):
            outside = split.labels[(split.labels < 0) | (split.labels >= len(names))]
            if len(outside):
                raise ValueError(
                    f"{part} has label {int(outside[0])}, but {len(names)} classes have labels 0 to {len(names) - 1}"
                )
        if without := [name for name, count in zip(names, self.class_counts.tolist(), strict=True) if count == 0]:
            raise ValueError(f"class {without[0]!r} has no training image; leave the class out or add images")
        train_size, test_size = tuple(self.train.images.shape[2:]), tuple(self.test.images.shape[2:])
        if train_size != test_size:
            raise ValueError(f"train images are (H, W) = {train_size}, test images {test_size}; give both one size")
        try:
            options = json.loads(json.dumps(self.options, default=_plain))
        except (TypeError, ValueError) as error:
            raise ValueError(f"options must be plain values that JSON can hold: {error}") from error
        object.__setattr__(self, "options", options)  # as the class is frozen

    @property
    def class_counts(self) -> Tensor:
        """Training images per class. -> (C,) int64, on the device of the labels"""
        return torch.bincount(self.train.labels, minlength=len(self.class_names))

    @property
    def holds_features(self) -> bool:
        """Whether the images are features, (N, K, 1, 1) float32, see `features`."""
        return self.train.images.dtype == torch.float32

    @property
    def side(self) -> int:
        """The shorter side of the images, in pixels; of features 1."""
        return min(self.train.images.shape[2:])

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits of the SHA-256 of both splits and the class names, equal only for equal content.

        Of a streamed split it covers paths, labels and size, not the pixels, see `StreamedSplit.add_to`.
        """
        digest = hashlib.sha256(json.dumps(self.class_names).encode())
        for split in (self.train, self.test):
            split.add_to(digest)
        return digest.hexdigest()[:16]

    def __repr__(self) -> str:
        counts = self.class_counts
        width_of_features, height, width = self.train.images.shape[1:]
        what = f"{width_of_features:,} features" if self.holds_features else f"{height} x {width} pixels"
        return (
            f"LongTailedData({self.name!r}: {len(self.train):,} training and {len(self.test):,} test images "
            f"of {what}, {len(counts)} classes with {counts.max():,} to {counts.min():,} images, "
            f"imbalance {int(counts.max()) / int(counts.min()):.4g})"
        )

    def to(self, device: torch.device | str) -> Self:
        """The same data on `device`."""
        return dataclasses.replace(self, train=self.train.to(device), test=self.test.to(device))


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{value!r} is a {type(value).__name__}")
