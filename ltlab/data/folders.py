"""A folder of images: train/<class>/* and test/<class>/*, or just <class>/*, which is split."""

import hashlib
import logging
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS

from ..counts import check_integer, comparable
from .arrays import warn_of_copies
from .lists import Identity, check_disjoint, encoded, identity
from .places import expanded
from .profiles import long_tail_indices
from .sets import LongTailedData, Split
from .streaming import ImageFiles, StreamedSplit, read_image

log = logging.getLogger(__name__)

# what `read_image` reads besides the files of torchvision's folders; .avif from Pillow 11.3 on
IMAGE_EXTENSIONS = (*IMG_EXTENSIONS, ".gif", ".jfif", ".avif")

Listing = tuple[list[str], Tensor]  # files, and their labels (N,) int64


def folder_set(
    path: str | Path, *, imbalance: float | None = None, kind: str = "exp", seed: int = 0, size: int | None = 32,
    test_fraction: float = 0.2,
) -> LongTailedData:  # fmt: skip
    """A set from a folder of images, all held in memory: see `class_folders` for how the folder may look.

    `read_image` converts grey and 16-bit images. The log says how many test images are also training images.

    Args:
        imbalance, kind, seed: as for `array_set`. Neither changes the test images.
        size: resize the shorter side to this many pixels and crop the centre, giving (3, size, size). None: all
            images have one size already.
        test_fraction: see `class_folders`.

    Raises:
        FileNotFoundError, ValueError: what `class_folders` refuses.
        ValueError: an image cannot be read, images differ in size without `size`, or a class has fewer images than the
            profile needs.
    """
    path = expanded(path)
    if size is not None:
        size = check_integer("size", size, least=1)
    class_names, (train_files, train_labels), (test_files, test_labels), split = class_folders(path, test_fraction)
    keep = long_tail_indices(train_labels, class_names, imbalance=imbalance, kind=kind, seed=seed)
    images = _decode([path / file for file in [*(train_files[i] for i in keep), *test_files]], size)
    warn_of_copies(path.resolve().name, images[: len(keep)], images[len(keep) :])
    return LongTailedData(
        name=path.resolve().name,
        train=Split(images[: len(keep)], train_labels[keep]),
        test=Split(images[len(keep) :], test_labels),
        class_names=class_names,
        options={"imbalance": imbalance, "kind": kind, "seed": seed, "size": size, **split},
    )


def streamed_folder_set(
    path: str | Path, *, imbalance: float | None = None, kind: str = "exp", seed: int = 0, size: int = 256,
    workers: int | None = None, on_error: str = "raise", test_fraction: float = 0.2,
) -> LongTailedData:  # fmt: skip
    """The same classes, images and order as `folder_set`, but the images stay on disk.

    size, workers and on_error are those of `list_set`. An unreadable image is found when it is needed.
    """
    path = expanded(path)
    class_names, *parts, split = class_folders(path, test_fraction)
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
        options=options | {"size": size, **split},
    )


def class_folders(path: Path, test_fraction: float = 0.2) -> tuple[tuple[str, ...], Listing, Listing, dict[str, float]]:
    """The class names, the training files and the test files of a folder of images.

    A folder with train/<class>/* and test/<class>/* is read unchanged; a name's Unicode form may differ in test. Of
    <class>/* alone, `test_fraction` of every class, rounded and at least one image, become the test images. Which ones
    depends on the names of the class and the file alone, and the log says how many.

    The classes are the sorted names of their folders, the images the files with one of `IMAGE_EXTENSIONS`, sorted by
    name. Names that begin with a dot are ignored. Everything else is ignored and named in the log: other folders next
    to train and test, such as val, and folders and other files next to the images.

    Returns:
        Names; for train and for test the files as paths from `path`, class after class, and their labels; and the
        options that identify the split.

    Raises:
        FileNotFoundError: there is no such folder, or only one of train and test.
        ValueError: a class is in only one of them or has no image, or a single image that is to be split; a test image
            is a training image; a test fraction outside (0, 1).
    """
    if not path.is_dir():
        raise FileNotFoundError(f"there is no folder {path.absolute()}")
    if not {"train", "test"} & set(_folders(path)):
        return _flat(path, test_fraction)
    folders = {part: _class_folders(path / part) for part in ("train", "test")}
    for part, other in (("train", "test"), ("test", "train")):
        if one_sided := [folder for name, folder in folders[part].items() if name not in folders[other]]:
            raise ValueError(
                f"class {one_sided[0]!r} is in {path / part} but not in {path / other} (so are {len(one_sided) - 1:,} "
                f"more of {len(folders[part]):,} classes); every class must be in both"
            )
    if others := sorted(set(_folders(path)) - {"train", "test"}):
        log.warning("%s: ignored next to train and test: %s", path, ", ".join(others))
    train_files, train_labels, train_identities = _image_files(path, "train/", folders["train"].values())
    in_test = [folders["test"][name] for name in folders["train"]]
    test_files, test_labels, test_identities = _image_files(path, "test/", in_test)
    check_disjoint(train_identities, test_identities, test_files)
    return tuple(folders["train"].values()), (train_files, train_labels), (test_files, test_labels), {}


def _flat(path: Path, fraction: float) -> tuple[tuple[str, ...], Listing, Listing, dict[str, float]]:
    """`class_folders` of <class>/* alone. Ranking by a digest of the names neither needs nor touches a generator."""
    if not 0 < comparable(fraction) < 1:
        raise ValueError(f"test_fraction={fraction!r} must be above 0 and below 1")
    folders = tuple(_class_folders(path).values())
    files, labels, identities = _image_files(path, "", folders)
    in_test = torch.zeros(len(files), dtype=torch.bool)
    for c, indices in enumerate(torch.arange(len(files)).split(torch.bincount(labels).tolist())):
        if len(indices) == 1:
            raise ValueError(f"{path / folders[c]} has one image; a class takes at least two, to train and to test on")
        ranked = sorted(indices.tolist(), key=lambda i: _digest(files[i]))
        in_test[ranked[: min(max(round(fraction * len(ranked)), 1), len(ranked) - 1)]] = True
    log.warning(
        "%s has no train and test: of its %s images, %s became the test images, the same ones every time (about "
        "test_fraction=%g of every class)", path, f"{len(files):,}", f"{int(in_test.sum()):,}", fraction,
    )  # fmt: skip
    train, test = (~in_test).nonzero()[:, 0], in_test.nonzero()[:, 0]
    parts = [([files[i] for i in part.tolist()], labels[part]) for part in (train, test)]
    check_disjoint([identities[i] for i in train.tolist()], [identities[i] for i in test.tolist()], parts[1][0])
    return folders, parts[0], parts[1], {"test_fraction": float(fraction)}


def _digest(file: str) -> bytes:
    return hashlib.sha256(os.fsencode(unicodedata.normalize("NFC", file))).digest()


def _class_folders(folder: Path) -> dict[str, str]:
    """The folders of the classes, sorted, by their names in one Unicode form."""
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} is missing: give both train/<class>/ and test/<class>/, or <class>/ alone, which is split"
        )
    if not (names := _folders(folder)):
        raise ValueError(f"{folder} has no class folders: put the images of each class into a folder of its name")
    named = {unicodedata.normalize("NFC", name): name for name in names}
    if twice := sorted(set(names) - set(named.values())):
        raise ValueError(f"{folder} has two folders named {twice[0]!r}, in two Unicode forms: join them")
    return named


def _folders(within: Path) -> list[str]:
    with os.scandir(within) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _image_files(path: Path, part: str, folders: Iterable[str]) -> tuple[list[str], Tensor, list[Identity]]:
    """Files, labels and identities of the images of `path`/`part`/<class>, where `part` is "train/", "test/" or ""."""
    files: list[str] = []
    identities: list[Identity] = []
    counts = []
    others: Counter[str] = Counter()
    for name in folders:
        folder = path / part / name
        device = folder.stat().st_dev
        with os.scandir(folder) as entries:
            visible = sorted((e for e in entries if not e.name.startswith(".")), key=lambda entry: entry.name)
        images = [entry for entry in visible if _kind(entry) in IMAGE_EXTENSIONS]
        if not images:
            raise ValueError(f"{folder} has no image; images end in {', '.join(IMAGE_EXTENSIONS)}")
        others.update(kind for entry in visible if (kind := _kind(entry)) not in IMAGE_EXTENSIONS)
        files += [f"{part}{name}/{entry.name}" for entry in images]
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
