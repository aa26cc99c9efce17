"""Large sets whose images stay on disk: the public benchmarks, and lists of your own."""

import csv
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from .counts import BENCHMARKS, long_tail_indices
from .lists import ImageList, check_files, check_labels, paths_below, read_list
from .places import download_folder, tables_folder
from .sets import LongTailedData
from .streaming import ImageFiles, StreamedSplit

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


def list_set(
    train: str | Path, test: str | Path, root: str | Path, *, name: str | None = None,
    class_names: Sequence[str] | None = None, imbalance: float | None = None, kind: str = "exp", seed: int = 0,
    size: int = 256, workers: int | None = None, on_error: str = "raise",
) -> LongTailedData:  # fmt: skip
    """A set from a training and a test list, whose images are read from disk whenever they are needed.

    Args:
        train, test: the lists, each in one of the formats of `read_list`.
        root: the folder that the paths of the lists start from; absolute paths are taken as they are.
        name: what figures and tables call the set; None: the training list's file name. A benchmark's name, such
            as "imagenet-lt", says that it is that set: it is trained by its protocol, and its published figures stand
            beside yours.
        class_names: C names; None: those of a competition list, else the names of the images' folders where every
            class has one of its own, else "0", "1", ...
        imbalance, kind, seed: thin the training images out to this profile, see `long_tail_counts`; N0 is the largest
            class, and the classes keep their order, the first as the head. None keeps every image.
        size, workers: side of the images in pixels and processes that read them, see `ImageFiles`.
        on_error: what happens to unreadable images, "raise" or "skip", see `StreamedSplit`.

    Raises:
        FileNotFoundError: there is no such list, or an image of one is not under `root`.
        ValueError: what `read_list` refuses, a label outside 0 ... C - 1, a class without a training or a test image,
            an image twice or in both lists, or lists with different classes or numbers for them.
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
    if shared := set(paths_below(root, train)).intersection(paths_below(root, test)):
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


def benchmark_set(
    name: str, *, root: str | Path | None = None, lists: str | Path | Sequence[str | Path] | None = None,
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
        lists: the folder of the lists, or two files, the training and the test list; None: `root`.
        size, workers: side of the images in pixels and processes that read them, see `ImageFiles`.
        on_error: what happens to unreadable images, "raise" or "skip", see `StreamedSplit`.

    Raises:
        FileNotFoundError: there is no such folder or list, or an image of a list is not under `root`.
        ValueError: as `list_set`.
    """
    root = download_folder() / name if root is None else Path(root).expanduser()
    if lists is None or isinstance(lists, str | Path):
        folder = root if lists is None else Path(lists).expanduser()
        train, test = (read_list(_first_list(folder, names)) for names in BENCHMARK_LISTS[name])
    elif isinstance(lists, Sequence) and len(lists) == 2 and all(isinstance(path, str | Path) for path in lists):
        train, test = (read_list(path) for path in lists)
    else:
        raise ValueError(f"lists={lists!r:.200} must be the folder of the lists, or two files, training and test list")
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
