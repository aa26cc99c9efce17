"""Custom sets: an .npz file of arrays, or a folder of images."""

import logging
import os
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS

from ..counts import check_integer
from .arrays import array_set, warn_of_copies
from .counts import long_tail_indices
from .lists import Identity, check_disjoint, encoded, identity
from .sets import LongTailedData, Split
from .streaming import ImageFiles, StreamedSplit, read_image

log = logging.getLogger(__name__)

ARRAYS = ("x_train", "y_train", "x_test", "y_test", "classes")

# what `read_image` reads besides the files of torchvision's folders; .avif from Pillow 11.3 on
IMAGE_EXTENSIONS = (*IMG_EXTENSIONS, ".gif", ".jfif", ".avif")

Listing = tuple[list[str], Tensor]  # files, and their labels (N,) int64


def npz_set(path: str | Path, *, imbalance: float | None = 100, kind: str = "exp", seed: int = 0) -> LongTailedData:
    """A set from an .npz file, as `numpy.savez` writes it.

        x_train, x_test   (N, H, W, 3) uint8, RGB, or (N, H, W) or (N, H, W, 1), grey; one H and W for both
        y_train, y_test   (N,) integers, indices into classes
        classes           (C,) strings

    Other arrays are ignored and named in the log.

    Args:
        imbalance, kind, seed: as for `array_set`, which makes the set.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, an array is missing, or what `array_set` refuses.
    """
    path = Path(path)
    arrays = _read_arrays(path)
    classes = arrays.pop("classes")
    try:
        if classes.dtype.kind != "U" or classes.ndim != 1:
            raise ValueError(
                f"classes must be (C,) strings: np.array(names), not {classes.dtype} of shape {classes.shape}"
            )
        return array_set(
            **arrays, class_names=classes.tolist(), imbalance=imbalance, kind=kind, seed=seed, name=path.stem
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path.absolute()}")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is not an .npz file, or it is cut off: write it again with numpy.savez")
    arrays = {}
    with np.load(path, allow_pickle=False) as archive:
        for name in ARRAYS:
            if name not in archive.files:
                raise ValueError(f"{path} has no array {name!r}; it has {', '.join(archive.files) or 'none'}")
            try:
                arrays[name] = archive[name]
            except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
                raise ValueError(f"{path}: array {name!r} cannot be read: {error}") from error
        if others := [name for name in archive.files if name not in ARRAYS]:
            log.warning("%s: ignored, as a set has only %s: %s", path, ", ".join(ARRAYS), ", ".join(others))
    return arrays


def folder_set(
    path: str | Path, *, imbalance: float | None = 100, kind: str = "exp", seed: int = 0, size: int | None = None
) -> LongTailedData:
    """A set from a folder with the images train/<class>/* and test/<class>/*, all held in memory.

    `class_folders` finds classes and images; `read_image` converts grey and 16-bit ones. The log says how many test
    images are also training images.

    Args:
        imbalance, kind, seed: as for `array_set`.
        size: resize the shorter side to this many pixels and crop the centre, giving (3, size, size). None: all
            images have one size already.

    Raises:
        FileNotFoundError: there is no train or no test folder.
        ValueError: what `class_folders` refuses, an image cannot be read, images differ in size without `size`, or a
            class has fewer images than the profile needs.
    """
    path = Path(path)
    if size is not None:
        size = check_integer("size", size, least=1)
    class_names, (train_files, train_labels), (test_files, test_labels) = class_folders(path)
    keep = long_tail_indices(train_labels, class_names, imbalance=imbalance, kind=kind, seed=seed)
    images = _decode([path / file for file in [*(train_files[i] for i in keep), *test_files]], size)
    warn_of_copies(path.resolve().name, images[: len(keep)], images[len(keep) :])
    return LongTailedData(
        name=path.resolve().name,
        train=Split(images[: len(keep)], train_labels[keep]),
        test=Split(images[len(keep) :], test_labels),
        class_names=class_names,
        options={"imbalance": imbalance, "kind": kind, "seed": seed, "size": size},
    )


def streamed_folder_set(
    path: str | Path, *, imbalance: float | None = 100, kind: str = "exp", seed: int = 0, size: int = 256,
    workers: int | None = None, on_error: str = "raise",
) -> LongTailedData:  # fmt: skip
    """The same classes, images and order as `folder_set`, but the images stay on disk.

    size, workers and on_error are those of `list_set`. Unreadable images are met when they are needed.
    """
    path = Path(path)
    class_names, *parts = class_folders(path)
    train, test = (
        StreamedSplit(ImageFiles(path, encoded(files), labels.numpy(), size, workers, on_error))
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


def class_folders(path: Path) -> tuple[tuple[str, ...], Listing, Listing]:
    """The class names, the training files and the test files of a folder with train/<class>/* and test/<class>/*.

    The classes are the sorted names of the folders in train; a name's Unicode form may differ in test. The images are
    the files with one of `IMAGE_EXTENSIONS`, sorted by name. Names that begin with a dot are ignored. Everything else
    is ignored and named in the log: other folders next to train and test, such as val, and folders and other files
    next to the images.

    Returns:
        Names; then for train and for test the files as paths from `path`, class after class, and their labels.

    Raises:
        FileNotFoundError: there is no train or no test folder.
        ValueError: a class is in only one of them or has no image; a test image is a training image.
    """
    folders = {part: _class_folders(path / part) for part in ("train", "test")}
    for part, other in (("train", "test"), ("test", "train")):
        if one_sided := [folder for name, folder in folders[part].items() if name not in folders[other]]:
            raise ValueError(
                f"class {one_sided[0]!r} is in {path / part} but not in {path / other}, as are {len(one_sided) - 1:,} "
                f"more of {len(folders[part]):,} classes; every class must be in both"
            )
    if others := sorted(set(_folders(path)) - {"train", "test"}):
        log.warning("%s: ignored next to train and test: %s", path, ", ".join(others))
    in_test = {name: folders["test"][name] for name in folders["train"]}
    train_files, train_labels, train_identities = _image_files(path, "train", folders["train"])
    test_files, test_labels, test_identities = _image_files(path, "test", in_test)
    check_disjoint(train_identities, test_identities, test_files)
    return tuple(folders["train"].values()), (train_files, train_labels), (test_files, test_labels)


def _class_folders(folder: Path) -> dict[str, str]:
    """The folders of the classes, sorted, by their names in one Unicode form."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is missing: a folder of images has train/<class>/ and test/<class>/")
    if not (names := _folders(folder)):
        raise ValueError(f"{folder} has no class folders: put the images of each class into a folder of its name")
    named = {unicodedata.normalize("NFC", name): name for name in names}
    if twice := sorted(set(names) - set(named.values())):
        raise ValueError(f"{folder} has two folders of the name {twice[0]!r}, in two Unicode forms: join them")
    return named


def _folders(within: Path) -> list[str]:
    with os.scandir(within) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _image_files(path: Path, part: str, folders: Mapping[str, str]) -> tuple[list[str], Tensor, list[Identity]]:
    files: list[str] = []
    identities: list[Identity] = []
    counts = []
    others: Counter[str] = Counter()
    for name in folders.values():
        folder = path / part / name
        device = folder.stat().st_dev
        with os.scandir(folder) as entries:
            visible = sorted((e for e in entries if not e.name.startswith(".")), key=lambda entry: entry.name)
        images = [entry for entry in visible if _kind(entry) in IMAGE_EXTENSIONS]
        if not images:
            raise ValueError(f"{folder} has no image; images end in {', '.join(IMAGE_EXTENSIONS)}")
        others.update(kind for entry in visible if (kind := _kind(entry)) not in IMAGE_EXTENSIONS)
        files += [f"{part}/{name}/{entry.name}" for entry in images]
        identities += [identity(entry, device) for entry in images]
        counts.append(len(images))
    if others:
        kinds = ", ".join(f"{kind} ({count:,})" for kind, count in others.most_common())
        log.warning("%s: ignored next to the images of the classes: %s", path / part, kinds)
    return files, torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)), identities


def _kind(entry: os.DirEntry) -> str:
    """The file's extension in lower case; "folders" or "without extension" for the rest."""
    return "folders" if entry.is_dir() else os.path.splitext(entry.name)[1].lower() or "without extension"  # noqa: PTH122


def _decode(files: Sequence[Path], size: int | None) -> Tensor:
    """All images as RGB, resized if `size` is given. -> (N, 3, H, W) uint8"""
    first = read_image(str(files[0]), size)
    images = torch.empty(len(files), *first.shape, dtype=torch.uint8)

    def place(i: int) -> None:
        image = read_image(str(files[i]), size)
        if image.shape != first.shape:
            (_, h0, w0), (_, h, w) = first.shape, image.shape
            raise ValueError(
                f"images differ in size: {files[0]} has {h0} x {w0} pixels (H x W), {files[i]} has {h} x {w}; "
                "pass size= to resize the shorter side and crop the centre"
            )
        images[i] = image

    with ThreadPoolExecutor() as pool:
        list(pool.map(place, range(len(files))))  # raises what the first failing image raised
    return images
