"""Packed masks on disk, for sets whose images are there too: made shard by shard, checked, read by memory mapping."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

ROWS = 4096  # of a shard: 32 MiB of 256 x 256 pixels
LOST = (
    "restore the folder from a copy, or start the run again: these masks cannot be made again, as the weights that "
    "they were made with have been trained on"
)


class ImagesOnDisk(Protocol):
    """N images (N, 3, H, W) of uint8 that are read when they are needed, such as `ltlab.data.streaming.ImageFiles`."""

    shape: torch.Size

    def __len__(self) -> int: ...

    def batches(self, indices: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """For every batch of indices, those read and their images."""


class StoredMasks:
    """The packed masks of some of N images in a folder; all other images have the empty mask.

        masks.bits       M rows, read by memory mapping; a shard is `ROWS` of them
        00000.sha256     the checksum of a finished shard, written after its rows have reached the disk
        made_of          what the masks were made of

    `masks[indices]` gives the rows of a batch, as a tensor of all rows would.

    Args:
        folder: made if it is not there; finished shards in it are kept.
        chosen: (M,) int64, the images that have a mask.
        images: N.
        row_bytes: of a packed mask.
        made_of: one line; masks in the folder must be made of the same. None takes what is there, all of it finished,
            and writes nothing.

    Raises:
        FileNotFoundError: no masks in the folder, and `made_of` is None.
        ValueError: masks made of something else; a finished shard that no longer has its checksum; with `made_of`
            None also a shard that is not finished, or rows that are cut off.
    """

    def __init__(self, folder: Path, chosen: Tensor, images: int, row_bytes: int, made_of: str | None) -> None:
        self.folder, self.chosen = folder, chosen.cpu()
        self.row_of = torch.full((images,), -1)
        self.row_of[self.chosen] = torch.arange(len(chosen))
        path, size = folder / "masks.bits", len(chosen) * row_bytes
        if made_of is None:
            self._check_whole(path, size)
        else:
            self._begin(made_of)
            with path.open("ab") as file:  # may be there, from this process or another of the run
                os.truncate(file.fileno(), size)
        self.bits = np.memmap(path, np.uint8, mode="r", shape=(len(chosen), row_bytes))
        missing, way = set(self.missing()), f"remove {folder}, and the masks are made again"
        for shard in range(self.shards):
            if shard not in missing and _read(self._note(shard)) != _checksum(self.bits[self._rows(shard)]):
                raise ValueError(f"{path} is damaged in shard {shard}: {LOST if made_of is None else way}")

    def _check_whole(self, path: Path, size: int) -> None:
        if not (self.folder / "made_of").exists() or not path.exists():
            raise FileNotFoundError(f"no masks in {self.folder}, which the checkpoint needs: {LOST}")
        if (there := path.stat().st_size) != size:
            raise ValueError(f"{path} has {there} bytes, not {size}: {LOST}")
        if missing := self.missing():
            raise ValueError(f"shard {missing[0]} of the masks in {self.folder} has no checksum: {LOST}")

    def _begin(self, made_of: str) -> None:
        note = self.folder / "made_of"
        self.folder.mkdir(parents=True, exist_ok=True)
        if not note.exists():
            _write(note, made_of)
        elif (theirs := _read(note)) != made_of:
            raise ValueError(
                f"the masks in {self.folder} are of {theirs}, not of {made_of}: remove the folder, and they are made "
                "again"
            )

    @property
    def shards(self) -> int:
        return -(-len(self.chosen) // ROWS)

    def missing(self) -> list[int]:
        """The shards that are not finished."""
        return [shard for shard in range(self.shards) if not self._note(shard).exists()]

    def images_of(self, shard: int) -> Tensor:
        """The images whose masks a shard holds, in the order of its rows."""
        return self.chosen[self._rows(shard)]

    def write(self, shard: int, packed: Tensor) -> None:
        """Finish a shard: its rows, then, once they are on the disk, its checksum.

        Raises:
            OSError: the disk is full; the shard is not finished then.
        """
        rows, path = packed.cpu().numpy(), self.folder / "masks.bits"
        try:
            with path.open("r+b") as file:  # not through the map, where a full disk would be a SIGBUS
                file.seek(shard * ROWS * rows.shape[1])
                file.write(rows.tobytes())
                file.flush()
                os.fsync(file.fileno())
            _write(self._note(shard), _checksum(rows))
        except OSError as error:
            raise OSError(
                error.errno,
                f"could not write the masks to {path} ({error.strerror}): make room; resume=True goes on from the last "
                "checkpoint",
            ) from error

    @property
    def checksum(self) -> str:
        """Of all shards together.

        Raises:
            ValueError: a shard is not finished.
        """
        if missing := self.missing():
            raise ValueError(
                f"shard {missing[0]} of the masks in {self.folder} is not finished: all processes of a run need to see "
                "this folder"
            )
        return hashlib.sha256("".join(_read(self._note(s)) for s in range(self.shards)).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.row_of)

    def __getitem__(self, indices: Tensor) -> Tensor:
        """The rows of images, (n,) int64 -> (n, row bytes) uint8 on the device of `indices`."""
        rows = self.row_of[indices.cpu()]
        packed = torch.zeros(len(rows), self.bits.shape[1], dtype=torch.uint8)
        has_mask = rows >= 0
        packed[has_mask] = torch.from_numpy(self.bits[rows[has_mask].numpy()])
        return packed.to(indices.device)

    def _note(self, shard: int) -> Path:
        return self.folder / f"{shard:05d}.sha256"

    def _rows(self, shard: int) -> slice:
        return slice(shard * ROWS, (shard + 1) * ROWS)


def digest_of(model: nn.Module | None, labels: Tensor) -> str:
    """16 hex digits of a model's parameters and buffers and of the labels: equal exactly where these are."""
    digest = hashlib.sha256(labels.cpu().numpy())
    for name, value in ({} if model is None else model.state_dict()).items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def _checksum(rows: np.ndarray) -> str:
    return hashlib.sha256(rows).hexdigest()


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _write(path: Path, text: str) -> None:
    """Whole or not at all: a name of this process alone, then renamed."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
