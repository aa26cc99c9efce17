"""A recipe's way through its stages, epoch by epoch."""

import copy
import inspect
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn

from .. import metrics, models
from ..classifiers import declared, take_scale
from ..data import ImageSplit, LongTailedData
from ..names import look_up
from ..progress import progress_bar
from ..recipes import Plan, PlannedStage, describe
from ..samplers import generator_seed
from . import checkpoint as checkpoints
from .captured import CapturedStep
from .checks import check_plan, try_stages
from .curves import Write
from .processes import OneProcess, across_processes
from .step import Slots, TrainingStep, batch_norms, evaluate, optimizer_for, predict, train_epoch
from .stored_masks import Masks

HISTORY = ("epoch", "stage", "lr", "train_loss", "test_error")
ExtraMetrics = Callable[[Tensor, Tensor], Mapping[str, float]]


@dataclass
class Result:
    """What a run leaves behind.

    model: as it is after the last stage; history: one row per epoch, with the columns `HISTORY` and the extra metrics;
    metrics: of the model, see `evaluate`; logits: of the test images, float32 (N, C), on the CPU; recipe: as it
    was run; seconds: of training and evaluation, over all resumptions; network: the name of the
    settings' model, or of the function that made it, or the class of a custom one; precision: "float32" or
    "bfloat16".
    """

    model: nn.Module
    history: pd.DataFrame
    metrics: dict[str, float]
    logits: Tensor
    recipe: Plan
    seconds: float
    network: str
    precision: str


class Run:
    """The state of a run: how it is begun, moved on by one epoch, saved and loaded.

    A task other than classification is a subclass with another step, evaluation and result.
    """

    step: type[TrainingStep] = TrainingStep
    watched = "test_error"  # the column of the history that the progress bar shows

    def __init__(
        self, recipe: Plan, data: LongTailedData, model: nn.Module | None, processes: OneProcess, *, seed: int,
        precision: str, capture: bool, batch_norm: str, path: Path | None, extra_metrics: ExtraMetrics | None = None,
    ) -> None:  # fmt: skip
        device = processes.device
        bfloat16 = look_up("precision", precision, {
            "auto": device.type == "cuda", "float32": False, "bfloat16": True, "32-true": False, "bf16-mixed": True,
        })  # fmt: skip
        self.recipe, self.settings, self.device = recipe, recipe.settings, device
        self.capture, self.processes, self.path, self.extra_metrics = capture, processes, path, extra_metrics
        self.setting = {
            "data": data.name, "data fingerprint": data.fingerprint, "seed": str(seed),
            "device": device.type, "precision": "bfloat16" if bfloat16 else "float32",
        }  # fmt: skip
        if processes.size > 1:
            self.setting |= {"processes": str(processes.size), "batch norm across processes": batch_norm}
        model = self.begin_with(model, data)
        check_plan(recipe, data, model if self.own_model else None, capture, processes)
        self.model = across_processes(model, batch_norm, processes).to(device)
        self.model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] (torch has not typed it)
        self.data = data.to(device)
        self.autocast = torch.autocast(  # no cache: it would outlive the step, as a run has one of its own around it
            device.type, torch.bfloat16, enabled=bfloat16, cache_enabled=False
        )
        self.test_images = self.data.test.images
        if processes.size > 1:
            self.test_images = self.data.test.take(processes.share(torch.arange(len(data.test), device=device))).images
        own_seed = seed if processes.rank == 0 else generator_seed(seed, processes.rank)
        if processes.rank > 0:  # its own draws, from equal weights
            torch.manual_seed(own_seed)
        self.generator = torch.Generator(device).manual_seed(own_seed)
        self.slots = self.new_slots(seed)
        self.frozen = {id(p) for p in self.model.parameters() if not p.requires_grad}  # by the user, for good
        self.stage, self.epoch = 0, 0  # what comes next
        self.masks = Masks(self.data, path, processes)
        self.optimizer = self.new_optimizer(recipe.stages[0])
        self.logits: Tensor | None = None  # of the last evaluation, unless the model has changed since
        self.history: list[dict[str, float]] = []
        self.seconds = 0.0
        self.identity = recipe.identity() | self.setting  # now, as a loss may hold parameters of the model

    def begin_with(self, model: nn.Module | None, data: LongTailedData) -> nn.Module:
        """The network as it is before training: a custom one, or else the settings', with new weights."""
        makes, self.statistics = self.settings.model, None
        self.own_model = model is not None or not isinstance(makes, str)
        self.network = describe(makes) if model is None else type(model).__name__
        if model is not None:
            self.setting["network"] = self.network
            return model
        if isinstance(data.train.images, Tensor):
            self.statistics = models.channel_statistics(data.train.images)
        return models.build(makes, len(data.class_names), self.statistics, classifier=self.recipe.classifier)

    def new_slots(self, seed: int) -> list[Slots]:
        """The slots of every stage."""
        stages, class_counts = self.recipe.stages, self.data.class_counts
        starts = accumulate((stage.epochs for stage in stages), initial=0)
        made = [
            Slots(stage, start, self.data.train, class_counts, seed)
            for stage, start in zip(with_own_losses(stages, self.model), starts, strict=False)
        ]
        for number, slots in enumerate(made, start=1):
            slots.check(number, self.model, self.capture)
        return made

    def try_stages(self, seed: int) -> None:
        """Take a few images through every stage, in slots made for it, so that what does not fit is refused now."""
        try_stages(self.recipe, self.data.train, self.model, self.new_slots(seed), self.autocast)

    def train(self, progress: bool, evaluate_every: int, write: Write) -> None:
        """Train stage by stage from where the run is to the recipe's end, and write the curves of the whole."""
        total = self.recipe.epochs
        for row in self.history:
            write(row)
        shown = progress and self.processes.rank == 0
        with progress_bar(
            shown=shown, total=total, initial=len(self.history), desc=self.recipe.name, unit="epoch"
        ) as bar:
            while self.stage < len(self.recipe.stages):
                started, stage = time.perf_counter(), self.recipe.stages[self.stage]
                step, take = self.begin_stage()
                for _ in range(self.epoch, stage.epochs):
                    number = len(self.history) + 1
                    row = self.next_epoch(step, take, evaluates=number == total or number % evaluate_every == 0)
                    self.seconds += time.perf_counter() - started
                    self.save()
                    write(row)
                    watched = {} if math.isnan(row[self.watched]) else {self.watched: f"{row[self.watched]:.1%}"}
                    bar.set_postfix({"loss": f"{row['train_loss']:.3f}"} | watched, refresh=False)
                    bar.update()
                    started = time.perf_counter()
                if stage.epochs == 0:  # it was over as it began
                    self.stage += 1
                    self.save()

    def thaw(self) -> None:
        """Free what stages have frozen; what the model's owner froze stays so."""
        for parameter in self.model.parameters():
            parameter.requires_grad_(id(parameter) not in self.frozen)

    def save(self) -> None:
        """Write checkpoint and history, if asked for, in the first process."""
        if self.path is None:
            return
        state = self.state()  # to which all contribute
        if self.processes.rank == 0:
            checkpoints.save(self.path, state)
            table = pd.DataFrame(self.history).to_csv(index=False)
            checkpoints.write_atomically(checkpoints.history_of(self.path), table.encode())

    def begin_stage(self) -> tuple[TrainingStep, CapturedStep | None]:
        """All that happens when a stage begins. Of one that was resumed within, only the step is made again.

        Returns:
            The stage's training step, and what takes it instead, if anything.
        """
        stage, slots = self.recipe.stages[self.stage], self.slots[self.stage]
        if self.epoch == 0:
            self.change_classifier(stage)
            if not self.recipe.continues(self.stage):  # what is frozen, and how fast the rest learns
                self.optimizer = self.new_optimizer(stage)
            if slots.foreground:  # the maps of the model as it is now
                slots.masks = self.masks.prepare(slots.foreground, self.model, self.stage)
            self.logits = None
        if stage.epochs:
            take_scale(getattr(self.model, "classifier", None), slots.loss)
        model = self.processes.connected(self.model) if stage.epochs else self.model
        step = self.step(model, slots, self.settings, self.optimizer, self.generator, self.autocast, self.processes)
        return step, CapturedStep(step, self.generator) if self.capture else None

    def change_classifier(self, stage: PlannedStage) -> None:
        if stage.classifier is not None:
            train = self.data.train
            crop = {"crop": self.settings.crop} if "crop" in inspect.signature(stage.classifier).parameters else {}
            classifier = stage.classifier(self.model, train.images, train.labels, self.data.class_counts, **crop)
            if not isinstance(classifier, nn.Module):
                raise TypeError(
                    f"classifier={describe(stage.classifier)} gives {classifier!r:.80}: it must give a module"
                )
            self.model.classifier = classifier.to(self.device)

    def remake_classifier(self, changing: list[PlannedStage], state: dict) -> None:
        """Give the model the kind of classifier that stages have left; its values come from the checkpoint.

        Of ltlab's networks the checkpoint tells what declared changes leave; others are made again from the images.
        """
        if changing and not self.own_model and all(declared(stage.classifier) for stage in changing):
            models.put_classifier(self.model, state["classifier"], checkpoints.classifier_in(state))
            self.model.classifier.to(self.device)
            return
        for stage in changing:
            self.change_classifier(stage)

    def next_epoch(self, step: TrainingStep, take: CapturedStep | None, evaluates: bool) -> dict[str, float]:
        """Train one epoch, evaluate if asked, add a row to the history and move on."""
        stage, (offset, span) = self.recipe.stages[self.stage], self.recipe.spans()[self.stage]

        def learning_rate(share: float) -> float:
            return stage.schedule(offset + self.epoch + share, span)

        self.logits = None
        step.slots.set_epoch(self.epoch)
        loss = train_epoch(step, self.data.train, learning_rate, take)
        number, rate = len(self.history) + 1, learning_rate(0)
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the training loss is {loss} in epoch {number}, learning rate {rate:g}: lower the learning rate"
            )
        row = {"epoch": number, "stage": self.stage + 1, "lr": rate, "train_loss": loss}
        self.history.append(row | (self.evaluated() if evaluates else {self.watched: math.nan}))
        self.epoch += 1
        if self.epoch == stage.epochs:
            self.stage, self.epoch = self.stage + 1, 0
        return self.history[-1]

    def evaluated(self) -> dict[str, float]:
        """The test error and the extra metrics.

        Raises:
            TypeError: extra metrics that are not names and numbers.
            ValueError: one that is named like a column of the history.
        """
        self.logits = logits = self.predict()
        labels = self.data.test.labels
        error = {"test_error": metrics.top1_error(logits, labels)}
        if self.extra_metrics is None:
            return error
        extra = self.extra_metrics(logits.to("cpu", copy=True), labels.cpu())
        try:
            extra = {str(name): float(value) for name, value in extra.items()}
        except (AttributeError, TypeError, ValueError) as problem:
            raise TypeError(
                f"extra_metrics(logits, labels) gives {extra!r:.80}: it must give {{name: number}}"
            ) from problem
        if taken := [name for name in extra if name in HISTORY]:
            raise ValueError(
                f"extra_metrics(logits, labels) gives {taken[0]!r}, which the history has: give it another name"
            )
        return error | extra

    def new_optimizer(self, stage: PlannedStage) -> torch.optim.Optimizer:
        """The settings', on the parameters that the stage trains; all others need no gradient."""
        part = self.model.get_submodule("classifier") if stage.trains == "classifier" else self.model
        affine = batch_norms(self.model) if stage.batch_norm == "shift" else []
        frozen = self.frozen | {id(p) for module in affine for p in module.parameters()}
        trained = {id(p) for p in part.parameters()} - frozen
        if not trained:
            raise ValueError(
                f"a stage with trains={stage.trains!r} has nothing to train: no parameter there has requires_grad"
            )
        for parameter in self.model.parameters():
            parameter.requires_grad_(id(parameter) in trained)
        return optimizer_for(self.model, self.settings, stage, capture=self.capture)

    def predict(self) -> Tensor:
        with self.autocast:
            logits = predict(self.model, self.test_images, crop=self.settings.crop)
        return self.processes.gathered(logits, len(self.data.test))

    def result(self) -> Result:
        logits = (self.predict() if self.logits is None else self.logits).cpu()
        test = self.data.test
        self.unreadable(test)
        final = evaluate(logits, test.labels, self.data.class_counts)
        return Result(
            self.model, pd.DataFrame(self.history), final, logits, self.recipe, self.seconds, self.network,
            self.setting["precision"],
        )  # fmt: skip

    def refusal(self, state: dict) -> str | None:
        """Why a checkpoint is not of this run; None if it is."""
        return checkpoints.difference(state["identity"], self.identity)

    def refusal_to_start_from(self, state: dict) -> str | None:
        """Why this run cannot start from another run's checkpoint; None if it can."""
        begun = begun_in(state)
        try:
            stage, epoch = self.recipe.place(*begun)
        except ValueError as error:
            return str(error)
        if epoch and self.slots[stage].foreground and state["masks"] is None:
            return f"stage {stage + 1} needs the masks that it has trained with, which a finished run does not keep"
        return checkpoints.difference(state["done"], self.done(*begun))

    def done(self, stages: int, epochs: int) -> dict[str, str]:
        """What the run has done by then, and on what; see `Plan.done`."""
        return self.recipe.done(stages, epochs) | self.setting

    def state(self) -> dict:
        """Everything that the next epoch depends on."""
        masks = self.slots[self.stage].masks if self.stage < len(self.slots) else None
        kept = self.processes.kept
        cuda = {"cuda": kept(torch.cuda.get_rng_state(self.device))} if self.device.type == "cuda" else {}
        return {
            "identity": self.identity, "class names": list(self.data.class_names), "statistics": self.statistics,
            "stage": self.stage, "epoch": self.epoch,
            "done": self.done(self.stage + (self.epoch > 0), len(self.history)),
            "model": self.model.state_dict(), "classifier": type(getattr(self.model, "classifier", None)).__name__,
            "optimizer": self.optimizer.state_dict(), "masks": getattr(masks, "digest", masks),
            "losses": [tensors(kept, slots.loss.state_dict()) for slots in self.slots],
            "generator": kept(self.generator.get_state()),
            "slots' generators": [kept(generator.get_state()) for generator in self.slots_generators()],
            "global generators": {"cpu": kept(torch.get_rng_state()), **cuda},
            "history": self.history, "seconds": self.seconds, "unreadable": self.unreadable(self.data.train),
        }  # fmt: skip

    def unreadable(self, split: ImageSplit) -> dict[str, str]:
        """Why images of a split were skipped, by path, now that all processes know of all; {} where none are."""
        if split.on_error == "skip":
            split.damaged.update(self.processes.together(split.damaged))
        return split.damaged

    def slots_generators(self) -> list[torch.Generator]:
        """Those that the stages' losses and samplers have of their own."""
        return [generator for slots in self.slots for generator in slots.generators()]

    def load_state(self, state: dict) -> None:
        """The reverse of `state`.

        Raises:
            ValueError: the checkpoint's network, or what a loss remembers, is not that of this run.
        """
        own = self.processes.own
        self.stage, self.epoch = state["stage"], state["epoch"]
        if state["identity"] != self.identity:  # of another run, which began like this one
            self.stage, self.epoch = self.recipe.place(*begun_in(state))
        begun = self.recipe.stages[: self.stage + (self.epoch > 0)]
        self.remake_classifier([stage for stage in begun if stage.classifier is not None], state)
        try:
            self.model.load_state_dict(state["model"])
            for slots, kept in zip(self.slots, state["losses"], strict=False):
                slots.loss.load_state_dict(tensors(own, kept))
        except RuntimeError as error:
            raise ValueError(f"the checkpoint's network is not this run's: {error}") from error
        self.optimizer = self.new_optimizer(begun[-1])
        kept = state["optimizer"]
        if self.settings.optimizer is None:  # SGD's settings are this run's, captured or not; another's may be a state
            kept = kept | {"param_groups": self.optimizer.state_dict()["param_groups"]}
        self.optimizer.load_state_dict(kept)
        if self.stage < len(self.slots):
            slots = self.slots[self.stage]
            slots.masks = self.masks.reopen(slots.foreground, state["masks"], self.stage)
        self.generator.set_state(own(state["generator"]))
        for generator, kept in zip(self.slots_generators(), state["slots' generators"], strict=False):
            generator.set_state(own(kept))  # of a run to start from there are those of its stages
        torch.set_rng_state(own(state["global generators"]["cpu"]))
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(own(state["global generators"]["cuda"]), self.device)
        self.history, self.seconds = state["history"], state["seconds"]
        self.data.train.damaged.update(state["unreadable"])


def begun_in(state: dict) -> tuple[int, int]:
    """How many stages a checkpoint's run has begun, and how many epochs are over."""
    return state["stage"] + (state["epoch"] > 0), len(state["history"])


def with_own_losses(stages: Iterable[PlannedStage], model: nn.Module) -> list[PlannedStage]:
    """The stages with copies of their loss modules, so that what a run's losses remember stays the run's.

    Parameters that a loss shares with the model stay shared; a loss that several stages have is one copy.
    """
    copied = {id(part): part for part in (*model.modules(), *model.parameters(), *model.buffers())}
    return [
        replace(stage, loss=copy.deepcopy(stage.loss, copied)) if isinstance(stage.loss, nn.Module) else stage
        for stage in stages
    ]


def tensors(change: Callable[[Tensor], Tensor], state: Mapping[str, object]) -> dict[str, object]:
    """A module's state with its tensors changed; what else it may hold stays."""
    return {name: change(value) if isinstance(value, Tensor) else value for name, value in state.items()}
