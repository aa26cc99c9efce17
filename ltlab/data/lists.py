"""Lists that name an image and its class, as large sets are published.

    path label       lines "train/n01440764/n01440764_10026.JPEG 0": ImageNet-LT and Places-LT (Liu et al., CVPR 2019)
                     and iNaturalist 2018 as Kang et al. (ICLR 2020) list it
    competition      train2018.json, val2018.json of iNaturalist 2018: images, annotations and categories, as in COCO
    annotations      {"annotations": [{"fpath": ..., "category_id": ...}, ...], "num_classes": C} of the paper's code

A list is read once and checked as a whole, so that training does not stop in its third night over a missing file.
`benchmarks` makes sets of them.
"""

import json
import os
import posixpath
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

LARGEST_LABEL = 2**31 - 1
SHOWN = 3  # missing files that a message names


@dataclass(frozen=True, eq=False)
class ImageList:
    """What a list says, in its order.

    source: the file. entry: what it is made of, "line" or "annotation", for messages. paths: (N,) bytes, as
    `os.fsencode` makes them, normalised: one array of a fixed width, small in memory and shared by worker processes.
    labels: (N,) int64. class_names: C names, where the list has them. num_classes: C, where the list says so.
    """

    source: Path
    entry: str
    paths: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...] | None = None
    num_classes: int | None = None


def read_list(path: str | Path) -> ImageList:
    """Read a list in one of the three formats: "path label" lines unless its name ends in .json.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is empty, damaged or of another format, an image stands in it twice, or a label is no whole
            number; the message names the file and the line or the annotation.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no list {path.absolute()}")
    if path.suffix.lower() != ".json":
        return _read_lines(path)
    content = _json(path)
    try:
        return _read_competition(path, content) if "images" in content else _read_annotations(path, content)
    except KeyError as error:
        raise ValueError(
            f"{path} has no {error} where the format needs it; data/README.md shows the formats"
        ) from error
    except (TypeError, AttributeError) as error:
        raise ValueError(f"{path} is JSON of another format, see data/README.md: {error}") from error


def _read_lines(path: Path) -> ImageList:
    files, labels = [], []
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as lines:  # file names may be any bytes
        for number, line in enumerate(lines, start=1):
            fields = line.rsplit(maxsplit=1)  # a path may hold spaces
            if len(fields) != 2 or not fields[1].isdecimal():
                raise ValueError(
                    f"{path}, line {number}: {line.rstrip()[:100]!r} is not a path, a space and a class index from 0"
                )
            files.append(fields[0])
            labels.append(int(fields[1]))
    return _image_list(path, "line", files, labels)


def _json(path: Path) -> Any:
    import orjson  # here, because only annotation files need it

    text = path.read_bytes()
    with suppress(ValueError):
        return orjson.loads(text)
    try:
        return json.loads(text)  # slower; it also takes names that are not UTF-8, and says where it stopped
    except ValueError as error:
        raise ValueError(f"{path} is not JSON, or it is cut off: {error}") from error


def _read_competition(path: Path, content: dict[str, Any]) -> ImageList:
    names = {category["id"]: str(category["name"]) for category in content["categories"]}
    files = {image["id"]: image["file_name"] for image in content["images"]}
    category_of = {annotation["image_id"]: annotation["category_id"] for annotation in content["annotations"]}
    for key, entries, ids in (
        ("images", content["images"], files),
        ("annotations", content["annotations"], category_of),
    ):
        if len(ids) < len(entries):
            raise ValueError(f"{path}: {len(entries) - len(ids):,} of the {key} have the image id of another one")
    if unpaired := sorted(files.keys() ^ category_of.keys()):
        has, lacks = ("a file", "annotation") if unpaired[0] in files else ("an annotation", "file")
        raise ValueError(f"{path}: image id {unpaired[0]} has {has} and no {lacks}; {len(unpaired):,} ids in all")
    index = {category: c for c, category in enumerate(sorted(names))}
    if unknown := sorted(set(category_of.values()) - index.keys()):
        raise ValueError(f"{path}: category_id {unknown[0]} is not among the {len(index):,} categories")
    labels = [index[category_of[image]] for image in files]
    distinct = len(set(names.values())) == len(names)
    class_names = tuple(names[category] if distinct else str(category) for category in index)
    return _image_list(path, "image", list(files.values()), labels, class_names, len(index))


def _read_annotations(path: Path, content: dict[str, Any]) -> ImageList:
    annotations, num_classes = content["annotations"], content["num_classes"]
    files, labels = [entry["fpath"] for entry in annotations], [entry["category_id"] for entry in annotations]
    if wrong := [label for label in (num_classes, *labels) if type(label) is not int]:
        raise ValueError(f"{path}: {wrong[0]!r} stands where a whole number must, for num_classes or a category_id")
    if num_classes < 1:
        raise ValueError(f"{path}: num_classes={num_classes} must be at least 1, one more than the largest category_id")
    return _image_list(path, "annotation", files, labels, num_classes=num_classes)


def _image_list(
    path: Path, entry: str, files: Sequence[str], labels: Sequence[int],
    class_names: tuple[str, ...] | None = None, num_classes: int | None = None,
) -> ImageList:  # fmt: skip
    if not files:
        raise ValueError(f"{path} names no image")
    files = [posixpath.normpath(file) if "./" in file or "//" in file else file for file in files]  # one per image
    _check_once(path, entry, files)
    if (largest := max(labels)) > LARGEST_LABEL:
        raise ValueError(f"{path}, {entry} {labels.index(largest) + 1}: label {largest} is out of range")
    return ImageList(path, entry, encoded(files), np.array(labels, dtype=np.int64), class_names, num_classes)


def _check_once(path: Path, entry: str, files: Sequence[str] | Sequence[bytes]) -> None:
    if len(set(files)) < len(files):
        first: dict[str | bytes, int] = {}
        for number, file in enumerate(files, start=1):
            if first.setdefault(file, number) < number:
                raise ValueError(
                    f"{path}: {os.fsdecode(file)} stands twice, as {entry} {first[file]} and {entry} {number}"
                )


def paths_below(root: str | Path, images: ImageList) -> list[bytes]:
    """The paths of a list, absolute ones below `root` as relative ones.

    Raises:
        ValueError: an image stands in the list twice, in both ways.
    """
    paths = images.paths.tolist()
    if (images.paths.astype("S1") == b"/").any():
        given, real = (os.fsencode(f(root)).rstrip(b"/") + b"/" for f in (os.path.abspath, os.path.realpath))
        paths = [path.removeprefix(given).removeprefix(real) for path in paths]
        _check_once(images.source, images.entry, paths)
    return paths


def encoded(files: Sequence[str]) -> np.ndarray:
    """Paths as the file system has them: (N,) bytes."""
    return np.array([os.fsencode(file) for file in files])


def check_labels(images: ImageList, num_classes: int) -> None:
    """Raise ValueError unless the labels are 0, ..., C - 1 and every class has an image."""
    outside = np.flatnonzero((images.labels < 0) | (images.labels >= num_classes))
    if len(outside):
        i = int(outside[0])
        raise ValueError(
            f"{images.source}, {images.entry} {i + 1}: label {images.labels[i]} is out of range, as {len(outside):,} "
            f"labels are; {num_classes:,} classes have labels 0 to {num_classes - 1}"
        )
    present = np.unique(images.labels)
    if (lacking := num_classes - len(present)) > 0:
        first = int(np.argmin(np.append(present, -1) == np.arange(len(present) + 1)))
        raise ValueError(
            f"{images.source} has no image of class {first}; {lacking:,} of the classes 0 to {num_classes - 1} have "
            "none: leave them out, with labels that count on without a gap"
        )


def check_files(images: ImageList, root: str | Path) -> None:
    """Raise FileNotFoundError unless every image of the list is a file under `root`; says how many are missing.

    Every folder is listed once, which costs a network drive far less than one look per image; links alone are followed.
    """
    present: dict[bytes, frozenset[bytes]] = {}
    missing = []
    for path in images.paths.tolist():
        folder, _, name = path.rpartition(b"/")
        if folder not in present:
            present[folder] = _files_in(os.path.join(os.fsencode(root), folder))  # noqa: PTH118 (Path takes no bytes)
        if name not in present[folder]:
            missing.append(path)
    if missing:
        shown = ", ".join(os.fsdecode(path) for path in missing[:SHOWN])
        raise FileNotFoundError(
            f"{len(missing):,} of the {len(images.paths):,} images of {images.source} are not under {root}: {shown}"
            f"{', ...' if len(missing) > SHOWN else ''}. root= must be the folder that the paths start from"
        )


def _files_in(folder: bytes) -> frozenset[bytes]:
    try:
        with os.scandir(folder) as entries:
            return frozenset([entry.name for entry in entries if entry.is_file()])  # a list is faster
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()
