"""Fashion-MNIST-LT, read from files in the format of the official ones."""

import gzip
import hashlib
import struct

import numpy as np
import pytest
import torch
from torchvision.datasets import FashionMNIST

from ltlab.data import load

COUNTS = {"train": 20, "t10k": 3}  # images of every class


def idx(values: np.ndarray) -> bytes:
    """The format of MNIST's files: two zeros, the type (8: bytes), the dimensions and their sizes, then the values."""
    return struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()


@pytest.fixture
def made(tmp_path, monkeypatch):
    """The archives of 200 and 30 drawn images, their md5 as torchvision's."""
    rng, raw, resources, drawn = np.random.default_rng(0), tmp_path / "FashionMNIST" / "raw", [], {}
    raw.mkdir(parents=True)
    for part, count in COUNTS.items():
        labels = rng.permutation(np.repeat(np.arange(10), count)).astype(np.uint8)
        images = rng.integers(256, size=(len(labels), 28, 28), dtype=np.uint8)
        drawn[part] = images, labels
        for name, values in (("images-idx3", images), ("labels-idx1", labels)):
            archive = raw / f"{part}-{name}-ubyte.gz"
            archive.write_bytes(gzip.compress(idx(values)))
            resources.append((archive.name, hashlib.md5(archive.read_bytes()).hexdigest()))
    monkeypatch.setattr(FashionMNIST, "resources", resources)
    return tmp_path, drawn


def test_the_long_tail_is_that_of_the_files(made):
    root, drawn = made
    data = load("fashion-lt", root=root, imbalance=10, download=False)
    assert data.class_counts.tolist() == [20, 15, 11, 9, 7, 5, 4, 3, 2, 2]
    images, labels = map(torch.from_numpy, drawn["t10k"])
    assert torch.equal(data.test.labels, labels.long())
    assert all(torch.equal(data.test.images[:, channel], images) for channel in range(3))
    kept = {(image.tobytes(), int(label)) for image, label in zip(*drawn["train"], strict=True)}
    shown = zip(data.train.images[:, 0].numpy(), data.train.labels.tolist(), strict=True)
    assert {(image.tobytes(), label) for image, label in shown} < kept
    assert len(load("fashion-lt", root=root, imbalance=None).train) == 200 and data.class_names[9] == "Ankle boot"


def test_what_is_missing_or_damaged_is_named(made):
    root, _ = made
    raw = root / "FashionMNIST" / "raw"
    archive = raw / "t10k-labels-idx1-ubyte.gz"
    whole = archive.read_bytes()
    archive.unlink()
    with pytest.raises(FileNotFoundError, match=r"t10k-labels-idx1-ubyte.*LTLAB_DATA"):
        load("fashion-lt", root=root, download=False)
    archive.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match=r"t10k-labels.*md5"):
        load("fashion-lt", root=root, imbalance=10)
    archive.write_bytes(whole)
    load("fashion-lt", root=root, imbalance=10)
    file = raw / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(ValueError, match=r"train files in .* are damaged"):
        load("fashion-lt", root=root, imbalance=10)


def test_no_network_says_where_the_file_goes(made, monkeypatch):
    root, _ = made
    (root / "FashionMNIST" / "raw" / "t10k-labels-idx1-ubyte.gz").unlink()
    monkeypatch.setattr(FashionMNIST, "mirrors", ["http://127.0.0.1:9/"])
    with pytest.raises(ConnectionError, match=r"(?s)t10k-labels-idx1-ubyte\.gz.*put it into"):
        load("fashion-lt", root=root, imbalance=10)
