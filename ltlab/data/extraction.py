"""A set of features: a frozen network runs once over the images, and what it gives is kept on disk.

The cache is a folder per network, named by the digest of its weights and preparation. It holds one row of float16 per
image, found by a digest of the image: other subsets, seeds and splits of the same images need no new run.
"""

import dataclasses
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor, nn

from ..counts import check_integer
from ..defaults import usual_defaults
from ..images import evaluating
from ..names import look_up
from ..progress import progress_bar
from .backbones import Backbone, backbone_of
from .places import download_folder, expanded
from .sets import ImageSplit, LongTailedData, Split
from .streaming import ImageFiles

KEY = 16  # bytes of a digest of an image
PROBED = 2  # images whose cached features are compared with those of now
CLOSE = 0.1  # times the largest feature, by which these may differ: another machine rounds otherwise


@usual_defaults()
def features(
    data: LongTailedData, backbone: str | nn.Module | Backbone, *, size: int | None = None, batch_size: int = 64,
    cache: str | os.PathLike | None = None, precision: str = "float32", progress: bool = True,
) -> LongTailedData:  # fmt: skip
    """The set of what a frozen network makes of the images: (N, K, 1, 1) float32, for heads that train in seconds.

        x = backbone(image)   in R^K, once per image, in evaluation mode and without augmentation

    `fit` trains a classifier on it by the settings "features". Every loss, sampler, mix, classifier, second stage and
    correction works unchanged; what moves pixels, a foreground slot, is refused.

    Features are kept on disk, rounded to float16, and computed once. A run that was stopped continues where it was.

    Args:
        data: a set of images, in memory or streamed.
        backbone: a name, or a network, see `backbone_of`: "efficientnet_lite0", "resnet50", a timm name, a custom
            module, `ltlab.train.load_model("checkpoint.pt")`; a `Backbone` keeps its own size and precision.
        size: pixels of the square that the network sees; None is what its weights were made for, and for a custom
            network the images unchanged. Small images gain little from large squares, and time grows as size^2.
        batch_size: images per forward pass. Features do not depend on it but for rounding.
        cache: folder of the kept features; None is "features" in the folder of downloads, see `load`.
        precision: "float32" or "bfloat16", autocast, which some processors compute several times as fast.
        progress: show a bar of the images that are not in the cache yet.

    Returns:
        A set of the same classes, labels and order, on the device of the data's labels. Its options name the backbone,
        the size and the precision.

    Raises:
        TypeError: data that are not loaded, or a backbone that is neither a name nor a network.
        ValueError: data that hold features already; features that are not pooled, not finite or too large for float16;
            kept features of a network that computes something else now; an argument outside its range.
        ImportError, ConnectionError: the backbone's weights are not here, see `backbone_of`.
        OSError: the cache cannot be written.
    """
    if not isinstance(data, LongTailedData):
        raise TypeError(f"data={data!r:.80}: features takes a set that is loaded, ltlab.data.load(...)")
    if data.holds_features:
        raise ValueError(f"data {data.name!r} hold features already: pass the set of images")
    batch_size = check_integer("batch_size", batch_size, least=1)
    bfloat16 = look_up("precision", precision, {"float32": False, "bfloat16": True})
    network = backbone_of(backbone, size, bfloat16=bfloat16)
    folder = download_folder() / "features" if cache is None else expanded(os.fspath(cache))
    with evaluating(network.network), _writing(folder):
        folder = folder / network.digest()
        folder.mkdir(parents=True, exist_ok=True)
        store = _Store(folder, _probed(network, data.train, folder))
        train, test = (_of_split(network, split, store, batch_size, progress) for split in (data.train, data.test))
    used = {"size": network.prepare.crop, "precision": "bfloat16" if network.bfloat16 else "float32"}
    options = data.options | {"backbone": network.name} | used
    return dataclasses.replace(data, name=f"{data.name} features", train=train, test=test, options=options)


class _Store:
    """Rows of K float16 by the key of their image, in two files that only grow.

    A row counts once its key is written, after it: a process that is stopped leaves whole rows.
    """

    def __init__(self, folder: Path, width: int) -> None:
        self.keys_file, self.rows_file, self.width = folder / "keys.bin", folder / "rows.bin", width
        self.lock = FileLock(folder / "lock")  # of the process that writes; others read meanwhile
        self.read()

    def read(self) -> int:
        """Learn which rows are there, and how many."""
        for file in (self.keys_file, self.rows_file):
            file.touch()
        n = min(self.keys_file.stat().st_size // KEY, self.rows_file.stat().st_size // (2 * self.width))
        keys = self.keys_file.read_bytes()[: KEY * n]
        self.place = {keys[KEY * i : KEY * (i + 1)]: i for i in range(n)}
        return n

    def clean(self) -> None:
        """Remove half a row that a stopped process has left."""
        n = self.read()
        os.truncate(self.keys_file, KEY * n)
        os.truncate(self.rows_file, 2 * self.width * n)

    def append(self, keys: Sequence[bytes], rows: np.ndarray) -> None:
        for file, content in ((self.rows_file, rows.tobytes()), (self.keys_file, b"".join(keys))):
            with file.open("ab") as opened:
                opened.write(content)
        self.place.update({key: len(self.place) + i for i, key in enumerate(keys)})

    def rows(self, keys: Sequence[bytes]) -> np.ndarray:
        """(n, K) float16"""
        every = np.memmap(self.rows_file, np.float16, "r", shape=(len(self.place), self.width))
        return every[[self.place[key] for key in keys]]

    def missing(self, keys: Sequence[bytes]) -> list[int]:
        """Where the first of every key is that has no row yet."""
        first = {key: i for i, key in reversed([*enumerate(keys)])}  # of equal images one is enough
        return sorted(i for key, i in first.items() if key not in self.place)


def _of_split(network: Backbone, split: ImageSplit, store: _Store, batch_size: int, progress: bool) -> Split:
    keys = _keys(split)
    if store.missing(keys):
        with store.lock:
            store.clean()
            _fill(network, split, keys, store, batch_size, progress)
    rows = torch.from_numpy(store.rows(keys).astype(np.float32))  # (N, K)
    return Split(rows[:, :, None, None].to(split.labels.device), split.labels)


def _fill(
    network: Backbone, split: ImageSplit, keys: list[bytes], store: _Store, batch_size: int, progress: bool
) -> None:  # fmt: skip
    """Compute what is missing, batch by batch onto the disk."""
    missing = torch.tensor(store.missing(keys), dtype=torch.int64, device=split.labels.device)
    chunks = missing.split(batch_size) if len(missing) else ()  # another process may have filled it meanwhile
    todo = {"total": len(keys), "initial": len(keys) - len(missing)}
    with progress_bar(shown=progress, desc=f"features of {network.name}", unit="image", **todo) as bar:
        for chunk, (_, images, _) in zip(chunks, split.batches(chunks), strict=True):
            store.append([keys[i] for i in chunk.tolist()], _half(network, network(images).cpu()))
            bar.update(len(chunk))


def _half(network: Backbone, values: Tensor) -> np.ndarray:
    half = values.half()
    if not half.isfinite().all():
        raise ValueError(
            f"backbone {network.name} gives a feature of {values.abs().max():.3g}, too large for float16, in which "
            "they are kept: end the network in a normalisation"
        )
    return half.numpy()


def _probed(network: Backbone, split: ImageSplit, folder: Path) -> int:
    """K, of the first images; where these are kept, their features must be those of now."""
    few = split.take(torch.arange(min(PROBED, len(split)), device=split.labels.device))
    [(_, images, _)] = split.batches([torch.arange(len(few), device=split.labels.device)])
    now = network(images).cpu()
    store = _Store(folder, now.shape[1])
    keys = [key for key in _keys(few) if key in store.place]
    kept = torch.from_numpy(store.rows(keys)).float() if len(keys) == len(few) else now
    if (kept - now).abs().max() > CLOSE * max(1.0, float(now.abs().max())):
        raise ValueError(
            f"cache {folder} has other features of the same images than {network.name} gives now, so its code has "
            "changed: delete the folder, or name another cache"
        )
    return now.shape[1]


def _keys(split: ImageSplit) -> list[bytes]:
    """A digest of every image: of its pixels, or of a file's path, size and time of change."""
    images = split.images
    if isinstance(images, ImageFiles):
        texts = (f"{images.reader.size} {_changed(images.reader.path(i))} ".encode() for i in range(len(images)))
        texts = map(bytes.__add__, texts, images.reader.paths.tolist())
    else:
        shape = str(tuple(images.shape[1:])).encode()
        texts = (shape + image.tobytes() for image in images.cpu().numpy())
    return [hashlib.sha256(text).digest()[:KEY] for text in texts]


def _changed(path: str) -> str:
    """A file's size and time of change; "" of one that is not there, which reading will report."""
    try:
        stat = Path(path).stat()
    except OSError:
        return ""
    return f"{stat.st_size} {stat.st_mtime_ns}"


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Name the cache in the error of a disk that is full or not writable."""
    try:
        yield
    except OSError as error:
        if isinstance(error, ConnectionError) or error.errno is None:
            raise
        raise OSError(
            error.errno,
            f"cache {folder} cannot be written ({error.strerror}): make room, or name another folder, "
            "cache=...; called again, it continues",
        ) from error
