"""The step and the run: exact, resumable, and untouched by what happens around them."""

import errno
import os
import pickle
import random
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ltlab import models, recipes
from ltlab.cam import ForegroundTransform, WholeImageTransform
from ltlab.classifiers import (
    CosineClassifier,
    class_means,
    classifier_inputs,
    fresh,
    nearest_class_mean,
    tau_normalised,
    weight_scaling,
)
from ltlab.data import load
from ltlab.losses import BalancedSoftmaxLoss, CostSensitiveLoss, CrossEntropyLoss, EqualizationLoss
from ltlab.mixup import ManifoldMixup
from ltlab.recipes import CIFAR, SHAPES, OneCycle, Recipe, Stage, Steps
from ltlab.samplers import (
    PowerSampler,
    ProgressivelyBalancedSampler,
    RandomOverSampler,
    RandomUnderSampler,
    ShuffledSampler,
)
from ltlab.train import (
    Slots,
    TrainingStep,
    augment,
    evaluate,
    fit,
    fitting,
    load_model,
    predict,
    to_float,
    train_epoch,
)
from ltlab.train import checkpoint as checkpoints
from ltlab.train.curves import curves
from ltlab.train.fitting import find_device
from ltlab.train.run import Run

TINY = replace(SHAPES, epochs=4, batch_size=32)
RECIPE = Recipe(Stage(epochs=2), Stage(epochs=2, sampler=partial(PowerSampler, q=0.0)), name="tiny", settings=TINY)


@pytest.fixture(scope="module")
def data():
    return load("shapes-lt", imbalance=10, max_count=20, test_count=5)


def same_run(a, b) -> None:
    """Bit for bit the same model and history."""
    for (name, x), y in zip(a.model.state_dict().items(), b.model.state_dict().values(), strict=True):
        assert torch.equal(x, y), name
    pd.testing.assert_frame_equal(a.history, b.history, check_exact=True)
    assert torch.equal(a.logits, b.logits)


# --- augmentation ----------------------------------------------------------------------------------------------------


def test_augmentation_against_cropping_one_by_one():
    images = torch.randint(0, 256, (50, 3, 8, 10), dtype=torch.uint8)
    out = augment(images, 2, True, torch.Generator().manual_seed(3))
    oracle = torch.Generator().manual_seed(3)
    down, right = torch.randint(5, (2, 50), generator=oracle)
    flips = torch.rand(50, 1, 1, 1, generator=oracle).flatten() < 0.5
    for image, result, y, x, flip in zip(images, out, down, right, flips, strict=True):
        crop = F.pad(image, (2, 2, 2, 2))[:, y : y + 8, x : x + 10]
        assert torch.equal(result, crop.flip(-1) if flip else crop)


def test_augmentation_off_gives_the_images_back():
    images = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8)
    assert augment(images, 0, False, torch.Generator()) is images


@given(padding=st.integers(0, 4), flip=st.booleans(), seed=st.integers(0, 99))
@settings(max_examples=25)
def test_augmentation_keeps_shape_type_and_mirrors_only(padding, flip, seed):
    images = torch.full((6, 3, 9, 9), 7, dtype=torch.uint8)
    out = augment(images, padding, flip, torch.Generator().manual_seed(seed))
    assert out.shape == images.shape and out.dtype == torch.uint8
    assert set(out.unique().tolist()) <= {0, 7}
    assert (out == 7).sum((1, 2, 3)).min() >= 3 * (9 - padding) ** 2


def test_to_float_is_exact_and_channels_last():
    images = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(2, 3, 16, 16)
    out = to_float(images)
    torch.testing.assert_close(out, images.float() / 255, rtol=0, atol=0)
    assert out.is_contiguous(memory_format=torch.channels_last)


# --- the step --------------------------------------------------------------------------------------------------------


def test_a_run_against_a_loop_in_plain_torch(data):
    """Three epochs of the recipe's two parts written out by hand; no augmentation, so that no draw is hidden."""
    settings = replace(TINY, crop_padding=0, flip=False, schedules={"base": OneCycle(lr=0.05)})
    recipe = Recipe(Stage(epochs=1), Stage(epochs=2, loss=BalancedSoftmaxLoss), settings=settings)
    torch.manual_seed(5)
    mine = models.build("small_net", 10, data.train.images)
    result = fit(recipe, data, mine, seed=5, progress=False, device="cpu")

    torch.manual_seed(5)
    model = models.build("small_net", 10, data.train.images).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    order = ShuffledSampler(data.train.labels, seed=5)
    log_counts = data.class_counts.double().log().float()
    for epoch in range(3):
        order.set_epoch(epoch)
        batches = torch.tensor(list(order)).split(32)
        for step, indices in enumerate(batches):
            logits = model(data.train.images[indices].float() / 255)
            loss = F.cross_entropy(logits + (log_counts if epoch >= 1 else 0), data.train.labels[indices])
            optimizer.param_groups[0]["lr"] = OneCycle(lr=0.05)(epoch + step / len(batches), 3)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    for theirs, ours in zip(model.parameters(), result.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_cutting_a_stage_in_two_changes_nothing(data):
    whole = fit(Recipe(Stage(epochs=3), settings=TINY), data, progress=False)
    parts = fit(Recipe(Stage(epochs=1), Stage(epochs=2), settings=TINY), data, progress=False)
    parts.history["stage"] = 1
    same_run(whole, parts)


def test_slots_change_exactly_where_their_stage_begins(data):
    """The same seed: epochs before the start are bit-identical, the start epoch is the first to differ."""
    plain = fit(Recipe(Stage(epochs=4), settings=TINY), data, progress=False).history["train_loss"]
    for start in (1, 2, 3):
        deferred = Recipe(Stage(epochs=start), Stage(epochs=4 - start, loss=BalancedSoftmaxLoss), settings=TINY)
        loss = fit(deferred, data, progress=False).history["train_loss"]
        assert (loss[:start] == plain[:start]).all() and loss[start] != plain[start]


def test_samplers_with_a_schedule_get_the_stage_s_epochs_and_count_from_its_start(data):
    seen = []

    class Spy(ProgressivelyBalancedSampler):
        def epoch_indices(self):
            seen.append((self.epoch, self.epochs))
            return super().epoch_indices()

    fit(Recipe(Stage(epochs=1), Stage(epochs=3, sampler=Spy), settings=TINY), data, progress=False)
    assert seen == [(0, 3), (1, 3), (2, 3)]


def test_any_torch_sampler_fits_into_the_slot(data):
    def plain(labels, seed):
        return torch.utils.data.RandomSampler(labels, generator=torch.Generator().manual_seed(seed))

    result = fit(Recipe(Stage(epochs=1, sampler=plain), settings=TINY), data, progress=False)
    assert len(result.history) == 1


def test_the_learning_rate_ends_with_the_span_whatever_the_epoch_s_length(data):
    """Under-sampling makes epochs shorter, and the schedule runs in epochs, not in steps."""
    recipe = Recipe(Stage(epochs=2), Stage(epochs=2, sampler=RandomUnderSampler), settings=TINY)
    rates = fit(recipe, data, progress=False).history["lr"]
    assert rates.tolist() == [SHAPES.schedules["base"](t, 4) for t in range(4)]


def test_mix_and_foreground_slots_take_part(data):
    calls = []

    class Mix:
        def __call__(self, model, images, targets, *, class_counts, generator):
            calls.append(("mix", images.dtype, tuple(class_counts.shape)))
            return model(images), F.one_hot(targets, len(class_counts)).float()

    class Foreground:
        def prepare(self, model, images, labels):
            calls.append(("prepare", len(images), len(labels)))
            return torch.zeros(len(images), 32, 32, dtype=torch.bool)

        def __call__(self, images, masks, *, generator):
            calls.append(("foreground", images.dtype, masks.shape[0] == images.shape[0]))
            return images

    plain = fit(Recipe(Stage(epochs=1), Stage(epochs=1), settings=TINY), data, progress=False)
    slots = fit(Recipe(Stage(epochs=1), Stage(epochs=1, mix=Mix(), foreground=Foreground()), settings=TINY),
                data, progress=False)  # fmt: skip
    for ours, theirs in zip(slots.model.parameters(), plain.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)  # these two slots change nothing but are called
    n = len(data.train)
    assert calls[0] == ("prepare", n, n) and [c[0] for c in calls].count("prepare") == 1
    assert ("mix", torch.float32, (10,)) in calls and ("foreground", torch.uint8, True) in calls


def test_a_foreground_that_makes_maps_needs_a_model_before_it(data):
    with pytest.raises(ValueError, match=r"stage 1 has a foreground slot, .*ForegroundTransform\(masks=...\)"):
        fit(Recipe(Stage(epochs=1, foreground=ForegroundTransform()), settings=TINY), data)


@pytest.mark.parametrize("kind", ["whole", "masks"])
def test_a_foreground_that_makes_none_moves_images_from_the_first_epoch_on(data, tmp_path, kind):
    foreground = WholeImageTransform() if kind == "whole" else ForegroundTransform(masks=data.train.masks)
    recipe = Recipe(Stage(epochs=2, foreground=foreground), settings=TINY)
    whole = fit(recipe, data, progress=False)
    plain = fit(Recipe(Stage(epochs=2), settings=TINY), data, progress=False)
    assert whole.history["train_loss"][0] != plain.history["train_loss"][0]
    interrupted(data, tmp_path / "run.pt", 1, recipe)
    same_run(whole, fit(recipe, data, checkpoint=tmp_path / "run.pt", resume=True, progress=False))


@pytest.mark.parametrize(
    ("rows", "what"), [(lambda images: None, "None"), (lambda images: images[:3], r"a tensor \(3, 3, 32, 32\)")]
)
def test_a_foreground_whose_prepare_gives_no_rows_is_refused_at_that_call(data, no_step, rows, what):
    class Foreground:
        def prepare(self, model, images, labels):
            return rows(images)

        def __call__(self, images, rows, *, generator):
            return images

    with pytest.raises(TypeError, match=rf"stage 1: prepare.* of Foreground gives {what}, it must .*{len(data.train)}"):
        fit(Recipe(Stage(epochs=1, foreground=Foreground()), settings=TINY), data, progress=False)


@pytest.mark.parametrize("stage", [Stage(epochs=1, trains="classifier"), Stage(epochs=1, batch_norm="eval")])
def test_a_first_stage_on_what_nothing_has_trained_is_refused(data, stage):
    recipe = Recipe(stage, settings=TINY)
    with pytest.raises(ValueError, match=r"stage 1 trains the classifier alone.*model="):
        fit(recipe, data, progress=False)
    fit(recipe, data, models.build("small_net", 10, data.train.images), progress=False)


def test_a_mix_of_your_own_checks_the_model_before_the_first_epoch(data):
    class Mix:
        def check(self, model):
            raise ValueError(f"no mixing in {type(model).__name__}")

        def __call__(self, model, images, targets, **_):
            return model(images), targets

    with pytest.raises(ValueError, match="no mixing in Net"):
        fit(Recipe(Stage(epochs=1), Stage(epochs=1, mix=Mix()), settings=TINY), data, progress=False)


def test_a_layer_that_the_model_does_not_have_is_refused_before_the_first_epoch(data):
    recipe = Recipe(Stage(epochs=1), Stage(epochs=1, mix=ManifoldMixup(alpha=1.0, layer="layr3")), settings=TINY)
    model = models.build("small_net", 10, data.train.images)
    before = model.classifier.weight.clone()
    with pytest.raises(ValueError, match=r"layer='layr3'.*layer3"):
        fit(recipe, data, model, progress=False)
    assert torch.equal(model.classifier.weight, before)


# --- evaluation ------------------------------------------------------------------------------------------------------


def test_predict_leaves_the_mode_and_is_the_model_in_evaluation_mode(data):
    model = models.build("small_net", 10, data.train.images).train()
    logits = predict(model, data.test.images, batch_size=7)
    assert model.training
    with torch.no_grad():
        torch.testing.assert_close(logits, model.eval()(data.test.images))


def test_figures_of_the_last_epoch(data):
    result = fit(RECIPE, data, progress=False)
    right = result.logits.argmax(1) == data.test.labels
    assert result.metrics["top1_error"] == pytest.approx(1 - right.float().mean().item())
    assert result.metrics["top1_error"] == result.history["test_error"].iloc[-1]
    assert list(result.metrics) == ["top1_error", "balanced_error", "many_accuracy", "medium_accuracy", "few_accuracy",
                                    "expected_calibration_error"]  # fmt: skip
    assert result.metrics["many_accuracy"] != result.metrics["many_accuracy"]  # NaN: no such class here
    assert evaluate(result.logits, data.test.labels, data.class_counts)["few_accuracy"] == pytest.approx(
        result.metrics["few_accuracy"]
    )


def test_looking_at_the_test_set_less_often_changes_no_training(data):
    often, seldom = fit(RECIPE, data, progress=False), fit(RECIPE, data, progress=False, evaluate_every=3)
    assert seldom.history["test_error"].isna().tolist() == [True, True, False, False]
    assert torch.equal(often.logits, seldom.logits)


@pytest.mark.parametrize(("name", "looks"), [("ce", 3), ("crt", 3), ("tau_norm", 4)])
def test_the_test_set_is_evaluated_once_an_epoch_and_after_a_last_stage_of_none(data, monkeypatch, name, looks):
    """The figures are those of the model as it is at the end, whatever a look of your own does to its logits."""
    predicted, predict_all = [], Run.predict
    monkeypatch.setattr(Run, "predict", lambda run: predicted.append(1) or predict_all(run))
    recipe = recipes.get(name).resolve(TINY).with_epochs(3)
    result = fit(
        recipe, data, device="cpu", progress=False, extra_metrics=lambda logits, labels: {"zero": logits.zero_().sum()}
    )
    assert len(predicted) == looks
    assert torch.equal(result.logits, predict(result.model, data.test.images))


def test_figures_of_your_own_stand_in_the_history(data, tmp_path):
    """At every look; what they are called with are the logits of that epoch; a resumed run has them all."""
    seen = []

    def extra(logits, labels):
        seen.append(logits)
        assert logits.is_cpu and torch.equal(labels, data.test.labels)
        worst = min((logits.argmax(1) == labels)[labels == c].double().mean() for c in range(10))
        return {"worst_class": worst, "error_again": (logits.argmax(1) != labels).double().mean()}

    whole = fit(RECIPE, data, extra_metrics=extra, evaluate_every=3, progress=False)
    assert list(whole.history)[-2:] == ["worst_class", "error_again"] and torch.equal(seen[-1], whole.logits)
    assert whole.history["worst_class"].isna().tolist() == [True, True, False, False]
    pd.testing.assert_series_equal(whole.history["error_again"], whole.history["test_error"], check_names=False)
    same_run(fit(RECIPE, data, evaluate_every=3, progress=False), replace(whole, history=whole.history.iloc[:, :5]))
    path = tmp_path / "run.pt"
    interrupted(data, path, 3, extra_metrics=extra, evaluate_every=3)
    same_run(
        whole, fit(RECIPE, data, extra_metrics=extra, evaluate_every=3, checkpoint=path, resume=True, progress=False)
    )
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "run.csv"), whole.history)


@pytest.mark.parametrize(
    ("figures", "error", "message"),
    [
        ({"lr": 1.0}, ValueError, r"extra_metrics\(logits, labels\) gives 'lr', which the history has"),
        (0.5, TypeError, r"gives 0.5: it must give \{name: number\}"),
        (None, TypeError, "gives None"),
        ({"f1": [1.0, 2.0]}, TypeError, "gives {'f1'"),
    ],
)
def test_figures_of_your_own_that_are_no_columns_are_refused(data, figures, error, message):
    with pytest.raises(error, match=message):
        fit(RECIPE, data, extra_metrics=lambda logits, labels: figures, progress=False)


# --- randomness ------------------------------------------------------------------------------------------------------


def test_seeds_reproduce_and_differ_and_the_global_generator_stays(data):
    torch.manual_seed(123)
    before = torch.get_rng_state()
    a, b, c = (fit(RECIPE, data, seed=seed, progress=False) for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    same_run(a, b)
    assert not torch.equal(a.logits, c.logits)


# --- stages that freeze, and that change the classifier --------------------------------------------------------------


def state_after(data, **stage) -> tuple[dict, dict]:
    """The model's state at the start and at the end of a second stage."""
    started = {}

    def spy(model, images, labels, class_counts):
        started.update({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return model.classifier

    recipe = Recipe(Stage(epochs=1), Stage(epochs=2, classifier=spy, **stage), settings=TINY)
    result = fit(recipe, data, progress=False)
    assert all(p.requires_grad for p in result.model.parameters()), "what a stage froze is free again afterwards"
    return started, result.model.state_dict()


def moved(before: dict, after: dict) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


def kinds(names: set[str]) -> set[str]:
    """Of which kind the tensors are: classifier, statistics, affine (of batch norm) or weights."""

    def kind(name: str) -> str:
        if name.startswith("classifier"):
            return "classifier"
        if "running" in name or "tracked" in name:
            return "statistics"
        return "weights" if name.endswith("0.weight") else "affine"

    return {kind(name) for name in names}


@pytest.mark.parametrize(
    ("stage", "changes"),
    [
        ({}, {"weights", "affine", "statistics", "classifier"}),
        ({"batch_norm": "eval"}, {"weights", "affine", "classifier"}),
        ({"batch_norm": "shift"}, {"weights", "statistics", "classifier"}),
        ({"trains": "classifier"}, {"statistics", "classifier"}),
        ({"trains": "classifier", "batch_norm": "shift"}, {"statistics", "classifier"}),
        ({"trains": "classifier", "batch_norm": "eval"}, {"classifier"}),
    ],
)
def test_what_is_frozen_stays_bit_identical(data, stage, changes):
    before, after = state_after(data, **stage)
    assert kinds(moved(before, after)) == changes
    if "weights" in changes:
        assert {name for name in before if kinds({name}) == {"weights"}} <= moved(before, after)


def test_a_parameter_that_its_owner_froze_stays_so(data):
    model = models.build("small_net", 10, data.train.images)
    model.stem.requires_grad_(False)
    stem = [p.clone() for p in model.stem.parameters()]
    fit(Recipe(Stage(epochs=1), Stage(epochs=1, trains="classifier"), settings=TINY), data, model, progress=False)
    assert all(torch.equal(a, b) and not b.requires_grad for a, b in zip(stem, model.stem.parameters(), strict=True))
    assert all(p.requires_grad for p in model.layer1.parameters())


@pytest.mark.parametrize("error", [KeyboardInterrupt, FloatingPointError])
def test_a_run_that_stops_in_a_frozen_stage_leaves_the_model_as_free_as_it_was(data, error):
    class Stopping(CrossEntropyLoss):
        def forward(self, logits, targets):
            raise error

    model = models.build("small_net", 10, data.train.images)
    model.stem.requires_grad_(False)
    before = {name: p.requires_grad for name, p in model.named_parameters()}
    with pytest.raises(error):
        fit(Recipe(Stage(epochs=1, trains="classifier", loss=Stopping()), settings=TINY), data, model, progress=False)
    assert {name: p.requires_grad for name, p in model.named_parameters()} == before


def test_a_stage_with_nothing_to_train_is_refused_and_freezes_nothing(data):
    model = models.build("small_net", 10, data.train.images)
    model.classifier.requires_grad_(False)
    with pytest.raises(ValueError, match="trains='classifier' has nothing to train"):
        fit(Recipe(Stage(epochs=1, trains="classifier"), settings=TINY), data, model, progress=False)
    assert all(p.requires_grad for p in model.layer1.parameters())


def test_a_stage_s_weight_decay_replaces_the_settings(data):
    def shrunk(weight_decay) -> float:
        torch.manual_seed(0)
        model = models.build("small_net", 10, data.train.images)
        stage = Stage(epochs=2, weight_decay=weight_decay, trains="classifier", batch_norm="eval")
        fit(Recipe(stage, settings=TINY), data, model, progress=False)
        return model.classifier.weight.norm().item()

    assert shrunk(None) == shrunk(TINY.weight_decay) > shrunk(0.5) and shrunk(0.0) > shrunk(TINY.weight_decay)


def test_a_changed_classifier_begins_the_schedule_anew():
    recipe = recipes.get("crt").resolve(SHAPES)
    assert recipe.spans() == [(0, 30), (0, 4)] and not recipe.continues(1)
    same = Recipe(Stage(epochs=2), Stage(epochs=1), Stage(epochs=1, trains="classifier")).resolve(SHAPES)
    assert [same.continues(i) for i in range(3)] == [False, True, False]


def test_a_change_of_the_classifier_that_asks_for_the_crop_sees_what_is_evaluated(data):
    """The class means of large images are those of their centres, which the test images are shown by."""
    recipe = recipes.get("nearest_class_mean").resolve(replace(SHAPES, crop=24)).with_epochs(1)
    seen = []

    def spy(model, images, labels, class_counts, *, crop):
        seen.append((tuple(images.shape[2:]), crop))
        return nearest_class_mean(model, images, labels, class_counts, crop=crop)

    result = fit(recipe, data, progress=False)
    own = Recipe(recipe.stages[0], Stage(epochs=0, classifier=spy), settings=recipe.settings)
    assert torch.equal(result.model.classifier.weight, fit(own, data, progress=False).model.classifier.weight)
    assert seen == [((32, 32), 24)]
    means = class_means(classifier_inputs(result.model, data.train.images, crop=24), data.train.labels, 10)
    torch.testing.assert_close(result.model.classifier.weight.detach(), means)


@pytest.mark.parametrize("name", ["tau_norm", "nearest_class_mean", "logit_adjusted_post_hoc"])
def test_a_post_hoc_stage_trains_nothing(data, name):
    plain = fit(recipes.get("ce").resolve(SHAPES).with_epochs(2), data, progress=False)
    result = fit(recipes.get(name).resolve(SHAPES).with_epochs(2), data, progress=False)
    pd.testing.assert_frame_equal(plain.history, result.history, check_exact=True)
    ours = result.model.state_dict()
    changed = {k for k, v in plain.model.state_dict().items() if k not in ours or not torch.equal(v, ours[k])}
    assert changed and kinds(changed) == {"classifier"}
    assert not torch.equal(plain.logits, result.logits)


def test_a_stage_that_needs_a_classifier_refuses_a_model_without(data):
    model = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
    with pytest.raises(ValueError, match="stage 2 needs a model with a part called classifier, Sequential has none"):
        fit(Recipe(Stage(epochs=1), Stage(epochs=1, trains="classifier"), settings=TINY), data, model)


# --- models and losses of your own: what does not fit is refused before the first step --------------------------------


@pytest.fixture
def no_step(monkeypatch):
    def step(self, *batch):
        raise AssertionError("a step was taken")

    monkeypatch.setattr(TrainingStep, "__call__", step)


class Own(nn.Module):
    """Convolution, pooling and a head, by the names that are asked for."""

    def __init__(
        self, classes: int = 10, features: str = "body", head: str = "fc", classifier: nn.Module | None = None
    ):
        super().__init__()
        self.names = features, head
        self.add_module(features, nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU()))
        self.add_module(head, classifier or nn.Linear(8, classes))

    def forward(self, images):
        features, head = (self.get_submodule(name) for name in self.names)
        return head(features(images).mean((2, 3)))


def head_of(*layers: nn.Module) -> Own:
    return Own(head="classifier", classifier=layers[0] if len(layers) == 1 else nn.Sequential(*layers))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Own(20), r"model: Own gives torch.float32 \(2, 20\) for 2 images, it must give .*\(2, 10\): one for each of"),
        (Own(9), r"gives torch.float32 \(2, 9\)"),
        (nn.Sequential(nn.Conv2d(3, 10, 1)), r"gives torch.float32 \(2, 10, 32, 32\)"),
        (head_of(nn.LSTM(8, 10)), "gives a tuple for 2 images"),
    ],
    ids=["too many", "too few", "maps", "tuple"],
)
def test_a_model_without_a_logit_for_every_class_is_refused(data, no_step, model, message):
    with pytest.raises(ValueError, match=message):
        fit(RECIPE, data, model, progress=False)


@pytest.mark.parametrize("crop", [None, 24])
def test_the_trial_of_a_model_leaves_it_and_the_draws_as_they_were(data, monkeypatch, crop):
    class Noisy(Own):
        def forward(self, images):
            assert images.shape[2:] == (crop or 32, crop or 32)
            return super().forward(images + 0.1 * torch.rand(()))

    recipe = Recipe(Stage(epochs=1), settings=replace(TINY, crop=crop))

    def run():
        torch.manual_seed(0)
        return fit(recipe, data, Noisy(), progress=False)

    tried = run()
    monkeypatch.setattr(fitting, "check_outputs", lambda *arguments: None)
    same_run(tried, run())


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (head_of(nn.Linear(8, 10)), "'ldam' needs a normalised classifier, Own.classifier is a Linear: .*Cosine"),
        (Own(), "Own.classifier is missing"),
    ],
    ids=["linear", "none"],
)
def test_ldam_refuses_a_classifier_that_is_not_normalised(data, no_step, model, message):
    with pytest.raises(ValueError, match=message):
        fit("ldam", data, model, progress=False)


def test_ldam_trains_a_normalised_classifier_of_your_own(data):
    class Normed(CosineClassifier):
        pass

    for classifier in (CosineClassifier(8, 10), Normed(8, 10)):
        result = fit(recipes.get("ldam").resolve(SHAPES).with_epochs(1), data, head_of(classifier), progress=False)
        assert result.logits.abs().max() <= 1 + 1e-6 and result.network == "Own"


def test_seeds_of_any_kind_of_whole_number_are_one_seed(data):
    recipe = Recipe(Stage(epochs=1), settings=TINY)
    same_run(*(fit(recipe, data, seed=seed, progress=False) for seed in (3, np.int64(3))))
    for seed in (-1, 1.5, 2**32):
        with pytest.raises(ValueError, match=f"seed={seed}"):
            fit(recipe, data, seed=seed)


def test_a_result_names_its_network(data):
    recipe = Recipe(Stage(epochs=1), settings=TINY)
    assert fit(recipe, data, progress=False).network == "small_net"
    assert fit(recipe, data, Own(), progress=False).network == "Own"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"recipe": Stage()}, r"recipe=Stage\(.*: fit trains a recipe, write Recipe\(Stage\(...\)\)"),
        ({"recipe": 3}, r"recipe=3: .*or a name such as \"ce\""),
        ({"data": "shapes-lt"}, r"data='shapes-lt': .*write ltlab.data.load\('shapes-lt'\)"),
        ({"model": "resnet32"}, r"model='resnet32': .*models.build\('resnet32', 10, data.train.images\)"),
        ({"model": Own}, r"model=Own is a class: make the network, Own\(...\)"),
        ({"model": lambda x: x}, "model=<function .*: fit trains a network that is made"),
    ],
)
def test_what_is_no_recipe_no_data_or_no_network_is_refused_with_the_way_out(data, no_step, arguments, message):
    with pytest.raises(TypeError, match=message):
        fit(**({"recipe": RECIPE, "data": data, "progress": False} | arguments))


# --- settings with a network, or an optimiser, of your own ----------------------------------------------------------


def own_net(num_classes, mean, std, width=8):
    """A network that settings may ask for; notes with what it was made."""
    net = models.Net({"stem": nn.Sequential(nn.Conv2d(3, width, 3, 2), nn.ReLU())}, width, num_classes, mean, std)
    net.register_buffer("made_with", torch.stack([mean, std]).float())
    return net


def test_a_settings_makes_a_network_of_your_own(data, tmp_path):
    """From the run's seed, normalised by the training images, told by what the function does."""
    recipe = Recipe(Stage(epochs=2), name="own", settings=replace(TINY, model=own_net))
    one, again = (fit(recipe, data, progress=False) for _ in range(2))
    same_run(one, again)
    assert not torch.equal(one.logits, fit(recipe, data, seed=1, progress=False).logits)
    assert one.network == "own_net" and "own_net" in one.recipe.identity()["protocol.model"]
    expected = torch.stack(models.channel_statistics(data.train.images)).float()
    torch.testing.assert_close(one.model.made_with, expected)
    other = replace(TINY, model=partial(own_net, width=9))
    assert fit(Recipe(Stage(epochs=1), settings=other), data, progress=False).network == "own_net(width=9)"
    interrupted(data, tmp_path / "run.pt", 1, recipe)
    with pytest.raises(ValueError, match=r"protocol.model is own_net.* there and own_net"):
        fit(Recipe(Stage(epochs=2), settings=other), data, checkpoint=tmp_path / "run.pt", resume=True)
    same_run(one, fit(recipe, data, checkpoint=tmp_path / "run.pt", resume=True, progress=False))


def test_a_recipe_with_a_network_and_an_optimizer_of_your_own_goes_to_another_process():
    settings = replace(TINY, model=partial(own_net, width=9), optimizer=torch.optim.AdamW)
    recipe = recipes.get("crt").resolve(settings)
    assert pickle.loads(pickle.dumps(recipe)).identity() == recipe.identity()


def test_a_network_that_a_settings_makes_is_checked_as_one_that_is_given(data, no_step):
    def wide(num_classes, mean, std):
        return Own(num_classes + 1)

    def headless(num_classes, mean, std):
        return Own(num_classes)

    def nothing(num_classes, mean, std):
        return None

    for model, recipe, error, message in [
        (wide, Recipe(Stage(epochs=1)), ValueError, r"model: Own gives torch.float32 \(2, 11\)"),
        (headless, recipes.get("crt"), ValueError, "needs a model with a part called classifier, Own has none"),
        (headless, recipes.get("ldam"), ValueError, "takes the place of a linear one, Own.classifier is a NoneType"),
        (nothing, Recipe(Stage(epochs=1)), TypeError, "gives None"),
    ]:
        with pytest.raises(error, match=message):
            fit(recipe.resolve(replace(TINY, model=model)), data, progress=False)
    ldam = recipes.get("ldam").resolve(replace(TINY, model=own_net))
    with pytest.raises(AssertionError, match="a step was taken"):  # its linear classifier has become a normalised one
        fit(ldam, data, progress=False)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("model", lambda num_classes: None, r"calls it as model\(num_classes, mean, std\): too many positional"),
        ("model", 5, r"model=5: .* model\(num_classes, mean, std\)"),
        ("model", Own(), r"model=Own\(...\): .*one that is made goes to fit\(recipe, data, model\)"),
        ("optimizer", "adam", r"optimizer='adam': .*optimizer\(parameters, lr=..., weight_decay=...\)"),
        ("optimizer", lambda parameters: None, r"calls it as optimizer\(parameters.*unexpected keyword argument 'lr'"),
    ],
)
def test_a_settings_refuses_what_it_cannot_call(field, value, message):
    with pytest.raises(TypeError, match=message):
        replace(TINY, **{field: value})


def test_an_optimizer_of_your_own_against_a_loop_in_plain_torch(data):
    """AdamW with the schedule's learning rate before every step, and with the settings' weight decay."""
    settings = replace(TINY, crop_padding=0, flip=False, optimizer=partial(torch.optim.AdamW, betas=(0.8, 0.9)))
    torch.manual_seed(5)
    result = fit(Recipe(Stage(epochs=2), settings=settings), data, Own(), seed=5, progress=False, device="cpu")

    torch.manual_seed(5)
    model = Own().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.8, 0.9), weight_decay=TINY.weight_decay)
    order = ShuffledSampler(data.train.labels, seed=5)
    for epoch in range(2):
        order.set_epoch(epoch)
        batches = torch.tensor(list(order)).split(32)
        for step, indices in enumerate(batches):
            images = to_float(data.train.images[indices])
            loss = F.cross_entropy(model(images), data.train.labels[indices])
            optimizer.param_groups[0]["lr"] = TINY.schedules["base"](epoch + step / len(batches), 2)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    for theirs, ours in zip(model.parameters(), result.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


class Counting(torch.optim.AdamW):
    """Keeps a state among its settings, as some optimisers do."""

    def step(self):
        for group in self.param_groups:
            group["steps"] = group.get("steps", 0) + 1
            group["lr"] /= 1 + group["steps"]
        super().step()


@pytest.mark.parametrize("after", [1, 3])
def test_resuming_goes_on_with_the_state_of_an_optimizer_of_your_own(data, tmp_path, after):
    recipe = Recipe(Stage(epochs=2), Stage(epochs=2, loss=BalancedSoftmaxLoss),
                    settings=replace(TINY, optimizer=Counting))  # fmt: skip
    whole = fit(recipe, data, progress=False)
    interrupted(data, tmp_path / "run.pt", after, recipe)
    same_run(whole, fit(recipe, data, checkpoint=tmp_path / "run.pt", resume=True, progress=False))


def test_an_optimizer_counts_in_the_identity_only_where_it_is_set_and_takes_no_recording(data, no_step):
    adam = replace(TINY, optimizer=torch.optim.Adam)
    assert adam.identity() == TINY.identity() | {"optimizer": "Adam"}
    with pytest.raises(ValueError, match=r"capture records SGD.*leave it out with a custom optimizer"):
        fit(Recipe(Stage(epochs=1), settings=adam), data, capture=True, progress=False)
    nothing = replace(TINY, optimizer=lambda parameters, lr, weight_decay: None)
    with pytest.raises(TypeError, match=r"optimizer=<lambda> .* gives None: it must give a torch.optim.Optimizer"):
        fit(Recipe(Stage(epochs=1), settings=nothing), data, progress=False)


@pytest.mark.parametrize("last", [nn.Linear(8, 10), nn.Sequential(nn.Dropout(), nn.Linear(8, 10))])
def test_ldam_refuses_a_linear_classifier_however_deep(data, no_step, last):
    with pytest.raises(ValueError, match=r"Own.classifier is a Sequential that ends in a Linear: make it .*Cosine"):
        fit("ldam", data, head_of(nn.Dropout(), last), progress=False)


class Beside(Own):
    """Has a classifier that its logits do not come from."""

    def __init__(self, classifier: nn.Module, scale: float = 2.0):
        super().__init__()
        self.classifier, self.scale = classifier, scale

    def forward(self, images):
        beside = self.classifier(torch.ones(len(images), 8)) if self.scale == 0 else 0
        return super().forward(images) + 0 * beside


class TwoNames(Own):
    """Its head is called classifier too, but not by forward: another under that name would change nothing."""

    def __init__(self):
        super().__init__()
        self.classifier = self.fc


class Property(Own):
    @property
    def classifier(self):
        return self.fc


class Doubled(Own):
    def forward(self, images):
        return 2 * super().forward(images)


@pytest.mark.parametrize(
    "model",
    [Beside(nn.Linear(8, 10)), Beside(nn.Linear(8, 10), scale=0), Doubled(head="classifier"), TwoNames(), Property()],
    ids=["never called", "called beside", "changed after", "by another name", "property"],
)
def test_a_classifier_that_forward_does_not_end_in_is_refused_where_a_stage_needs_it(data, no_step, model):
    """Else a stage would train or change what the logits do not depend on, without a sign."""
    alone = Recipe(Stage(epochs=1), Stage(epochs=1, trains="classifier"), name="alone", settings=TINY)
    parts = dict(model.named_modules(remove_duplicate=False))
    by_another_name = isinstance(model, TwoNames | Property)
    for recipe in (recipes.get("tau_norm"), recipes.get("crt"), *([] if by_another_name else [alone])):
        with pytest.raises(ValueError, match=rf"{recipe.name}.* {type(model).__name__}.classifier is not what forward"):
            fit(recipe, data, model, progress=False)
    assert dict(model.named_modules(remove_duplicate=False)) == parts


@pytest.mark.parametrize("model", [TwoNames(), Property()])
def test_a_classifier_that_a_stage_only_trains_may_have_another_name(data, model):
    body = [p.clone() for p in model.body.parameters()]
    fit(Recipe(Stage(epochs=1, trains="classifier"), settings=TINY), data, model, progress=False)
    assert all(map(torch.equal, body, model.body.parameters()))


def test_ldam_needs_cosines_that_are_the_logits(data, no_step):
    with pytest.raises(ValueError, match=r"Beside.classifier is not what forward ends in"):
        fit("ldam", data, Beside(CosineClassifier(8, 10)), progress=False)


def test_a_recipe_that_leaves_the_classifier_alone_takes_any(data):
    fit(Recipe(Stage(epochs=1), settings=TINY), data, Beside(nn.Linear(8, 10)), progress=False)


def test_a_classifier_in_another_precision_is_what_forward_ends_in(data):
    class Upcast(Own):
        def forward(self, images):
            return super().forward(images).float()

    fit(recipes.get("tau_norm").resolve(SHAPES).with_epochs(1), data, Upcast(head="classifier"),
        precision="bfloat16", progress=False)  # fmt: skip


@pytest.mark.parametrize("name", ["crt", "lws", "tau_norm", "logit_adjusted_post_hoc"])
def test_a_change_of_the_classifier_refuses_what_is_not_linear(data, no_step, name):
    head = head_of(nn.Linear(8, 8), nn.Linear(8, 10))
    with pytest.raises(ValueError, match=r"stage 2 changes a linear classifier, Own.classifier is a Sequential"):
        fit(name, data, head, progress=False)
    with pytest.raises(ValueError, match="stage 2 needs a model with a part called classifier, Own has none"):
        fit(name, data, Own(), progress=False)


def test_a_change_of_your_own_takes_any_classifier(data):
    def widened(model, images, labels, class_counts):
        return nn.Sequential(*model.classifier, nn.Linear(10, 10))

    head = head_of(nn.Linear(8, 8), nn.Linear(8, 10))
    fit(Recipe(Stage(epochs=1), Stage(epochs=1, classifier=widened), settings=TINY), data, head, progress=False)
    assert len(head.classifier) == 3


def test_a_foreground_slot_refuses_a_model_without_maps(data, no_step):
    recipe = Recipe(Stage(epochs=1), Stage(epochs=1, foreground=ForegroundTransform()), settings=TINY)
    deep = Own(features="features", head="classifier", classifier=nn.Sequential(nn.Linear(8, 10)))
    for model in (Own(), Own(features="features"), head_of(nn.Linear(8, 10)), deep):
        with pytest.raises(ValueError, match=r"stage 2 has a foreground slot, whose maps need model.features"):
            fit(recipe, data, model, progress=False)


def test_a_foreground_slot_that_makes_no_maps_takes_any_model(data):
    for foreground in (WholeImageTransform(), ForegroundTransform(masks=data.train.masks)):
        fit(Recipe(Stage(epochs=1), Stage(epochs=1, foreground=foreground), settings=TINY), data, Own(), progress=False)
    with_maps = Own(features="features", head="classifier")
    fit(Recipe(Stage(epochs=1), Stage(epochs=1, foreground=ForegroundTransform()), settings=TINY), data, with_maps,
        progress=False)  # fmt: skip


class Scaled(CrossEntropyLoss):
    def __init__(self):
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(()))

    def forward(self, logits, targets):
        return super().forward(logits * self.log_scale.exp(), targets)


def test_a_loss_that_would_have_to_be_trained_is_refused(data, no_step):
    with pytest.raises(ValueError, match=r"stage 2: the loss Scaled has parameters of its own, log_scale, but only .*"
                                         r"Stage\(loss=Scaled\(model.log_scale\)\)"):  # fmt: skip
        fit(Recipe(Stage(epochs=1), Stage(epochs=1, loss=Scaled()), settings=TINY), data, progress=False)


class Tempered(nn.Module):
    """Cross-entropy at a temperature that is learnt: a parameter of the model, or all of it."""

    def __init__(self, log_scale=None, model=None):
        super().__init__()
        if model is None:
            self.log_scale = log_scale
        else:
            self.model = model

    def forward(self, logits, targets):
        log_scale = self.model.log_scale if hasattr(self, "model") else self.log_scale
        return F.cross_entropy(logits * log_scale.exp(), targets)


def tempered() -> Own:
    torch.manual_seed(0)
    model = Own()
    model.log_scale = nn.Parameter(torch.zeros(()))
    return model


@pytest.mark.parametrize("through", ["parameter", "module", "function"])
def test_a_loss_trains_what_it_has_of_the_model(data, tmp_path, through):
    def run(**options):
        model = tempered()
        loss = {"parameter": lambda: Tempered(model.log_scale), "module": lambda: Tempered(model=model),
                "function": lambda: (lambda class_counts: Tempered(model.log_scale))}[through]()  # fmt: skip
        recipe = Recipe(Stage(epochs=2, loss=loss), name="tempered", settings=TINY)
        return fit(recipe, data, model, progress=False, **options)

    whole = run()
    assert whole.model.log_scale.item() != 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "save", stopping_after(1))
        with pytest.raises(Stop):
            run(checkpoint=tmp_path / "run.pt")
    same_run(whole, run(checkpoint=tmp_path / "run.pt", resume=True))


# --- losses that remember, and losses that know the epoch -------------------------------------------------------------


class Seen(nn.Module):
    """Logits adjusted by the classes seen so far: what it does depends on what it remembers."""

    def __init__(self, class_counts):
        super().__init__()
        self.register_buffer("seen", torch.ones(len(class_counts)))
        self.steps = 0

    def get_extra_state(self):
        return {"steps": self.steps}

    def set_extra_state(self, state):
        self.steps = state["steps"]

    def forward(self, logits, targets):
        self.seen += torch.bincount(targets, minlength=len(self.seen))
        self.steps += 1
        return F.cross_entropy(logits + self.seen.log(), targets) * (1 + 1 / self.steps)


def remembering(made: bool, data) -> Recipe:
    loss = Seen(data.class_counts) if made else Seen
    return Recipe(Stage(epochs=2, loss=loss), Stage(epochs=2, loss=loss), name="seen", settings=TINY)


@pytest.mark.parametrize("made", [True, False])
@pytest.mark.parametrize("after", [1, 3])
def test_resuming_goes_on_with_what_a_loss_remembers(data, tmp_path, made, after):
    whole = fit(remembering(made, data), data, progress=False)
    interrupted(data, tmp_path / "run.pt", after, remembering(made, data))
    resumed = fit(remembering(made, data), data, checkpoint=tmp_path / "run.pt", resume=True, progress=False)
    same_run(whole, resumed)


def test_a_run_leaves_the_loss_of_its_recipe_as_it_was(data):
    """So that the next seed begins as the first did, and the recipe stays the one that was asked for."""
    recipe = remembering(True, data).resolve(TINY)
    before = recipe.identity()
    one = fit(recipe, data, progress=False)
    assert recipe.identity() == one.recipe.identity() == before
    same_run(one, fit(recipe, data, progress=False))


def test_a_loss_that_two_stages_have_is_one(data):
    """Cutting a stage in two changes nothing here either."""
    loss = Seen(data.class_counts)
    whole = fit(Recipe(Stage(epochs=4, loss=loss), settings=TINY), data, progress=False)
    parts = fit(Recipe(*[Stage(epochs=2, loss=loss)] * 2, settings=TINY), data, progress=False)
    parts.history["stage"] = 1
    same_run(whole, parts)


class Annealed(CrossEntropyLoss):
    """Notes what it is told of epochs."""

    def __init__(self, class_counts, epochs=None, told=None):
        super().__init__()
        self.epochs, self.told = epochs, told

    def set_epoch(self, epoch):
        self.told.append((epoch, self.epochs))


def test_a_loss_is_told_the_epoch_as_a_sampler_is(data):
    """With its stage's epochs if it asks for them, from the stage's start; else from the run's."""
    asks, asks_not = [], []

    def plain(class_counts):
        return Annealed(class_counts, told=asks_not)

    for told, loss in ((asks, partial(Annealed, told=asks)), (asks_not, plain)):
        fit(Recipe(Stage(epochs=1), Stage(epochs=3, loss=loss), settings=TINY), data, progress=False)
        assert told == ([(0, 3), (1, 3), (2, 3)] if told is asks else [(1, None), (2, None), (3, None)])
    with pytest.raises(
        ValueError, match="stage 2: the loss Annealed changes with set_epoch, a recorded step would not"
    ):
        fit(Recipe(Stage(epochs=1), Stage(epochs=1, loss=plain), settings=TINY), data, capture=True, progress=False)


def test_a_loss_made_of_class_counts_must_be_a_module(data, no_step):
    with pytest.raises(TypeError, match=r"loss=<lambda> gives tensor.*: it must give a module"):
        fit(Recipe(Stage(epochs=1, loss=lambda class_counts: class_counts), settings=TINY), data, progress=False)


# --- a loop of your own -----------------------------------------------------------------------------------------------


def test_a_loop_of_your_own_with_the_slots_of_a_stage_is_the_run(data):
    """The loop in the docstring of Slots, with the optimiser and schedule of the settings."""
    stage = Stage(epochs=2, foreground=WholeImageTransform(), loss=BalancedSoftmaxLoss, schedule=OneCycle(lr=0.05))
    torch.manual_seed(3)
    model = Own().to(memory_format=torch.channels_last)
    slots = Slots(stage, 0, data.train, data.class_counts, seed=3)
    slots.masks = slots.foreground.prepare(model, data.train.images, data.train.labels)
    optimizer = torch.optim.SGD(model.parameters(), momentum=0.9, nesterov=True, weight_decay=TINY.weight_decay)
    autocast, generator = torch.autocast("cpu", enabled=False), torch.Generator().manual_seed(3)
    step = TrainingStep(model, slots, TINY, optimizer, generator, autocast)
    losses = []
    for epoch in range(stage.epochs):
        slots.set_epoch(epoch)
        losses.append(train_epoch(step, data.train, lambda share, t=epoch: stage.schedule(t + share, stage.epochs)))

    torch.manual_seed(3)
    result = fit(Recipe(stage, settings=TINY), data, Own(), seed=3, progress=False, device="cpu")
    assert losses == result.history["train_loss"].tolist()
    assert all(map(torch.equal, model.parameters(), result.model.parameters()))


def test_a_loss_whose_parameters_are_fixed_trains(data):
    loss = Scaled().requires_grad_(False)
    same_run(*(fit(Recipe(Stage(epochs=1, loss=slot), settings=TINY), data, progress=False)
               for slot in (loss, CrossEntropyLoss())))  # fmt: skip


# --- starting from a finished first stage ----------------------------------------------------------------------------

PLAIN = Recipe(Stage(epochs=2), name="plain", settings=TINY)
SECOND = Recipe(Stage(epochs=2), Stage(epochs=1, schedule="retrain", trains="classifier"), settings=TINY)


def test_starting_from_a_finished_stage_is_bit_for_bit_the_whole_run(data, tmp_path):
    fit(PLAIN, data, checkpoint=tmp_path / "plain.pt", progress=False)
    whole = fit(SECOND, data, checkpoint=tmp_path / "whole.pt", progress=False)
    parts = fit(SECOND, data, start_from=tmp_path / "plain.pt", checkpoint=tmp_path / "parts.pt", progress=False)
    same_run(whole, parts)
    same_run(whole, fit(SECOND, data, checkpoint=tmp_path / "parts.pt", resume=True, progress=False))


STEPS = replace(
    TINY,
    epochs=5,
    schedules={**TINY.schedules, "base": Steps(lr=0.02, milestones=(0.6,)), "first": Steps(lr=0.02)},
)
BEGUN = Recipe(Stage(epochs=3, schedule="first"), name="begun", settings=STEPS)


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(Stage(epochs=5), settings=STEPS),  # in the middle of a stage
        Recipe(Stage(epochs=3), Stage(epochs=2, loss=CostSensitiveLoss), settings=STEPS),  # the optimizer continues
        Recipe(Stage(epochs=3, schedule="first"), Stage(epochs=1, schedule="retrain"), settings=STEPS),  # a new one
        Recipe(Stage(epochs=3), Stage(epochs=2, sampler=ProgressivelyBalancedSampler), settings=STEPS),
        Recipe(Stage(epochs=5), Stage(epochs=0, classifier=tau_normalised), settings=STEPS),
    ],
)
def test_what_has_trained_alike_so_far_can_be_started_from(data, tmp_path, recipe):
    """By the learning rates that its schedule gave, though schedule and length of the stage are others."""
    fit(BEGUN, data, checkpoint=tmp_path / "begun.pt", progress=False)
    assert recipe.resolve(STEPS).begins_with(BEGUN.resolve(STEPS))
    same_run(fit(recipe, data, progress=False), fit(recipe, data, start_from=tmp_path / "begun.pt", progress=False))


def test_an_unfinished_run_can_be_started_from(data, tmp_path):
    interrupted(data, tmp_path / "plain.pt", 1, PLAIN)
    same_run(fit(SECOND, data, progress=False), fit(SECOND, data, start_from=tmp_path / "plain.pt", progress=False))


@pytest.mark.parametrize(
    ("recipe", "options", "message"),
    [
        (SECOND, {"seed": 1}, "seed is 0 there and 1 here"),
        (Recipe(Stage(epochs=3), Stage(epochs=1, trains="classifier"), settings=TINY), {}, "stage 1.learning rate is"),
        (Recipe(Stage(epochs=2), Stage(epochs=1), settings=TINY), {}, "stage 1.learning rate is"),  # of three epochs
        (Recipe(Stage(epochs=2, sampler=RandomOverSampler), Stage(epochs=1), settings=TINY), {}, "stage 1.sampler is"),
        (Recipe(Stage(epochs=1), Stage(epochs=2, trains="classifier"), settings=TINY), {}, "has to train longer"),
        (PLAIN, {}, "has to train longer"),
    ],
)
def test_a_foreign_start_is_refused(data, tmp_path, recipe, options, message):
    fit(PLAIN, data, checkpoint=tmp_path / "plain.pt", progress=False)
    assert options or not recipe.resolve(TINY).begins_with(PLAIN.resolve(TINY))
    with pytest.raises(ValueError, match=message):
        fit(recipe, data, start_from=tmp_path / "plain.pt", **options)


def test_the_middle_of_a_stage_with_a_schedule_of_its_own_is_no_start(data, tmp_path):
    """A sampler that asks for its stage's epochs draws otherwise in a longer one."""
    short, long = (Recipe(Stage(epochs=n, sampler=ProgressivelyBalancedSampler, schedule="first"), settings=STEPS)
                   for n in (2, 3))  # fmt: skip
    fit(short, data, checkpoint=tmp_path / "short.pt", progress=False)
    with pytest.raises(ValueError, match=r"stage 1\.epochs is 2 there and 3 here"):
        fit(long, data, start_from=tmp_path / "short.pt")


def test_masks_that_a_finished_run_has_not_kept_are_no_start(data, tmp_path):
    moved = Stage(epochs=1, schedule="first", foreground=ForegroundTransform())
    short, long = (Recipe(Stage(epochs=1, schedule="first"), replace(moved, epochs=n), settings=STEPS) for n in (1, 2))
    fit(short, data, checkpoint=tmp_path / "short.pt", progress=False)
    with pytest.raises(ValueError, match="stage 2 needs the masks"):
        fit(long, data, start_from=tmp_path / "short.pt")


def test_a_missing_start_is_refused(data, tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        fit(SECOND, data, start_from=tmp_path / "none.pt")


# --- checkpoints -----------------------------------------------------------------------------------------------------


class Stop(Exception):
    pass


def stopping_after(epochs: int):
    """What saves checkpoints until so many epochs are on the disk, then stops as an exception would."""
    saved, write = [], checkpoints.save

    def stopping(path, state):
        write(path, state)
        saved.append(1)
        if len(saved) == epochs:
            raise Stop

    return stopping


def interrupted(data, path, after: int, recipe: Recipe = RECIPE, **options) -> None:
    """Run until `after` epochs are on the disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "save", stopping_after(after))
        with pytest.raises(Stop):
            fit(recipe, data, checkpoint=path, progress=False, **options)


@pytest.mark.parametrize("after", [1, 2, 3, 4])
def test_resuming_gives_bit_for_bit_the_run_never_interrupted(data, tmp_path, after):
    whole = fit(RECIPE, data, progress=False)
    interrupted(data, tmp_path / "run.pt", after)
    resumed = fit(RECIPE, data, checkpoint=tmp_path / "run.pt", resume=True, progress=False)
    same_run(whole, resumed)


def test_resuming_a_model_with_dropout(data, tmp_path):
    def model():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(3072, 10))

    whole = fit(RECIPE, data, model(), progress=False)
    interrupted(data, tmp_path / "run.pt", 2, model=model())
    same_run(whole, fit(RECIPE, data, model(), checkpoint=tmp_path / "run.pt", resume=True, progress=False))


@pytest.mark.parametrize("after", [1, 3])
def test_resuming_goes_on_with_the_generators_that_slots_have_of_their_own(data, tmp_path, after):
    def recipe() -> Recipe:
        def sampler(labels, seed):
            return torch.utils.data.RandomSampler(labels, generator=torch.Generator().manual_seed(seed))

        def loss() -> EqualizationLoss:
            return EqualizationLoss(data.class_counts, threshold=0.5, generator=torch.Generator().manual_seed(0))

        return Recipe(Stage(epochs=2, loss=loss(), sampler=sampler), Stage(epochs=2, loss=loss()), settings=TINY)

    whole = fit(recipe(), data, progress=False)
    interrupted(data, tmp_path / "run.pt", after, recipe())
    same_run(whole, fit(recipe(), data, checkpoint=tmp_path / "run.pt", resume=True, progress=False))


@pytest.mark.parametrize("name", ["tau_norm", "nearest_class_mean", "logit_adjusted_post_hoc"])
def test_a_checkpoint_holds_what_stages_of_0_epochs_made(data, tmp_path, name):
    base, path = tmp_path / "base.pt", tmp_path / "run.pt"
    recipe = recipes.get(name).resolve(SHAPES).with_epochs(1)
    fit(recipe.first(1), data, checkpoint=base, progress=False)
    whole = fit(recipe, data, checkpoint=path, progress=False)
    assert torch.equal(predict(load_model(path, data), data.test.images), whole.logits)
    assert not torch.equal(predict(load_model(base, data), data.test.images), whole.logits)
    same_run(whole, fit(recipe, data, checkpoint=path, resume=True, progress=False))
    same_run(whole, fit(recipe, data, start_from=base, checkpoint=tmp_path / "parts.pt", progress=False))
    same_run(whole, fit(recipe, data, checkpoint=tmp_path / "parts.pt", resume=True, progress=False))


def test_a_run_goes_on_from_a_checkpoint_that_ends_with_a_stage_of_0_epochs(data, tmp_path):
    first = recipes.get("tau_norm").resolve(TINY).with_epochs(1)
    recipe = Recipe(*first.stages, Stage(epochs=1, trains="classifier", schedule="retrain"), settings=TINY)
    fit(Recipe(*first.stages, settings=TINY), data, checkpoint=tmp_path / "first.pt", progress=False)
    whole = fit(recipe, data, progress=False)
    same_run(whole, fit(recipe, data, start_from=tmp_path / "first.pt", progress=False))


@pytest.mark.parametrize("name", ["ce", "lws", "tau_norm", "nearest_class_mean", "logit_adjusted_post_hoc", "ldam"])
def test_a_checkpoint_alone_is_enough_to_predict(data, tmp_path, name):
    path = tmp_path / "run.pt"
    whole = fit(recipes.get(name).resolve(SHAPES).with_epochs(2), data, checkpoint=path, progress=False)
    before = torch.get_rng_state()
    model = load_model(path)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(predict(model, data.test.images), whole.logits)
    assert model.class_names == data.class_names and type(model.classifier) is type(whole.model.classifier)
    other = load("shapes-lt", imbalance=10, max_count=20, test_count=5, seed=1)
    with pytest.raises(ValueError, match="belongs to another run: data fingerprint"):
        load_model(path, other)


def test_a_network_of_your_own_is_loaded_into_another_like_it(data, tmp_path):
    path = tmp_path / "own.pt"
    recipe = Recipe(Stage(epochs=1), Stage(epochs=1, classifier=weight_scaling), settings=TINY)
    whole = fit(recipe, data, Own(head="classifier"), checkpoint=path, progress=False)
    assert torch.equal(predict(load_model(path, model=Own(head="classifier")), data.test.images), whole.logits)
    with pytest.raises(
        ValueError, match=r"Own is a custom network, give one to load into, load_model\(..., model=...\)"
    ):
        load_model(path)
    for model, message in [(Doubled(head="classifier"), "it is a Own, model= is a Doubled"),
                           (Own(features="other", head="classifier"), "Missing key"),
                           (own_net, "it was made by small_net, model= is own_net")]:  # fmt: skip
        with pytest.raises(ValueError, match=rf"(?s)own.pt holds another network: .*{message}"):
            load_model(path, model=model)
    fit(RECIPE, data, models.build("small_net", 10), checkpoint=tmp_path / "net.pt", progress=False)
    load_model(tmp_path / "net.pt")


def test_a_network_that_a_settings_made_is_made_again_and_loaded(data, tmp_path):
    path = tmp_path / "run.pt"
    recipe = recipes.get("lws").resolve(replace(TINY, model=own_net)).with_epochs(2)
    whole = fit(recipe, data, checkpoint=path, progress=False)
    model = load_model(path, model=own_net)
    assert torch.equal(predict(model, data.test.images), whole.logits)
    wrong = ((None, "own_net.* is a custom network"), (partial(own_net, width=9), "made by own_net.*width=9"))
    for other, message in wrong:
        with pytest.raises(ValueError, match=message):
            load_model(path, model=other)


def test_resuming_tells_networks_of_another_class_with_equal_states(data, tmp_path):
    path = tmp_path / "run.pt"
    fit(RECIPE, data, Own(), checkpoint=path, progress=False)
    with pytest.raises(ValueError, match="network is Own there and Doubled here"):
        fit(RECIPE, data, Doubled(), checkpoint=path, resume=True, progress=False)
    with pytest.raises(ValueError, match="network is Own there and absent here"):
        fit(RECIPE, data, checkpoint=path, resume=True, progress=False)


def test_masks_of_a_foreground_stage_survive_resuming(data, tmp_path):
    class Foreground:
        """Darkens the mask that the stage-1 model drew: half of the images' pixels, by its own first weight."""

        def __repr__(self):
            return "Foreground()"

        def prepare(self, model, images, labels):
            return images.float().mean(1) > 100 + 50 * next(model.parameters()).detach().abs().mean()

        def __call__(self, images, masks, *, generator):
            return torch.where(masks[:, None], images // 2, images)

    recipe = Recipe(Stage(epochs=1), Stage(epochs=3, foreground=Foreground()), settings=TINY)
    whole = fit(recipe, data, progress=False)
    interrupted(data, tmp_path / "run.pt", 2, recipe)
    same_run(whole, fit(recipe, data, checkpoint=tmp_path / "run.pt", resume=True, progress=False))


@pytest.mark.parametrize(
    "name",
    ["crt", "lws", "tau_norm", "nearest_class_mean", "logit_adjusted_post_hoc", "drs_classifier_shift", "drw_cs_ce",
     "drs_progressive", "input_mixup_finetune", "manifold_mixup", "remix", "cam_drs_progressive", "transform_drs"],
)  # fmt: skip
def test_recipes_resume_from_every_epoch(data, tmp_path, name):
    recipe = recipes.get(name).resolve(SHAPES).with_epochs(3)
    whole = fit(recipe, data, progress=False)
    for after in (1, 2, 3):
        interrupted(data, tmp_path / f"{after}.pt", after, recipe)
        same_run(whole, fit(recipe, data, checkpoint=tmp_path / f"{after}.pt", resume=True, progress=False))


def test_resuming_asks_no_training_image_for_the_kind_of_the_classifier(data, tmp_path, monkeypatch):
    recipe = recipes.get("nearest_class_mean").resolve(SHAPES).with_epochs(2)
    whole = fit(recipe, data, checkpoint=tmp_path / "run.pt", progress=False)
    monkeypatch.setattr("ltlab.classifiers.classifier_inputs", lambda *_, **__: pytest.fail("images were read"))
    same_run(whole, fit(recipe, data, checkpoint=tmp_path / "run.pt", resume=True, progress=False))


def halved(model, images, labels, class_counts):
    """A change that is none of ltlab's, to a classifier that its name alone does not make."""
    narrow = nn.Linear(model.classifier.in_features, 4)
    return nn.Sequential(narrow, nn.Linear(4, len(class_counts)))


@pytest.mark.parametrize("changes", [(halved,), (fresh, partial(weight_scaling)), (weight_scaling,)])
def test_resuming_makes_any_classifier_again(data, tmp_path, changes):
    stages = [Stage(epochs=1, schedule="finetune", trains="classifier", classifier=change) for change in changes]
    recipe = Recipe(Stage(epochs=1), *stages, Stage(epochs=1, schedule="finetune")).resolve(TINY)
    whole = fit(recipe, data, progress=False)
    for after in range(1, recipe.epochs + 1):
        interrupted(data, tmp_path / f"{after}.pt", after, recipe)
        same_run(whole, fit(recipe, data, checkpoint=tmp_path / f"{after}.pt", resume=True, progress=False))


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is POSIX")
def test_resuming_after_kill_9_in_the_middle_of_a_stage(tmp_path):
    code = textwrap.dedent("""
        import sys
        from ltlab.data import load
        from ltlab.train import fit
        from ltlab.recipes import Recipe, Stage, SHAPES
        data = load("shapes-lt", imbalance=10, max_count=60, test_count=5)
        fit(Recipe(Stage(epochs=20), settings=SHAPES), data, checkpoint=sys.argv[1], device="cpu", progress=False)
    """)
    path, history = tmp_path / "run.pt", tmp_path / "run.csv"
    child = subprocess.Popen([sys.executable, "-c", code, str(path)])
    deadline = time.monotonic() + 120
    while not history.exists() or len(pd.read_csv(history)) < 2:
        assert child.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    child.kill()
    assert child.wait() != 0
    data = load("shapes-lt", imbalance=10, max_count=60, test_count=5)
    recipe = Recipe(Stage(epochs=20), settings=SHAPES)
    resumed = fit(recipe, data, checkpoint=path, resume=True, device="cpu", progress=False)
    whole = fit(recipe, data, device="cpu", progress=False)
    same_run(whole, resumed)
    pd.testing.assert_frame_equal(pd.read_csv(history), whole.history)


def test_the_history_stands_beside_the_checkpoint_as_csv(data, tmp_path):
    result = fit(RECIPE, data, checkpoint=tmp_path / "deep" / "run.pt", progress=False)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "deep" / "run.csv"), result.history)
    assert sorted(p.name for p in (tmp_path / "deep").iterdir()) == ["run.csv", "run.pt"]


def test_a_finished_run_resumes_to_its_own_result(data, tmp_path):
    first = fit(RECIPE, data, checkpoint=tmp_path / "run.pt", progress=False)
    again = fit(RECIPE, data, checkpoint=tmp_path / "run.pt", resume=True, progress=False)
    same_run(first, again)
    assert again.seconds == first.seconds


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "seed is 0 there and 1 here"),
        ({"recipe": RECIPE.resolve(SHAPES).with_epochs(6)}, "stage 1.epochs is 2 there and 3 here"),
        ({"precision": "bfloat16"}, "precision is float32 there and bfloat16 here"),
        ({"data": {"seed": 1}}, "data fingerprint is"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_by_what_differs(data, tmp_path, change, message):
    fit(RECIPE, data, checkpoint=tmp_path / "run.pt", progress=False)
    if "data" in change:
        change = {"data": load("shapes-lt", imbalance=10, max_count=20, test_count=5, **change["data"])}
    arguments = {"recipe": RECIPE, "data": data, "checkpoint": tmp_path / "run.pt", "resume": True} | change
    with pytest.raises(ValueError, match=f"another run: .*{message}"):
        fit(**arguments)


def test_equal_data_made_by_other_words_are_the_run_s(data, tmp_path):
    """What tells data apart is their content, not how their options were written."""
    whole = fit(RECIPE, data, checkpoint=tmp_path / "run.pt", progress=False)
    other = load("shapes-lt", imbalance=10.0, max_count=20, test_count=5)
    assert other.options != data.options or str(other.options) != str(data.options)
    same_run(whole, fit(RECIPE, other, checkpoint=tmp_path / "run.pt", resume=True, progress=False))


def test_a_checkpoint_of_another_network_is_refused(data, tmp_path):
    fit(RECIPE, data, checkpoint=tmp_path / "run.pt", progress=False)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
    with pytest.raises(ValueError, match="network is absent there and Sequential here"):
        fit(RECIPE, data, model, checkpoint=tmp_path / "run.pt", resume=True)
    fit(RECIPE, data, Own(), checkpoint=tmp_path / "own.pt", progress=False)
    with pytest.raises(ValueError, match="network is not this run's"):
        fit(RECIPE, data, Own(head="head"), checkpoint=tmp_path / "own.pt", resume=True)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_checkpoint_is_refused(data, tmp_path, share):
    path = tmp_path / "run.pt"
    fit(RECIPE, data, checkpoint=path, progress=False)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=r"run\.pt is damaged"):
        fit(RECIPE, data, checkpoint=path, resume=True)


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"epoch,stage\n1,1\n", b"\x80\x02.", b"{}", b"]", b"PK\x05\x06" + bytes(18)]
)
def test_a_file_that_is_no_checkpoint_is_refused(data, tmp_path, content):
    (tmp_path / "run.pt").write_bytes(content)
    with pytest.raises(ValueError, match="damaged or no checkpoint"):
        load_model(tmp_path / "run.pt", data)


def test_a_checkpoint_with_a_flipped_bit_is_refused_or_as_it_was(tmp_path):
    """All bytes of tensors, names and shapes have a checksum; what lies between them does not matter."""
    path, values, draw = tmp_path / "run.pt", torch.rand(300), random.Random(0)
    checkpoints.save(path, {"identity": {}, "x": values})
    whole, refused = path.read_bytes(), 0
    for _ in range(400):
        flipped = bytearray(whole)
        flipped[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        path.write_bytes(flipped)
        try:
            assert torch.equal(checkpoints.load(path, torch.device("cpu"), lambda state: None)["x"], values)
        except ValueError as error:
            refused += 1
            assert "damaged" in str(error)
    assert refused > 100


def test_a_checkpoint_from_elsewhere_is_refused_and_runs_no_code(data, tmp_path):
    path = tmp_path / "run.pt"
    torch.save({"state_dict": {}}, path)
    with pytest.raises(ValueError, match="comes from elsewhere"):
        fit(RECIPE, data, checkpoint=path, resume=True)

    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "evil"),))

    torch.save(Evil(), path)
    with pytest.raises(ValueError, match="damaged or no checkpoint"):
        fit(RECIPE, data, checkpoint=path, resume=True)
    assert not (tmp_path / "evil").exists()


def test_nothing_is_overwritten_or_skipped_in_silence(data, tmp_path):
    path = tmp_path / "run.pt"
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        fit(RECIPE, data, checkpoint=path, resume=True)
    with pytest.raises(ValueError, match="resume needs a checkpoint"):
        fit(RECIPE, data, resume=True)
    path.write_text("precious", encoding="utf-8")
    with pytest.raises(FileExistsError, match="resume the run"):
        fit(RECIPE, data, checkpoint=path)
    assert path.read_text(encoding="utf-8") == "precious"


def test_a_history_that_stands_there_is_not_overwritten(data, tmp_path, no_step):
    table = tmp_path / "table.csv"
    table.write_text("precious", encoding="utf-8")
    with pytest.raises(FileExistsError, match=r"table\.csv exists, where the history of checkpoint .*table\.pt goes"):
        fit(RECIPE, data, checkpoint=tmp_path / "table.pt", progress=False)
    assert table.read_text(encoding="utf-8") == "precious"
    with pytest.raises(ValueError, match=r"checkpoint='other\.csv': the history goes .* call it other\.pt"):
        fit(RECIPE, data, checkpoint="other.csv", progress=False)


@pytest.mark.parametrize("below", ["run.pt", "deep/run.pt"])
def test_a_place_where_no_checkpoint_can_be_written_is_refused(data, tmp_path, no_step, below):
    (tmp_path / "file").write_text("precious", encoding="utf-8")
    with pytest.raises(OSError, match=r"cannot be written .*: name a folder that can"):
        fit(RECIPE, data, checkpoint=tmp_path / "file" / below, progress=False)


@pytest.mark.skipif(
    os.name == "nt" or os.geteuid() == 0, reason="a folder's write permission, which root does not need"
)
def test_a_folder_that_is_read_only_is_refused(data, tmp_path, no_step):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match="cannot be written"):
        fit(RECIPE, data, checkpoint=tmp_path / "run.pt", progress=False)


def test_two_processes_do_not_share_the_file_that_becomes_a_checkpoint(tmp_path, monkeypatch):
    """Another process writes the same checkpoint while this one is at it: the last to finish stays, and is whole."""
    path, fsync = tmp_path / "run.pt", os.fsync

    def meanwhile(descriptor):
        fsync(descriptor)
        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(os, "getpid", lambda: 1)
        checkpoints.write_atomically(path, b"theirs, which is longer")
        monkeypatch.undo()

    monkeypatch.setattr(os, "fsync", meanwhile)
    checkpoints.write_atomically(path, b"ours")
    assert path.read_bytes() == b"ours" and list(tmp_path.iterdir()) == [path]


def test_a_second_run_of_a_checkpoint_is_refused_while_the_first_lasts(data, tmp_path, monkeypatch):
    path, save, epochs = tmp_path / "run.pt", checkpoints.save, []

    def refused(checkpoint, resume):
        with pytest.raises(BlockingIOError, match=rf"another run \(process {os.getpid()} on .*name another"):
            fit(RECIPE, data, checkpoint=checkpoint, resume=resume, progress=False)

    def meanwhile(*args):
        epochs.append(1)
        if len(epochs) == 1:
            refused(path, resume=False)
            refused(path.with_suffix(".pth"), resume=False)  # has the same history, run.csv
        save(*args)
        refused(path, resume=True)

    monkeypatch.setattr(checkpoints, "save", meanwhile)
    first = fit(RECIPE, data, checkpoint=path, progress=False)
    assert len(epochs) == 4
    same_run(first, fit(RECIPE, data, checkpoint=path, resume=True, progress=False))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["run.csv", "run.pt"]


def test_a_run_that_stops_lets_go_of_its_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "run.pt"
    with pytest.raises(Stop), checkpoints.held(path, resume=False):
        raise Stop
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(checkpoints, "check_writable", lambda path: path.touch())  # another run ends right here
    with pytest.raises(FileExistsError, match="resume the run"), checkpoints.held(path, resume=False):
        pytest.fail("what the other run left would have been overwritten")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is POSIX")
def test_a_killed_run_keeps_nobody_from_its_checkpoint(tmp_path):
    code = """
    import sys, time
    from pathlib import Path
    from ltlab.train import checkpoint
    with checkpoint.held(Path(sys.argv[1]), resume=True):
        print("held", flush=True)
        time.sleep(100)
    """
    path = tmp_path / "run.pt"
    arguments = [sys.executable, "-c", textwrap.dedent(code), str(path)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "held\n"
        with (
            pytest.raises(BlockingIOError, match=rf"another run \(process {child.pid} on"),
            checkpoints.held(path, resume=True),
        ):
            pass
        child.kill()
    assert [file.name for file in tmp_path.iterdir()] == ["run.csv.lock"]
    with checkpoints.held(path, resume=True):
        assert f"process {os.getpid()} on" in (tmp_path / "run.csv.lock").read_text(encoding="utf-8")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="flock is POSIX")
@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.ENOLCK])
def test_a_file_system_without_locks_is_told_of_and_trained_on(data, tmp_path, monkeypatch, number):
    import fcntl

    def flock(*args):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.warns(UserWarning, match=rf"run\.pt cannot be locked \({os.strerror(number)}\)") as warned:
        fit(RECIPE, data, checkpoint=tmp_path / "run.pt", progress=False)
    assert warned[0].filename == __file__
    with pytest.warns(UserWarning, match="cannot be locked"):
        fit(RECIPE, data, checkpoint=tmp_path / "run.pt", resume=True, progress=False)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits the size of files as Linux does")
def test_a_full_disk_keeps_the_checkpoint_before(tmp_path):
    code = textwrap.dedent("""
        import resource, signal, sys
        from pathlib import Path
        from ltlab.train import checkpoint
        import torch
        path = Path(sys.argv[1])
        checkpoint.save(path, {"identity": {}, "epoch": 1, "x": torch.zeros(10)})
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        try:
            checkpoint.save(path, {"identity": {}, "epoch": 2, "x": torch.zeros(100_000)})
        except OSError as error:
            print(error)
        kept = checkpoint.load(path, torch.device("cpu"), lambda state: None)
        print(kept["epoch"], [p.name for p in path.parent.iterdir()])
    """)
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "run.pt")], capture_output=True, text=True)
    assert "could not write" in done.stdout and "untouched" in done.stdout, done.stderr
    assert done.stdout.splitlines()[-1] == "1 ['run.pt']"


# --- curves for TensorBoard -------------------------------------------------------------------------------------------


def points(folder) -> dict[str, list[tuple[int, float]]]:
    """The steps and values that TensorBoard shows, by tag."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder)).Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_tensorboard_shows_the_history_and_the_figures_no_epoch_twice(data, tmp_path):
    """Also after an interruption, and when a finished run is resumed once more."""
    pytest.importorskip("tensorboard")
    board = tmp_path / "board"
    options = {"tensorboard": board, "evaluate_every": 2, "extra_metrics": lambda logits, labels: {"half": 0.5}}
    interrupted(data, tmp_path / "run.pt", 3, **options)
    assert [step for step, _ in points(board)["train/loss"]] == [1, 2], "the third was on its way"
    for _ in range(2):
        result = fit(RECIPE, data, checkpoint=tmp_path / "run.pt", resume=True, progress=False, **options)
    shown = points(board)
    for tag, column in {"train/lr": "lr", "train/loss": "train_loss", "train/stage": "stage"}.items():
        assert shown[tag] == [(n, pytest.approx(v)) for n, v in enumerate(result.history[column], start=1)]
    assert shown["test/error"] == [(n, pytest.approx(result.history["test_error"][n - 1])) for n in (2, 4)]
    assert shown["test/half"] == [(2, pytest.approx(0.5)), (4, pytest.approx(0.5))]
    figures = {tag.removeprefix("metrics/"): line for tag, line in shown.items() if tag.startswith("metrics/")}
    assert figures == {
        name: [(4, pytest.approx(value))] for name, value in result.metrics.items() if name != "many_accuracy"
    }, "no class has many images here"


def test_curves_of_another_run_are_not_drawn_over(data, tmp_path):
    pytest.importorskip("tensorboard")
    with curves(tmp_path) as write:
        write({"epoch": 1, "lr": 0.1})
    with pytest.raises(FileExistsError, match="has the curves of a run: give every run a folder of its own"):
        fit(RECIPE, data, tensorboard=tmp_path, progress=False)
    assert points(tmp_path) == {"train/lr": [(1, pytest.approx(0.1))]}


def test_without_tensorboard_the_way_to_install_it_is_named_before_anything_is_trained(data, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.setattr(TrainingStep, "__call__", None)
    with pytest.raises(ImportError, match="pip install tensorboard"):
        fit(RECIPE, data, tensorboard=tmp_path / "board", progress=False)
    assert not (tmp_path / "board").exists()


# --- devices, precision, bad input -----------------------------------------------------------------------------------


def test_bfloat16_trains_too(data):
    result, exact = (fit(RECIPE, data, precision=p, progress=False) for p in ("bfloat16", "float32"))
    assert result.logits.dtype == torch.float32 and next(result.model.parameters()).dtype == torch.float32
    first, exact_first = result.history["train_loss"].iloc[0], exact.history["train_loss"].iloc[0]
    assert 0 < abs(first - exact_first) < 0.1  # another arithmetic, the same training


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_learns_what_the_cpu_learns(data):
    on_cpu = fit(RECIPE, data, device="cpu", progress=False)
    on_cuda = fit(RECIPE, data, device="cuda", precision="float32", progress=False)
    assert on_cuda.logits.device.type == "cpu"
    assert abs(on_cuda.history["train_loss"].iloc[0] - on_cpu.history["train_loss"].iloc[0]) < 0.3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"recipe": "cee"}, "unknown recipe 'cee'"),
        ({"device": "cudda"}, "unknown device 'cudda'; did you mean 'cuda'"),
        ({"precision": "float16"}, "unknown precision 'float16'"),
        ({"evaluate_every": 0}, "evaluate_every=0"),
    ],
)
def test_bad_input_is_refused_with_the_way_out(data, arguments, message):
    with pytest.raises(ValueError, match=message):
        fit(**({"recipe": RECIPE, "data": data} | arguments))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_device_that_is_not_there():
    with pytest.raises(ValueError, match="device='cuda' is not on this machine"):
        find_device("cuda")


def test_a_loss_that_explodes_stops_the_run(data):
    settings = replace(TINY, schedules={"base": OneCycle(lr=1e30, rise=0.5)})
    with pytest.raises(FloatingPointError, match="learning rate"):
        fit(Recipe(Stage(epochs=3), settings=settings), data, progress=False)


@pytest.mark.slow
def test_plain_training_on_shapes_lt_shows_a_long_tail(plain):
    """The default recipe on the default data: a tail that one can see, and a head that is learnt."""
    data, result = plain
    right = (result.logits.argmax(1) == data.test.labels).double()
    error = 1 - right.reshape(10, -1).mean(1)  # the test set comes class by class
    assert 0.30 <= result.metrics["top1_error"] <= 0.50
    assert error[:3].mean() < 0.15 and error[-3:].mean() > 0.60


@pytest.mark.cifar
@pytest.mark.slow
def test_resnet32_learns_on_real_cifar(cifar_root):
    data = load("cifar10-lt", root=cifar_root)
    result = fit(Recipe(Stage(epochs=1), settings=replace(CIFAR, schedules={"base": OneCycle(0.1)})), data,
                 progress=False)  # fmt: skip
    assert result.metrics["top1_error"] < 0.85  # chance is 0.90
