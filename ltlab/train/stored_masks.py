"""The rows of a run's foreground slots: in memory or, for images on disk, in a file next to the checkpoint."""

import hashlib
import math
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..cam import ForegroundTransform
from ..data import LongTailedData
from ..recipes import describe
from .checkpoint import atomically
from .checks import on_disk
from .processes import OneProcess

LOST = (
    "restore the file from a copy, or start the run again: the masks cannot be made again, because the weights that "
    "made them have been trained on"
)


class StoredMasks:
    """The packed masks of some of N images, in a .npy file read through a memory map; all others have the empty mask.

    `masks[indices]` gives the rows of a batch, (n,) int64 -> (n, row bytes) uint8, as a tensor of N rows would.

    Args:
        path: of a file that `write` has made.
        masked: (M,) int64, the image of each row.
        images: N.
        digest: of the file.
    """

    def __init__(self, path: Path, masked: Tensor, images: int, digest: str) -> None:
        self.rows, self.digest = np.load(path, mmap_mode="r"), digest
        self.row_of = torch.full((images,), -1)  # the empty mask
        self.row_of[masked.cpu()] = torch.arange(len(masked))

    def __getitem__(self, indices: Tensor) -> Tensor:
        return torch.from_numpy(self.rows[self.row_of[indices.cpu()].numpy()]).to(indices.device)


def write(path: Path, shape: tuple[int, int], batches: Iterable[Tensor]) -> None:
    """Write batches of uint8 rows, (n, row bytes), and one row of zeros to a .npy file, which then appears at once.

    Raises:
        OSError: the disk is full or not writable; no file is left.
    """
    with atomically(path) as file:  # not through a map, where a full disk kills the process
        header = {"descr": "|u1", "fortran_order": False, "shape": (shape[0] + 1, shape[1])}
        np.lib.format.write_array_header_1_0(file, header)
        for rows in batches:
            file.write(rows.cpu().numpy().tobytes())
        file.write(bytes(shape[1]))


class Masks:
    """Prepares the foreground slots of a run's stages, which are counted from 0, and reopens them.

    Args:
        data: the training images, and their labels.
        path: of the checkpoint; None keeps masks on disk in a temporary folder of each process.
        processes: each makes the masks of its fraction of the images; the first writes them.
    """

    def __init__(self, data: LongTailedData, path: Path | None, processes: OneProcess) -> None:
        self.data, self.path, self.processes = data, path, processes
        self.temporary: TemporaryDirectory | None = None

    def prepare(self, foreground: Any, model: nn.Module, stage: int) -> Tensor | StoredMasks:
        """A slot's rows; masks of images on disk are on disk too.

        Raises:
            TypeError: `prepare` does not give a tensor with a row per image.
        """
        images, labels = self.data.train.images, self.data.train.labels
        if on_disk(self.data) and getattr(type(foreground), "prepare", None) is ForegroundTransform.prepare:
            self._write(foreground, model, self.file(stage))
            self.processes.wait()
            return self._open(foreground, self.file(stage))
        rows = foreground.prepare(model, images, labels)
        if not isinstance(rows, Tensor) or len(rows) != len(labels):
            what = f"a tensor {tuple(rows.shape)}" if isinstance(rows, Tensor) else f"{rows!r:.80}"
            raise TypeError(
                f"stage {stage + 1}: prepare(model, images, labels) of {describe(foreground)} gives {what}, it must "
                f"give a tensor with a row for each of the {len(labels)} images"
            )
        return rows

    def _write(self, foreground: ForegroundTransform, model: nn.Module, path: Path) -> None:
        images, labels, processes = self.data.train.images, self.data.train.labels, self.processes
        made = foreground.packed_masks(model, images, labels, processes.share)
        batches = (processes.gathered(rows, len(indices)) for indices, rows in made)
        if self.path is None or processes.rank == 0:
            shape = len(foreground.masked_indices(labels)), -(-math.prod(images.shape[2:]) // 8)
            write(path, shape, batches)
        else:
            for _ in batches:
                pass

    def _open(self, foreground: ForegroundTransform, path: Path, digest: str | None = None) -> StoredMasks:
        if not path.exists():
            raise FileNotFoundError(f"no masks at {path}, which every process of the run must see: {LOST}")
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if digest not in (None, found):
            raise ValueError(f"{path} does not hold the masks of the checkpoint: {LOST}")
        labels = self.data.train.labels
        return StoredMasks(path, foreground.masked_indices(labels), len(labels), found)

    def reopen(self, foreground: Any, kept: Tensor | str | None, stage: int) -> Tensor | StoredMasks | None:
        """The rows of which a checkpoint keeps the digest of their file; or, if it keeps the rows, those.

        Raises:
            FileNotFoundError: the file is missing.
            ValueError: it is another file, or damaged.
        """
        return self._open(foreground, self.file(stage), kept) if isinstance(kept, str) else kept

    def file(self, stage: int) -> Path:
        """Where a stage's masks are, if they are on disk."""
        if self.path is not None:
            return self.path.with_name(f"{self.path.stem}-masks-{stage + 1}.npy")
        if self.temporary is None:
            self.temporary = TemporaryDirectory(prefix="ltlab-masks-", ignore_cleanup_errors=True)
        return Path(self.temporary.name) / f"{stage + 1}.npy"
