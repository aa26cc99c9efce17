"""A custom set from arrays in memory, or from an .npz file of them."""

import dataclasses
import logging
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ..counts import as_labels
from ..defaults import usual_defaults
from .places import expanded
from .profiles import long_tail_indices
from .sets import LongTailedData, Split

log = logging.getLogger(__name__)

ARRAYS = ("x_train", "y_train", "x_test", "y_test", "classes")


@usual_defaults()
def array_set(
    x_train: ArrayLike | Tensor, y_train: ArrayLike | Tensor, x_test: ArrayLike | Tensor, y_test: ArrayLike | Tensor,
    class_names: Sequence[str], *, imbalance: float | None = None, kind: str = "exp", seed: int = 0,
    name: str = "arrays",
) -> LongTailedData:  # fmt: skip
    """A set from arrays or tensors in memory, which are copied.

        x_train, x_test   uint8 from 0 to 255: (N, H, W, 3) in RGB, (N, H, W) or (N, H, W, 1) in grey;
                          tensors may also be (N, 3, H, W) or (N, 1, H, W); one H and W for both
        y_train, y_test   (N,) integers, indices into class_names

    Grey is repeated to RGB. If the last of four dimensions is 3 or 1, it holds the channels. The log says how many
    test images are also training images.

    Args:
        class_names: C names.
        imbalance, kind, seed: thin the training images out to this profile, see `long_tail_counts`; N0 is the largest
            class. The classes keep their order, the first one is the head. None keeps every image.
        name: the set's name in figures and tables. A benchmark's name, such as "imagenet-lt", means that this is that
            set: it is trained by its settings and shown with its published results.

    Raises:
        ValueError: an array of another type or shape, a class without a training or a test image or with fewer images
            than the profile needs, or what `LongTailedData` refuses.
    """
    train, test = _split("train", x_train, y_train), _split("test", x_test, y_test)
    names = tuple(class_names.tolist() if isinstance(class_names, np.ndarray) else class_names)
    options = {"imbalance": imbalance, "kind": kind, "seed": seed}
    natural = LongTailedData(name, train, test, names, options)
    if untested := set(range(len(names))).difference(test.labels.tolist()):
        raise ValueError(f"class {names[min(untested)]!r} has no test image")
    train = train.take(long_tail_indices(train.labels, names, **options))
    warn_of_copies(name, train.images, test.images)
    return dataclasses.replace(natural, train=train)


def npz_set(path: str | Path, *, imbalance: float | None = None, kind: str = "exp", seed: int = 0) -> LongTailedData:
    """A set from an .npz file, as `numpy.savez` writes it, of the arrays that `array_set` takes.

    They are x_train, y_train, x_test, y_test and classes, (C,) strings. Others are ignored and named in the log.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, an array is missing, or what `array_set` refuses.
    """
    path = expanded(path)
    arrays, others = read_arrays(path)
    if missing := [name for name in ARRAYS if name not in arrays]:
        raise ValueError(f"{path} has no array {missing[0]!r}, only {', '.join([*arrays, *others]) or 'none'}")
    if others:
        log.warning("%s: ignored, as a set has only %s: %s", path, ", ".join(ARRAYS), ", ".join(others))
    classes = arrays.pop("classes").tolist()
    try:
        return array_set(**arrays, class_names=classes, imbalance=imbalance, kind=kind, seed=seed, name=path.stem)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def read_arrays(path: Path) -> tuple[dict[str, np.ndarray], list[str]]:
    """The arrays of a set that an .npz holds, by their names, and the names of others; what is pickled is never run.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or an array holds pickled objects.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path.absolute()}")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is not an .npz file, or it is cut off: write it again with numpy.savez")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in ARRAYS if name in archive.files}
            return arrays, [name for name in archive.files if name not in ARRAYS]
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        if "pickle" in str(error):
            raise ValueError(
                f"{path} holds pickled objects, which can run code and are not read: save plain arrays of numbers or "
                "strings with numpy.savez"
            ) from error
        raise ValueError(f"{path}: {error}") from error


def warn_of_copies(name: str, train: Tensor, test: Tensor) -> None:
    """Log how many test images are bit for bit also training images. Both (N, 3, H, W) uint8."""
    known, asked = ([hash(image.tobytes()) for image in images.cpu().numpy()] for images in (train, test))
    if copies := sum(map(set(known).__contains__, asked)):
        log.warning(
            "%s: %s of %s test images are also training images: test on images that were not trained on",
            name, f"{copies:,}", f"{len(test):,}",
        )  # fmt: skip


def _split(part: str, x: ArrayLike | Tensor, y: ArrayLike | Tensor) -> Split:
    images = rgb_images(f"x_{part}", x)
    labels = as_labels(y, f"y_{part}")
    if len(labels) != len(images):
        raise ValueError(f"y_{part} must be ({len(images)},) integers, one per image, not {tuple(labels.shape)}")
    return Split(images, labels.clone().to(images.device))


def rgb_images(name: str, x: ArrayLike | Tensor) -> Tensor:
    """Images as `array_set` takes them, copied, in RGB, channels first. -> (N, 3, H, W) uint8"""
    x = x if isinstance(x, Tensor) else np.asarray(x)
    grey = x.ndim == 3
    last = x.ndim == 4 and x.shape[3] in (1, 3)
    first = x.ndim == 4 and x.shape[1] in (1, 3) and isinstance(x, Tensor)
    if str(x.dtype).removeprefix("torch.") != "uint8" or not (grey or last or first):
        raise ValueError(
            f"{name} must be (N, H, W, 3) uint8 from 0 to 255, or (N, H, W) or (N, H, W, 1) in grey; as a tensor also "
            f"(N, 3, H, W) or (N, 1, H, W); it is {x.dtype} of shape {tuple(x.shape)}"
        )
    if not isinstance(x, Tensor):  # torch takes no array that is read-only or runs backwards
        x = torch.from_numpy(np.require(x, requirements=["C", "W"]))
    x = x[:, None] if grey else x.movedim(3, 1) if last else x
    return x.expand(-1, 3, -1, -1).clone(memory_format=torch.contiguous_format)
