"""Networks: features and classifier apart, the sizes of the literature, normalisation inside."""

import pytest
import torch
import torch.nn.functional as F
from torchvision.models import WeightsEnum, resnet50
from torchvision.models.resnet import BasicBlock, ResNet
from torchvision.transforms.v2.functional import normalize

from ltlab import models
from ltlab.classifiers import CosineClassifier, WeightScaling


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


LAST_MAPS = {"small_net": (64, 8), "resnet32": (64, 8), "resnet10": (512, 1), "resnet50": (2048, 1)}


@pytest.mark.parametrize("name", models.MODELS)
def test_classifier_of_pooled_features_is_the_model(name, images):
    model = models.build(name, 7, images).eval()
    features = model.features(images)
    width, side = LAST_MAPS[name]
    assert features.shape == (4, width, side, side)
    by_hand = F.linear(features.mean((2, 3)), model.classifier.weight, model.classifier.bias)
    torch.testing.assert_close(model(images), by_hand)
    assert model.classifier.weight.shape == (7, width)


@pytest.mark.parametrize("name", models.MODELS)
def test_named_parts_run_in_order(name, images):
    model = models.build(name, 7).eval()
    x = images
    for part in ("normalise", *model.feature_layers, "pool", "classifier"):
        x = getattr(model, part)(x)
    torch.testing.assert_close(x, model(images))
    layers = ("stem", "layer1", "layer2", "layer3") + (("layer4",) if name in ("resnet10", "resnet50") else ())
    assert model.feature_layers == layers


def test_resnet32_has_the_parameters_of_the_paper():
    """He et al., table 6: 0.46 M; by hand: 432 + 10 convs of 16 + (16 to 32) + 9 of 32 + (32 to 64) + 9 of 64 ..."""
    convolutions = 3 * 16 * 9 + 10 * 16 * 16 * 9 + 16 * 32 * 9 + 9 * 32 * 32 * 9 + 32 * 64 * 9 + 9 * 64 * 64 * 9
    norms = 2 * (11 * 16 + 10 * 32 + 10 * 64)
    classifier = 64 * 10 + 10
    assert sum(p.numel() for p in models.resnet32(10).parameters()) == convolutions + norms + classifier == 464_154


TORCHVISION = {"resnet10": lambda: ResNet(BasicBlock, [1, 1, 1, 1], 7), "resnet50": lambda: resnet50(num_classes=7)}


def torchvision_state(model, oracle):
    """The model's state under torchvision's names: its stem is conv1 and bn1, its classifier fc."""
    names = {"stem.0.": "conv1.", "stem.1.": "bn1.", "classifier.": "fc."}
    state = {}
    for key, value in model.state_dict().items():
        for ours, theirs in names.items():
            key = key.replace(ours, theirs) if key.startswith(ours) else key
        state[key] = value
    return {key: state[key] for key in oracle.state_dict()}  # all but normalise


@pytest.mark.parametrize("name", TORCHVISION)
@pytest.mark.parametrize("training", [False, True])
def test_large_nets_are_torchvisions_bit_for_bit(name, training, images):
    model, oracle = models.build(name, 7), TORCHVISION[name]()
    oracle.load_state_dict(torchvision_state(model, oracle))
    large = F.interpolate(images.float() / 255, size=(64, 48))
    logits = model.train(training)(large)
    assert torch.equal(logits, oracle.train(training)(normalize(large, models.IMAGENET_MEAN, models.IMAGENET_STD)))
    assert model.eval().features(large).shape[2:] == (2, 2)


def test_large_nets_normalise_by_a_tensor_of_images_else_as_imagenet(images):
    on_disk = object()
    torch.testing.assert_close(
        models.build("resnet10", 3, on_disk).normalise.mean.flatten(), torch.tensor(models.IMAGENET_MEAN)
    )
    mean, std = models.channel_statistics(images)
    normalise = models.build("resnet10", 3, images).normalise
    torch.testing.assert_close(normalise.mean.flatten(), mean.float())
    torch.testing.assert_close(normalise.std.flatten(), std.float())
    assert models.build("small_net", 3, on_disk).normalise.std.flatten().tolist() == [1, 1, 1]


def test_pretrained_weights_by_name(images, monkeypatch):
    """With a stand-in for the download: the features are the published ones, the classifier is new."""
    published = resnet50().state_dict()
    monkeypatch.setattr(WeightsEnum, "get_state_dict", lambda self, *args, **kwargs: published)
    model = models.build("resnet50", 7, images, weights="IMAGENET1K_V2")
    assert torch.equal(model.stem[0].weight, published["conv1.weight"])
    assert torch.equal(model.layer4[2].conv3.weight, published["layer4.2.conv3.weight"])
    assert model.classifier.weight.shape == (7, 2048)
    torch.testing.assert_close(model.normalise.mean.flatten(), torch.tensor(models.IMAGENET_MEAN))


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("resnet10", "IMAGENET1K_V1", "IMAGENET1K_V1.*resnet10"),
        ("small_net", "DEFAULT", "small_net"),
        ("resnet50", "IMAGENET1K_V3", "IMAGENET1K_V3'.*IMAGENET1K_V"),
    ],
)  # fmt: skip
def test_unknown_weights(name, weights, message):
    with pytest.raises(ValueError, match=message):
        models.build(name, 10, weights=weights)


def test_cosine_classifier_against_cosine_similarity(images):
    model = models.build("small_net", 5, images, classifier="cosine").eval()
    x = model.pool(model.features(images))
    cosines = F.cosine_similarity(x[:, None], model.classifier.weight[None], dim=2)
    torch.testing.assert_close(model(images), cosines)
    assert model.classifier(torch.zeros(1, 64)).abs().max() == 0


def test_option_a_shortcut_takes_every_second_pixel_and_pads_channels_with_zeros():
    block = models.BasicBlock(2, 4, stride=2).eval()
    torch.nn.init.zeros_(block.conv2[0].weight)  # only the shortcut remains
    x = torch.rand(1, 2, 6, 6)
    out = block(x)
    torch.testing.assert_close(out[:, 1:3], x[:, :, ::2, ::2])
    assert out[:, [0, 3]].abs().max() == 0


def test_normalisation_commutes_with_mixing(images):
    model = models.build("small_net", 3, images)
    a, b = images[:2].float() / 255, images[2:].float() / 255
    mixed = model.normalise(0.3 * a + 0.7 * b)
    torch.testing.assert_close(mixed, 0.3 * model.normalise(a) + 0.7 * model.normalise(b))


def test_uint8_and_float_images_are_the_same_to_the_model(images):
    model = models.build("small_net", 3, images).eval()
    torch.testing.assert_close(model(images), model(images.float() / 255))


def test_channel_statistics_against_float64(images):
    mean, std = models.channel_statistics(images)
    pixels = images.double() / 255
    torch.testing.assert_close(mean, pixels.mean((0, 2, 3)))
    torch.testing.assert_close(std, pixels.std((0, 2, 3), correction=0))


def test_a_constant_channel_is_only_centred():
    mean, std = models.channel_statistics(torch.full((2, 3, 4, 4), 51, dtype=torch.uint8))
    torch.testing.assert_close(mean, torch.full((3,), 0.2, dtype=torch.float64))
    assert std.tolist() == [1, 1, 1]


def test_statistics_that_are_not_given_leave_the_images_as_they_are(images):
    assert torch.equal(models.Normalise()(images), images.float() / 255)


def test_a_function_of_your_own_is_called_with_classes_and_statistics(images):
    def own(num_classes, mean, std):
        called.append((num_classes, mean, std))
        return models.small_net(num_classes, mean, std)

    called = []
    for given in (images, models.channel_statistics(images), None, object()):
        models.build(own, 7, given)
    (classes, mean, std), again, none, on_disk = called
    assert classes == 7 and torch.equal(torch.stack([mean, std]), torch.stack(models.channel_statistics(images)))
    assert all(map(torch.equal, again[1:], (mean, std))) and none == on_disk == (7, None, None)
    assert isinstance(models.build(own, 7, classifier="cosine").classifier, CosineClassifier)


def test_what_a_function_of_your_own_gives_is_a_module_with_a_classifier_to_replace():
    with pytest.raises(TypeError, match="gives 3"):
        models.build(lambda num_classes, mean, std: 3, 7)

    def own(num_classes, mean, std):
        net = models.small_net(num_classes)
        net.classifier = made
        return net

    made = CosineClassifier(64, 7)
    assert models.build(own, 7, classifier="cosine").classifier is made
    made = torch.nn.Sequential(torch.nn.Linear(64, 7))
    with pytest.raises(ValueError, match=r"Net.classifier is a Sequential"):
        models.build(own, 7, classifier="cosine")


@pytest.mark.parametrize("bias", [True, False])
def test_a_classifier_is_put_in_place_by_its_state(bias):
    linear = torch.nn.Linear(64, 5, bias=bias)
    for made in (linear, CosineClassifier(64, 5), WeightScaling(linear)):
        model = models.small_net(7)
        models.put_classifier(model, type(made).__name__, made.state_dict())
        model.classifier.load_state_dict(made.state_dict())
        assert type(model.classifier) is type(made)
        torch.testing.assert_close(model.classifier(torch.ones(2, 64)), made(torch.ones(2, 64)))
    kept = model.classifier
    models.put_classifier(model, "Sequential", {})
    assert model.classifier is kept


def test_unknown_model_names_the_nearest():
    with pytest.raises(ValueError, match=r"unknown model 'resnet23'; did you mean 'resnet32'\?"):
        models.build("resnet23", 10)
