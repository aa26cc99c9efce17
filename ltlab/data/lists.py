"""Lists that name an image and its class, as large sets are published.

    path label       lines "train/n01440764/n01440764_10026.JPEG 0": ImageNet-LT and Places-LT (Liu et al., CVPR 2019)
                     and iNaturalist 2018 as Kang et al. (ICLR 2020) list it
    competition      train2018.json, val2018.json of iNaturalist 2018: images, annotations and categories, as in COCO

A list is read once and checked as a whole, so that training does not stop in its third night over a missing file.
`benchmarks` makes sets from them.
"""

import json
import os
import posixpath
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .places import expanded

SHOWN = 3  # missing files that a message names

Identity = tuple[int, int]  # of a file or folder, however it is reached: its device and its number there


@dataclass(frozen=True, eq=False)
class ImageList:
    """What a list says, in its order.

    source: the file. entry: what it consists of, "line" or "image", for messages. files: N paths, normalised. labels:
    (N,) int64. class_names: C names, if the list has them.
    """

    source: Path
    entry: str
    files: list[str]
    labels: np.ndarray
    class_names: tuple[str, ...] | None = None


def read_list(path: str | Path) -> ImageList:
    """Read a list of one of the two formats: a competition list if its name ends in .json, else "path label" lines.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the list is empty, damaged or of another format, names an image twice, or has a label that is not
            an integer; the message names the file and the line or the image.
    """
    path = expanded(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no list {path.absolute()}")
    if path.suffix.lower() != ".json":
        return _read_lines(path)
    try:
        return _read_competition(path, json.loads(path.read_bytes()))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON, or it is cut off: {error}") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is not a competition list, which has 'images', 'annotations' and 'categories' (error: {error!r}); "
            "write any other list as lines of path and class index"
        ) from error


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


def _read_competition(path: Path, content: dict[str, Any]) -> ImageList:
    names = {category["id"]: str(category["name"]) for category in content["categories"]}
    files = {image["id"]: image["file_name"] for image in content["images"]}
    category_of = {annotation["image_id"]: annotation["category_id"] for annotation in content["annotations"]}
    for key, ids in (("images", files), ("annotations", category_of)):
        if doubled := len(content[key]) - len(ids):
            raise ValueError(f"{path}: {doubled:,} of the {key} have the image id of another one")
    if unpaired := sorted(files.keys() ^ category_of.keys()):
        raise ValueError(f"{path}: {len(unpaired):,} image ids, such as {unpaired[0]}, have no file or no annotation")
    index = {category: c for c, category in enumerate(sorted(names))}
    if unknown := sorted(set(category_of.values()) - index.keys()):
        raise ValueError(f"{path}: category_id {unknown[0]} is not among the {len(index):,} categories")
    labels = [index[category_of[image]] for image in files]
    distinct = len(set(names.values())) == len(names)
    class_names = tuple(names[category] if distinct else str(category) for category in index)
    return _image_list(path, "image", list(files.values()), labels, class_names)


def _image_list(
    path: Path, entry: str, files: Sequence[str], labels: Sequence[int], class_names: tuple[str, ...] | None = None
) -> ImageList:
    if not files:
        raise ValueError(f"{path} names no image")
    files = [posixpath.normpath(file) if "./" in file or "//" in file else file for file in files]  # one per image
    if len(set(files)) < len(files):
        first: dict[str, int] = {}
        for number, file in enumerate(files, start=1):
            if first.setdefault(file, number) < number:
                raise ValueError(f"{path}: {file} is named twice, by {entry} {first[file]} and by {entry} {number}")
    return ImageList(path, entry, files, np.array(labels, dtype=np.int64), class_names)


def encoded(files: Sequence[str]) -> np.ndarray:
    """Paths as the file system has them, (N,) bytes: small in memory, and shared by worker processes."""
    return np.array([os.fsencode(file) for file in files])


def check_labels(images: ImageList, num_classes: int) -> None:
    """Raise ValueError unless the labels are 0, ..., C - 1 and every class has an image."""
    outside = np.flatnonzero(images.labels >= num_classes)
    if len(outside):
        i = int(outside[0])
        raise ValueError(
            f"{images.source}, {images.entry} {i + 1}: label {images.labels[i]} is out of range (so are "
            f"{len(outside) - 1:,} others); {num_classes:,} classes have labels 0 to {num_classes - 1}"
        )
    present = np.unique(images.labels)
    if (lacking := num_classes - len(present)) > 0:
        first = int(np.argmin(np.append(present, -1) == np.arange(len(present) + 1)))
        raise ValueError(
            f"{images.source} has no image of class {first}; {lacking:,} of the classes 0 to {num_classes - 1} have "
            "none: leave them out and number the others without gaps"
        )


def check_files(images: ImageList, root: str | Path) -> list[Identity]:
    """The identities of the files that a list names, in its order; a FileNotFoundError says how many are not there.

    Every folder is listed once, which costs a network drive far less than one look-up per image; only links are
    followed. A path in another Unicode form than the file's becomes the file's. A ValueError names a file that two
    paths lead to.
    """
    folders: dict[str, tuple[Identity | None, dict[str, Identity]]] = {}  # identity and files, by the path in the list
    named: set[tuple[Identity | None, str]] = set()
    files: list[Identity] = []
    missing = []
    for i, file in enumerate(images.files):
        for spelling in _spellings(file):
            folder, _, name = spelling.rpartition("/")
            if folder not in folders:
                folders[folder] = _listing(Path(root, folder))
            place, listing = folders[folder]
            if name in listing:
                break
        else:
            missing.append(file)
            continue
        if (place, name) in named:
            raise ValueError(f"{images.source}: {file} is named twice, by different paths")
        named.add((place, name))
        files.append(listing[name])
        images.files[i] = spelling
    if missing:
        raise FileNotFoundError(
            f"{len(missing):,} of the {len(images.files):,} images of {images.source} are not under {root}: "
            f"{', '.join(missing[:SHOWN])}{', ...' if len(missing) > SHOWN else ''}. root= must be the folder that the "
            "paths start from"
        )
    return files


def _spellings(file: str) -> Iterator[str]:
    """A path as it is given, then in one Unicode form: composed, as Linux writes it, or decomposed, as macOS did."""
    yield file
    if not file.isascii():
        yield unicodedata.normalize("NFC", file)
        yield unicodedata.normalize("NFD", file)


def _listing(folder: Path) -> tuple[Identity | None, dict[str, Identity]]:
    """The identity of a folder and those of the files in it, by name; nothing if there is no such folder."""
    try:
        status = folder.stat()
        with os.scandir(folder) as entries:
            files = {entry.name: identity(entry, status.st_dev) for entry in entries if entry.is_file()}
    except (FileNotFoundError, NotADirectoryError):
        return None, {}
    return (status.st_dev, status.st_ino), files


def identity(entry: os.DirEntry, device: int) -> Identity:
    """Of what a folder on `device` lists, or of what it links to."""
    if not entry.is_symlink():
        return device, entry.inode()
    status = entry.stat()
    return status.st_dev, status.st_ino


def check_disjoint(train: Sequence[Identity], test: Sequence[Identity], test_files: Sequence[str]) -> None:
    """Raise ValueError if a test file is also a training file, under any path."""
    known = set(train)
    if shared := [file for file, same in zip(test_files, test, strict=True) if same in known]:
        raise ValueError(
            f"the test image {shared[0]} is the same file as a training image (so are {len(shared) - 1:,} others): "
            "test on images that were not trained on"
        )
