"""Large sets as others publish them: lists that name an image and its class.

    path label       lines "train/n01440764/n01440764_10026.JPEG 0": ImageNet-LT and Places-LT (Liu et al., CVPR 2019)
                     and iNaturalist 2018 as Kang et al. (ICLR 2020) list it
    competition      train2018.json, val2018.json of iNaturalist 2018: images, annotations and categories, as in COCO
    annotations      {"annotations": [{"fpath": ..., "category_id": ...}, ...], "num_classes": C} of the paper's code

A list is read once and checked as a whole, so that training does not stop in its third night over a missing file.
The images stay on disk, see `streaming`.
"""

import csv
import dataclasses
import json
import os
import posixpath
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .counts import BENCHMARKS, long_tail_indices
from .places import download_folder, tables_folder
from .sets import LongTailedData
from .streaming import ImageFiles, StreamedSplit

LARGEST_LABEL = 2**31 - 1
SHOWN = 3  # missing files that a message names

# The lists of every benchmark, the training and the test list, in the order in which they are looked for. Where there
# is no test list, the validation list is the test list.
BENCHMARK_LISTS = {
    "imagenet-lt": (
        ("ImageNet_LT_train.txt", "ImageNet_LT_train.json"),
        ("ImageNet_LT_test.txt", "ImageNet_LT_test.json", "ImageNet_LT_val.txt", "ImageNet_LT_val.json"),
    ),
    "places-lt": (
        ("Places_LT_train.txt", "Places_LT_train.json"),
        ("Places_LT_test.txt", "Places_LT_test.json", "Places_LT_val.txt", "Places_LT_val.json"),
    ),
    "inat18": (
        ("iNaturalist18_train.txt", "train2018.json", "iNaturalist18_train.json"),
        ("iNaturalist18_val.txt", "val2018.json", "iNaturalist18_val.json"),
    ),
}


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
    if len(set(files)) < len(files):
        first: dict[str, int] = {}
        for number, file in enumerate(files, start=1):
            if first.setdefault(file, number) < number:
                raise ValueError(f"{path}: {file} stands twice, as {entry} {first[file]} and {entry} {number}")
    if (largest := max(labels)) > LARGEST_LABEL:
        raise ValueError(f"{path}, {entry} {labels.index(largest) + 1}: label {largest} is out of range")
    return ImageList(path, entry, _encoded(files), np.array(labels, dtype=np.int64), class_names, num_classes)


def _encoded(files: Sequence[str]) -> np.ndarray:
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

    Every folder is listed once, which costs a network drive far less than one look per image.
    """
    present: dict[bytes, frozenset[bytes]] = {}
    missing = []
    for path in images.paths.tolist():
        folder, _, name = path.rpartition(b"/")
        if folder not in present:
            present[folder] = _names_in(os.path.join(os.fsencode(root), folder))  # noqa: PTH118 (Path takes no bytes)
        if name not in present[folder]:
            missing.append(path)
    if missing:
        shown = ", ".join(os.fsdecode(path) for path in missing[:SHOWN])
        raise FileNotFoundError(
            f"{len(missing):,} of the {len(images.paths):,} images of {images.source} are not under {root}: {shown}"
            f"{', ...' if len(missing) > SHOWN else ''}. root= must be the folder that the paths start from"
        )


def _names_in(folder: bytes) -> frozenset[bytes]:
    try:
        return frozenset(os.listdir(folder))  # noqa: PTH208
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()


def list_set(
    train: str | Path, test: str | Path, root: str | Path, *, name: str | None = None,
    class_names: Sequence[str] | None = None, imbalance: float | None = None, kind: str = "exp", seed: int = 0,
    size: int = 256, workers: int | None = None, on_error: str = "raise",
) -> LongTailedData:  # fmt: skip
    """A set from a training and a test list, whose images are read from disk whenever they are needed.

    Args:
        train, test: the lists, each in one of the formats of `read_list`.
        root: the folder that the paths of the lists start from; absolute paths are taken as they are.
        name: what figures and tables call the set; None: the training list's file name.
        class_names: C names; None: those of a competition list, else the names of the images' folders where every
            class has one of its own, else "0", "1", ...
        imbalance, kind, seed: thin the training images out to this profile, see `long_tail_counts`; N0 is the largest
            class, and the classes keep their order, the first as the head. None keeps every image.
        size, workers: side of the images in pixels and processes that read them, see `ImageFiles`.
        on_error: what happens to unreadable images, "raise" or "skip", see `StreamedSplit`.

    Raises:
        FileNotFoundError: there is no such list, or an image of one is not under `root`.
        ValueError: what `read_list` refuses, a label outside 0 ... C - 1, a class without a training or a test image,
            an image in both lists, or lists with different classes or numbers for them.
    """
    lists = read_list(train), read_list(test)
    names = None if class_names is None else tuple(class_names)
    options = {"imbalance": imbalance, "kind": kind, "seed": seed}
    loaded = _assemble(name or lists[0].source.stem, *lists, Path(root).expanduser(), names, size, workers, on_error)
    keep = long_tail_indices(loaded.train.labels, loaded.class_names, **options)
    return dataclasses.replace(loaded, train=loaded.train.take(keep), options=loaded.options | options)


def _assemble(
    name: str, train: ImageList, test: ImageList, root: Path, class_names: tuple[str, ...] | None,
    size: int, workers: int | None, on_error: str,
) -> LongTailedData:  # fmt: skip
    """Two lists as one set, once they are checked."""
    num_classes = _num_classes(train) if class_names is None else len(class_names)
    for images in (train, test):
        if images.num_classes not in (None, num_classes):
            raise ValueError(
                f"{images.source} says that there are {images.num_classes:,} classes, not {num_classes:,} as "
                f"{'class_names' if class_names else train.source}: take lists of one set, and all of its names"
            )
        check_labels(images, num_classes)
    if shared := set(train.paths.tolist()) & set(test.paths.tolist()):
        raise ValueError(
            f"{os.fsdecode(min(shared))} is in both {train.source} and {test.source}, as {len(shared):,} images are; "
            "test on images that were not trained on"
        )
    for images in (train, test):
        check_files(images, root)
    return LongTailedData(
        name=name,
        train=StreamedSplit(ImageFiles(root, train.paths, train.labels, size, workers, on_error)),
        test=StreamedSplit(ImageFiles(root, test.paths, test.labels, size, workers, on_error)),
        class_names=_class_names(train, test, num_classes) if class_names is None else class_names,
        options={"lists": [train.source.name, test.source.name], "size": size},
    )


def _num_classes(train: ImageList) -> int:
    """What the list says, else as many as its largest label needs."""
    return int(train.labels.max()) + 1 if train.num_classes is None else train.num_classes


def _class_names(train: ImageList, test: ImageList, num_classes: int) -> tuple[str, ...]:
    """Those of the lists, else the names of the classes' folders, else their numbers."""
    if test.class_names is not None and train.class_names not in (None, test.class_names):
        raise ValueError(f"{train.source} and {test.source} have different categories")
    if (names := train.class_names or test.class_names) is not None:
        return names
    label_of, in_test = _labels_of_folders(train, num_classes), _labels_of_folders(test, num_classes)
    if moved := sorted(folder for folder in label_of.keys() & in_test.keys() if label_of[folder] != in_test[folder]):
        raise ValueError(
            f"folder {os.fsdecode(moved[0])!r} is class {label_of[moved[0]]} in {train.source} and class "
            f"{in_test[moved[0]]} in {test.source}, {len(moved):,} folders have two classes: take lists of one set"
        )
    folder_of = {label: os.fsdecode(folder) for folder, label in label_of.items()}
    return tuple(folder_of.get(c, str(c)) for c in range(num_classes))


def _labels_of_folders(images: ImageList, num_classes: int) -> dict[bytes, int]:
    """The class of every folder, where each class has one folder of its own; else nothing."""
    folders = (path.rpartition(b"/")[0].rpartition(b"/")[2] for path in images.paths.tolist())
    pairs = set(zip(folders, images.labels.tolist(), strict=True))
    label_of = dict(pairs)
    return label_of if len(pairs) == len(label_of) == num_classes and b"" not in label_of else {}


def streamed_folder_set(
    path: str | Path, *, imbalance: float | None = 100, kind: str = "exp", seed: int = 0, size: int = 256,
    workers: int | None = None, on_error: str = "raise",
) -> LongTailedData:  # fmt: skip
    """A set from a folder with the images train/<class>/* and test/<class>/*, which stay on disk.

    Classes, images, their order and the subset that `imbalance` chooses are those of `folder_set`.

    Args:
        imbalance, kind, seed: as for `list_set`.
        size, workers, on_error: as for `list_set`.

    Raises:
        FileNotFoundError, ValueError: as `folder_set`, as long as it does not read the images.
    """
    from .files import class_folders  # here, because it imports torchvision, which takes as long as importing torch

    path = Path(path)
    class_names, *parts = class_folders(path)
    train, test = (
        StreamedSplit(ImageFiles(path, _encoded(files), labels.numpy(), size, workers, on_error))
        for files, labels in parts
    )
    options = {"imbalance": imbalance, "kind": kind, "seed": seed}
    return LongTailedData(
        name=path.resolve().name,
        train=train.take(long_tail_indices(train.labels, class_names, **options)),
        test=test,
        class_names=class_names,
        options=options | {"size": size},
    )


def benchmark_set(
    name: str, *, root: str | Path | None = None, lists: str | Path | tuple[str | Path, str | Path] | None = None,
    size: int = 256, workers: int | None = None, on_error: str = "raise",
) -> LongTailedData:  # fmt: skip
    """ImageNet-LT, Places-LT or iNaturalist 2018 from the images on your disk and the public lists.

        name           training and test list                                  or, in this order
        imagenet-lt    ImageNet_LT_train.txt, ImageNet_LT_test.txt             the same names with .json; _val
        places-lt      Places_LT_train.txt, Places_LT_test.txt                 the same names with .json; _val
        inat18         iNaturalist18_train.txt, iNaturalist18_val.txt          train2018.json, val2018.json; .json

    iNaturalist 2018 has no public test labels, so its test split is the validation list, as in every paper; the same
    holds where the others' test list is missing. Their counts are those of the lists: the tail is natural.

    Args:
        name: "imagenet-lt", "places-lt" or "inat18".
        root: the folder that the paths of the lists start from; None: the set's name in `download_folder()`.
        lists: the folder of the lists, or the training and the test list; None: `root`.
        size, workers: side of the images in pixels and processes that read them, see `ImageFiles`.
        on_error: what happens to unreadable images, "raise" or "skip", see `StreamedSplit`.

    Raises:
        FileNotFoundError: there is no such folder or list, or an image of a list is not under `root`.
        ValueError: as `list_set`.
    """
    root = download_folder() / name if root is None else Path(root).expanduser()
    if isinstance(lists, tuple):
        if len(lists) != 2:
            raise ValueError(f"lists={lists!r} has {len(lists)} entries: give the training and the test list")
        train, test = (read_list(path) for path in lists)
    else:
        folder = root if lists is None else Path(lists).expanduser()
        train, test = (read_list(_first_list(folder, names)) for names in BENCHMARK_LISTS[name])
    published = _published_names(name)
    class_names = published if len(published) == _num_classes(train) else None
    return _assemble(name, train, test, root, class_names, size, workers, on_error)


def _first_list(folder: Path, names: Sequence[str]) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(
        f"{folder} has none of {', '.join(names)}: pass lists=, the folder of the lists or a pair, training and test "
        "list; data/README.md says where to get lists and images, and how their folders must look"
    )


def _published_names(name: str) -> tuple[str, ...]:
    """The classes of the whole benchmark, in the order of their labels: WordNet ids, places or species."""
    with (tables_folder("class_counts") / BENCHMARKS[name]).open(newline="", encoding="utf-8") as table:
        return tuple(row.get("name") or row["wnid"] for row in csv.DictReader(table))
