"""The conformance checks: what comes with ltlab passes them, and each of them can fail."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ltlab import testing
from ltlab.classifiers import Change, CosineClassifier, fresh, logit_adjusted, nearest_class_mean, tau_normalised
from ltlab.losses import CrossEntropyLoss, LDAMLoss
from ltlab.mixup import InputMixup, soft_targets
from ltlab.models import MODELS
from ltlab.recipes.families import LOSSES, MIXES, SAMPLERS
from ltlab.samplers import ShuffledSampler
from ltlab.testing import check_classifier, check_loss, check_mix, check_model, check_sampler


@pytest.mark.parametrize("loss", [*LOSSES.values(), LDAMLoss, CrossEntropyLoss(), nn.CrossEntropyLoss()])
def test_every_loss_conforms(loss):
    check_loss(loss)


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_conforms(name):
    check_sampler(SAMPLERS[name])


@pytest.mark.parametrize("mix", MIXES.values(), ids=MIXES)
def test_every_mix_conforms(mix):
    check_mix(mix)


@pytest.mark.parametrize("name", ["small_net", "resnet32"])
def test_every_small_network_conforms(name):
    check_model(MODELS[name](num_classes=10), 10, torch.rand(4, 3, 32, 32))


@pytest.mark.parametrize("change", [fresh, nearest_class_mean, partial(tau_normalised, tau=0.5), logit_adjusted])
def test_every_change_of_the_classifier_conforms(change):
    check_classifier(change)


class Loss(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, logits, targets):
        return self.function(logits, targets)


def holding(counts):
    loss = Loss(F.cross_entropy)
    loss.weight = counts.float()
    return loss


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda counts: None, "must give an nn.Module"),
        (holding, r"\['weight'\]: register them as buffers"),
        (Loss(lambda z, t: F.cross_entropy(z, t, reduction="none")), "one number"),
        (Loss(lambda z, t: (z * 0).sum()), "zero everywhere"),
        (Loss(lambda z, t: F.cross_entropy(z, t) / (t.shape[0] - 1)), "for 1 images"),
        (Loss(lambda z, t: F.cross_entropy(z, t if t.ndim == 1 else t.argmin(1))), "one-hot targets"),
    ],
)
def test_a_loss_that_does_not_conform(loss, message):
    with pytest.raises(AssertionError, match=message):
        check_loss(loss)


class Fixed(ShuffledSampler):
    def draw(self, generator):
        return torch.arange(self.num_samples)


class Global(ShuffledSampler):
    def draw(self, generator):
        return torch.randperm(self.num_samples)


class Beyond(ShuffledSampler):
    def draw(self, generator):
        return super().draw(generator) + 1


class Forgetful(ShuffledSampler):
    def set_epoch(self, epoch):
        pass


@pytest.mark.parametrize(
    ("make", "message"),
    [(Fixed, "another seed"), (Global, "global generator|same seed"), (Beyond, "from 0 to 58"),
     (Forgetful, "another epoch")],
)  # fmt: skip
def test_a_sampler_that_does_not_conform(make, message):
    with pytest.raises(AssertionError, match=message):
        check_sampler(make)


def mixed(change=lambda z, t: (z, t), draws=lambda g: torch.rand(1, generator=g)):
    def mix(model, images, targets, *, class_counts, generator):
        draws(generator)
        return change(model(images), soft_targets(targets, len(class_counts)))

    return mix


@pytest.mark.parametrize(
    ("mix", "message"),
    [
        (mixed(draws=lambda g: torch.rand(1)), "global generator"),
        (mixed(lambda z, t: (z[:, :2], t)), "logits must be"),
        (mixed(lambda z, t: (z, 2 * t)), "sum to one"),
        (mixed(lambda z, t: (z, t.argmax(1)[:3])), "targets must be"),
    ],
)
def test_a_mix_that_does_not_conform(mix, message):
    with pytest.raises(AssertionError, match=message):
        check_mix(mix)


def zeroed(model, images, labels, class_counts):
    nn.init.zeros_(model.classifier.weight)
    return model.classifier


def test_networks_and_changes_that_do_not_conform():
    images = torch.rand(4, 3, 8, 8)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(192, 5))
    check_model(flat, 5, images)
    for model, classes, message in (
        (flat, 6, r"\(4, 6\)"), (nn.Sequential(flat, nn.Threshold(9.0, torch.inf)), 5, "not finite"),
    ):  # fmt: skip
        with pytest.raises(AssertionError, match=message):
            check_model(model, classes, images)
    flat.unused = nn.Linear(2, 2)
    flat.forward = lambda x: flat[1](flat[0](x))
    with pytest.raises(AssertionError, match=r"unused.weight"):
        check_model(flat, 5, images)
    with pytest.raises(AssertionError, match="what replaces the classifier"):
        check_classifier(lambda *_: None)
    with pytest.raises(AssertionError, match="it changes the model"):
        check_classifier(zeroed)
    with pytest.raises(AssertionError, match="declares 'linear' and leaves a CosineClassifier"):
        check_classifier(Change(leaves="linear")(lambda model, *_: CosineClassifier(64, 4)))


def test_the_mix_of_the_course_needs_no_model():
    testing.check_mix(InputMixup(alpha=1.0), nn.Sequential(nn.Flatten(), nn.Linear(768, 4)))
