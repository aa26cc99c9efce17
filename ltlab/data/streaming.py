"""Splits that do not fit into memory: images are read from disk when they are needed.

    read_image       one file -> (3, size, size) uint8, also for sets in memory
    ImageFiles       takes the place of a `Split`'s image tensor
    StreamedSplit    takes the place of a `Split`: both are an `ImageSplit`

Worker processes only decode, resize and crop. What arrives is uint8 without augmentation, as if it had been in memory;
augmentation, mixing and moving the foreground happen on the device, in batches, as with small sets.
"""

import dataclasses
import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..counts import check_integer
from ..names import look_up

log = logging.getLogger(__name__)

MOST_WORKERS = 8
TIMEOUT = 600  # seconds for one batch; a worker without shared memory for its batch would be waited for in vain
LONGEST = 64  # times the shorter side (even: the centre stays); longer images are cropped before they are resized
ON_ERROR = {"raise": False, "skip": True}  # whether another image of the class takes the place of an unreadable one

Batch = tuple[Tensor, Tensor, dict[str, str]]  # indices read, their images, and why others could not be read, by path


def read_image(path: str, size: int | None = None) -> Tensor:
    """Read an image, bring its shorter side to `size` pixels (bilinear, antialiased) and crop the centre.

    Pillow decodes it. Grey, palette, transparent, CMYK and 16-bit images become 8-bit RGB: 16-bit grey as
    round(255 / 65535 * value), 16-bit colour as the higher byte. An EXIF orientation is ignored.

    Returns:
        (3, size, size) uint8; for size=None the unchanged image, (3, H, W).

    Raises:
        ValueError: the file cannot be read, or its pixels are floats or 32-bit integers, which have no white.
    """
    try:
        image = _decode(path)
    except Exception as error:  # Pillow's decoders raise errors of many types
        raise ValueError(f"{path} cannot be read as an image: {error}") from error
    if size is None:
        return image
    # here, because importing torchvision takes as long as importing torch
    from torchvision.transforms.v2 import functional as F

    height, width = image.shape[1:]
    image = F.center_crop(image, [min(height, LONGEST * width + height % 2), min(width, LONGEST * height + width % 2)])
    return F.center_crop(F.resize(image, [size], antialias=True), [size])


def _decode(path: str) -> Tensor:
    """-> (3, H, W) uint8"""
    from PIL import Image

    with Image.open(path) as image:
        if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
            grey = (np.asarray(image).astype(np.float32) / 257).round().astype(np.uint8)  # (H, W)
            return torch.from_numpy(grey).expand(3, -1, -1)
        if image.mode in ("F", "I"):
            raise ValueError(f"Pillow's mode {image.mode!r} does not say which value is white; save it as a 16-bit PNG")
        if image.mode == "P":  # Pillow would warn if the palette has transparent colours
            image = image.convert("RGBA")
        if image.mode != "RGB":
            image = image.convert("RGB")
        pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
        return pixels.view(image.height, image.width, 3).permute(2, 0, 1)


@dataclass(frozen=True, eq=False)
class Reader(Dataset):
    """What a worker process does: read a batch of images, with `replace` others of the same class for unreadable ones.

    It holds only arrays, which workers share with the main process instead of copying them.
    """

    root: str
    paths: np.ndarray  # (N,) bytes
    labels: np.ndarray  # (N,) int64
    size: int
    replace: bool

    def __len__(self) -> int:
        return len(self.paths)

    def path(self, index: int) -> str:
        return os.path.join(self.root, os.fsdecode(self.paths[index]))  # noqa: PTH118 (Path takes ten times as long)

    def __getitems__(self, indices: Sequence[int] | np.ndarray) -> Batch:
        """Read a batch; where no image could be read, the index is -1. The images are (n, 3, size, size)."""
        read = torch.full((len(indices),), -1, device="cpu")
        images = torch.zeros(len(indices), 3, self.size, self.size, dtype=torch.uint8, device="cpu")
        damaged = {}
        for place, index in enumerate(indices):
            for candidate in self._candidates(index):
                path = self.path(candidate)
                try:
                    images[place] = read_image(path, self.size)
                except ValueError as error:
                    damaged[path] = str(error)
                else:
                    read[place] = candidate
                    break
        return read, images, damaged

    def _candidates(self, index: int) -> Iterator[int]:
        """The image itself; with `replace` then the others of its class, starting with the next one."""
        yield index
        if self.replace:
            same = np.flatnonzero(self.labels == self.labels[index])
            yield from np.roll(same, -1 - int(np.searchsorted(same, index)))[:-1].tolist()


def _unchanged(batch: Any) -> Any:
    """`Reader` makes whole batches."""
    return batch


class ImageFiles:
    """N images on disk that look like a tensor (N, 3, size, size) of uint8: `images[indices]` reads them now.

    Args:
        root: the folder that the paths start from; a relative one is that of now, also after `os.chdir`.
        paths: (N,) bytes, as `os.fsencode` makes them; absolute paths are used unchanged.
        labels: (N,) int64, class indices from 0.
        size: side in pixels of the images, see `read_image`.
        workers: processes that read ahead in `batches` and `split`; 0 reads in this process when asked. None: as many
            as there are CPU cores, at most 8.
        on_error: "raise" or "skip", see `StreamedSplit`.
        device: where batches arrive.
        damaged: why an image could not be read, by path; grows while images are read.
    """

    dtype = torch.uint8

    def __init__(
        self, root: str | Path, paths: np.ndarray, labels: np.ndarray, size: int = 256, workers: int | None = None,
        on_error: str = "raise", device: torch.device | str = "cpu", damaged: dict[str, str] | None = None,
    ) -> None:  # fmt: skip
        size = check_integer("size", size, least=1)
        workers = min(MOST_WORKERS, os.cpu_count() or 1) if workers is None else workers
        self.workers = check_integer("workers", workers, least=0)
        self.reader = Reader(str(Path(root).absolute()), paths, labels, size, look_up("on_error", on_error, ON_ERROR))
        self.on_error, self.device = on_error, torch.device(device)
        self.damaged = {} if damaged is None else damaged

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self), 3, self.reader.size, self.reader.size))

    @property
    def nbytes(self) -> int:
        """Bytes in memory: those of paths and labels."""
        return self.reader.paths.nbytes + self.reader.labels.nbytes

    def __len__(self) -> int:
        return len(self.reader)

    def __getitem__(self, indices: int | slice | Sequence[int] | Tensor) -> Tensor:
        """The images at `indices`, which are anything that indexes a tensor. -> (n, 3, size, size) uint8, or one image

        They are read in this process; `batches` and `split` read in parallel.
        """
        indices = indices.cpu() if isinstance(indices, Tensor) else indices
        chosen = torch.arange(len(self), device="cpu")[indices]
        images = self._checked(self.reader.__getitems__(chosen.flatten().tolist()))[1].to(self.device)
        return images if chosen.ndim else images[0]

    def split(self, batch_size: int) -> Iterator[Tensor]:
        """All images in order, in (n, 3, size, size) uint8 batches read ahead by the workers."""
        for _, images in self.batches(torch.arange(len(self), device="cpu").split(batch_size)):
            yield images

    def batches(self, indices: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """For every batch of indices those that were read and their images, read ahead by the workers.

        The workers stay for the next pass. A pass that begins within another one has workers of its own; those of a
        pass that is broken off end.

        Raises:
            ValueError: an image that cannot be read; with on_error="skip", a class without a readable image.
            RuntimeError: a worker was killed, or did not answer for 10 minutes.
        """
        loader, next_pass = LOADERS.pop(self, None) or self._loader()
        next_pass[:] = [chosen.cpu().numpy() for chosen in indices]
        with torch.device("cpu"):  # torch draws a seed for the workers on the default device
            batches = iter(loader)
        try:
            for batch in batches:
                read, images = self._checked(batch)
                yield read.to(self.device, non_blocking=True), images.to(self.device, non_blocking=True)
            LOADERS[self] = loader, next_pass
        finally:
            del loader, batches  # or a traceback would keep the workers of a failed pass alive

    def _loader(self) -> tuple[DataLoader, list[Any]]:
        """A loader, and the list of the batches of its next pass."""
        import torchvision.transforms.v2  # noqa: F401 (once here, or every forked worker imports it)

        next_pass: list[Any] = []  # arrays of indices
        return DataLoader(
            self.reader, batch_sampler=next_pass, num_workers=self.workers, persistent_workers=self.workers > 0,
            timeout=TIMEOUT if self.workers else 0, collate_fn=_unchanged, pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),  # else it would draw from torch's global one
        ), next_pass  # fmt: skip

    def _checked(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Indices and images of a batch; unreadable images are recorded, or stop the run."""
        read, images, damaged = batch
        if damaged and (self.on_error == "raise" or (read < 0).any()):
            way_out = (
                "on_error='skip' takes another image of its class instead" if self.on_error == "raise"
                else "no other image of its class can be read"
            )  # fmt: skip
            raise ValueError(f"{next(iter(damaged.values()))}; {way_out}")
        for path in damaged.keys() - self.damaged.keys():
            log.warning("%s; another image of its class takes its place", damaged[path])
        self.damaged.update(damaged)
        return read, images

    def take(self, indices: Tensor) -> "ImageFiles":
        """The images at `indices`, (M,) int64, in that order."""
        rows = indices.cpu().numpy()
        return self._with(self.reader.paths[rows], self.reader.labels[rows], self.device)

    def to(self, device: torch.device | str) -> "ImageFiles":
        """The same images, whose batches arrive on `device`."""
        return self._with(self.reader.paths, self.reader.labels, device)

    def cpu(self) -> "ImageFiles":
        return self.to("cpu")

    def _with(self, paths: np.ndarray, labels: np.ndarray, device: torch.device | str) -> "ImageFiles":
        return ImageFiles(
            self.reader.root, paths, labels, self.reader.size, self.workers, self.on_error, device, self.damaged
        )


# Between two passes. They are not attributes, because workers in a cycle of garbage would take 5 s each to end.
LOADERS: WeakKeyDictionary[ImageFiles, tuple[DataLoader, list[Any]]] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class StreamedSplit:
    """An `ImageSplit` whose images are read from disk.

    An image that cannot be read stops the run with its path. With on_error="skip" it is named in the log, counted in
    `skipped`, and the next readable image of its class takes its place, also in a test split. Batch sizes and class
    counts stay, and `batches` gives the indices that were read, so that masks fit.
    """

    images: ImageFiles
    labels: Tensor = field(init=False)  # (N,) int64, on the split's device

    def __post_init__(self) -> None:
        labels = torch.tensor(self.images.reader.labels, device=self.images.device)
        object.__setattr__(self, "labels", labels)  # as the class is frozen

    @property
    def masks(self) -> None:
        return None

    @property
    def on_error(self) -> str:
        return self.images.on_error

    @property
    def damaged(self) -> dict[str, str]:
        """Why each unreadable image met so far could not be read, by path; of all splits taken from one."""
        return self.images.damaged

    @property
    def skipped(self) -> int:
        """How many unreadable images have been met so far."""
        return len(self.damaged)

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: Tensor) -> Self:
        """The images at `indices`, (M,) int64, in that order, as a new split."""
        return dataclasses.replace(self, images=self.images.take(indices))

    def batches(self, indices: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """For every batch of indices: those read, (n,) int64, images (n, 3, size, size) uint8, labels (n,) int64."""
        for read, images in self.images.batches(indices):
            yield read, images, self.labels[read]

    def add_to(self, digest: "hashlib._Hash") -> None:
        """Add the paths as listed, the labels and the size to a fingerprint, but not the pixels.

        The same list over other files, or over files that have changed, has the same fingerprint.
        """
        reader = self.images.reader
        digest.update(f"files {tuple(self.images.shape)}".encode())
        digest.update(b"\0".join(reader.paths.tolist()))
        digest.update(np.ascontiguousarray(reader.labels).data)

    def to(self, device: torch.device | str) -> Self:
        """The same split, whose labels and batches are on `device`."""
        return dataclasses.replace(self, images=self.images.to(device))
