"""The step and the stages: exact, and untouched by what happens around them."""

import copy
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from small_runs import RECIPE, TINY, Own, interrupted, run, same_run, tiny_data

from ltlab import models, recipes
from ltlab.cam import ForegroundTransform, WholeImageTransform
from ltlab.classifiers import class_means, classifier_inputs, nearest_class_mean
from ltlab.data import load
from ltlab.losses import BalancedSoftmaxLoss, CrossEntropyLoss
from ltlab.recipes import CIFAR, SHAPES, OneCycle, Recipe, Stage
from ltlab.samplers import ProgressivelyBalancedSampler, RandomUnderSampler, ShuffledSampler
from ltlab.train import Slots, TrainingStep, augment, evaluate, fit, predict, to_float, train_epoch
from ltlab.train.run import Run
from ltlab.train.step import optimizer_for, set_learning_rate


@pytest.fixture(scope="module")
def data():
    return tiny_data()


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
    assert augment(images, 0, False, torch.Generator()) is images


def test_to_float_is_exact_and_channels_last():
    images = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(2, 3, 16, 16)
    out = to_float(images)
    torch.testing.assert_close(out, images.float() / 255, rtol=0, atol=0)
    assert out.is_contiguous(memory_format=torch.channels_last)


# --- the step --------------------------------------------------------------------------------------------------------

ADAM = partial(torch.optim.AdamW, betas=(0.8, 0.9))
SGD = partial(torch.optim.SGD, momentum=0.9, nesterov=True)


@pytest.mark.parametrize(("optimizer", "make"), [(None, SGD), (ADAM, ADAM)])
def test_a_run_against_a_loop_in_plain_torch(data, optimizer, make):
    """Three epochs of the recipe's two parts written out by hand; no augmentation, so that no draw is hidden."""
    schedule = OneCycle(lr=0.05 if optimizer is None else 0.005)
    settings = replace(TINY, crop_padding=0, flip=False, schedules={"base": schedule}, optimizer=optimizer)
    recipe = Recipe(Stage(epochs=1), Stage(epochs=2, loss=BalancedSoftmaxLoss), settings=settings)
    torch.manual_seed(5)
    result = run(recipe, data, models.build("small_net", 10, data.train.images), seed=5, device="cpu")

    torch.manual_seed(5)
    model = models.build("small_net", 10, data.train.images).to(memory_format=torch.channels_last)
    optimizer = make(model.parameters(), lr=1, weight_decay=5e-4)
    order = ShuffledSampler(data.train.labels, seed=5)
    log_counts = data.class_counts.double().log().float()
    for epoch in range(3):
        order.set_epoch(epoch)
        batches = torch.tensor(list(order)).split(32)
        for step, indices in enumerate(batches):
            logits = model(data.train.images[indices].float() / 255)
            loss = F.cross_entropy(logits + (log_counts if epoch >= 1 else 0), data.train.labels[indices])
            optimizer.param_groups[0]["lr"] = schedule(epoch + step / len(batches), 3)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    for theirs, ours in zip(model.parameters(), result.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_cutting_a_stage_in_two_changes_nothing(data):
    whole = run(Stage(epochs=3), data)
    parts = run(Recipe(Stage(epochs=1), Stage(epochs=2), settings=TINY), data)
    parts.history["stage"] = 1
    same_run(whole, parts)


def test_slots_change_exactly_where_their_stage_begins(data):
    """The same seed: epochs before the start are bit-identical, the start epoch is the first to differ."""
    plain = run(Stage(epochs=3), data).history["train_loss"]
    for start in (1, 2):
        deferred = Recipe(Stage(epochs=start), Stage(epochs=3 - start, loss=BalancedSoftmaxLoss), settings=TINY)
        loss = run(deferred, data).history["train_loss"]
        assert (loss[:start] == plain[:start]).all() and loss[start] != plain[start]


def test_samplers_with_a_schedule_get_the_stage_s_epochs_and_count_from_its_start(data):
    asked = []

    class Spy(ProgressivelyBalancedSampler):
        def epoch_indices(self):
            asked.append((self.epoch, self.epochs))
            return super().epoch_indices()

    run(Recipe(Stage(epochs=1), Stage(epochs=3, sampler=Spy), settings=TINY), data)
    assert asked == [(0, 3), (0, 3), (1, 3), (2, 3)]  # the first on trial


class Annealed(CrossEntropyLoss):
    """Notes what it is told of epochs."""

    def __init__(self, class_counts, epochs=None, told=None):
        super().__init__()
        self.epochs, self.told = epochs, told

    def set_epoch(self, epoch):
        self.told.append((epoch, self.epochs))


def test_a_loss_is_told_the_epoch_as_a_sampler_is(data):
    """With its stage's epochs if it asks for them, from the stage's start; else from the run's. First on trial."""
    asks, asks_not = [], []

    def plain(class_counts):
        return Annealed(class_counts, told=asks_not)

    for told, loss in ((asks, partial(Annealed, told=asks)), (asks_not, plain)):
        run(Recipe(Stage(epochs=1), Stage(epochs=2, loss=loss), settings=TINY), data)
        assert told[1:] == ([(0, 2), (1, 2)] if told is asks else [(1, None), (2, None)]) and told[0] == told[1]
    with pytest.raises(ValueError, match="stage 2: the loss Annealed changes with set_epoch"):
        run(Recipe(Stage(epochs=1), Stage(epochs=1, loss=plain), settings=TINY), data, capture=True)


def test_the_learning_rate_ends_with_the_span_whatever_the_epoch_s_length(data):
    """Under-sampling makes epochs shorter, and the schedule runs in epochs, not in steps."""
    recipe = Recipe(Stage(epochs=2), Stage(epochs=2, sampler=RandomUnderSampler), settings=TINY)
    rates = run(recipe, data).history["lr"]
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

    plain = run(Recipe(Stage(epochs=1), Stage(epochs=1), settings=TINY), data)
    slots = run(Recipe(Stage(epochs=1), Stage(epochs=1, mix=Mix(), foreground=Foreground()), settings=TINY), data)
    for ours, theirs in zip(slots.model.parameters(), plain.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)  # these two slots change nothing but are called
    assert calls.count(("prepare", len(data.train), len(data.train))) == 1
    assert ("mix", torch.float32, (10,)) in calls and ("foreground", torch.uint8, True) in calls


@pytest.mark.parametrize("kind", ["whole", "masks"])
def test_a_foreground_that_makes_no_maps_moves_images_from_the_first_epoch_on(data, tmp_path, kind):
    foreground = WholeImageTransform() if kind == "whole" else ForegroundTransform(masks=data.train.masks)
    recipe = Recipe(Stage(epochs=2, foreground=foreground), settings=TINY)
    whole = run(recipe, data, Own())
    assert whole.network == "Own", "any model will do"
    whole, plain = run(recipe, data), run(Stage(epochs=1), data)
    assert whole.history["train_loss"][0] != plain.history["train_loss"][0]
    interrupted(data, tmp_path / "run.pt", 1, recipe)
    same_run(whole, run(recipe, data, checkpoint=tmp_path / "run.pt", resume=True))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_custom_loop_with_the_slots_of_a_stage_is_the_run(data, precision):
    """The loop in the docstring of Slots, with the optimiser and schedule of the settings."""
    stage = Stage(epochs=2, foreground=WholeImageTransform(), loss=BalancedSoftmaxLoss, schedule=OneCycle(lr=0.05))
    torch.manual_seed(3)
    model = Own().to(memory_format=torch.channels_last)
    slots = Slots(stage, 0, data.train, data.class_counts, seed=3)
    slots.masks = slots.foreground.prepare(model, data.train.images, data.train.labels)
    optimizer = torch.optim.SGD(model.parameters(), momentum=0.9, nesterov=True, weight_decay=TINY.weight_decay)
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16")
    generator = torch.Generator().manual_seed(3)
    step = TrainingStep(model, slots, TINY, optimizer, generator, autocast)
    losses = []
    for epoch in range(stage.epochs):
        slots.set_epoch(epoch)
        losses.append(train_epoch(step, data.train, lambda share, t=epoch: stage.schedule(t + share, stage.epochs)))

    torch.manual_seed(3)
    result = run(stage, data, Own(), seed=3, device="cpu", precision=precision)
    assert losses == result.history["train_loss"].tolist()
    assert all(map(torch.equal, model.parameters(), result.model.parameters()))


# --- learning rates per part -----------------------------------------------------------------------------------------


def test_a_part_learns_at_its_factor_of_the_rate(data):
    """Three steps by hand, with momentum and weight decay; a factor of 0 leaves every bit."""
    rates = {"classifier": 0.0, "classifier.weight": 0.25, "features": 0.5}
    model = Own(features="features", head="classifier")
    before = copy.deepcopy(model.state_dict())
    optimizer = optimizer_for(model, TINY, replace(Stage(epochs=1, rates=rates), schedule=OneCycle(lr=0.05)))
    expected = {name: (p.detach().clone(), torch.zeros_like(p)) for name, p in model.named_parameters()}
    factors = {"classifier.weight": 0.25, "classifier.bias": 0.0}
    for step in range(3):
        set_learning_rate(optimizer, lr := 0.1 / (step + 1))
        for name, p in model.named_parameters():
            p.grad = torch.full_like(p, 0.3 * (step + 1))
            w, v = expected[name]
            g = p.grad + TINY.weight_decay * w
            v = TINY.momentum * v + g
            expected[name] = w - lr * factors.get(name, 0.5) * (g + TINY.momentum * v), v
        optimizer.step()
    for name, p in model.named_parameters():
        torch.testing.assert_close(p, expected[name][0])
        assert (factors.get(name) == 0) == torch.equal(p, before[name])


def test_rates_that_name_nothing_are_refused_before_anything_is_trained(data, tmp_path):
    second = Stage(epochs=1, trains="classifier", rates={"classifier.margin": 0.0})
    with pytest.raises(ValueError, match=r"rates.*classifier\.margin.*classifier\.weight"):
        run(Recipe(Stage(epochs=1), second, settings=TINY), data, checkpoint=tmp_path / "run.pt")
    assert not list(tmp_path.iterdir())


def test_a_run_with_rates_resumes_to_the_bit(data, tmp_path):
    recipe = recipes.get("mislas").resolve(SHAPES).with_epochs(4)
    whole = run(recipe, data)
    interrupted(data, tmp_path / "run.pt", 3, recipe)
    same_run(whole, run(recipe, data, checkpoint=tmp_path / "run.pt", resume=True))


# --- evaluation ------------------------------------------------------------------------------------------------------


def test_predict_leaves_the_mode_and_is_the_model_in_evaluation_mode(data):
    model = models.build("small_net", 10, data.train.images).train()
    logits = predict(model, data.test.images, batch_size=7)
    assert model.training
    with torch.no_grad():
        torch.testing.assert_close(logits, model.eval()(data.test.images))


def test_metrics_of_the_last_epoch(data):
    result = run(RECIPE, data)
    right = result.logits.argmax(1) == data.test.labels
    assert result.metrics["top1_error"] == pytest.approx(1 - right.float().mean().item())
    assert result.metrics["top1_error"] == result.history["test_error"].iloc[-1]
    assert list(result.metrics) == ["top1_error", "balanced_error", "many_accuracy", "medium_accuracy", "few_accuracy",
                                    "expected_calibration_error", "negative_log_likelihood", "brier_score", "many_gap",
                                    "medium_gap", "few_gap"]  # fmt: skip
    assert result.metrics["many_accuracy"] != result.metrics["many_accuracy"]  # NaN: no such class here
    assert evaluate(result.logits, data.test.labels, data.class_counts)["few_accuracy"] == pytest.approx(
        result.metrics["few_accuracy"]
    )
    assert result.network == "small_net"


@pytest.mark.parametrize(("name", "times"), [("ce", 3), ("crt", 3), ("tau_norm", 4)])
def test_the_test_set_is_evaluated_once_an_epoch_and_after_a_last_stage_of_none(data, monkeypatch, name, times):
    """The metrics are those of the model at the end, whatever extra metrics do to its logits."""
    predicted, predict_all = [], Run.predict
    monkeypatch.setattr(Run, "predict", lambda run: predicted.append(1) or predict_all(run))
    recipe = recipes.get(name).resolve(TINY).with_epochs(3)
    result = run(recipe, data, device="cpu", extra_metrics=lambda logits, labels: {"zero": logits.zero_().sum()})
    assert len(predicted) == times
    assert torch.equal(result.logits, predict(result.model, data.test.images))


def test_extra_metrics_are_in_the_history(data, tmp_path):
    """At every evaluation, of that epoch's logits; a resumed run has them all, and training is the same."""
    given = []

    def extra(logits, labels):
        given.append(logits)
        assert logits.is_cpu and torch.equal(labels, data.test.labels)
        worst = min((logits.argmax(1) == labels)[labels == c].double().mean() for c in range(10))
        return {"worst_class": worst, "error_again": (logits.argmax(1) != labels).double().mean()}

    whole = run(RECIPE, data, extra_metrics=extra, evaluate_every=3)
    assert list(whole.history)[-2:] == ["worst_class", "error_again"] and torch.equal(given[-1], whole.logits)
    assert whole.history["worst_class"].isna().tolist() == [True, True, False, False]
    pd.testing.assert_series_equal(whole.history["error_again"], whole.history["test_error"], check_names=False)
    assert torch.equal(run(RECIPE, data).logits, whole.logits)
    path = tmp_path / "run.pt"
    interrupted(data, path, 3, extra_metrics=extra, evaluate_every=3)
    same_run(whole, run(RECIPE, data, extra_metrics=extra, evaluate_every=3, checkpoint=path, resume=True))
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "run.csv"), whole.history)


@pytest.mark.parametrize(
    ("extra", "error", "message"),
    [
        ({"lr": 1.0}, ValueError, "'lr', which the history has"),
        (0.5, TypeError, r"0.5: .*\{name: number\}"),
        ({"f1": [1.0, 2.0]}, TypeError, "f1"),
    ],
)
def test_extra_metrics_that_are_not_columns_are_refused(data, extra, error, message):
    with pytest.raises(error, match=rf"extra_metrics\(logits, labels\) gives .*{message}"):
        run(Stage(epochs=1), data, extra_metrics=lambda logits, labels: extra)


# --- randomness and precision ----------------------------------------------------------------------------------------


def test_seeds_reproduce_and_differ_and_the_global_generator_stays(data):
    torch.manual_seed(123)
    before = torch.get_rng_state()
    a, b, c = (run(Stage(epochs=1), data, seed=seed) for seed in (1, np.int64(1), 2))
    assert torch.equal(before, torch.get_rng_state())
    same_run(a, b)
    assert not torch.equal(a.logits, c.logits)
    for seed in (-1, 1.5, 2**32):
        with pytest.raises(ValueError, match=f"seed={seed}"):
            run(RECIPE, data, seed=seed)


def test_bfloat16_trains_too(data):
    result, exact = (run(Stage(epochs=1), data, precision=p) for p in ("bfloat16", "float32"))
    assert result.logits.dtype == torch.float32 and next(result.model.parameters()).dtype == torch.float32
    first, exact_first = result.history["train_loss"].iloc[0], exact.history["train_loss"].iloc[0]
    assert 0 < abs(first - exact_first) < 0.1  # another arithmetic, the same training


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_learns_what_the_cpu_learns(data):
    on_cpu = run(RECIPE, data, device="cpu")
    on_cuda = run(RECIPE, data, device="cuda", precision="float32")
    assert on_cuda.logits.device.type == "cpu"
    assert abs(on_cuda.history["train_loss"].iloc[0] - on_cpu.history["train_loss"].iloc[0]) < 0.3


def test_a_loss_that_explodes_stops_the_run(data):
    settings = replace(TINY, schedules={"base": OneCycle(lr=1e30, rise=0.5)})
    with pytest.raises(FloatingPointError, match="learning rate"):
        run(Recipe(Stage(epochs=3), settings=settings), data)


# --- stages that freeze, and that change the classifier --------------------------------------------------------------


def state_after(data, **stage) -> tuple[dict, dict]:
    """The model's state at the start and at the end of a second stage."""
    started = {}

    def spy(model, images, labels, class_counts):
        started.update({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return model.classifier

    result = run(Recipe(Stage(epochs=1), Stage(epochs=2, classifier=spy, **stage), settings=TINY), data)
    assert all(p.requires_grad for p in result.model.parameters()), "what a stage froze is free again afterwards"
    return started, result.model.state_dict()


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
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert kinds(changed) == changes
    if "weights" in changes:
        assert {name for name in before if kinds({name}) == {"weights"}} <= changed


@pytest.mark.parametrize("stopped", [False, True])
def test_a_parameter_that_its_owner_froze_stays_so(data, monkeypatch, stopped):
    """And what a stage froze is free again, also where the run stops within it."""
    model = models.build("small_net", 10, data.train.images)
    model.stem.requires_grad_(False)
    stem, before = [p.clone() for p in model.stem.parameters()], [p.requires_grad for p in model.parameters()]
    if stopped:
        monkeypatch.setattr(TrainingStep, "__call__", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(Stage(epochs=1, trains="classifier"), data, model)
    else:
        run(Recipe(Stage(epochs=1), Stage(epochs=1, trains="classifier"), settings=TINY), data, model)
    assert all(map(torch.equal, stem, model.stem.parameters()))
    assert [p.requires_grad for p in model.parameters()] == before


def test_a_stage_with_nothing_to_train_is_refused_and_freezes_nothing(data):
    model = models.build("small_net", 10, data.train.images)
    model.classifier.requires_grad_(False)
    with pytest.raises(ValueError, match="trains='classifier' has nothing to train"):
        run(Stage(epochs=1, trains="classifier"), data, model)
    assert all(p.requires_grad for p in model.layer1.parameters())


def test_a_stage_s_weight_decay_replaces_the_settings(data):
    def shrunk(weight_decay) -> float:
        torch.manual_seed(0)
        model = models.build("small_net", 10, data.train.images)
        run(Stage(epochs=2, weight_decay=weight_decay, trains="classifier", batch_norm="eval"), data, model)
        return model.classifier.weight.norm().item()

    assert shrunk(None) == shrunk(TINY.weight_decay) > shrunk(0.5) and shrunk(0.0) > shrunk(TINY.weight_decay)


def test_a_change_of_the_classifier_that_asks_for_the_crop_sees_what_is_evaluated(data):
    """The class means of large images are those of their centres, which the test images are shown by."""
    recipe = recipes.get("nearest_class_mean").resolve(replace(SHAPES, crop=24)).with_epochs(1)
    asked = []

    def spy(model, images, labels, class_counts, *, crop):
        asked.append((tuple(images.shape[2:]), crop))
        return nearest_class_mean(model, images, labels, class_counts, crop=crop)

    result = run(recipe, data)
    own = Recipe(recipe.stages[0], Stage(epochs=0, classifier=spy), settings=recipe.settings)
    assert torch.equal(result.model.classifier.weight, run(own, data).model.classifier.weight)
    assert asked == [((32, 32), 24)]
    means = class_means(classifier_inputs(result.model, data.train.images, crop=24), data.train.labels, 10)
    torch.testing.assert_close(result.model.classifier.weight.detach(), means)


@pytest.mark.parametrize("name", ["tau_norm", "nearest_class_mean", "logit_adjusted_post_hoc"])
def test_a_post_hoc_stage_trains_nothing(data, name):
    plain = run(recipes.get("ce").resolve(SHAPES).with_epochs(1), data)
    result = run(recipes.get(name).resolve(SHAPES).with_epochs(1), data)
    pd.testing.assert_frame_equal(plain.history, result.history, check_exact=True)
    ours = result.model.state_dict()
    changed = {k for k, v in plain.model.state_dict().items() if k not in ours or not torch.equal(v, ours[k])}
    assert changed and kinds(changed) == {"classifier"}
    assert not torch.equal(plain.logits, result.logits)


# --- real sizes ------------------------------------------------------------------------------------------------------


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
