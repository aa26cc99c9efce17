"""Splits that do not fit into memory: images are read from disk when they are needed.

    read_image       one file -> (3, size, size) uint8, of small sets too
    ImageFiles       stands where a `Split` has its image tensor
    StreamedSplit    stands where small sets have a `Split`, with the same interface

Worker processes decode, resize and crop, and do no more: what arrives is un-augmented uint8, as if it had lain in
memory, and augmentation, mixing and moving the foreground happen on the device, in batches, as with small sets.
"""

import dataclasses
import hashlib
import logging
import math
import os
import shutil
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..counts import check_whole_number
from ..names import look_up

log = logging.getLogger(__name__)

MOST_WORKERS = 8
PREFETCH = 2  # batches that every worker reads ahead, torch's default
SHARED_MEMORY = Path("/", "dev", "shm")  # where workers put their batches; only Linux has it
LONGEST = 64  # times the shorter side (even: the centre stays); longer images are cropped before they are resized
KILLED = (
    "a process that reads images was killed, usually for lack of memory: take fewer, workers=1 or workers=0; with a "
    "checkpoint resume=True goes on from the last epoch"
)
ON_ERROR = {"raise": False, "skip": True}  # whether another image of the class takes the place of an unreadable one


def read_image(path: str, size: int | None = None) -> Tensor:
    """Read an image, bring its shorter side to `size` pixels (bilinear, antialiased), crop the centre.

    torchvision decodes it; what it cannot read (BMP, TIFF, ...) PIL does. Grey, palette, transparent, CMYK and 16-bit
    images become 8-bit RGB, 16 bits as round(255 / 65535 * value); an EXIF orientation is left alone.

    Returns:
        (3, size, size) uint8; (3, H, W), the image as it is, for size=None.

    Raises:
        ValueError: neither can read the file, or its pixels are floats or 32-bit integers, which have no white.
    """
    # here, because importing torchvision takes as long as importing torch
    from torchvision.transforms.v2 import functional as F

    image = _decode(path)  # (3, H, W)
    if size is None:
        return image
    height, width = image.shape[1:]
    image = F.center_crop(image, [min(height, LONGEST * width + height % 2), min(width, LONGEST * height + width % 2)])
    return F.center_crop(F.resize(image, [size], antialias=True), [size])


def _decode(path: str) -> Tensor:
    from torchvision.io import ImageReadMode, decode_image

    try:
        image = decode_image(path, ImageReadMode.RGB)
    except RuntimeError:
        try:
            return _decode_by_pil(path)
        except Exception as error:  # PIL's decoders raise errors of many types
            raise ValueError(f"{path} cannot be read as an image: {error}") from error
    if image.ndim == 4:  # an animation
        return image[0]
    return image if image.dtype == torch.uint8 else _in_8_bits(image)


def _decode_by_pil(path: str) -> Tensor:
    from PIL import Image
    from torchvision.transforms.v2 import functional as F

    with Image.open(path) as image:
        if image.mode in ("F", "I"):
            raise ValueError(
                f"no value of PIL's mode {image.mode!r} is known to be white; save it as an 8- or 16-bit PNG"
            )
        if image.mode.startswith("I;16"):  # which PIL itself would clip at 255
            return _in_8_bits(torch.from_numpy(np.asarray(image).astype(np.uint16))).expand(3, -1, -1)
        return F.pil_to_tensor(image.convert("RGB"))


def _in_8_bits(image: Tensor) -> Tensor:
    """round(255 / 65535 * v) of values v from 0 to 65535, as uint8."""
    return (image.float() / 257).round().to(torch.uint8)


@dataclass(frozen=True, eq=False)
class Reader(Dataset):
    """What a worker process does: read a batch of images, and others of the same class where `replace` is set.

    It holds arrays only, which workers share with the main process instead of copying them, and can be pickled.
    """

    root: str
    paths: np.ndarray  # (N,) bytes
    labels: np.ndarray  # (N,) int64
    size: int
    replace: bool

    def __len__(self) -> int:
        return len(self.paths)

    def path(self, index: int) -> str:
        return str(Path(self.root, os.fsdecode(self.paths[index])))

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor, dict[str, str]]:
        """The indices that were read, their images (n, 3, size, size), and why others could not be read, by path.

        Where no image could be read the index is -1.
        """
        read = torch.full((len(indices),), -1)
        images = torch.zeros(len(indices), 3, self.size, self.size, dtype=torch.uint8)
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
        """The image itself; with `replace` also the others of its class, in turn from it."""
        yield index
        if self.replace:
            same = np.flatnonzero(self.labels == self.labels[index])
            yield from np.roll(same, -1 - int(np.searchsorted(same, index)))[:-1].tolist()


def _as_it_is(batch: tuple) -> tuple:
    """The collate function: `Reader` makes whole batches."""
    return batch


def tells_of_a_killed_worker(error: RuntimeError) -> bool:
    """Whether an error is the one that torch raises, wherever the process is, when a worker has been killed."""
    return str(error).startswith("DataLoader worker")


class _Batches(list[Tensor]):
    """Batches of indices, (n,) int64, that become Python's numbers one by one: those of a long epoch take 300 MB."""

    def __iter__(self) -> Iterator[list[int]]:
        return (chosen.tolist() for chosen in super().__iter__())


class ImageFiles:
    """N images on disk that look like a tensor (N, 3, size, size) of uint8: `images[indices]` reads them now.

    Args:
        root: the folder that the paths start from.
        paths: (N,) bytes, as `os.fsencode` makes them; absolute ones are taken as they are.
        labels: (N,) int64, class indices from 0.
        size: side in pixels of what `read_image` makes of every image.
        workers: processes that read ahead in `batches` and `split`, and threads of `images[indices]`; 0 reads in this
            process when asked. None: as many as there are CPU cores, at most 8.
        on_error: "raise" or "skip", see `StreamedSplit`.
        device: where batches arrive.
        damaged: why an image could not be read, by path; grows while images are read.

    Raises:
        ValueError: a size below 1, fewer than 0 workers, an unknown `on_error`.
    """

    dtype = torch.uint8
    ndim = 4

    def __init__(
        self, root: str | Path, paths: np.ndarray, labels: np.ndarray, size: int = 256, workers: int | None = None,
        on_error: str = "raise", device: torch.device | str = "cpu", damaged: dict[str, str] | None = None,
    ) -> None:  # fmt: skip
        size = check_whole_number("size", size, least=1)
        workers = min(MOST_WORKERS, os.cpu_count() or 1) if workers is None else workers
        workers = check_whole_number("workers", workers, least=0)
        self.reader = Reader(str(root), paths, labels, size, look_up("on_error", on_error, ON_ERROR))
        self.workers, self.on_error = workers, on_error
        self.device = torch.device(device)
        self.damaged = {} if damaged is None else damaged
        self._idle: list[DataLoader] = []
        # Workers end at once when their loader is let go by hand; inside a cycle of garbage they would take 5 s.
        weakref.finalize(self, self._idle.clear)

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self), 3, self.reader.size, self.reader.size))

    @property
    def nbytes(self) -> int:
        """What is held in memory: the paths and labels."""
        return self.reader.paths.nbytes + self.reader.labels.nbytes

    def __len__(self) -> int:
        return len(self.reader)

    def __getitem__(self, indices: int | slice | Sequence[int] | Tensor) -> Tensor:
        """The images at `indices`, whatever a tensor takes as such. -> (n, 3, size, size) uint8, or one image"""
        indices = indices.cpu() if isinstance(indices, Tensor) else indices
        chosen = torch.arange(len(self))[indices]
        if chosen.ndim == 0:
            return self[chosen[None]][0]
        images = torch.empty(len(chosen), *self.shape[1:], dtype=torch.uint8)
        with ThreadPoolExecutor(max(self.workers, 1)) as pool:
            for i, batch in enumerate(pool.map(self.reader.__getitems__, chosen[:, None].tolist())):
                images[i] = self._checked(batch)[1][0]
        return images.to(self.device)

    def split(self, batch_size: int) -> Iterator[Tensor]:
        """All images in their order, (n, 3, size, size) uint8 batches read ahead by the workers."""
        for _, images in self.batches(torch.arange(len(self)).split(batch_size)):
            yield images

    def batches(self, indices: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """The images of every batch of indices, read ahead by the workers, after the indices that were read.

        Workers whose pass is over stay for the next one. Every pass has workers of its own, so passes may overlap.
        A pass that is broken off ends when its workers have read the batches that they are at, or after 5 s.

        Raises:
            ValueError: an image that cannot be read; with on_error="skip", a class none of whose images can; less
                shared memory than the workers need.
            ChildProcessError: a worker was killed.
        """
        indices = [chosen.cpu() for chosen in indices]
        if not self._idle:
            self._check_shared_memory(indices)
        loader = self._idle.pop() if self._idle else self._loader()
        try:
            loader.batch_sampler[:] = indices
            for batch in loader:
                read, images = self._checked(batch)
                yield read.to(self.device, non_blocking=True), images.to(self.device, non_blocking=True)
            loader.batch_sampler.clear()
            self._idle.append(loader)
        except (RuntimeError, ConnectionError, EOFError) as error:
            if isinstance(error, RuntimeError) and not tells_of_a_killed_worker(error):
                raise
            raise ChildProcessError(KILLED) from error
        finally:
            del loader  # a traceback that holds this frame would keep the workers of a failed pass alive

    def _loader(self) -> DataLoader:
        """Its batch_sampler is the list of batches, which every pass replaces, so that the workers can persist."""
        import torchvision.transforms.v2  # noqa: F401 (here once, else every worker that is forked does it anew)

        return DataLoader(
            self.reader, batch_sampler=_Batches(), num_workers=self.workers, persistent_workers=self.workers > 0,
            prefetch_factor=PREFETCH if self.workers else None,
            collate_fn=_as_it_is, pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),  # else it would draw from torch's global one
        )  # fmt: skip

    def _check_shared_memory(self, indices: Sequence[Tensor]) -> None:
        """ValueError where the batches read ahead and the one at hand do not fit; workers would wait for ever."""
        if not self.workers or not indices or not SHARED_MEMORY.is_dir():
            return
        free, largest = shutil.disk_usage(SHARED_MEMORY).free, max(map(len, indices))
        needed = min(self.workers * PREFETCH + 1, len(indices)) * largest * math.prod(self.shape[1:])
        if needed > free:
            raise ValueError(
                f"{SHARED_MEMORY} has {free / 1e6:,.0f} MB free; workers={self.workers} need {needed / 1e6:,.0f} MB "
                f"for batches of {largest}: take fewer, or workers=0, or docker run --shm-size={1 + needed // 2**29}g"
            )

    def _checked(self, batch: tuple[Tensor, Tensor, dict[str, str]]) -> tuple[Tensor, Tensor]:
        """Indices and images of what a worker read; what it could not read is noted, or stops the run."""
        read, images, damaged = batch
        if damaged and self.on_error == "raise":
            raise ValueError(
                f"{next(iter(damaged.values()))}; on_error='skip' takes another image of its class instead"
            )
        if (read < 0).any():
            raise ValueError(f"{next(iter(damaged.values()))}, and no other image of its class can be read")
        for path in damaged.keys() - self.damaged.keys():
            log.warning("%s; another image of its class takes its place", damaged[path])
        self.damaged.update(damaged)
        return read, images

    def take(self, indices: Tensor) -> "ImageFiles":
        """The images at `indices`, (M,) int64, in that order."""
        rows = indices.cpu().numpy()
        return self._with(paths=self.reader.paths[rows], labels=self.reader.labels[rows], device=self.device)

    def to(self, device: torch.device | str) -> "ImageFiles":
        """The same images, whose batches arrive on `device`."""
        return self._with(paths=self.reader.paths, labels=self.reader.labels, device=device)

    def cpu(self) -> "ImageFiles":
        return self.to("cpu")

    def _with(self, paths: np.ndarray, labels: np.ndarray, device: torch.device | str) -> "ImageFiles":
        return ImageFiles(
            self.reader.root, paths, labels, self.reader.size, self.workers, self.on_error, device, self.damaged
        )


@dataclass(frozen=True, eq=False)
class StreamedSplit:
    """A split whose images are read from disk, with the interface of `Split`: `.labels`, `.images`, `.batches`, ...

    An image that cannot be read stops the run with its path. With on_error="skip" it is named in the log, counted in
    `skipped`, and the next readable image of its class takes its place: batch sizes and class histogram stay, and
    `batches` gives the indices that were read, so that masks fit. In a test split that means that a readable image
    counts once more for its class.

    Args:
        images: files and their labels, see `ImageFiles`; its device is the split's.
    """

    masks: ClassVar[None] = None
    images: ImageFiles

    @cached_property
    def labels(self) -> Tensor:
        """(N,) int64, on the split's device."""
        return torch.tensor(self.images.reader.labels, device=self.images.device)

    @property
    def skipped(self) -> int:
        """How many unreadable images have been met so far; `images.damaged` says which."""
        return len(self.images.damaged)

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: Tensor) -> Self:
        """The images at `indices`, (M,) int64, in that order, as a new split."""
        return dataclasses.replace(self, images=self.images.take(indices))

    def batches(self, indices: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """For every batch of indices, (n,) int64: those read, their images (n, 3, size, size) uint8, their labels (n,).

        Raises:
            ValueError, ChildProcessError: as `ImageFiles.batches`.
        """
        for read, images in self.images.batches(indices):
            yield read, images, self.labels[read]

    def add_to(self, digest: "hashlib._Hash") -> None:
        """Add the paths as the list has them, the labels and the size to a fingerprint; not the pixels.

        The same list over other files, or over files changed since, has the same fingerprint.
        """
        reader = self.images.reader
        digest.update(f"files {tuple(self.images.shape)}".encode())
        digest.update(b"\0".join(reader.paths.tolist()))
        digest.update(np.ascontiguousarray(reader.labels))

    def to(self, device: torch.device | str) -> Self:
        """The same split, whose labels lie and whose batches arrive on `device`."""
        return dataclasses.replace(self, images=self.images.to(device))
