"""The captured step: the same losses as the step that it records, and nothing in it that waits for an accelerator."""

import copy
import inspect
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path

import pytest
import torch
from small_runs import interrupted
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    unset_fake_temporarily,
)

from ltlab import data as datasets
from ltlab import models
from ltlab.cam import ForegroundTransform, WholeImageTransform
from ltlab.data import LongTailedData, Split
from ltlab.losses import ClassBalancedLoss
from ltlab.mixup import InputMixup, ManifoldMixup, Remix
from ltlab.recipes import RECIPES, SHAPES, Stage, describe
from ltlab.samplers import PowerSampler
from ltlab.train import CapturedStep, TrainingStep, fit, train_epoch
from ltlab.train.step import Slots

BALANCED = partial(PowerSampler, q=0.0)
STAGES = {
    "plain": Stage(epochs=1),
    "loss": Stage(epochs=1, loss=partial(ClassBalancedLoss, beta=0.9999)),
    "mixup": Stage(epochs=1, mix=InputMixup(alpha=1.0)),
    "remix": Stage(epochs=1, mix=Remix(alpha=1.0)),
    "all four": Stage(
        epochs=1, sampler=BALANCED, foreground=ForegroundTransform(fill=True),
        mix=ManifoldMixup(alpha=1.0, layer="pool"), loss=partial(ClassBalancedLoss, beta=0.9999),
    ),
    "classifier alone": Stage(epochs=1, sampler=BALANCED, trains="classifier", batch_norm="eval"),
}  # fmt: skip


@pytest.fixture(scope="module")
def data() -> LongTailedData:
    return datasets.load("shapes-lt", imbalance=10, max_count=80, test_count=4)


def step_on(data: LongTailedData, stage: Stage, captured: bool) -> tuple[TrainingStep, Callable]:
    """A stage's step on equal weights and draws, and what takes it."""
    torch.manual_seed(0)
    model = models.build("small_net", 10, data.train.images)
    slots = Slots(stage, 0, data.train, data.class_counts, seed=0)
    if stage.foreground:
        slots.masks = stage.foreground.prepare(model, data.train.images, data.train.labels)
    part = model.classifier if stage.trains == "classifier" else model
    rate = {"lr": torch.zeros(()), "fused": True} if captured else {"lr": 0.0}
    optimizer = torch.optim.SGD(part.parameters(), momentum=0.9, nesterov=True, weight_decay=5e-4, **rate)
    generator = torch.Generator().manual_seed(0)
    step = TrainingStep(model, slots, SHAPES, optimizer, generator, torch.autocast("cpu", enabled=False))
    return step, CapturedStep(step, generator) if captured else step


def losses_of(step: TrainingStep, take: Callable, split: Split, rate: float) -> list[float]:
    """The loss of every step of an epoch whose learning rate falls from `rate` with every step."""
    losses = []

    def noted(*batch):
        losses.append(take(*batch).clone())
        return losses[-1]

    train_epoch(step, split, lambda share: rate * (1 - share), noted)
    return torch.stack(losses).tolist()


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_captured_and_eager_steps_have_the_same_losses(data, stage):
    """The last batch is smaller than the others, and the learning rate changes with every step."""
    eager, captured = (losses_of(*step_on(data, stage, captured), data.train, 0.05) for captured in (False, True))
    assert len(captured) >= 10 and captured == pytest.approx(eager, rel=1e-4)
    if stage == STAGES["plain"]:
        assert captured != pytest.approx(losses_of(*step_on(data, stage, True), data.train, 0.04), rel=1e-4)


@pytest.mark.parametrize("name", ["bag_of_tricks", "drw_ldam"])
def test_a_captured_run_is_the_eager_run(data, name, tmp_path):
    """Whole recipes, stage by stage; and a checkpoint of the one continues as the other."""
    recipe = RECIPES[name].resolve(SHAPES).with_epochs(6)
    eager = fit(recipe, data, progress=False)
    captured = fit(recipe, data, capture=True, progress=False)
    assert captured.history["train_loss"].tolist() == pytest.approx(eager.history["train_loss"].tolist(), rel=0.01)

    interrupted(data, tmp_path / "run.pt", 3, recipe)
    resumed = fit(recipe, data, capture=True, checkpoint=tmp_path / "run.pt", resume=True, progress=False)
    assert resumed.history["train_loss"].tolist() == pytest.approx(eager.history["train_loss"].tolist(), rel=0.01)


# --- nothing waits ---------------------------------------------------------------------------------------------------


class OnTheDevice(torch.Generator):
    """A generator that says it lives on an accelerator."""

    @property
    def device(self) -> torch.device:
        return torch.device("cuda:0")


def distinct_stages() -> dict[str, Stage]:
    """The stages of all recipes that differ in a slot."""
    stages = {}
    for recipe in RECIPES.values():
        for stage in recipe.stages:
            if stage.epochs != 0:
                key = " | ".join(describe(getattr(stage, slot)) for slot in ("foreground", "mix", "loss"))
                stages.setdefault(key, stage)
    return stages | {"filled": STAGES["all four"], "whole": Stage(foreground=WholeImageTransform())}


def on_the_device(loss: torch.nn.Module | Callable) -> torch.nn.Module:
    """A stage's loss with stand-ins for its settings; made of true counts, which it checks, outside the fake mode."""
    with unset_fake_temporarily(), torch.device("cpu"):
        made = copy.deepcopy(loss) if isinstance(loss, torch.nn.Module) else loss(torch.arange(1, 11))
        shapes = {name: (value.shape, value.dtype) for name, value in made.named_buffers()}
    for name, (shape, dtype) in shapes.items():
        setattr(made, name, torch.empty(shape, dtype=dtype))
    return made


def loss_on_stand_ins(stage: Stage) -> torch.Tensor:
    """Of a step on stand-ins for an accelerator's tensors, which have no values: reading one is an error."""
    with FakeTensorMode(), torch.device("cuda:0"):
        model = inspect.unwrap(models.small_net)(10)  # which would make it on the CPU
        slots = object.__new__(Slots)
        slots.foreground, slots.mix, slots.class_counts = stage.foreground, stage.mix, torch.ones(10)
        slots.masks = torch.zeros(40, 128, dtype=torch.uint8)
        slots.loss = on_the_device(stage.loss)
        step = TrainingStep(model, slots, SHAPES, None, OnTheDevice(), torch.autocast("cpu", enabled=False))
        chosen = torch.zeros(16, dtype=torch.int64)
        return step.loss(chosen, torch.zeros(16, 3, 32, 32, dtype=torch.uint8), chosen)


@pytest.fixture(scope="module")
def stand_ins():
    """torch 2.9 fills a stand-in by asking the driver, which a machine without a GPU does not have."""
    try:
        with FakeTensorMode():
            torch.empty(1, device="cuda:0").uniform_()
    except RuntimeError as error:
        pytest.skip(f"no stand-ins for a CUDA device in torch {torch.__version__}: {str(error).splitlines()[0]}")


@pytest.mark.usefixtures("stand_ins")
@pytest.mark.parametrize("stage", distinct_stages().values(), ids=distinct_stages())
def test_no_slot_waits_for_the_accelerator(stage):
    loss = loss_on_stand_ins(stage)
    assert loss.device.type == "cuda" and loss.shape == ()


@pytest.mark.usefixtures("stand_ins")
@pytest.mark.parametrize("wait", [lambda images: images.mean().item(), lambda images: images[images > 0.5]])
def test_a_slot_that_waits_is_found(wait):
    def mix(model, images, targets, **_):
        wait(images)
        return model(images), targets

    with pytest.raises((DataDependentOutputException, DynamicOutputShapeException)):
        loss_on_stand_ins(Stage(mix=mix))


# --- on an accelerator, and the benchmark ----------------------------------------------------------------------------


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ["ce", "bag_of_tricks", "drw_ldam", "crt"])
def test_a_recorded_step_learns_what_the_eager_one_learns(name):
    data = datasets.load("shapes-lt")
    recipe = RECIPES[name].resolve(SHAPES).with_epochs(20)
    errors = [
        fit(recipe, data, device="cuda", precision="float32", capture=capture, progress=False).metrics["top1_error"]
        for capture in (False, True)
    ]
    assert errors[1] == pytest.approx(errors[0], abs=0.08) and errors[1] < 0.75


@pytest.mark.slow
def test_the_benchmark_of_the_step_runs_without_a_gpu(monkeypatch, capsys):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    monkeypatch.setattr(sys, "argv", ["gpu_step.py", "--device", "cpu", "--quick"])
    import_module("gpu_step").main()
    said = capsys.readouterr().out
    assert all(way in said for way in ("conventional, float32", "captured, bfloat16", "bag of tricks, captured"))
