"""ltlab.data: counts and subsets against the code that published them, custom sets, downloads that go wrong."""
# ruff: noqa: NPY002 - the oracle is published code that uses numpy's legacy generator

import hashlib
import io
import json
import math
import os
import pickle
import random
import re
import shutil
import socket
import tarfile
import threading
import unicodedata
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, features
from torch.utils.data import TensorDataset
from torchvision.datasets import CIFAR10
from torchvision.transforms import v2

from ltlab.data import (
    DATA_SETS,
    LongTailedData,
    Split,
    array_set,
    benchmark_class_counts,
    cifar,
    list_set,
    load,
    long_tail_counts,
    long_tail_subset,
    places,
)
from ltlab.names import look_up

# --- counts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_classes", "max_count", "imbalance", "total"),
    [
        (10, 5000, 100, 12_406), (10, 5000, 50, 13_996), (10, 5000, 10, 20_431),
        (100, 500, 100, 10_847), (100, 500, 50, 12_608), (100, 500, 10, 19_573),
    ],
)  # fmt: skip
def test_counts_have_the_published_totals(num_classes, max_count, imbalance, total):
    assert sum(long_tail_counts(num_classes, max_count, imbalance)) == total


def test_counts_of_cifar10_lt():
    assert long_tail_counts(10, 5000, 100) == [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    assert long_tail_counts(10, 5000, 50) == [5000, 3237, 2096, 1357, 878, 568, 368, 238, 154, 100]


@given(st.integers(2, 50), st.integers(1, 10_000), st.floats(0, 1), st.sampled_from(["exp", "step"]))
def test_counts_fall_from_the_largest_to_the_smallest(num_classes, max_count, fraction, kind):
    imbalance = 1 + fraction * (max_count - 1) * 0.999
    counts = long_tail_counts(num_classes, max_count, imbalance, kind)
    assert len(counts) == num_classes and counts[0] == max_count and all(type(n) is int for n in counts)
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == int(max_count * (1 / imbalance)) >= 1


def test_counts_in_the_limits():
    assert long_tail_counts(4, 7, 1) == long_tail_counts(4, 7, 1, "step") == [7, 7, 7, 7]
    assert long_tail_counts(1, 7, 100) == long_tail_counts(1, 7, 100, "step") == [7]
    assert long_tail_counts(5, 100, 10, "step") == [100, 100, 10, 10, 10]
    assert long_tail_counts(2, 3, np.float32(3.0)) == long_tail_counts(np.int64(2), 3, 3) == [3, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 10, 2), "num_classes=0"), ((3, 10.5, 2), "max_count=10.5"), ((3, 10, 0.5), "imbalance=0.5"),
        ((3, 10, math.inf), "imbalance=inf"), ((3, 10, "2"), "imbalance='2'"), ((3, 10, 2, "stepp"), "'step'"),
        ((3, 10, 20), "class 2 of 3 .* max_count=10 .* about 10$"), ((4, 10, 20, "step"), "class 2 of 4"),
    ],
)  # fmt: skip
def test_counts_refuse(arguments, message):
    with pytest.raises(ValueError, match=message):
        long_tail_counts(*arguments)


# --- subsets ---------------------------------------------------------------------------------------------------------


def cao_subset(labels, counts, seed):
    """What Cao et al. (LDAM-DRW) do, with numpy's global generator, which is put back afterwards."""
    state = np.random.get_state()
    np.random.seed(seed)
    chosen = []
    for c, n in zip(np.unique(labels), counts, strict=True):
        indices = np.where(labels == c)[0]
        np.random.shuffle(indices)
        chosen.append(indices[:n])
    np.random.set_state(state)
    return np.concatenate(chosen)


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
def test_subset_is_that_of_cao(seed):
    labels = np.random.default_rng(7).permutation(np.repeat(np.arange(10), 500))
    counts = long_tail_counts(10, 500, 100)
    subset = long_tail_subset(torch.from_numpy(labels), counts, seed)
    assert subset.dtype == torch.int64
    assert np.array_equal(subset.numpy(), cao_subset(labels, counts, seed))


def test_subset_takes_lists_and_tensors_and_keeps_everything_at_imbalance_one():
    labels = [1, 0, 1, 0, 2, 2]
    subset = long_tail_subset(labels, torch.tensor([2, 2, 2]), seed=3)
    assert sorted(subset.tolist()) == [0, 1, 2, 3, 4, 5]
    assert [labels[i] for i in subset] == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("counts", "seed", "names", "message"),
    [
        ([2, 3], 0, ["cat", "dog"], r"class 1 \('dog'\) has 2 images, .* needs 3; imbalance=None"),
        ([2, 1], None, None, "seed=None"), ([2, -1], 0, None, r"counts\[1\]=-1"), ([2, 1.5], 0, None, r"counts\[0\]"),
    ],
)  # fmt: skip
def test_subset_refuses(counts, seed, names, message):
    with pytest.raises(ValueError, match=message):
        long_tail_subset(torch.tensor([0, 1, 0, 1]), counts, seed, names)


# --- what a set looks like -------------------------------------------------------------------------------------------


def split(labels, size=4, masks=False, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (len(labels), 3, size, size), dtype=torch.uint8, generator=generator)
    return Split(images, torch.tensor(labels), images[:, 0] > 99 if masks else None)


def data(train=(0, 0, 1), test=(0, 1), names=("cat", "dog"), options=None, **kwargs):
    return LongTailedData("pets", split(train, **kwargs), split(test), names, options or {})


IMAGES, LABELS = torch.zeros(2, 3, 4, 5, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ((IMAGES.float(), LABELS), "images must be torch.uint8"),
        ((IMAGES.permute(0, 2, 3, 1), LABELS), r"images must be .*\(2, 4, 5, 3\): ltlab.data.array_set"),
        ((IMAGES.numpy(), LABELS), "images must be a tensor, not ndarray: ltlab.data.array_set"),
        ((IMAGES.transpose(2, 3), LABELS), "contiguous"), ((IMAGES, LABELS[:1]), r"labels must be .*\(2,\)"),
        ((IMAGES, LABELS.to("meta")), "labels must be .* on cpu"),
        ((IMAGES, LABELS, IMAGES[:, 0]), "masks must be torch.bool"),
        ((IMAGES, LABELS, IMAGES[:, 0, :3] > 0), r"masks must be .*\(2, 4, 5\)"),
    ],
)  # fmt: skip
def test_split_refuses(tensors, message):
    with pytest.raises(ValueError, match=message):
        Split(*tensors)


def test_split_takes_images_in_the_given_order():
    whole = split([0, 1, 2, 3], masks=True)
    part = whole.take(torch.tensor([3, 1]))
    assert len(part) == 2 and part.labels.tolist() == [3, 1]
    assert torch.equal(part.images, whole.images[[3, 1]]) and torch.equal(part.masks, whole.masks[[3, 1]])
    assert split([0, 1]).take(torch.tensor([1])).masks is None


def test_the_side_of_data_is_the_shorter_one_of_their_images():
    wide = Split(IMAGES, torch.tensor([0, 1]))
    assert LongTailedData("wide", wide, wide, ("cat", "dog")).side == 4


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"train": (0, 1, 2)}, "train has label 2"), ({"test": (0, -1)}, "test has label -1"),
        ({"train": (1, 1)}, "class 'cat' has no training image"),
        ({"names": ("cat", "cat")}, "'cat' more than once"),
        ({"names": ["cat", "dog"]}, "class_names must be a tuple"),
        ({"names": ("cat",), "train": (0, 0), "test": (0,)}, "class_names=.* two classes"),
        ({"size": 5}, r"train images are \(H, W\) = \(5, 5\), test images \(4, 4\)"),
        ({"options": {"counts": torch.zeros(2)}}, "options must be .* JSON"),
    ],
)  # fmt: skip
def test_data_refuse(kwargs, message):
    with pytest.raises(ValueError, match=message):
        data(**kwargs)


def test_data_say_what_they_are_in_one_line():
    assert repr(data()) == (
        "LongTailedData('pets': 3 training and 2 test images of 4 x 4 pixels, "
        "2 classes with 2 to 1 images, imbalance 2)"
    )


def test_fingerprint_follows_the_content_and_nothing_else():
    base = data(masks=True)
    assert re.fullmatch("[0-9a-f]{16}", base.fingerprint)
    other_provenance = LongTailedData("other", base.train, base.test, base.class_names, {"seed": 1})
    assert other_provenance.fingerprint == base.fingerprint
    mask = base.train.masks.clone()
    mask[0, 0, 0] ^= True
    changed = [
        data(masks=False), data(masks=True, seed=1), data(masks=True, train=(0, 1, 0)), data(masks=True, test=(1, 0)),
        data(masks=True, names=("cat", "bird")),
        LongTailedData("pets", Split(base.train.images, base.train.labels, mask), base.test, base.class_names),
    ]  # fmt: skip
    assert len({base.fingerprint, *(d.fingerprint for d in changed)}) == len(changed) + 1


def test_to_moves_everything():
    moved = split([0, 1], masks=True).to("meta")
    assert {t.device.type for t in (moved.images, moved.labels, moved.masks)} == {"meta"}
    same = data().to("cpu")
    assert torch.equal(same.train.images, data().train.images) and same.class_names == ("cat", "dog")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_data_are_the_same_on_a_gpu():
    moved = data(masks=True).to("cuda")
    assert moved.train.masks.is_cuda and moved.class_counts.is_cuda
    assert moved.fingerprint == data(masks=True).fingerprint


# --- load ------------------------------------------------------------------------------------------------------------


def test_load_draws_the_shapes_with_their_options():
    shapes = load("shapes-lt", imbalance=10, kind="step", seed=3, max_count=20, test_count=2)
    assert shapes.class_counts.tolist() == [20] * 5 + [2] * 5
    assert json.loads(json.dumps(shapes.options))["seed"] == 3


def test_integers_of_any_kind_are_plain_in_the_options(birds):
    numbers = {"imbalance": np.int64(2), "seed": np.int64(1), "max_count": np.uint8(20), "test_count": np.int16(2)}
    shapes = load("shapes-lt", **numbers, size=np.int64(16), context=np.float32(0.5))
    plain = load("shapes-lt", **{name: int(number) for name, number in numbers.items()}, size=16)
    assert shapes.options == plain.options and shapes.fingerprint == plain.fingerprint
    assert {type(value) for value in shapes.options.values()} == {int, float, str}
    assert f"{shapes.options}" == f"{plain.options}"
    for stream in (False, True):
        loaded = load(birds, imbalance=np.float64(9), size=np.int64(4), stream=stream)
        assert f"{loaded.options}" == "{'imbalance': 9.0, 'kind': 'exp', 'seed': 0, 'size': 4}"


def test_load_refuses_unknown_names_and_options(tmp_path):
    with pytest.raises(ValueError, match="'cifar10'; did you mean 'cifar10-lt'"):
        load("cifar10")
    with pytest.raises(ValueError, match="unknown shapes-lt option 'contxt'; did you mean 'context'"):
        load("shapes-lt", contxt=1.0)
    with pytest.raises(ValueError, match=r"unknown cifar10-lt option 'size'.* Known: .*, root, download"):
        load("cifar10-lt", size=32)
    with pytest.raises(ValueError, match="imbalance=None"):
        load("shapes-lt", imbalance=None)
    with pytest.raises(FileNotFoundError, match=r"there is no file .*birds\.npz"):
        load(tmp_path / "birds.npz")
    with pytest.raises(FileNotFoundError, match=r"no folder .*birds"):
        load(tmp_path / "birds")
    drawn, small = ["shapes-lt", "scenes-lt"], ["cifar10-lt", "cifar100-lt", "fashion-lt"]
    assert list(DATA_SETS) == [*drawn, *small, "imagenet-lt", "places-lt", "inat18"]


def test_of_many_names_the_nearest_are_shown():
    many = dict.fromkeys(f"recipe{i}" for i in range(100))
    message = (
        r"unknown recipe 'recip42'; did you mean 'recipe42'\? Known, of 100 the nearest: recipe42, .*; `ltlab recipes`"
    )
    with pytest.raises(ValueError, match=message) as error:
        look_up("recipe", "recip42", many)
    assert str(error.value).count(", ") == 12 and len(str(error.value)) < 250
    with pytest.raises(ValueError, match=r"unknown dish 'ham'\. Known, of 100 the nearest: recipe[^;]*$"):
        look_up("dish", "ham", many)
    with pytest.raises(ValueError, match=r"unknown dish \['recipe1'\]"):  # what no string is, is no key either
        look_up("dish", ["recipe1"], many)


def test_a_name_comes_before_a_folder_but_a_path_is_a_path(tmp_path, monkeypatch):
    (tmp_path / "shapes-lt").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load("shapes-lt", max_count=2, imbalance=1, test_count=1).name == "shapes-lt"
    for path in ("./shapes-lt", Path("shapes-lt")):
        with pytest.raises(ValueError, match="no class folders"):
            load(path)


@pytest.mark.parametrize(
    "read",
    [load, lambda path: load(Path(path)), lambda path: load("cifar10-lt", root=path, download=False),
     lambda path: load("inat18", root=path), lambda path: load("inat18", root="/", lists=path),
     lambda path: list_set(path, path, "/")],
)  # fmt: skip
def test_a_home_of_nobody_is_named(read):
    with pytest.raises(ValueError, match="path='~nosuchuser/x'"):
        read("~nosuchuser/x")


# --- .npz ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def arrays():
    """Three classes with 20, 20 and 3 training images."""
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.integers(256, size=(43, 6, 5, 3), dtype=np.uint8),
        "y_train": rng.permutation([0] * 20 + [1] * 20 + [2] * 3).astype(np.uint8),
        "x_test": rng.integers(256, size=(3, 6, 5, 3), dtype=np.uint8),
        "y_test": np.array([2, 1, 0]),
        "classes": np.array(["ant", "bee", "cicada"]),
    }


def save(path, arrays):
    np.savez(path, **arrays)
    return path


def test_npz_unchanged(tmp_path, arrays):
    path = save(tmp_path / "insects.npz", arrays).rename(tmp_path / "Insects.NPZ")
    insects = load(str(path))
    assert insects.name == "Insects" and insects.class_names == ("ant", "bee", "cicada")
    assert torch.equal(insects.train.images.permute(0, 2, 3, 1), torch.from_numpy(arrays["x_train"]))
    assert torch.equal(insects.test.images.permute(0, 2, 3, 1), torch.from_numpy(arrays["x_test"]))
    assert insects.train.labels.tolist() == arrays["y_train"].tolist() and insects.test.labels.tolist() == [2, 1, 0]
    assert insects.train.masks is None and insects.class_counts.tolist() == [20, 20, 3]
    assert insects.options == {"imbalance": None, "kind": "exp", "seed": 0}


@pytest.mark.parametrize(
    ("name", "replace", "message"),
    [
        ("x_test", None, "no array 'x_test', only x_train, y_train, y_test, classes"),
        ("x_train", lambda x: x / 255, "x_train must be .* it is float64"),
        ("classes", lambda c: c[:2], "has label 2, but 2 classes"),
        ("classes", lambda c: np.arange(3), "class_names must be .* strings"),
        ("classes", lambda c: c.astype(object), "pickled"),
    ],
)  # fmt: skip
def test_npz_refused(tmp_path, arrays, name, replace, message):
    array = arrays.pop(name)
    if replace is not None:
        arrays[name] = replace(array)
    path = save(tmp_path / "insects.npz", arrays)
    with pytest.raises(ValueError, match=message) as error:
        load(path, imbalance=None)
    assert str(path) in str(error.value)


def test_npz_damaged(tmp_path, arrays):
    path = save(tmp_path / "insects.npz", arrays)
    whole = path.read_bytes()
    for damaged in (b"", b"not an archive", whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"insects\.npz is not an \.npz file, or it is cut off"):
            load(path)
    path.write_bytes(whole[:500] + bytes(255 - byte for byte in whole[500:510]) + whole[510:])
    with pytest.raises(ValueError, match=r"insects\.npz: "):
        load(path)


def test_other_arrays_are_named(tmp_path, arrays, caplog):
    load(save(tmp_path / "insects.npz", arrays), imbalance=None)
    assert not caplog.messages
    load(save(tmp_path / "insects.npz", arrays | {"x_val": arrays["x_test"], "mean": np.zeros(3)}), imbalance=None)
    (message,) = caplog.messages
    assert message.endswith("classes: x_val, mean")


# --- arrays in memory ------------------------------------------------------------------------------------------------


def as_set(arrays, **options):
    given = {name: array for name, array in arrays.items() if name != "classes"}
    return array_set(**given, class_names=["ant", "bee", "cicada"], **options)


def test_arrays_are_the_set_that_a_file_of_them_is(tmp_path, arrays):
    path = save(tmp_path / "insects.npz", arrays)
    for imbalance, seed in ((None, 0), (10, 5)):
        filed = load(path, imbalance=imbalance, seed=seed)
        held = as_set(arrays, imbalance=imbalance, seed=seed, name="insects")
        assert (held.name, held.options, held.fingerprint) == (filed.name, filed.options, filed.fingerprint)
    assert as_set(arrays).name == "arrays" and as_set(arrays).class_counts.tolist() == [20, 20, 3]


LAYOUTS = {
    "(N, H, W, 3)": lambda x: x,
    "(N, 3, H, W)": lambda x: torch.from_numpy(x).movedim(3, 1),
    "tensor (N, H, W, 3)": torch.from_numpy,
    "read-only": lambda x: np.frombuffer(x.tobytes(), np.uint8).reshape(x.shape),
    "backwards": lambda x: np.ascontiguousarray(x[:, :, ::-1])[:, :, ::-1],
    "grey (N, H, W)": lambda x: x[..., 0],
    "grey (N, H, W, 1)": lambda x: x[..., :1],
    "grey tensor (N, H, W)": lambda x: torch.from_numpy(x)[..., 0],
    "grey tensor (N, 1, H, W)": lambda x: torch.from_numpy(x)[None, ..., 0].movedim(0, 1),
}


@pytest.mark.filterwarnings("error")  # torch warns of arrays that are read-only
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_becomes_the_same_images(arrays, layout):
    given = arrays | {part: LAYOUTS[layout](arrays[part]) for part in ("x_train", "x_test")}
    loaded = as_set(given | {"y_train": arrays["y_train"].tolist(), "y_test": torch.from_numpy(arrays["y_test"])})
    for split, part in ((loaded.train, "x_train"), (loaded.test, "x_test")):
        expected = arrays[part][..., [0, 0, 0]] if "grey" in layout else arrays[part]
        assert torch.equal(split.images.permute(0, 2, 3, 1), torch.from_numpy(expected))
        assert split.images.is_contiguous()
    assert loaded.train.labels.tolist() == arrays["y_train"].tolist()


def test_arrays_are_copied(arrays):
    tensors = {part: torch.from_numpy(arrays[part]).movedim(3, 1).contiguous() for part in ("x_train", "x_test")}
    loaded = as_set(arrays | tensors)
    before = loaded.fingerprint
    for tensor in tensors.values():
        tensor.zero_()
    assert LongTailedData("again", loaded.train, loaded.test, loaded.class_names).fingerprint == before


@pytest.mark.parametrize(
    ("name", "replace", "message"),
    [
        ("x_train", lambda x: torch.from_numpy(x) / 255, r"x_train must be .* torch.float32 of shape"),
        ("x_train", lambda x: x.astype(">u2"), r"x_train must be .* it is >?u"),
        ("x_train", lambda x: x.transpose(0, 3, 1, 2), r"x_train must be .*\(43, 3, 6, 5\)"),
        ("x_test", lambda x: None, r"x_test must be .* object of shape \(\)"),
        ("x_test", lambda x: x[:, :5], r"train images are .*\(6, 5\), test images \(5, 5\)"),
        ("y_train", lambda y: y[:-1], r"y_train must be \(43,\) .*\(42,\)"),
        ("y_train", lambda y: y + 1, "train has label 3, but 3 classes have labels 0 to 2"),
        ("y_train", lambda y: y % 2, "class 'cicada' has no training image"),
        ("y_test", lambda y: y * 0, "class 'bee' has no test image"),
    ],
)  # fmt: skip
def test_arrays_refused(arrays, name, replace, message):
    with pytest.raises(ValueError, match=message):
        as_set(arrays | {name: replace(arrays[name])})


LABELS_OF_OTHER_KINDS = {
    "strings": lambda y: ["ant", "bee"],
    "an array of strings": lambda y: np.array(["ant", "bee"]),
    "nothing": lambda y: None,
    "a set": lambda y: set(y.tolist()),
    "a data set": lambda y: TensorDataset(torch.zeros(3, 1), torch.zeros(3)),
    "whole floats": lambda y: y.astype(float),
    "fractions": lambda y: torch.tensor(y) + 0.5,
    "yes and no": lambda y: y == 1,
    "unlabelled": lambda y: y - 1,
    "one-hot": lambda y: np.eye(3, dtype=int)[y],
    "dates": lambda y: y.astype("datetime64[D]"),
    "a generator": lambda y: iter(y.tolist()),
}


@pytest.mark.parametrize("kind", LABELS_OF_OTHER_KINDS)
def test_labels_that_are_not_labels_are_refused_with_a_way_out(arrays, kind):
    labels = LABELS_OF_OTHER_KINDS[kind](arrays["y_test"])
    with pytest.raises(ValueError, match=r"(?s)y_test must.*pandas\.factorize.*dataset\.targets"):
        as_set(arrays | {"y_test": labels})
    with pytest.raises(ValueError, match=r"(?s)labels must.*pandas\.factorize.*dataset\.targets"):
        long_tail_subset(labels, [1, 1], 0)


@pytest.mark.parametrize("dtype", [">i2", ">i8", "<u4", ">u8"])
def test_labels_of_every_byte_order_are_read(arrays, dtype):
    given = arrays | {part: arrays[part].astype(dtype) for part in ("y_train", "y_test")}
    assert as_set(given).fingerprint == as_set(arrays).fingerprint
    assert long_tail_subset(given["y_test"], [1, 1, 1], 0).tolist() == [2, 1, 0]


def test_test_images_that_are_training_images_are_counted(arrays, birds, caplog):
    copied = arrays["x_test"].copy()
    copied[:2] = arrays["x_train"][[4, 7]]
    as_set(arrays | {"x_test": copied})
    shutil.copy(birds / "train" / "kiwi" / "3.png", birds / "test" / "kiwi" / "copy.png")
    load(birds)
    assert [message.partition(" are also")[0] for message in caplog.messages] == [
        "arrays: 2 of 3 test images", "birds: 1 of 3 test images",
    ]  # fmt: skip


# --- folders ---------------------------------------------------------------------------------------------------------


def write_images(folder, counts, size=(6, 4), mode="RGB", extension="png"):
    """`counts` images for each class name, others in each folder; size is (width, height) as PIL has it."""
    rng = np.random.default_rng([*folder.name.encode()])
    for name, count in counts.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            pixels = Image.fromarray(rng.integers(256, size=(*size[::-1], 3), dtype=np.uint8))
            pixels.convert(mode).save(folder / name / f"{i}.{extension}")


@pytest.fixture
def birds(tmp_path):
    write_images(tmp_path / "birds" / "train", {"owl": 2, "kiwi": 9})
    write_images(tmp_path / "birds" / "test", {"owl": 1, "kiwi": 1})
    return tmp_path / "birds"


def test_folder_unchanged(birds):
    (birds / "train" / ".ipynb_checkpoints").mkdir()
    (birds / "train" / "owl" / "notes.txt").write_text("no image", encoding="utf-8")
    loaded = load(birds, size=None)
    assert loaded.name == "birds" and loaded.class_names == ("kiwi", "owl")
    assert loaded.class_counts.tolist() == [9, 2] and loaded.test.labels.tolist() == [0, 1]
    files = [*sorted((birds / "train" / "kiwi").iterdir()), *sorted((birds / "train" / "owl").glob("*.png"))]
    expected = np.stack([np.asarray(Image.open(file)) for file in files])
    assert torch.equal(loaded.train.images.permute(0, 2, 3, 1), torch.from_numpy(expected))
    assert loaded.options == {"imbalance": None, "kind": "exp", "seed": 0, "size": None}


@pytest.mark.parametrize("stream", [False, True])
def test_the_place_of_a_folder_does_not_change_the_data(birds, monkeypatch, stream):
    monkeypatch.chdir(birds.parent)
    here, there = (load(path, imbalance=None, size=4, stream=stream) for path in ("birds", str(birds)))
    assert (here.name, here.options, here.fingerprint) == (there.name, there.options, there.fingerprint)
    monkeypatch.chdir("/")
    assert torch.equal(here.train.images[:], there.train.images[:])


def test_folder_thinned_out_reads_only_the_images_it_keeps(birds):
    kept = cao_subset(np.array([0] * 9 + [1] * 2), [9, 1], seed=4)[-1] - 9
    (birds / "train" / "owl" / f"{1 - kept}.png").write_bytes(b"never opened")
    loaded = load(str(birds), imbalance=9 / 1.5, seed=4, size=None)
    assert loaded.class_counts.tolist() == [9, 1]
    assert torch.equal(
        loaded.train.images[-1].permute(1, 2, 0),
        torch.from_numpy(np.array(Image.open(birds / "train" / "owl" / f"{kept}.png"))),
    )


def test_folder_resizes_the_shorter_side_and_crops_the_centre(birds):
    write_images(birds / "train", {"owl": 3}, size=(20, 31))
    write_images(birds / "test", {"owl": 1}, size=(9, 5))
    with pytest.raises(ValueError, match=r"0\.png has 4 x 6 pixels .*0\.png has 31 x 20; pass size="):
        load(birds, size=None)
    loaded = load(birds, size=8)
    assert loaded.train.images.shape[1:] == loaded.test.images.shape[1:] == (3, 8, 8)
    oracle = v2.Compose([v2.PILToTensor(), v2.Resize(8), v2.CenterCrop(8)])
    assert torch.equal(loaded.train.images[9], oracle(Image.open(birds / "train" / "owl" / "0.png")))
    with pytest.raises(ValueError, match="size=0"):
        load(birds, size=0)


@pytest.mark.parametrize("stream", [False, True])
def test_folder_with_too_few_images_for_the_profile(birds, stream):
    with pytest.raises(ValueError, match=r"class 1 \('owl'\) has 2 images, the long tail needs 4"):
        load(birds, imbalance=2, stream=stream)
    with pytest.raises(ValueError, match=r"imbalance=100 .* is about 9; imbalance=None keeps every image$"):
        load(birds, imbalance=100, stream=stream)
    with pytest.raises(ValueError, match="kind 'stepp'"):
        load(birds, imbalance=2, stream=stream, kind="stepp")


def test_folder_names_the_unreadable_image(birds):
    broken = birds / "test" / "owl" / "0.png"
    broken.write_bytes(broken.read_bytes()[:40])
    with pytest.raises(ValueError, match=re.escape(f"{broken} cannot be read as an image")):
        load(birds)


@pytest.mark.parametrize("stream", [False, True])
def test_folders_next_to_train_and_test_are_named(birds, caplog, stream):
    (birds / ".cache").mkdir()
    (birds / "readme.txt").write_text("no folder", encoding="utf-8")
    load(birds, stream=stream)
    assert not caplog.messages
    (birds / "val").mkdir()
    load(birds, stream=stream)
    assert caplog.messages == [f"{birds}: ignored next to train and test: val"]


@pytest.mark.parametrize("stream", [False, True])
def test_what_is_not_an_image_is_counted_by_its_extension_once_per_split(birds, caplog, stream):
    owls = birds / "train" / "owl"
    for name in ("a.heic", "b.HEIC", "notes.txt", "png", ".hidden.txt"):
        (owls / name).write_bytes(b"")
    write_images(owls, {"sub": 1, "folder.png": 1})
    (birds / "train" / "kiwi" / "c.heic").write_bytes(b"")
    loaded = load(birds, stream=stream, size=4)
    assert loaded.class_counts.tolist() == [9, 2]
    others = "the images of the classes: .heic (3), folders (2), "
    (message,) = caplog.messages
    assert message.startswith(f"{birds / 'train'}: ") and others in message and message.count("(1)") == 2
    assert ".txt (1)" in message and "without extension (1)" in message


@pytest.mark.parametrize(("extension", "kind"), [("gif", "GIF"), ("JFIF", "JPEG"), ("avif", "AVIF")])
def test_folder_reads_what_torchvision_s_folders_leave_out(birds, extension, kind, caplog):
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    Image.new("RGB", (6, 4), (200, 10, 10)).save(birds / "train" / "owl" / f"2.{extension}", kind)
    loaded = load(birds)
    assert loaded.class_counts.tolist() == [9, 3] and not caplog.messages
    assert (loaded.train.images[-1].float() - torch.tensor([200.0, 10, 10])[:, None, None]).abs().max() < 9


def hard_links(source, target):
    shutil.copytree(source, target, copy_function=os.link)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("link", [lambda source, target: target.symlink_to(source), hard_links, shutil.copytree])
def test_a_test_folder_that_is_the_training_folder_is_refused(birds, caplog, stream, link):
    """Where the files are the same; of copies, small sets tell."""
    shutil.rmtree(birds / "test")
    link(birds / "train", birds / "test")
    if link is not shutil.copytree:
        with pytest.raises(ValueError, match=r"test/kiwi/0\.png is the same file .* 10 others"):
            load(birds, stream=stream, size=4)
    elif not stream:
        load(birds, size=4)
        assert "11 of 11 test images" in caplog.text


@pytest.mark.parametrize("stream", [False, True])
def test_a_class_has_one_name_in_every_unicode_form(birds, stream):
    composed, decomposed = (unicodedata.normalize(form, "kéa") for form in ("NFC", "NFD"))
    (birds / "train" / "owl").rename(birds / "train" / decomposed)
    (birds / "test" / "owl").rename(birds / "test" / composed)
    loaded = load(birds, stream=stream, size=4)
    assert loaded.class_names == (decomposed, "kiwi") and loaded.test.labels.tolist() == [0, 1]
    write_images(birds / "train", {composed: 1})
    with pytest.raises(ValueError, match="two folders named"):
        load(birds, stream=stream, size=4)


# --- a flat folder of classes ---------------------------------------------------------------------------------------


@pytest.fixture
def flat(tmp_path):
    write_images(tmp_path / "pets", {"owl": 2, "dog": 13, "cat": 30}, size=(20, 15))
    return tmp_path / "pets"


@pytest.mark.parametrize("stream", [False, True])
def test_a_flat_folder_is_split(flat, caplog, stream):
    pets = load(flat, stream=stream)
    assert pets.class_names == ("cat", "dog", "owl") and pets.train.images.shape[2:] == (256 if stream else 32,) * 2
    assert torch.bincount(pets.test.labels).tolist() == [6, 3, 1] and pets.class_counts.tolist() == [24, 10, 1]
    assert pets.options["test_fraction"] == 0.2 and pets.options["imbalance"] is None
    (message,) = caplog.messages
    assert all(word in message for word in (str(flat), "45", "10", "test_fraction=0.2"))
    half = load(flat, stream=stream, test_fraction=0.5)
    assert torch.bincount(half.test.labels).tolist() == [15, 6, 1]
    assert load(flat, stream=stream, seed=7, imbalance=24).test.labels.tolist() == pets.test.labels.tolist()


def names_of(split):
    return {os.fsdecode(path) for path in split.images.reader.paths}


def test_the_split_of_a_flat_folder_depends_on_names_alone(flat, tmp_path):
    """Whichever way the folder came here, and nearly so where images are added."""
    before = load(flat, stream=True)
    train, test = names_of(before.train), names_of(before.test)
    assert not train & test and train | test == {f"{file.parent.name}/{file.name}" for file in flat.glob("*/*")}
    shutil.copytree(flat, tmp_path / "elsewhere")
    assert names_of(load(tmp_path / "elsewhere", stream=True, seed=3).test) == test
    assert load(flat, seed=1).test.labels.tolist() == before.test.labels.tolist()
    write_images(tmp_path / "more", {"cat": 1})
    shutil.copy(tmp_path / "more" / "cat" / "0.png", flat / "cat" / "new.png")
    assert len(names_of(load(flat, stream=True).test) ^ test) <= 2


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda path: None, {"test_fraction": 1.0}, "test_fraction=1.0"),
        (lambda path: None, {"test_fraction": "half"}, "test_fraction='half'"),
        (lambda path: (path / "owl" / "0.png").unlink(), {}, "owl has one image"),
        (lambda path: (path / "emu").mkdir(), {}, "emu has no image"),
        (lambda path: [os.link(path / "cat/0.png", path / f"cat/{i}.png") for i in range(40, 70)], {}, "same file"),
        (lambda path: [shutil.rmtree(path / name) for name in ("cat", "dog", "owl")], {}, "no class folders"),
    ],
)  # fmt: skip
def test_a_flat_folder_that_cannot_be_split(flat, change, options, message):
    change(flat)
    with pytest.raises(ValueError, match=message):
        load(flat, **options)


# --- nothing touches the global generators, and torch's defaults change nothing ---------------------------------------


def write_lists(birds):
    for part in ("train", "test"):
        files = sorted(file.relative_to(birds) for file in (birds / part).glob("*/*.png"))
        lines = [f"{file.as_posix()} {int(file.parts[1] == 'owl')}\n" for file in files]
        (birds / f"{part}.txt").write_text("".join(lines), encoding="utf-8")
    return birds / "train.txt", birds / "test.txt", birds


LOADERS = {
    "shapes": lambda arrays, birds: load("shapes-lt", max_count=20, imbalance=2, test_count=2, seed=1),
    "npz": lambda arrays, birds: load(save(birds / "insects.npz", arrays), imbalance=10, seed=1),
    "arrays": lambda arrays, birds: as_set(arrays, imbalance=10, seed=1),
    "folder": lambda arrays, birds: load(birds, imbalance=5, seed=1, size=4),
    "flat": lambda arrays, birds: load(birds / "train", imbalance=5, seed=1, size=4),
    "streamed folder": lambda arrays, birds: load(birds, imbalance=5, seed=1, size=4, stream=True, workers=0),
    "workers": lambda arrays, birds: load(birds, imbalance=5, seed=1, size=4, stream=True, workers=1),
    "lists": lambda arrays, birds: list_set(*write_lists(birds), imbalance=5, seed=1, size=4, workers=0),
}


def contents(data):
    """All that a set gives: tensors, and their batches."""
    for part in (data.train, data.test):
        batches = [torch.arange(len(part), device="cpu")]
        yield from (part.images[:], part.labels, part.take(batches[0]).labels, *part.images.split(len(part)))
        yield from next(iter(part.batches(batches)))
        yield part.masks
    yield data.class_counts


@pytest.mark.parametrize("name", LOADERS)
def test_loading_leaves_the_global_generators_alone(arrays, birds, name):
    def states():
        kind, keys, *rest = np.random.get_state()
        return random.getstate(), (kind, keys.tobytes(), *rest), torch.get_rng_state().numpy().tobytes()

    before = states()
    [*contents(LOADERS[name](arrays, birds))]
    assert states() == before


@pytest.mark.parametrize("name", LOADERS)
@pytest.mark.parametrize(("dtype", "device"), [(torch.float64, None), (torch.float16, None), (torch.float32, "meta")])
def test_default_dtype_and_device_change_nothing(arrays, birds, name, dtype, device):
    expected = LOADERS[name](arrays, birds)
    tensors = [*contents(expected)]
    torch.set_default_dtype(dtype)
    torch.set_default_device(device)
    try:
        loaded = LOADERS[name](arrays, birds)
        found = [*contents(loaded)]
        assert torch.get_default_dtype() == dtype and torch.get_default_device() == torch.device(device or "cpu")
        counts, subset = benchmark_class_counts("places-lt"), long_tail_subset([0, 1, 0], [1, 1], 0)
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    assert counts.sum() == 62_500 and torch.equal(subset, long_tail_subset([0, 1, 0], [1, 1], 0))
    assert loaded.fingerprint == expected.fingerprint
    for one, other in zip(found, tensors, strict=True):
        assert one is other is None or (torch.equal(one, other) and one.dtype == other.dtype)


# --- tables ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "classes", "total", "largest", "smallest"),
    [
        ("imagenet-lt", 1000, 115_846, 1280, 5), ("inat18", 8142, 437_513, 1000, 2),
        ("places-lt", 365, 62_500, 4980, 5),
    ],
)  # fmt: skip
def test_benchmark_class_counts(name, classes, total, largest, smallest):
    counts = benchmark_class_counts(name)
    assert counts.dtype == torch.int64 and counts.shape == (classes,)
    assert (counts.sum(), counts.max(), counts.min()) == (total, largest, smallest)


def test_benchmark_class_counts_of_an_unknown_benchmark():
    with pytest.raises(ValueError, match="unknown benchmark 'inat2018'; did you mean 'inat18'"):
        benchmark_class_counts("inat2018")


def test_an_installed_package_finds_its_own_tables_and_the_users_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "PACKAGE", tmp_path / "site-packages" / "ltlab")
    monkeypatch.delenv("LTLAB_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert places.download_folder() == tmp_path / "cache" / "ltlab"
    with pytest.raises(FileNotFoundError, match=r"no tables at .*class_counts"):
        benchmark_class_counts("inat18")
    tables = tmp_path / "site-packages" / "ltlab" / "_files" / "class_counts"
    tables.mkdir(parents=True)
    (tables / "inat18_class_counts.csv").write_text("class_id,count,name\n0,3,Bellis perennis\n", encoding="utf-8")
    assert benchmark_class_counts("inat18").tolist() == [3]


def test_the_download_folder_is_the_first_that_is_given(tmp_path, monkeypatch):
    monkeypatch.setenv("LTLAB_DATA", str(tmp_path / "named"))
    assert places.download_folder(tmp_path / "root") == tmp_path / "root"
    assert places.download_folder() == tmp_path / "named"
    monkeypatch.delenv("LTLAB_DATA")
    assert places.download_folder() == places.checkout() / "data" / "downloads"


# --- CIFAR: downloads and damaged files, on an archive of six tiny batches -------------------------------------------


def md5(content):
    return hashlib.md5(content).hexdigest()


def tiny_cifar():
    """A CIFAR of 40 training and 8 test images: its archive, and the torchvision class with the fitting md5."""
    rng = np.random.default_rng(0)
    files = {"meta": pickle.dumps({"names": ["cat", "dog"]})}
    for name in ("a", "b", "c", "d", "e", "test"):
        pixels = rng.integers(256, size=(8, 3072), dtype=np.uint8)
        files[name] = pickle.dumps({"data": pixels, "labels": [0, 1] * 4})
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"tiny/{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))

    class Tiny(CIFAR10):
        base_folder, filename, tgz_md5 = "tiny", "tiny.tar.gz", md5(stream.getvalue())
        train_list = tuple([name, md5(files[name])] for name in "abcde")
        test_list = (["test", md5(files["test"])],)
        meta = {"filename": "meta", "key": "names", "md5": md5(files["meta"])}  # noqa: RUF012

    return stream.getvalue(), Tiny, files


ARCHIVE, Tiny, FILES = tiny_cifar()


@pytest.fixture
def server():
    """An HTTP server with the archive at /whole, half of it at /cut, another file at /other, and 404 elsewhere."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            body = {"/whole": ARCHIVE, "/cut": ARCHIVE[: len(ARCHIVE) // 2], "/other": b"a page"}.get(self.path)
            if body is None:
                return self.send_error(404)
            self.send_response(200)
            self.send_header("Content-Length", str(len(ARCHIVE) if self.path == "/cut" else len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}", asked
        http.shutdown()


def test_cifar_comes_from_the_first_mirror_that_has_it(tmp_path, server):
    url, asked = server
    root = tmp_path / "new" / "root"
    mirrors = [f"{url}/{name}" for name in ("missing", "cut", "other", "whole", "never")]
    train, test, names = cifar.read_cifar(Tiny, root, mirrors)
    assert list(dict.fromkeys(asked)) == ["/missing", "/cut", "/other", "/whole"]
    assert (len(train), len(test), names) == (40, 8, ("cat", "dog"))
    pixels = np.concatenate([pickle.loads(FILES[name])["data"] for name in "abcde"])
    assert np.array_equal(train.images.flatten(1).numpy(), pixels) and train.labels.tolist() == [0, 1] * 20
    assert sorted(path.name for path in root.iterdir()) == ["tiny", "tiny.tar.gz"]
    asked.clear()
    cifar.read_cifar(Tiny, root, mirrors)
    assert not asked  # the second time


@pytest.mark.parametrize("name", ["cifar10-lt", "cifar100-lt"])
def test_files_that_are_not_there_are_not_downloaded_when_told_so(tmp_path, name):
    with pytest.raises(FileNotFoundError, match=r"has no cifar-.*download=True once, or .*LTLAB_DATA"):
        load(name, root=tmp_path, download=False)
    assert list(tmp_path.iterdir()) == []


def test_cifar_without_a_mirror_says_why_and_what_to_do(tmp_path, server):
    url, _ = server
    closed = "http://127.0.0.1:9/tiny.tar.gz"
    with pytest.raises(ConnectionError) as error:
        cifar.read_cifar(Tiny, tmp_path, [f"{url}/missing", closed, f"{url}/cut", "nonsense"])
    message = str(error.value)
    for part in (f"{url}/missing: HTTP Error 404", closed, f"{url}/cut: ", "nonsense: ",
                 Tiny.tgz_md5, str(tmp_path), "LTLAB_DATA"):  # fmt: skip
        assert part in message
    assert list(tmp_path.iterdir()) == []


def test_a_mirror_that_falls_silent_is_given_up(tmp_path, server, monkeypatch):
    monkeypatch.setattr(cifar, "TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes the connection and never answers
        mirrors = [f"http://127.0.0.1:{silent.getsockname()[1]}/tiny.tar.gz", f"{server[0]}/whole"]
        cifar.download(mirrors, tmp_path / "tiny.tar.gz", Tiny.tgz_md5)
    assert (tmp_path / "tiny.tar.gz").read_bytes() == ARCHIVE


def test_cifar_unpacks_an_archive_that_was_put_there_by_hand(tmp_path):
    (tmp_path / "tiny.tar.gz").write_bytes(ARCHIVE)
    assert len(cifar.read_cifar(Tiny, tmp_path, [])[0]) == 40


@pytest.mark.parametrize("content", [ARCHIVE[:-1], b""])
def test_cifar_never_touches_a_damaged_archive(tmp_path, server, content):
    url, asked = server
    archive = tmp_path / "tiny.tar.gz"
    archive.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(f"{archive} is damaged") + ".*Delete it"):
        cifar.read_cifar(Tiny, tmp_path, [f"{url}/whole"])
    assert archive.read_bytes() == content and asked == []


@pytest.mark.parametrize("name", ["a", "test", "meta"])
def test_cifar_names_the_damaged_or_missing_file(tmp_path, server, name):
    url, asked = server
    (tmp_path / "tiny").mkdir()
    for file, content in FILES.items():
        (tmp_path / "tiny" / file).write_bytes(content)
    bad = tmp_path / "tiny" / name
    bad.write_bytes(FILES[name][:-1])
    with pytest.raises(ValueError, match=re.escape(f"{bad} is missing or damaged") + ".*delete the folder"):
        cifar.read_cifar(Tiny, tmp_path, [f"{url}/whole"])
    assert bad.read_bytes() == FILES[name][:-1]
    bad.unlink()
    with pytest.raises(ValueError, match=re.escape(f"{bad} is missing")):
        cifar.read_cifar(Tiny, tmp_path, [f"{url}/whole"])
    assert not bad.exists() and asked == []


def test_every_cifar_has_mirrors_that_end_in_the_original():
    for name, dataset in cifar.CIFAR.items():
        assert name in DATA_SETS
        assert cifar.MIRRORS[name][-1] == dataset.url
        assert all(url.endswith("/" + dataset.filename) for url in cifar.MIRRORS[name])


# --- CIFAR: the official files ---------------------------------------------------------------------------------------


@pytest.mark.cifar
def test_cifar10_lt_is_image_for_image_the_published_subset(cifar_root):
    loaded = load("cifar10-lt", root=cifar_root)
    assert loaded.class_counts.tolist() == long_tail_counts(10, 5000, 100)
    assert len(loaded.test) == 10_000 and loaded.class_names[:2] == ("airplane", "automobile")
    pixels = loaded.train.images.permute(0, 2, 3, 1).contiguous().numpy()
    assert hashlib.sha256(pixels).hexdigest() == "57e15073801aadc43dbe9100895fcc5ccc594959b08d11d4a5a25112e6946b60"
    whole = load("cifar10-lt", imbalance=None)
    assert len(whole.train) == 50_000
    indices = long_tail_subset(whole.train.labels, long_tail_counts(10, 5000, 100), seed=0).numpy()
    assert hashlib.sha256(indices).hexdigest() == "4bf45bff8878d2786e47dccd702f96ff33b2b11d8c7da3b5015f10937290f866"
    assert np.array_equal(indices, cao_subset(whole.train.labels.numpy(), long_tail_counts(10, 5000, 100), seed=0))


@pytest.mark.cifar
def test_cifar100_lt_has_the_published_size(cifar_root):
    loaded = load("cifar100-lt", imbalance=50, root=cifar_root)
    assert len(loaded.train) == 12_608 and loaded.class_counts.tolist() == long_tail_counts(100, 500, 50)
    assert len(loaded.class_names) == 100 and loaded.class_names[0] == "apple"
