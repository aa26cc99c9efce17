"""What a detection set looks like once loaded: images with a box and a label for every object in them."""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from ..counts import check_integer
from .sets import Whole

if TYPE_CHECKING:
    from .box_files import BoxFiles

RARE, COMMON = 10, 100  # LVIS: the most training images of a rare class, and of a common one
FREQUENCY_GROUPS = ("rare", "common", "frequent")


class Labelled(Whole):
    """What follows from the labels of each image's objects, in memory or not."""

    if TYPE_CHECKING:
        labels: Any  # N tensors (n_i,) int64
        device: Any

    @property
    def image_of_object(self) -> Tensor:
        """The image of every object, image after image. -> (sum of n_i,) int64"""
        sizes = torch.tensor([len(labels) for labels in self.labels], device=self.device, dtype=torch.int64)
        return torch.arange(len(sizes), device=self.device).repeat_interleave(sizes)

    @property
    def label_of_object(self) -> Tensor:
        """The label of every object, image after image. -> (sum of n_i,) int64"""
        return torch.cat([*self.labels, torch.zeros(0, dtype=torch.int64, device=self.device)])

    def images_per_class(self, num_classes: int) -> Tensor:
        """Images that show every class at least once. -> (C,) int64"""
        pairs = (self.image_of_object * num_classes + self.label_of_object).unique()  # an image shows a class once
        return torch.bincount(pairs % num_classes, minlength=num_classes)


@dataclass(frozen=True, eq=False)
class DetectionSplit(Labelled):
    """Images, and the objects in each of them.

    Args:
        images: (N, 3, H, W) uint8, RGB from 0 to 255.
        boxes: N tensors (n_i, 4) float32, (x1, y1, x2, y2) in pixels: x1 < x2, y1 < y2, within the image. n_i may be 0.
        labels: N tensors (n_i,) int64, class indices from 0; the background is not one of them.
        masks: N tensors (n_i, H, W) bool, True on the visible part of the object; or None.

    Raises:
        ValueError: lists of other lengths, a tensor of another dtype or shape, a box without area, outside its image or
            not finite; the message names the image.
    """

    images: Tensor
    boxes: list[Tensor]
    labels: list[Tensor]
    masks: list[Tensor] | None = None

    def __post_init__(self) -> None:
        shape = tuple(getattr(self.images, "shape", ()))
        if len(shape) != 4 or shape[1] != 3 or self.images.dtype != torch.uint8:
            raise ValueError(f"images must be (N, 3, H, W) uint8, got {shape}")
        n, _, height, width = self.images.shape
        of_objects = {"boxes": (self.boxes, torch.float32, (4,)), "labels": (self.labels, torch.int64, ())}
        if self.masks is not None:
            of_objects["masks"] = (self.masks, torch.bool, (height, width))
        for name, (values, dtype, rest) in of_objects.items():
            if len(values) != n:
                raise ValueError(f"{name} must be one tensor per image, {n}, got {len(values)}")
            for i, (value, boxes) in enumerate(zip(values, self.boxes, strict=True)):
                if value.dtype != dtype or value.shape != (len(boxes), *rest):
                    raise ValueError(
                        f"{name}[{i}] must be {dtype} of shape {(len(boxes), *rest)}, one row per box, "
                        f"got {value.dtype} of shape {tuple(value.shape)}"
                    )
        boxes = torch.cat([*self.boxes, torch.zeros(0, 4, device=self.images.device)])  # (sum of n_i, 4)
        x1, y1, x2, y2 = boxes.unbind(1)
        good = (x1 >= 0) & (x1 < x2) & (x2 <= width) & (y1 >= 0) & (y1 < y2) & (y2 <= height)  # also False for NaN
        if not good.all():
            bad = int((~good).nonzero()[0])
            image = int(self.image_of_object[bad])
            raise ValueError(
                f"boxes[{image}] has the box {[round(v, 2) for v in boxes[bad].tolist()]}: boxes must be "
                f"(x1, y1, x2, y2) with x1 < x2 and y1 < y2, in an image {width} wide and {height} high"
            )

    def __len__(self) -> int:
        return len(self.images)

    def batches(self, indices: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor, list[dict[str, Tensor]]]]:
        """For every batch of indices, (n,) int64: the indices, their images (n, 3, H, W) uint8, and n targets.

        A target has the boxes and labels of its image, and its masks if there are any.
        """
        for chosen in indices:
            yield chosen, self.images[chosen], [self.target(i) for i in chosen.tolist()]

    def target(self, i: int) -> dict[str, Tensor]:
        """The boxes (n_i, 4) and labels (n_i,) of image i, and masks (n_i, H, W) if there are any."""
        masks = {} if self.masks is None else {"masks": self.masks[i]}
        return {"boxes": self.boxes[i], "labels": self.labels[i]} | masks

    @property
    def device(self) -> torch.device:
        """Where images, boxes and labels are."""
        return self.images.device

    def take(self, indices: Tensor) -> Self:
        """The images at `indices`, (M,) int64, in that order, as a new split."""
        rows = indices.tolist()
        masks = None if self.masks is None else [self.masks[i] for i in rows]
        return dataclasses.replace(
            self, images=self.images[indices], boxes=[self.boxes[i] for i in rows],
            labels=[self.labels[i] for i in rows], masks=masks,
        )  # fmt: skip

    def add_to(self, digest: "hashlib._Hash") -> None:
        """Add images, boxes, labels and masks to a fingerprint."""
        for tensors in ([self.images], self.boxes, self.labels, self.masks or []):
            digest.update(f"{len(tensors)} {[tuple(tensor.shape) for tensor in tensors]}".encode())
            for tensor in tensors:
                digest.update(tensor.contiguous().cpu().numpy().tobytes())

    def to(self, device: torch.device | str) -> Self:
        """The same split on `device`."""
        masks = None if self.masks is None else [mask.to(device) for mask in self.masks]
        return dataclasses.replace(
            self, images=self.images.to(device), boxes=[box.to(device) for box in self.boxes],
            labels=[label.to(device) for label in self.labels], masks=masks,
        )  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False)
class DetectionData:
    """A long-tailed detection set: a training and a test split of the same classes.

    Args:
        name: the set's name in figures and tables.
        train, test: the two splits.
        class_names: C >= 1 different names; label c means `class_names[c]`.
        groups: (C,) int64, 0 rare, 1 common, 2 frequent, see `frequency_groups`.
        options: the arguments that made this set, plain JSON values.

    A class may have no box in training: it counts as rare, and nothing can learn it.

    Raises:
        ValueError: a label outside 0 ... C - 1, repeated names, or groups that do not fit the classes.
    """

    name: str
    train: "DetectionSplit | BoxFiles"
    test: "DetectionSplit | BoxFiles"
    class_names: tuple[str, ...]
    groups: Tensor
    options: dict[str, Any] = field(default_factory=dict)

    holds_features = False  # as `LongTailedData` says it

    def __post_init__(self) -> None:
        names, c = self.class_names, len(self.class_names)
        if c < 1 or len(set(names)) < c:
            raise ValueError(f"class_names must be different names, at least one, got {names!r:.80}")
        for part, split in (("train", self.train), ("test", self.test)):
            labels = split.label_of_object
            if len(outside := labels[(labels < 0) | (labels >= c)]):
                raise ValueError(f"{part} has label {int(outside[0])}, but {c} classes have labels 0 to {c - 1}")
        groups = self.groups
        if groups.shape != (c,) or groups.dtype != torch.int64 or not ((groups >= 0) & (groups <= 2)).all():
            raise ValueError(
                f"groups must be ({c},) int64 of 0 (rare), 1 (common) and 2 (frequent), got {groups!r:.80}"
            )

    @cached_property
    def instance_counts(self) -> Tensor:
        """Training boxes of every class. -> (C,) int64"""
        return torch.bincount(self.train.label_of_object, minlength=len(self.class_names))

    @cached_property
    def image_counts(self) -> Tensor:
        """Training images that show every class. -> (C,) int64"""
        return self.train.images_per_class(len(self.class_names))

    @property
    def class_counts(self) -> Tensor:
        """The `image_counts`, by which a stage makes its loss. -> (C,) int64"""
        return self.image_counts

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits of the SHA-256 of both splits, the class names and the groups, equal only for equal content."""
        digest = hashlib.sha256(json.dumps([self.class_names, self.groups.tolist()]).encode())
        for split in (self.train, self.test):
            split.add_to(digest)
        return digest.hexdigest()[:16]

    def __repr__(self) -> str:
        counts, sizes = self.instance_counts, torch.bincount(self.groups, minlength=3).tolist()
        groups = ", ".join(f"{size} {name}" for size, name in zip(sizes, FREQUENCY_GROUPS, strict=True))
        return (
            f"DetectionData({self.name!r}: {len(self.train):,} training and {len(self.test):,} test images, "
            f"{len(counts)} classes ({groups}) with {counts.max():,} to {counts.min():,} training boxes)"
        )

    def to(self, device: torch.device | str) -> Self:
        """The same data on `device`."""
        return dataclasses.replace(
            self, train=self.train.to(device), test=self.test.to(device), groups=self.groups.to(device)
        )


def frequency_groups(image_counts: Sequence[int] | Tensor, rare: int = RARE, common: int = COMMON) -> Tensor:
    """LVIS's three groups of classes by the number of training images that show them.

        0, rare: n_c <= rare;   1, common: rare < n_c <= common;   2, frequent: n_c > common

    Args:
        image_counts: (C,) images per class.
        rare, common: the most images of a rare and of a common class, 0 <= rare <= common. The comment in LVIS's code
            says "< 10" and "< 100"; its data include 10 and 100, as here.

    Returns:
        (C,) int64 on the device of the counts.

    Source: Gupta et al., "LVIS: A Dataset for Large Vocabulary Instance Segmentation", CVPR 2019.
    """
    rare = check_integer("rare", rare, 0)
    common = check_integer("common", common, rare)
    counts = torch.as_tensor(image_counts)
    return (counts > rare).long() + (counts > common).long()
