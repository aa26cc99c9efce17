"""Detection sets from json files as COCO and LVIS have them, with images on disk.

    read_annotations    one json -> `Annotations`, checked
    BoxFiles            takes the place of a `DetectionSplit`: boxes in memory, images read when they are needed
    coco_set            a training and a test json -> `DetectionData`

A file of a gigabyte is held once as text while it is read; every object goes into arrays as soon as it is complete, and
its polygons are dropped.
"""

import dataclasses
import hashlib
import json
import logging
import os
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ..counts import check_integer
from .detection_sets import DetectionData, frequency_groups
from .places import expanded
from .streaming import read_image

log = logging.getLogger(__name__)

NAMED = 5  # of the faulty entries, in a message
PREFIX = "COCO_val2014_"  # of file names in LVIS v0.5


class _Columns:
    """Takes every object of a json as it is complete and keeps it in columns."""

    def __init__(self) -> None:
        self.ids, self.image_ids, self.class_ids = array("q"), array("q"), array("q")
        self.boxes, self.crowd = array("d"), array("b")
        self.faults: dict[str, list[Any]] = {}

    def take(self, entry: dict[str, Any]) -> Any:
        """None for an annotation, which the columns have now; anything else but its polygons as it was."""
        if "image_id" not in entry:
            return entry
        try:
            numbers = [int(entry[key]) for key in ("id", "image_id", "category_id")]
            box = [float(number) for number in entry["bbox"]]
            if len(box) != 4:
                raise ValueError(box)
        except (KeyError, TypeError, ValueError):
            self.faults.setdefault("annotations without id, image_id, category_id and bbox of 4 numbers", []).append(
                entry.get("id", "without an id")
            )
            return None
        for column, number in zip((self.ids, self.image_ids, self.class_ids), numbers, strict=True):
            column.append(number)
        self.boxes.extend(box)
        self.crowd.append(bool(entry.get("iscrowd", 0)))
        return None


@dataclass(frozen=True, eq=False)
class Annotations:
    """What a json says, in arrays: N images, M objects, C classes in the order of their ids.

    image_ids (N,), file_names (N,), sizes (N, 2) as height and width; image (M,) and label (M,) as indices, boxes
    (M, 4) as (x1, y1, x2, y2) float32, crowd (M,) bool; class_ids (C,), class_names, and groups (C,) or None; negatives and
    not_exhaustive: classes as indices, by image, or None where the file is not federated. `report` counts what was left
    out or changed.
    """

    path: Path
    image_ids: np.ndarray
    file_names: np.ndarray
    sizes: np.ndarray
    image: np.ndarray
    label: np.ndarray
    boxes: np.ndarray
    crowd: np.ndarray
    class_ids: np.ndarray
    class_names: tuple[str, ...]
    groups: Tensor | None
    negatives: list[np.ndarray] | None
    not_exhaustive: list[np.ndarray] | None
    report: dict[str, int]


def read_annotations(path: str | Path) -> Annotations:
    """Read a COCO or LVIS json and check it.

    Left out and counted in `report`: boxes without area and boxes outside their images; boxes that reach beyond an edge
    are cut off there. Crowds are kept apart: they are not trained on, and in evaluation neither found nor missed.
    Classes without a box are counted and named in the log.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a json with lists of images, annotations and categories; an entry without its fields; repeated
            ids; an annotation of an image or a class that is not there; a box that is not finite. The message counts
            and names them.
    """
    path, columns = expanded(path), _Columns()
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path.absolute()}")
    try:
        with path.open(encoding="utf-8") as file:
            content = json.load(file, object_hook=columns.take)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a json: {error}") from error
    lists = ("images", "annotations", "categories")
    if not isinstance(content, dict) or not all(isinstance(content.get(name), list) for name in lists):
        raise ValueError(f"{path} is not annotated as COCO is: it must hold the lists images, annotations, categories")
    if not content["images"] or not content["categories"]:
        raise ValueError(f"{path} has {len(content['images'])} images and {len(content['categories'])} categories")
    faults = columns.faults
    images = _rows(
        content["images"], faults, "images without id, height, width and file_name or coco_url",
        lambda each: (int(each["id"]), _file_name(each), int(each["height"]), int(each["width"])),
    )  # fmt: skip
    classes = _rows(
        content["categories"], faults, "categories without id and name",
        lambda each: (int(each["id"]), str(each["name"]), each.get("frequency")),
    )  # fmt: skip
    _refuse(path, faults)
    return _checked(path, columns, images, sorted(classes), content["images"])


def _rows(entries: list[Any], faults: dict[str, list[Any]], fault: str, row_of: Callable[[Any], Any]) -> list[Any]:
    """A row for every entry; those that have none are a fault."""
    rows = []
    for place, entry in enumerate(entries):
        try:
            rows.append(row_of(entry))
        except (KeyError, TypeError, ValueError):
            faults.setdefault(fault, []).append(f"number {place}")
    return rows


def _file_name(image: dict[str, Any]) -> str:
    """The file of an image; LVIS v1 names it by its address, whose last two parts are folder and file."""
    if "file_name" in image:
        return str(image["file_name"]).removeprefix(PREFIX)
    return "/".join(str(image["coco_url"]).split("/")[-2:])


def _refuse(path: Path, faults: dict[str, list[Any]]) -> None:
    """ValueError that counts every kind of fault and names the first ones."""
    told = [
        f"{len(those)} {fault} ({', '.join(map(str, those[:NAMED]))}{', ...' if len(those) > NAMED else ''})"
        for fault, those in faults.items()
        if len(those)
    ]
    if told:
        raise ValueError(f"{path}: {'; '.join(told)}")


def _checked(
    path: Path, columns: _Columns, images: list[tuple], classes: list[tuple], entries: list[dict[str, Any]]
) -> Annotations:
    """The annotations, if ids are unique and known and boxes are finite."""
    ids, image_ids, class_ids = (
        np.array(column, np.int64) for column in (columns.ids, columns.image_ids, columns.class_ids)
    )
    boxes = np.array(columns.boxes).reshape(-1, 4)
    of_images = np.array([row[0] for row in images], np.int64)
    of_classes = np.array([row[0] for row in classes], np.int64)
    names = [row[1] for row in classes]
    _refuse(path, {
        "repeated image ids": _repeated(of_images), "repeated category ids": _repeated(of_classes),
        "repeated category names": [name for name in dict.fromkeys(names) if names.count(name) > 1],
        "repeated annotation ids": _repeated(ids),
        "annotations of an unknown image": ids[~np.isin(image_ids, of_images)],
        "annotations of an unknown category": ids[~np.isin(class_ids, of_classes)],
        "boxes that are not finite": ids[~np.isfinite(boxes).all(1)],
    })  # fmt: skip
    order = np.argsort(of_images, kind="stable")
    image = order[np.searchsorted(of_images[order], image_ids)]
    sizes = np.array([row[2:4] for row in images], np.int64)
    label, crowd = np.searchsorted(of_classes, class_ids), np.array(columns.crowd, bool)
    boxes, kept, report = _cut(boxes, sizes[image])
    place = np.flatnonzero(kept)[np.argsort(image[kept], kind="stable")]  # image after image
    report |= {"crowds": int(crowd[place].sum())}
    unseen = [names[c] for c in np.flatnonzero(np.bincount(label[place][~crowd[place]], minlength=len(names)) == 0)]
    report |= {"classes without a box": len(unseen)}
    told = ", ".join(f"{count} {what}" for what, count in report.items() if count)
    if told:
        some = f": {', '.join(unseen[:NAMED])}{', ...' if len(unseen) > NAMED else ''}" if unseen else ""
        log.warning("%s: %s%s", path, told, some)
    frequency = [row[2] for row in classes]
    return Annotations(
        path, of_images, np.array([row[1] for row in images]), sizes, image[place], label[place],
        boxes[place].astype(np.float32), crowd[place], of_classes, tuple(names),
        torch.tensor(["rcf".index(f) for f in frequency]) if all(f in ("r", "c", "f") for f in frequency) else None,
        _classes_of(entries, "neg_category_ids", of_classes),
        _classes_of(entries, "not_exhaustive_category_ids", of_classes), report,
    )  # fmt: skip


def _repeated(values: np.ndarray) -> np.ndarray:
    found, counts = np.unique(values, return_counts=True)
    return found[counts > 1]


def _cut(boxes: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
    """Boxes (x, y, width, height) as corners within their images, which to keep, and how many are not as they were."""
    x, y, width, height = boxes.T
    corners = np.stack([x, y, x + width, y + height], 1)
    most = sizes[:, [1, 0, 1, 0]]
    within = np.clip(corners, 0, most)
    flat = (width <= 0) | (height <= 0)
    small = within.astype(np.float32)
    outside = ~flat & ((small[:, 2] <= small[:, 0]) | (small[:, 3] <= small[:, 1]))
    cut = ~flat & ~outside & (np.abs(within - corners) > 1).any(1)  # more than rounding
    report = {"boxes without area": flat, "boxes outside their image": outside, "boxes cut off at an edge": cut}
    return within, ~(flat | outside), {what: int(those.sum()) for what, those in report.items()}


def _classes_of(entries: list[dict[str, Any]], key: str, class_ids: np.ndarray) -> list[np.ndarray] | None:
    """The classes that every image lists under a key, as indices; None if no image has the key."""
    if not any(key in entry for entry in entries):
        return None
    listed = [np.array(entry.get(key, ()), np.int64) for entry in entries]
    return [np.searchsorted(class_ids, those[np.isin(those, class_ids)]) for those in listed]


@dataclass(frozen=True, eq=False)
class BoxFiles:
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
    on_error = "raise"

    @property
    def damaged(self) -> dict[str, str]:
        return {}

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

    @property
    def image_of_object(self) -> Tensor:
        """As of a `DetectionSplit`."""
        sizes = torch.tensor([len(labels) for labels in self.labels], device=self.device)
        return torch.arange(len(self), device=self.device).repeat_interleave(sizes)

    @property
    def label_of_object(self) -> Tensor:
        """As of a `DetectionSplit`."""
        return torch.cat([*self.labels, torch.zeros(0, dtype=torch.int64, device=self.device)])

    def images_per_class(self, num_classes: int) -> Tensor:
        """As of a `DetectionSplit`."""
        pairs = (self.image_of_object * num_classes + self.label_of_object).unique()
        return torch.bincount(pairs % num_classes, minlength=num_classes)

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


@dataclass
class _Read:
    """What a worker does."""

    split: BoxFiles

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, i: int) -> Tensor:
        return self.split.read(i)


def _unchanged(batch: list[Tensor]) -> list[Tensor]:
    return batch


def coco_set(
    train: str | Path, test: str | Path, images: str | Path | tuple[str | Path, str | Path], *, size: int | None = None,
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
        options={"size": size},  # pyright: ignore[reportArgumentType]
    )
