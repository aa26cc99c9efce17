"""Where photographs come from: a folder, lists, a CSV, an .npz, a torchvision data set, or a set of ltlab.

`gather` brings all of them into one form, which `inspection` reads. Nothing is decoded here.
"""

import csv
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data import DATA_SETS, LongTailedData, load
from ..data.arrays import read_arrays, rgb_images
from ..data.folders import IMAGE_EXTENSIONS
from ..data.lists import read_list
from ..data.places import expanded

TEST_FOLDERS = ("test", "val", "valid", "validation")  # the first that exists is the test set
COLUMNS = {  # of a CSV: what people call them
    "path": ("path", "file", "filename", "file_name", "filepath", "image", "image_path", "image_id"),
    "label": ("label", "class", "target", "category", "y", "class_name"),
    "split": ("split", "part", "set", "subset", "fold"),
}
PARTS = {"train": False, "training": False, "val": False, "valid": False, "validation": False, "dev": False,
         "test": True, "testing": True}  # fmt: skip


@dataclass
class Gathered:
    """N pictures, not yet read.

    pictures: N paths, a tensor (N, 3, H, W) uint8 or (N, K, 1, 1) of features, or what indexes to PIL images. names:
    what a person calls them. labels: (N,) int64 from 0. in_test: (N,) bool. notes: what was left out or assumed.
    """

    name: str
    pictures: Any
    names: list[str]
    labels: Tensor
    in_test: Tensor
    class_names: tuple[str, ...]
    notes: list[str] = field(default_factory=list)

    @property
    def has_test(self) -> bool:
        return bool(self.in_test.any())


def gather(source: Any, test: Any = None, root: str | Path | None = None) -> Gathered:
    """The pictures of a source, in one form.

    Args:
        source: a folder with train/<class>/ and, if there are test images, test/<class>/; a folder of <class>/; a CSV
            of path and label, with a column split if it has test images; a list as `data.list_set` takes it; an .npz
            of x_train and y_train, and x_test, y_test and classes if there are; a data set with pairs of picture and
            label, as torchvision's; a `LongTailedData`; or the name of one of `data.DATA_SETS`.
        test: for lists, CSV files and data sets: another of the same kind, of test images.
        root: the folder that the paths of a list or CSV start from; None: that of its file.

    Raises:
        FileNotFoundError: no such file or folder, or most files of a list are not under `root`.
        ValueError: what cannot be read as one of these, or has no pictures.
    """
    if isinstance(source, LongTailedData):
        return _of_set(source)
    if not isinstance(source, str | os.PathLike):
        return _of_items(source, test)
    path = expanded(os.fspath(source))
    if str(source) in DATA_SETS and not path.is_dir():
        return _of_set(load(str(source), root=root))
    suffix = path.suffix.lower()
    if path.is_dir() or not suffix:
        return _of_folder(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path.absolute()}")
    if suffix == ".npz":
        return _of_npz(path)
    kinds = {".csv": _csv_rows, ".tsv": _csv_rows}
    rows = kinds.get(suffix, _list_rows)
    lines = rows(path, False)
    if test is not None:
        lines = [*((*line[:2], False) for line in lines), *((*line[:2], True) for line in rows(expanded(test), True))]
    return _of_lines(path, lines, path.parent if root is None else expanded(root))


# --- folders ----------------------------------------------------------------------------------------------------------


def _of_folder(path: Path) -> Gathered:
    if not path.is_dir():
        raise FileNotFoundError(f"there is no folder {path.absolute()}")
    inside, notes = _folders(path), []
    if "train" in inside:
        tested = next((name for name in TEST_FOLDERS if name in inside), None)
        parts = {"train": False} | ({tested: True} if tested else {})
        if tested and tested != "test":
            notes.append(f"{tested}/ is taken as the test set")
        if others := [name for name in inside if name not in parts]:
            notes.append(f"ignored next to train: {', '.join(others)}")
    elif "test" in inside:
        raise FileNotFoundError(f"{path} has test/ but no train/: put the training images into train/<class>/")
    else:
        parts = {"": False}
    lines, ignored = [], Counter()
    for part, tests in parts.items():
        for name in _folders(path / part):
            files = [file for file in _files(path / part / name) if file.suffix.lower() in IMAGE_EXTENSIONS]
            lines += [(file, name, tests) for file in files]
            ignored.update(file.suffix.lower() or "without extension" for file in _files(path / part / name)
                           if file.suffix.lower() not in IMAGE_EXTENSIONS)  # fmt: skip
    if ignored:
        kinds = ", ".join(f"{kind} ({count:,})" for kind, count in ignored.most_common(5))
        notes.append(f"ignored files that are not images: {kinds}")
    if not lines:
        raise ValueError(
            f"{path} has no images: put those of each class into a folder of its name, in {path / 'train'} or here; "
            f"images end in {', '.join(IMAGE_EXTENSIONS)}"
        )
    gathered = _of_lines(path, lines, path)
    empty = [name for part in parts for name in _folders(path / part) if name not in gathered.class_names]
    gathered.notes += notes + [f"class folder {name!r} has no images" for name in dict.fromkeys(empty)]
    return gathered


def _folders(within: Path) -> list[str]:
    return sorted(entry.name for entry in within.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _files(within: Path) -> list[Path]:
    """All files below a folder, sorted; what is hidden is left out."""
    found = []
    for folder, below, files in os.walk(within):
        below[:] = sorted(name for name in below if not name.startswith("."))
        found += [Path(folder, name) for name in sorted(files) if not name.startswith(".")]
    return found


# --- lists and tables: lines of path, label and whether it is a test image --------------------------------------------


def _of_lines(source: Path, lines: Sequence[tuple[Path, str, bool]], root: Path) -> Gathered:
    paths = [root / path for path, *_ in lines]
    missing = [path for path in paths if not path.is_file()]
    if 2 * len(missing) > len(paths):
        raise FileNotFoundError(
            f"{len(missing):,} of the {len(paths):,} images of {source} are not there, such as {missing[0]}: "
            "root= (--root) must be the folder that the paths start from"
        )
    class_names, labels = class_indices([label for _, label, _ in lines])
    names = [os.path.relpath(path, root) if path.is_relative_to(root) else str(path) for path in paths]
    in_test = torch.tensor([tests for *_, tests in lines], dtype=torch.bool)
    name = source.resolve().name if source.is_dir() else source.stem
    return Gathered(name, paths, names, labels, in_test, class_names)


def class_indices(labels: Iterable[Any]) -> tuple[tuple[str, ...], Tensor]:
    """The names of the classes, sorted as numbers where all are, and the index of every label, (N,) int64."""
    given = [unicodedata.normalize("NFC", str(label).strip()) for label in labels]  # macOS writes another form
    numbers = all(label.removeprefix("-").isdecimal() for label in given)
    names = sorted(set(given), key=int if numbers else str)
    index = {name: c for c, name in enumerate(names)}
    return tuple(names), torch.tensor([index[label] for label in given], dtype=torch.int64)


def _csv_rows(path: Path, tests: bool) -> list[tuple[Path, str, bool]]:
    text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    first = text.partition("\n")[0]
    delimiter = next((sign for sign in "\t;," if sign in first), ",")
    header, *rows = [row for row in csv.reader(text.splitlines(), delimiter=delimiter) if any(row)] or [[]]
    columns = {kind: next((i for i, cell in enumerate(header) if cell.strip().lower() in names), None)
               for kind, names in COLUMNS.items()}  # fmt: skip
    if columns["path"] is None and len(header) > 1 and Path(header[0]).suffix.lower() in IMAGE_EXTENSIONS:
        columns, rows = {"path": 0, "label": 1, "split": None}, [header, *rows]  # no header
    path_at, label_at, split_at = columns["path"], columns["label"], columns["split"]
    if path_at is None or label_at is None:
        raise ValueError(
            f"{path} has the columns {', '.join(header) or 'none'}: it must have one called path and one called label "
            "(and split, of train and test, if it has test images)"
        )
    lines = []
    for number, row in enumerate(rows, start=2):
        if len(row) <= max(i for i in columns.values() if i is not None) or not row[label_at].strip():
            raise ValueError(f"{path}, row {number}: {row!r:.80} has no path or no label")
        part = "train" if split_at is None else row[split_at].strip().lower()
        if part not in PARTS:
            raise ValueError(f"{path}, row {number}: split {row[split_at or 0]!r} must be one of {', '.join(PARTS)}")
        lines.append((Path(row[path_at].strip()), row[label_at], tests or PARTS[part]))
    if not lines:
        raise ValueError(f"{path} names no image")
    return lines


def _list_rows(path: Path, tests: bool) -> list[tuple[Path, str, bool]]:
    listed = read_list(path)
    names = listed.class_names or _names_of_folders(listed.files, listed.labels.tolist())
    return [(Path(file), names[label], tests) for file, label in zip(listed.files, listed.labels, strict=True)]


def _names_of_folders(files: Sequence[str], labels: Sequence[int]) -> dict[int, str]:
    """The folder of every class if each class has exactly one of its own; else the labels."""
    pairs = {(label, Path(file).parent.name) for file, label in zip(files, labels, strict=True)}
    names = dict(pairs)
    distinct = len(pairs) == len(names) == len(set(names.values())) and "" not in names.values()
    return names if distinct else {label: str(label) for label in names}


# --- arrays and data sets ---------------------------------------------------------------------------------------------


def _of_npz(path: Path) -> Gathered:
    arrays, others = read_arrays(path)
    if missing := [name for name in ("x_train", "y_train") if name not in arrays]:
        raise ValueError(f"{path} has no array {missing[0]!r}, only {', '.join([*arrays, *others]) or 'none'}")
    parts = [part for part in ("train", "test") if f"x_{part}" in arrays and f"y_{part}" in arrays]
    images = [rgb_images(f"{path}: x_{part}", arrays[f"x_{part}"]) for part in parts]
    for part, pixels in zip(parts, images, strict=True):
        if arrays[f"y_{part}"].shape != pixels.shape[:1]:
            raise ValueError(f"{path}: y_{part} must be one label per image, not {arrays[f'y_{part}'].shape}")
    names, labels = class_indices(label for part in parts for label in arrays[f"y_{part}"].tolist())
    if "classes" in arrays and all(name.isdecimal() for name in names):
        called = [str(name) for name in arrays["classes"].tolist()]
        if max(map(int, names)) >= len(called):
            raise ValueError(f"{path}: label {names[-1]} has no name among its {len(called)} classes")
        names = tuple(called[int(name)] for name in names)
    if len({pixels.shape[1:] for pixels in images}) > 1:
        raise ValueError(f"{path}: x_train and x_test must have images of one size")
    return _in_memory(path.stem, torch.cat(images), labels, [len(pixels) for pixels in images], names)


def _in_memory(name: str, images: Any, labels: Tensor, sizes: Sequence[int], names: tuple[str, ...]) -> Gathered:
    in_test = torch.arange(len(labels)) >= sizes[0]
    called = [
        f"{part} image {i:,}" for part, size in zip(("training", "test"), sizes, strict=False) for i in range(size)
    ]
    return Gathered(name, images, called, labels, in_test, names)


def _of_set(data: LongTailedData) -> Gathered:
    splits = (data.train, data.test)
    images = torch.cat([split.images[torch.arange(len(split))].cpu() for split in splits])
    labels = torch.cat([split.labels.cpu() for split in splits])
    return _in_memory(data.name, images, labels, list(map(len, splits)), data.class_names)


class Items:
    """The pictures of one or two data sets with pairs of picture and label, in a row."""

    def __init__(self, *sets: Any) -> None:
        self.sets = [each for each in sets if each is not None]

    def __getitem__(self, i: int) -> Any:
        for each in self.sets:
            if i < len(each):
                return each[i][0]
            i -= len(each)
        raise IndexError(i)


def _of_items(source: Any, test: Any) -> Gathered:
    sets = [source] if test is None else [source, test]
    for each in sets:
        if not hasattr(each, "__getitem__") or not hasattr(each, "__len__"):
            raise ValueError(
                f"data={type(each).__name__} must be a folder, a .csv, a list, an .npz, a LongTailedData, or a data "
                "set of pairs of picture and label"
            )
    given = [_labels(each) for each in sets]
    names, labels = class_indices(label for part in given for label in part)
    classes = getattr(source, "classes", None)
    if classes is not None and all(name.isdecimal() and int(name) < len(classes) for name in names):
        names = tuple(str(classes[int(name)]) for name in names)
    files = [getattr(each, "samples", None) for each in sets]
    sizes = list(map(len, sets))
    gathered = _in_memory(type(source).__name__, Items(*sets), labels, sizes, names)
    if all(isinstance(part, list) and isinstance(part[0][0], str | os.PathLike) for part in files):
        gathered.pictures = [Path(path) for part in files for path, *_ in part or ()]
        gathered.names = [str(path) for path in gathered.pictures]
    return gathered


def _labels(items: Any) -> list[Any]:
    """The labels of a data set: its targets if it has them, else those of its pairs."""
    targets = getattr(items, "targets", None)
    if targets is not None and len(targets) == len(items):
        return targets.tolist() if hasattr(targets, "tolist") else list(targets)
    labels = [items[i][1] for i in range(len(items))]
    return [label.item() if hasattr(label, "item") else label for label in labels]
