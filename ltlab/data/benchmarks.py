"""Large sets whose images stay on disk: the public benchmarks, and custom lists."""

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from ..defaults import usual_defaults
from .lists import ImageList, check_disjoint, check_files, check_labels, encoded, read_list
from .places import download_folder, expanded, tables_folder
from .profiles import BENCHMARKS, long_tail_indices
from .sets import LongTailedData
from .streaming import ImageFiles, StreamedSplit

# The names of each benchmark's training list and test list, in the order in which they are tried. If there is no test
# list, the validation list takes its place.
BENCHMARK_LISTS = {
    "imagenet-lt": (("ImageNet_LT_train.txt",), ("ImageNet_LT_test.txt", "ImageNet_LT_val.txt")),
    "places-lt": (("Places_LT_train.txt",), ("Places_LT_test.txt", "Places_LT_val.txt")),
    "inat18": (("iNaturalist18_train.txt", "train2018.json"), ("iNaturalist18_val.txt", "val2018.json")),
}


@usual_defaults()
def list_set(
    train: str | Path, test: str | Path, root: str | Path, *, name: str | None = None,
    class_names: Sequence[str] | None = None, imbalance: float | None = None, kind: str = "exp", seed: int = 0,
    size: int = 256, workers: int | None = None, on_error: str = "raise",
) -> LongTailedData:  # fmt: skip
    """A set from a training and a test list, whose images are read from disk whenever they are needed.

    Args:
        train, test: the lists, each in one of the formats of `read_list`.
        root: the folder that the paths of the lists start from; absolute paths are used unchanged.
        name, imbalance, kind, seed: as for `array_set`; the default name is that of the training list's file.
        class_names: C names; None: those of a competition list, or else the names of the images' folders if every
            class has exactly one, or else "0", "1", ...
        size, workers: side of the images in pixels, and processes that read them, see `ImageFiles`.
        on_error: what happens to unreadable images, "raise" or "skip", see `StreamedSplit`.

    Raises:
        FileNotFoundError: there is no such list, or an image of one is not under `root`.
        ValueError: what `read_list` refuses, a label outside 0 ... C - 1, a class without a training or a test image,
            a file that is named twice or in both lists, or lists that number the classes differently.
    """
    lists = read_list(train), read_list(test)
    names = None if class_names is None else tuple(class_names)
    options = {"imbalance": imbalance, "kind": kind, "seed": seed}
    loaded = _assemble(name or lists[0].source.stem, *lists, expanded(root), names, size, workers, on_error)
    keep = long_tail_indices(loaded.train.labels, loaded.class_names, **options)
    return dataclasses.replace(loaded, train=loaded.train.take(keep), options=loaded.options | options)


def _assemble(
    name: str, train: ImageList, test: ImageList, root: Path, class_names: tuple[str, ...] | None,
    size: int, workers: int | None, on_error: str,
) -> LongTailedData:  # fmt: skip
    """Two lists as one set, once they are checked."""
    num_classes = _num_classes(train) if class_names is None else len(class_names)
    for images in (train, test):
        check_labels(images, num_classes)
    check_disjoint(check_files(train, root), check_files(test, root), test.files)
    splits = [
        StreamedSplit(ImageFiles(root, encoded(images.files), images.labels, size, workers, on_error))
        for images in (train, test)
    ]
    return LongTailedData(
        name, *splits,
        class_names=_class_names(train, test, num_classes) if class_names is None else class_names,
        options={"lists": [train.source.name, test.source.name], "size": size},
    )  # fmt: skip


def _num_classes(train: ImageList) -> int:
    """As many as the list names, or else as its largest label needs."""
    return int(train.labels.max()) + 1 if train.class_names is None else len(train.class_names)


def _class_names(train: ImageList, test: ImageList, num_classes: int) -> tuple[str, ...]:
    """Those of the lists, or else the names of the classes' folders, or else their numbers."""
    if test.class_names is not None and train.class_names not in (None, test.class_names):
        raise ValueError(f"{train.source} and {test.source} have different categories")
    if (names := train.class_names or test.class_names) is not None:
        return names
    label_of, in_test = _labels_of_folders(train, num_classes), _labels_of_folders(test, num_classes)
    if moved := sorted(folder for folder in label_of.keys() & in_test.keys() if label_of[folder] != in_test[folder]):
        raise ValueError(
            f"folder {moved[0]!r} is class {label_of[moved[0]]} in {train.source} but class {in_test[moved[0]]} in "
            f"{test.source}; {len(moved):,} folders have two classes: take lists of one set"
        )
    folder_of = {label: folder for folder, label in label_of.items()}
    return tuple(folder_of.get(c, str(c)) for c in range(num_classes))


def _labels_of_folders(images: ImageList, num_classes: int) -> dict[str, int]:
    """The class of every folder if each class has exactly one; else nothing."""
    folders = (file.rpartition("/")[0].rpartition("/")[2] for file in images.files)
    pairs = set(zip(folders, images.labels.tolist(), strict=True))
    label_of = dict(pairs)
    return label_of if len(pairs) == len(label_of) == num_classes and "" not in label_of else {}


def benchmark_set(
    name: str, *, root: str | Path | None = None, lists: str | Path | Sequence[str | Path] | None = None,
    size: int = 256, workers: int | None = None, on_error: str = "raise",
) -> LongTailedData:  # fmt: skip
    """ImageNet-LT, Places-LT or iNaturalist 2018 from the images on your disk and the public lists.

        name           training list                              test list; the first of these that exists
        imagenet-lt    ImageNet_LT_train.txt                      ImageNet_LT_test.txt, ImageNet_LT_val.txt
        places-lt      Places_LT_train.txt                        Places_LT_test.txt, Places_LT_val.txt
        inat18         iNaturalist18_train.txt, train2018.json    iNaturalist18_val.txt, val2018.json

    iNaturalist 2018 has no public test labels, so its validation list is the test list, as in every paper. The class
    counts are those of the lists: the tail is natural.

    Args:
        root: the folder that the paths of the lists start from; None: the set's name in `download_folder()`.
        lists: the folder of the lists, or two files, the training and the test list; None: `root`.
        size, workers, on_error: as for `list_set`, also the errors.
    """
    root = download_folder() / name if root is None else expanded(root)
    if lists is None or isinstance(lists, str | Path):
        folder = root if lists is None else expanded(lists)
        train, test = (read_list(_first_list(folder, names)) for names in BENCHMARK_LISTS[name])
    elif isinstance(lists, Sequence) and len(lists) == 2 and all(isinstance(path, str | Path) for path in lists):
        train, test = (read_list(path) for path in lists)
    else:
        raise ValueError(
            f"lists={lists!r:.200} must be the folder of the lists, or two files: the training and the test list"
        )
    published = _published_names(name)
    class_names = published if len(published) == _num_classes(train) else None
    return _assemble(name, train, test, root, class_names, size, workers, on_error)


def _first_list(folder: Path, names: Sequence[str]) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(
        f"{folder} has none of {', '.join(names)}: pass lists=, their folder or the two files, training and test list; "
        "data/README.md says where to get lists and images, and how their folders must look"
    )


def _published_names(name: str) -> tuple[str, ...]:
    """The classes of the whole benchmark, in the order of their labels: WordNet ids, places or species."""
    with (tables_folder("class_counts") / BENCHMARKS[name]).open(newline="", encoding="utf-8") as table:
        return tuple(row.get("name") or row["wnid"] for row in csv.DictReader(table))
