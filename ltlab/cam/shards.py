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


class ImagesOnDisk(Protocol):
    """N images (N, 3, H, W) of uint8 that are read when they are needed, such as `ltlab.data.streaming.ImageFiles`."""

    shape: torch.Size

    def __len__(self) -> int: ...

    def batches(self, indices: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """For every batch of indices, those read and their images."""


class StoredMasks:
    """The packed masks of some of N images in a folder; all other images have the empty mask.

        masks.bits       M rows, memory-mapped; a shard is `ROWS` of them
        00000.sha256     the checksum of a finished shard, written after its rows have reached the disk
        made_of          what the masks were made of

    `masks[indices]` gives the rows of a batch, as a tensor of all rows would.

    Args:
        folder: made if it is not there; finished shards in it are kept.
        chosen: (M,) int64, the images that have a mask.
        images: N.
        row_bytes: of a packed mask.
        made_of: one line; masks in the folder must be made of the same. None takes what is there.

    Raises:
        FileNotFoundError: no masks in the folder, and `made_of` is None.
        ValueError: masks made of something else; a finished shard that no longer has its checksum.
    """

    def __init__(self, folder: Path, chosen: Tensor, images: int, row_bytes: int, made_of: str | None) -> None:
        self.folder, self.chosen = folder, chosen.cpu()
        self.row_of = torch.full((images,), -1)
        self.row_of[self.chosen] = torch.arange(len(chosen))
        self._begin(made_of)
        path = folder / "masks.bits"
        with path.open("ab") as file:  # may be there, from this process or another of the run
            os.truncate(file.fileno(), len(chosen) * row_bytes)
        self.bits = np.memmap(path, np.uint8, mode="r+", shape=(len(chosen), row_bytes))
        missing = set(self.missing())
        for shard in range(self.shards):
            if shard not in missing and _read(self._note(shard)) != self._checksum(shard):
                raise ValueError(f"{path} is damaged in shard {shard}: remove {folder}, and the masks are made again")

    def _begin(self, made_of: str | None) -> None:
        note = self.folder / "made_of"
        if made_of is None and not note.exists():
            raise FileNotFoundError(f"no masks in {self.folder}, which the checkpoint needs: put the folder back")
        self.folder.mkdir(parents=True, exist_ok=True)
        if made_of is not None and note.exists() and (theirs := _read(note)) != made_of:
            raise ValueError(
                f"the masks in {self.folder} are of {theirs}, not of {made_of}: remove the folder, and they are made "
                "again"
            )
        if not note.exists():
            _write(note, made_of)

    @property
    def shards(self) -> int:
        return -(-len(self.chosen) // ROWS)

    def missing(self) -> list[int]:
        """The shards that are not finished."""
        return [shard for shard in range(self.shards) if not self._note(shard).exists()]

    def images_of(self, shard: int) -> Tensor:
        """The images whose masks a shard holds, in the order of its rows."""
        return self.chosen[shard * ROWS : (shard + 1) * ROWS]

    def write(self, shard: int, packed: Tensor) -> None:
        """Finish a shard: its rows, then, once they are on the disk, its checksum."""
        self.bits[shard * ROWS : (shard + 1) * ROWS] = packed.cpu().numpy()
        self.bits.flush()
        _write(self._note(shard), self._checksum(shard))

    @property
    def checksum(self) -> str:
        """Of all shards together.

        Raises:
            ValueError: a shard is not finished.
        """
        if missing := self.missing():
            raise ValueError(f"shard {missing[0]} of the masks in {self.folder} is not finished: make it first")
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

    def _checksum(self, shard: int) -> str:
        return hashlib.sha256(self.bits[shard * ROWS : (shard + 1) * ROWS]).hexdigest()


def digest_of(model: nn.Module | None, labels: Tensor) -> str:
    """16 hex digits of a model's parameters and buffers and of the labels: equal exactly where these are."""
    digest = hashlib.sha256(labels.cpu().numpy())
    for name, value in ({} if model is None else model.state_dict()).items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _write(path: Path, text: str) -> None:
    """Whole or not at all: a name of this process alone, then renamed."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
