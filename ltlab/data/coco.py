"""Boxes from a json file as COCO and LVIS have it, checked, in arrays.

A file of a gigabyte is held once as text while it is read; every object goes into arrays as soon as it is complete, and
its polygons are dropped.
"""

import json
import logging
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .places import expanded

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
    (M, 4) as (x1, y1, x2, y2) float32, crowd (M,) bool; class_ids (C,), class_names, and groups (C,) or None; negatives
    and not_exhaustive: classes as indices, by image, or None where the file is not federated. `report` counts what was
    left out or changed.
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


def _refuse(path: Path, faults: Mapping[str, Any]) -> None:
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
