"""A detection set whose images are read from disk: boxes in memory, images when they are needed."""

import dataclasses
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..counts import check_integer
from .coco import NAMED, Annotations, read_annotations
from .detection_sets import DetectionData, Labelled, frequency_groups
from .places import expanded
from .streaming import read_image


@dataclass(frozen=True, eq=False)
class BoxFiles(Labelled):
    """A `DetectionSplit` whose images are read from disk, of any size.

    Args:
        annotations: what the json says.
        root: the folder that the file names start from.
        size: None leaves images as they are. Otherwise they become size x size: the longer side is resized, and the
            rest, right or below, is black; boxes follow.
        workers: processes that read ahead in training; 0 reads in this one.
        rows: (n,) the images of this split among those of the json, in its order; None: all.
        device: where batches arrive.
    """

    annotations: Annotations
    root: Path
    size: int | None = None
    workers: int = 0
    rows: Tensor | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    masks = None

    def __len__(self) -> int:
        return len(self.annotations.image_ids) if self.rows is None else len(self.rows)

    @cached_property
    def chosen(self) -> list[int]:
        """Which image of the json every image is."""
        return list(range(len(self.annotations.image_ids))) if self.rows is None else self.rows.tolist()

    @cached_property
    def scales(self) -> np.ndarray:
        """Pixels here per pixel of the file, (N of the json,)."""
        longest = self.annotations.sizes.max(1)
        return np.ones(len(longest)) if self.size is None else self.size / longest

    def _of_images(self, crowd: bool) -> tuple[list[Tensor], list[Tensor]]:
        """Boxes and labels by image, of crowds or of single objects."""
        notes = self.annotations
        kept = notes.crowd == crowd
        image = notes.image[kept]
        boxes = torch.from_numpy((notes.boxes[kept] * self.scales[image][:, None]).astype(np.float32)).to(self.device)
        labels = torch.from_numpy(notes.label[kept].astype(np.int64)).to(self.device)
        sizes = np.bincount(image, minlength=len(notes.image_ids)).tolist()
        by_image = boxes.split(sizes), labels.split(sizes)
        return [by_image[0][i] for i in self.chosen], [by_image[1][i] for i in self.chosen]

    @cached_property
    def _objects(self) -> tuple[list[Tensor], list[Tensor]]:
        return self._of_images(crowd=False)

    @property
    def boxes(self) -> list[Tensor]:
        return self._objects[0]

    @property
    def labels(self) -> list[Tensor]:
        return self._objects[1]

    @property
    def images(self) -> "BoxFiles":
        """Itself: split[start:end] reads images."""
        return self

    def rules(self) -> dict[str, Any]:
        """What `average_precision` must know besides: crowds, and of LVIS which classes were looked for."""
        notes, crowds = self.annotations, self._of_images(crowd=True)
        given: dict[str, Any] = {"crowd": [{"boxes": b, "labels": k} for b, k in zip(*crowds, strict=True)]}
        for name in ("negatives", "not_exhaustive"):
            if (listed := getattr(notes, name)) is not None:
                given[name] = [listed[i].tolist() for i in self.chosen]
        return given

    def path(self, i: int) -> Path:
        """The file of image i."""
        return self.root / str(self.annotations.file_names[self.chosen[i]])

    def read(self, i: int) -> Tensor:
        """Image i, (3, H, W) uint8.

        Raises:
            ValueError: the file cannot be read, or has another size than the json says.
        """
        image, (height, width) = read_image(str(self.path(i))), self.annotations.sizes[self.chosen[i]]
        if image.shape[1:] != (height, width):
            raise ValueError(f"{self.path(i)} has {tuple(image.shape[1:])} pixels, the json says {(height, width)}")
        if self.size is None:
            return image
        from torchvision.transforms.v2 import functional as F  # here, as it takes as long as torch

        scale = self.scales[self.chosen[i]]
        sides = [max(1, round(side * scale)) for side in (height, width)]
        resized = F.resize(image, sides, antialias=True)
        return F.pad(resized, [0, 0, self.size - sides[1], self.size - sides[0]])

    def __getitem__(self, indices: slice) -> Any:
        """The images of a slice: a list, or with a size one tensor (n, 3, size, size)."""
        return self._together([self.read(i) for i in range(len(self))[indices]])

    def _together(self, images: list[Tensor]) -> Any:
        return [image.to(self.device) for image in images] if self.size is None else torch.stack(images).to(self.device)

    def batches(self, indices: Sequence[Tensor]) -> Iterator[tuple[Tensor, Any, list[dict[str, Tensor]]]]:
        """As of a `DetectionSplit`, the images a list of (3, H, W), or with a size one tensor; read by the workers."""
        lists = [chosen.tolist() for chosen in indices]
        loader = DataLoader(
            _Read(self), batch_sampler=lists, num_workers=self.workers, collate_fn=_unchanged,
            generator=torch.Generator(),  # else it would draw from torch's global one
        )  # fmt: skip
        for chosen, images in zip(indices, loader, strict=True):
            yield chosen, self._together(images), [self.target(i) for i in chosen.tolist()]

    def target(self, i: int) -> dict[str, Tensor]:
        """The boxes (n_i, 4) and labels (n_i,) of image i."""
        return {"boxes": self.boxes[i], "labels": self.labels[i]}

    def take(self, indices: Tensor) -> Self:
        """The images at `indices`, (M,) int64, in that order, as a new split."""
        return dataclasses.replace(self, rows=torch.tensor(self.chosen)[indices.cpu()])

    def to(self, device: torch.device | str) -> Self:
        """The same split, whose batches and boxes are on `device`."""
        return dataclasses.replace(self, device=torch.device(device))

    def add_to(self, digest: "hashlib._Hash") -> None:
        """Add file names, boxes, labels and size to a fingerprint, but not the pixels."""
        notes = self.annotations
        digest.update(f"files {self.size} {self.chosen}".encode())
        digest.update("\0".join(notes.file_names.tolist()).encode())
        for values in (notes.image, notes.label, notes.boxes, notes.crowd):
            digest.update(np.ascontiguousarray(values).data)

    def as_results(self, detections: Sequence[dict[str, Tensor]]) -> list[dict[str, Any]]:
        """Detections of these images as COCO's results: ids of the json, (x, y, width, height) in the files' pixels."""
        notes, made = self.annotations, []
        for i, found in zip(self.chosen, detections, strict=True):
            boxes = found["boxes"].double() / float(self.scales[i])
            boxes = torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
            image = int(notes.image_ids[i])
            made += [
                {"image_id": image, "category_id": int(notes.class_ids[label]), "bbox": box, "score": score}
                for box, label, score in zip(
                    boxes.tolist(), found["labels"].tolist(), found["scores"].double().tolist(), strict=True
                )
            ]
        return made


class _Read(Dataset):
    """What a worker does."""

    def __init__(self, split: BoxFiles) -> None:
        self.split = split

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, i: int) -> Tensor:
        return self.split.read(i)


def _unchanged(batch: list[Tensor]) -> list[Tensor]:
    return batch


def coco_set(
    train: str | Path, *, test: str | Path, images: str | Path | tuple[str | Path, str | Path], size: int | None = None,
    workers: int = 0, name: str | None = None,
) -> DetectionData:  # fmt: skip
    """A detection set from two json files in COCO's or LVIS's form, its images on disk.

    Classes are numbered from 0 in the order of their ids. LVIS says which are rare, common and frequent; otherwise the
    training images tell, see `frequency_groups`.

    Args:
        train, test: the json files, with the same categories.
        images: the folder that file names start from; or two, for training and test.
        size: side in pixels to which images are resized and padded, see `BoxFiles`. A detector for images of one size,
            such as the small one, needs it unless they are.
        workers: processes that read ahead in training.
        name: in figures and tables; None takes the training file's.

    Raises:
        FileNotFoundError: a json, or images, that are not there; they are counted and the first ones named.
        ValueError: other categories in the test json; what `read_annotations` refuses.
    """
    if size is not None:
        size = check_integer("size", size, least=16)
    workers = check_integer("workers", workers, least=0)
    parts = [read_annotations(path) for path in (train, test)]
    roots = [expanded(root) for root in (images if isinstance(images, tuple) else (images, images))]
    splits = [BoxFiles(notes, root, size, workers) for notes, root in zip(parts, roots, strict=True)]
    for split in splits:
        missing = [path for path in map(split.path, range(len(split))) if not os.path.isfile(path)]  # noqa: PTH113 (fast)
        if missing:
            raise FileNotFoundError(
                f"{split.annotations.path}: {len(missing)} of {len(split)} images are not there "
                f"({', '.join(map(str, missing[:NAMED]))}{', ...' if len(missing) > NAMED else ''}): check images="
            )
    ours, theirs = ([*zip(notes.class_ids.tolist(), notes.class_names, strict=True)] for notes in parts)
    if ours != theirs:
        differing = sorted(set(ours) ^ set(theirs))
        raise ValueError(f"{test} has other categories than {train}: {differing[:NAMED]}")
    per_class = splits[0].images_per_class(len(ours))
    groups = frequency_groups(per_class) if parts[0].groups is None else parts[0].groups
    return DetectionData(
        name or parts[0].path.stem,
        splits[0],
        splits[1],
        parts[0].class_names,
        groups,
        options={"size": size},
    )
