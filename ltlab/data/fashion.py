"""Fashion-MNIST with a long tail: ten kinds of clothes in grey, free to hand on (MIT licence).

The files are torchvision's, `root`/FashionMNIST/raw, unpacked or as the archives that the authors publish. Existing
files are never overwritten or deleted.

Source: Xiao, Rasul and Vollgraf, "Fashion-MNIST", 2017.
"""

import gzip
import os
import shutil
from pathlib import Path

import torch
from torchvision.datasets import FashionMNIST
from torchvision.datasets.utils import check_integrity

from .cifar import download as download_from
from .places import download_folder
from .profiles import long_tail_indices
from .sets import LongTailedData, Split


def fashion_lt(
    *, imbalance: float | None = 100, kind: str = "exp", seed: int = 0, root: str | Path | None = None,
    download: bool = True,
) -> LongTailedData:  # fmt: skip
    """Fashion-MNIST with a long-tailed training split; the test split keeps its 1,000 images of every class.

    Grey is repeated to RGB, (N, 3, 28, 28) uint8.

    Args:
        imbalance, kind: the profile, see `long_tail_counts`, from N0 = 6,000. None keeps all 60,000 images.
        seed: chooses the images, see `long_tail_subset`.
        root: folder with FashionMNIST/raw, see `download_folder`; missing files are downloaded into it (30 MB).
        download: False uses only files or archives that exist in `root`.

    Raises:
        FileNotFoundError: `root` does not have the files, and `download` is False.
        ValueError: a file under `root` is damaged.
        ConnectionError: the archives could not be downloaded.
    """
    raw = download_folder(root) / "FashionMNIST" / "raw"
    for archive, md5 in FashionMNIST.resources:
        _unpack(raw / archive, md5, download)
    train, test = (_split(raw, part) for part in (True, False))
    names = tuple(FashionMNIST.classes)
    options = {"imbalance": imbalance, "kind": kind, "seed": seed}
    chosen = train.take(long_tail_indices(train.labels, names, **options))
    return LongTailedData("fashion-lt", chosen, test, names, options)


def _split(raw: Path, train: bool) -> Split:
    try:
        part = FashionMNIST(raw.parents[1], train=train, download=False)
        grey, labels = torch.as_tensor(part.data), torch.as_tensor(part.targets)
        if grey.ndim != 3 or grey.dtype != torch.uint8 or labels.shape != grey.shape[:1]:
            raise ValueError(f"it has images {tuple(grey.shape)} and labels {tuple(labels.shape)}")
    except (AssertionError, ValueError, RuntimeError, KeyError) as error:  # torchvision's, of files that are cut off
        raise ValueError(
            f"{'train' if train else 't10k'} files in {raw} are damaged ({error}): delete them and load again"
        ) from error
    return Split(grey[:, None].expand(-1, 3, -1, -1).contiguous(), labels.long())


def _unpack(archive: Path, md5: str, fetch: bool) -> None:
    """Unpack an archive where its file is missing, downloading it first if need be; the file appears whole."""
    file = archive.with_suffix("")
    if file.exists():
        return
    if not archive.exists():
        if not fetch:
            raise FileNotFoundError(
                f"{archive.parent} has no {file.name}: load fashion-lt with download=True once, or name the folder "
                "that has FashionMNIST/raw, root=... or LTLAB_DATA"
            )
        archive.parent.mkdir(parents=True, exist_ok=True)
        download_from([f"{mirror}{archive.name}" for mirror in FashionMNIST.mirrors], archive, md5)
    elif not check_integrity(archive, md5):
        raise ValueError(f"{archive} is damaged: its md5 is not {md5}. Delete it and load again")
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    with gzip.open(archive) as packed, part.open("wb") as unpacked:
        shutil.copyfileobj(packed, unpacked)
    part.replace(file)
