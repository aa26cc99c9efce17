"""Networks: features and classifier apart, the sizes of the literature, normalisation inside."""

import pytest
import torch
import torch.nn.functional as F

from ltlab import models


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", models.MODELS)
def test_classifier_of_pooled_features_is_the_model(name, images):
    model = models.build(name, 7, images).eval()
    features = model.features(images)
    assert features.shape == (4, 64, 8, 8)
    by_hand = F.linear(features.mean((2, 3)), model.classifier.weight, model.classifier.bias)
    torch.testing.assert_close(model(images), by_hand)
    assert model.classifier.weight.shape == (7, 64)


@pytest.mark.parametrize("name", models.MODELS)
def test_named_parts_run_in_order(name, images):
    model = models.build(name, 7).eval()
    x = images
    for part in ("normalise", *model.feature_layers, "pool", "classifier"):
        x = getattr(model, part)(x)
    torch.testing.assert_close(x, model(images))
    assert {"stem", "layer1", "layer2", "layer3"} == set(model.feature_layers)


def test_resnet32_has_the_parameters_of_the_paper():
    """He et al., table 6: 0.46 M; by hand: 432 + 10 convs of 16 + (16 to 32) + 9 of 32 + (32 to 64) + 9 of 64 ..."""
    convolutions = 3 * 16 * 9 + 10 * 16 * 16 * 9 + 16 * 32 * 9 + 9 * 32 * 32 * 9 + 32 * 64 * 9 + 9 * 64 * 64 * 9
    norms = 2 * (11 * 16 + 10 * 32 + 10 * 64)
    classifier = 64 * 10 + 10
    assert sum(p.numel() for p in models.resnet32(10).parameters()) == convolutions + norms + classifier == 464_154


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


def test_unknown_model_names_the_nearest():
    with pytest.raises(ValueError, match=r"unknown model 'resnet23'; did you mean 'resnet32'\?"):
        models.build("resnet23", 10)
