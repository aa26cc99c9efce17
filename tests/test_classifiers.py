"""What a stage may do to the classifier: each against its formula, and at the ends of its knob."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ltlab import models
from ltlab.classifiers import (
    CLASSIFIERS,
    AlignedClassifier,
    Change,
    CosineClassifier,
    LearntCosineClassifier,
    ScaledLinear,
    WeightScaling,
    aligned,
    class_means,
    classifier_inputs,
    declared,
    fresh,
    logit_adjusted,
    nearest_class_mean,
    scaled_linear,
    tau_normalised,
    tau_normalised_weight,
    weight_scaling,
)
from ltlab.data import load
from ltlab.losses import CrossEntropyLoss, LDAMLoss, adjust_logits
from ltlab.recipes import Recipe, Stage
from ltlab.train import fit, predict

LABELS = torch.tensor([0] * 12 + [1] * 6 + [2] * 2)
COUNTS = torch.bincount(LABELS)


@pytest.fixture(scope="module")
def images():
    return torch.randint(0, 256, (20, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model(images):
    torch.manual_seed(0)
    return models.build("small_net", 3, images)


def with_classifier(model, make, images, **knobs) -> torch.Tensor:
    """Logits of the model with what `make` puts in the classifier's place."""
    model.classifier = make(model, images, LABELS, COUNTS, **knobs)
    return predict(model, images)


def test_classifier_inputs_are_the_pooled_features(model, images):
    model.train()
    x = classifier_inputs(model, images, batch_size=7)
    assert model.training and not model.classifier._forward_pre_hooks
    model.eval()
    torch.testing.assert_close(x, model.pool(model.features(images)))


@pytest.mark.parametrize("look", [classifier_inputs, predict])
def test_inputs_and_logits_are_those_of_the_pixels_whatever_holds_them(model, images, look):
    expected, pixels = look(model, images), images.numpy()
    floats = (pixels / 255).astype(np.float32)
    for same in (images.float() / 255, images.double() / 255, pixels, pixels[::-1].copy()[::-1], floats,
                 floats.astype(">f4"), np.asfortranarray(floats)):  # fmt: skip
        torch.testing.assert_close(look(model, same), expected, rtol=0, atol=0)
    torch.testing.assert_close(look(model.double(), images).float(), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.float(), r"floats in \[0, 1\], got 0 to 255; .*255"),
        (lambda x: x / 127.5 - 1, "got -1 to 1; .*normalising"),
        (lambda x: (x / 255).index_fill(0, torch.tensor(3), torch.nan), "got nan"),
        (lambda x: x.to(torch.uint16) * 257, "got torch.uint16; .*65535"),
        (lambda x: x.numpy().astype(np.int64), "got torch.int64"),
        (lambda x: x > 99, "got torch.bool"),
        (lambda x: list(x), "got a list; torch.stack"),
        (lambda x: np.array(["a"]), "got a ndarray"),
        (lambda x: x[0], r"\(N, 3, H, W\), got \(3, 32, 32\)"),
        (lambda x: x.permute(0, 2, 3, 1).numpy(), r"got \(20, 32, 32, 3\); .*permute"),
    ],
)
def test_images_that_would_be_misread_are_refused(model, images, change, message):
    for look in (classifier_inputs, predict):
        with pytest.raises(ValueError, match=rf"images must .*{message}"):
            look(model, change(images))


def test_the_centre_is_what_the_classifier_sees_of_large_images(model, images):
    large = F.pad(images, (5, 4, 5, 4), value=255)
    for look in (classifier_inputs, predict):
        torch.testing.assert_close(look(model, large, crop=31), look(model, images[:, :, :31, :31]), rtol=0, atol=0)
        with pytest.raises(ValueError, match="size=42"):
            look(model, large, crop=42)
    cropped = nearest_class_mean(model, large, LABELS, COUNTS, crop=31)
    assert torch.equal(cropped.weight, nearest_class_mean(model, images[:, :, :31, :31], LABELS, COUNTS).weight)
    assert not torch.equal(cropped.weight, nearest_class_mean(model, large, LABELS, COUNTS).weight)


def test_logit_adjustment_by_the_bias_is_the_adjustment_of_the_logits(model, images):
    plain = predict(model, images)
    adjusted = with_classifier(model, logit_adjusted, images, tau=0.7)
    torch.testing.assert_close(adjusted, adjust_logits(plain, COUNTS, 0.7))


@pytest.mark.parametrize(("make", "knob"), [(logit_adjusted, {"tau": 0.0}), (weight_scaling, {})])
def test_knobs_at_their_limit_leave_the_logits(model, images, make, knob):
    plain = predict(model, images)
    torch.testing.assert_close(with_classifier(model, make, images, **knob), plain, rtol=0, atol=0)


def test_tau_normalised_weights_against_a_loop():
    weight = torch.randn(5, 7, dtype=torch.float64)
    for tau in (0.0, 0.3, 1.0):
        oracle = torch.stack([w / (w * w).sum().sqrt() ** tau for w in weight])
        torch.testing.assert_close(tau_normalised_weight(weight, tau), oracle)
    torch.testing.assert_close(tau_normalised_weight(weight, 0.0), weight, rtol=0, atol=0)
    torch.testing.assert_close(tau_normalised_weight(weight, 1.0).norm(dim=1), torch.ones(5, dtype=torch.float64))
    assert tau_normalised_weight(torch.zeros(2, 3), 1.0).eq(0).all()


def test_tau_normalisation_drops_the_bias(model, images):
    x = classifier_inputs(model, images)
    weight = model.classifier.weight.detach().clone()
    logits = with_classifier(model, tau_normalised, images, tau=0.5)
    torch.testing.assert_close(logits, x @ tau_normalised_weight(weight, 0.5).T)


def test_nearest_class_mean_against_a_loop(model, images):
    x = classifier_inputs(model, images)
    means = torch.stack([x[LABELS.eq(c)].mean(0) for c in range(3)])
    torch.testing.assert_close(class_means(x, LABELS, 3), means)
    nearest = [max(range(3), key=lambda c: float(F.cosine_similarity(row, means[c], dim=0))) for row in x]
    assert with_classifier(model, nearest_class_mean, images).argmax(1).tolist() == nearest


def test_weight_scaling_trains_its_factors_alone_and_shows_the_scaled_weight(model, images):
    linear = model.classifier
    scaling = weight_scaling(model, images, LABELS, COUNTS)
    assert [name for name, _ in scaling.named_parameters()] == ["factors"]
    scaling.factors.data = torch.tensor([1.0, 2.0, 0.5])
    x = torch.randn(4, 64)
    torch.testing.assert_close(scaling(x), linear(x) * torch.tensor([1.0, 2.0, 0.5]))
    torch.testing.assert_close(scaling.weight, linear.weight * torch.tensor([[1.0], [2.0], [0.5]]))


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_a_fresh_classifier_is_of_the_same_kind_and_leaves_the_old_one(images, kind):
    model = models.build("small_net", 3, images, classifier=kind)
    before = model.classifier.weight.detach().clone()
    torch.manual_seed(3)
    one = fresh(model, images, LABELS, COUNTS)
    torch.manual_seed(3)
    again = fresh(model, images, LABELS, COUNTS)
    assert type(one) is type(model.classifier) and torch.equal(one.weight, again.weight)
    assert not torch.equal(one.weight, before) and torch.equal(model.classifier.weight, before)


def test_bad_input_is_refused_with_the_reason(model, images):
    with pytest.raises(ValueError, match="tau="):
        tau_normalised_weight(torch.ones(2, 2), 1.5)
    with pytest.raises(ValueError, match="class 1"):
        class_means(torch.ones(2, 4), torch.tensor([0, 2]), 3)
    model.classifier = CosineClassifier(64, 3)
    for make in (tau_normalised, logit_adjusted, weight_scaling):
        with pytest.raises(ValueError, match=f"{make.__name__}.*Cosine"):
            make(model, images, LABELS, COUNTS)
    model.classifier = nn.Identity()
    with pytest.raises(ValueError, match="Identity"):
        fresh(model, images, LABELS, COUNTS)


CHANGES = [fresh, weight_scaling, tau_normalised, nearest_class_mean, logit_adjusted, scaled_linear, aligned]
MAKERS = {"scaled": weight_scaling, "scaled_linear": scaled_linear, "aligned": aligned}


@pytest.mark.parametrize("kind", CLASSIFIERS)
@pytest.mark.parametrize("make", CHANGES, ids=lambda make: make.__name__)
def test_a_change_needs_and_leaves_what_it_declares(model, images, make, kind):
    """A recipe accepts it exactly where it works, also by a partial."""
    linear, change = model.classifier, declared(partial(make))
    model.classifier = {
        "linear": linear, "cosine": CosineClassifier(64, 3), "cosine_learnt": LearntCosineClassifier(64, 3),
        "scaled": WeightScaling(linear), "scaled_linear": ScaledLinear(linear), "aligned": AlignedClassifier(linear),
    }[kind]  # fmt: skip
    stages = [Stage(), *([Stage(classifier=MAKERS[kind])] if kind in MAKERS else [])]
    stages = [replace(stage, loss=LDAMLoss if kind == "cosine" else CrossEntropyLoss()) for stage in stages]
    stages.append(Stage(epochs=0, classifier=partial(make)))
    first = kind if kind.startswith("cosine") else "linear"
    if change.needs and kind not in change.needs:
        with pytest.raises(ValueError, match=make.__name__):
            Recipe(*stages, classifier=first)
        with pytest.raises(ValueError, match=r"linear|reset_parameters"):
            make(model, images, LABELS, COUNTS)
    else:
        Recipe(*stages, classifier=first)
        assert type(make(model, images, LABELS, COUNTS)) is CLASSIFIERS[change.leaves or kind].type


CALLS = []


@Change(needs=("linear",), leaves="cosine")
def by_weights(model, images, labels, class_counts):
    CALLS.append(len(images))
    classifier = CosineClassifier(model.classifier.in_features, len(class_counts))
    classifier.weight.data = model.classifier.weight.detach().clone()
    return classifier


def undeclared(model, images, labels, class_counts):
    return by_weights(model, images, labels, class_counts)


def test_a_custom_change_declares_what_it_needs_and_is_not_made_again(tmp_path):
    data = load("shapes-lt", imbalance=10, max_count=20, test_count=2)
    with pytest.raises(ValueError, match="stage 2: by_weights needs a linear classifier"):
        Recipe(Stage(loss=LDAMLoss), Stage(epochs=0, classifier=partial(by_weights)), classifier="cosine")
    with pytest.raises(ValueError, match="'cosines' is not a kind of classifier"):
        Change(leaves="cosines")
    assert declared(undeclared) is None
    for number, make in enumerate([by_weights, undeclared]):
        stages, path = [Stage(epochs=1), Stage(epochs=0, classifier=make)], tmp_path / f"{number}.pt"
        runs, calls = [], []
        for resume in (False, True):
            runs.append(fit(Recipe(*stages), data, checkpoint=path, resume=resume, progress=False))
            calls.append(len(CALLS))
            CALLS.clear()  # which the change reads, so that another value would make another run
        first, again = runs
        assert torch.equal(first.logits, again.logits) and type(again.model.classifier) is CosineClassifier
        assert calls == [1, int(make is undeclared)]


@pytest.mark.parametrize("look", [classifier_inputs, predict])
def test_looking_leaves_every_part_in_its_mode(model, images, look):
    model.train()
    model.layer1.eval()  # as a stage with frozen batch norm leaves it
    look(model, images)
    assert model.training and not model.layer1.training and model.layer2.training
    with pytest.raises(ValueError, match="20, 2, 32, 32"):
        look(model, images[:, :2])
    assert model.training and not model.layer1.training
