"""A recipe's way through its stages, epoch by epoch."""

import math
import time
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from .. import metrics, models
from ..data import LongTailedData
from ..names import look_up
from ..recipes import Recipe, Stage
from ..samplers import generator_seed
from . import checkpoint as checkpoints
from .captured import CapturedStep
from .checks import check_run
from .curves import Write
from .masks import Masks, to_keep
from .processes import OneProcess, across_processes
from .step import Slots, TrainingStep, batch_norms, evaluate, predict, sgd, train_epoch


@dataclass
class Result:
    """What a run leaves behind.

    model: as it is after the last stage; history: one row per epoch; metrics: the model's figures, see `evaluate`;
    logits: of the test images, float32 (N, C), on the CPU; recipe: as it was run; seconds: of training and looking at
    the test set, over all resumptions; network: the name of the protocol's model, or the class of one of your own.
    """

    model: nn.Module
    history: pd.DataFrame
    metrics: dict[str, float]
    logits: Tensor
    recipe: Recipe
    seconds: float
    network: str


class Run:
    """The state of a run: how it is begun, moved on by one epoch, saved and loaded."""

    def __init__(
        self, recipe: Recipe, data: LongTailedData, model: nn.Module | None, processes: OneProcess, *, seed: int,
        precision: str, capture: bool, batch_norm: str, path: Path | None,
    ) -> None:  # fmt: skip
        check_run(recipe, data, model, capture, processes)
        device = processes.device
        bfloat16 = look_up("precision", precision, {
            "auto": device.type == "cuda", "float32": False, "bfloat16": True, "32-true": False, "bf16-mixed": True,
        })  # fmt: skip
        self.recipe, self.protocol, self.device = recipe, recipe.protocol, device
        self.setting = {
            "data": data.name, "data fingerprint": data.fingerprint, "seed": str(seed),
            "device": device.type, "precision": "bfloat16" if bfloat16 else "float32",
        }  # fmt: skip
        if processes.size > 1:
            self.setting |= {"processes": str(processes.size), "batch norm across processes": batch_norm}
        self.network = self.protocol.model if model is None else type(model).__name__
        if model is None:
            model = models.build(
                self.protocol.model, len(data.class_names), data.train.images, classifier=recipe.classifier
            )
        model = across_processes(model, batch_norm, processes)
        self.model = model.to(device, memory_format=torch.channels_last)
        for stage in recipe.stages:
            if hasattr(stage.mix, "check"):
                stage.mix.check(model)
        self.data = data.to(device)
        self.autocast = torch.autocast(device.type, torch.bfloat16, enabled=bfloat16)
        self.test_images = self.data.test.images
        if processes.size > 1:
            self.test_images = self.data.test.take(processes.share(torch.arange(len(data.test), device=device))).images
        if processes.rank > 0:  # its own draws, from equal weights
            torch.manual_seed(generator_seed(seed, processes.rank))
        own_seed = seed if processes.rank == 0 else generator_seed(seed, processes.rank)
        self.generator = torch.Generator(device).manual_seed(own_seed)
        class_counts = data.class_counts.to(device)
        starts = accumulate((stage.epochs for stage in recipe.stages), initial=0)
        self.slots = [
            Slots(stage, start, self.data.train, class_counts, seed)
            for stage, start in zip(recipe.stages, starts, strict=False)
        ]
        for number, slots in enumerate(self.slots, start=1):
            slots.check(number)
        self.frozen = {id(p) for p in self.model.parameters() if not p.requires_grad}  # by the user, for good
        self.stage, self.epoch = 0, 0  # what comes next
        self.capture, self.processes, self.path = capture, processes, path
        self.masks = Masks(self.data, path, processes)
        self.optimizer = self.new_optimizer(recipe.stages[0])
        self.step = self.take = None  # of the current stage, made in its first epoch here
        self.history: list[dict[str, float]] = []
        self.seconds = 0.0

    def train(self, progress: bool, evaluate_every: int, write: Write) -> None:
        """Train from where the run stands to the recipe's end, and write the curves of the whole."""
        total = self.recipe.epochs
        for row in self.history:
            write(row)
        with tqdm(total=total, initial=len(self.history), desc=self.recipe.name, unit="epoch",
                  disable=not progress or self.processes.rank > 0, leave=False) as bar:  # fmt: skip
            while len(self.history) < total:
                started = time.perf_counter()
                last = len(self.history) + 1 == total
                row = self.next_epoch(look=last or (len(self.history) + 1) % evaluate_every == 0)
                self.seconds += time.perf_counter() - started
                self.save()
                write(row)
                error = {} if math.isnan(row["test_error"]) else {"test_error": f"{row['test_error']:.1%}"}
                bar.set_postfix(loss=f"{row['train_loss']:.3f}", **error, refresh=False)
                bar.update()
        if self.stage < len(self.recipe.stages):  # of 0 epochs
            self.begin_stage()
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

    def begin_stage(self) -> None:
        """What happens once, before a stage's first epoch; stages of 0 epochs are over with that."""
        while self.stage < len(self.recipe.stages):
            stage, slots = self.recipe.stages[self.stage], self.slots[self.stage]
            self.change_classifier(stage)
            if not self.recipe.continues(self.stage):
                self.optimizer = self.new_optimizer(stage)
            if slots.foreground:
                slots.masks = self.masks.prepare(slots.foreground, self.model, self.stage)
            if stage.epochs:
                break
            self.stage += 1

    def change_classifier(self, stage: Stage) -> None:
        if stage.classifier is not None:
            train = self.data.train
            classifier = stage.classifier(self.model, train.images, train.labels, self.data.class_counts)
            self.model.classifier = classifier.to(self.device)

    def next_epoch(self, look: bool) -> dict[str, float]:
        """Train one epoch, look at the test error if asked, add a row to the history and move on."""
        if self.epoch == 0:
            self.begin_stage()
        stage, slots = self.recipe.stages[self.stage], self.slots[self.stage]
        offset, span = self.recipe.spans()[self.stage]

        def learning_rate(share: float) -> float:
            return stage.schedule(offset + self.epoch + share, span)

        slots.set_epoch(self.epoch)
        if self.step is None or self.step.slots is not slots:
            model = self.processes.connected(self.model)
            self.step = TrainingStep(
                model, slots, self.protocol, self.optimizer, self.generator, self.autocast, self.processes
            )
            self.take = CapturedStep(self.step, self.generator) if self.capture else None
        loss = train_epoch(self.step, self.data.train, learning_rate, self.take)
        number, rate = len(self.history) + 1, learning_rate(0)
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the training loss is {loss} in epoch {number}, learning rate {rate:g}: lower the learning rate"
            )
        error = metrics.top1_error(self.predict(), self.data.test.labels) if look else math.nan
        self.history.append(
            {"epoch": number, "stage": self.stage + 1, "lr": rate, "train_loss": loss, "test_error": error}
        )
        self.epoch += 1
        if self.epoch == stage.epochs:
            self.stage, self.epoch = self.stage + 1, 0
        return self.history[-1]

    def new_optimizer(self, stage: Stage) -> torch.optim.SGD:
        """SGD on the parameters that the stage trains; all others need no gradient."""
        part = self.model.classifier if stage.trains == "classifier" else self.model
        affine = batch_norms(self.model) if stage.batch_norm == "shift" else []
        frozen = self.frozen | {id(p) for module in affine for p in module.parameters()}
        trained = {id(p) for p in part.parameters()} - frozen
        if not trained:
            raise ValueError(
                f"a stage with trains={stage.trains!r} has nothing to train: no parameter there has requires_grad"
            )
        for parameter in self.model.parameters():
            parameter.requires_grad_(id(parameter) in trained)
        return sgd(self.model, self.protocol, weight_decay=stage.weight_decay, capture=self.capture)

    def predict(self) -> Tensor:
        with self.autocast:
            logits = predict(self.model, self.test_images, crop=self.protocol.crop)
        return self.processes.gathered(logits, len(self.data.test))

    def result(self) -> Result:
        logits, test = self.predict().cpu(), self.data.test
        figures = evaluate(logits, test.labels, self.data.class_counts)
        return Result(self.model, pd.DataFrame(self.history), figures, logits, self.recipe, self.seconds, self.network)

    def identity(self, stages: int | None = None) -> dict[str, str]:
        """What tells this run, or one of its first stages alone, from every other."""
        return self.recipe.first(stages or len(self.recipe.stages)).identity() | self.setting

    def refusal(self, state: dict) -> str | None:
        """Why a checkpoint is not of this run; None if it is."""
        return checkpoints.difference(state["identity"], self.identity())

    def refusal_to_start_from(self, state: dict) -> str | None:
        """Why this run cannot start from another run's checkpoint; None if it can."""
        stages = state["stages"]
        if stages >= len(self.recipe.stages):
            return f"its recipe has {stages} stages, recipe {self.recipe.name!r} needs to have more"
        if differing := checkpoints.difference(state["identity"], self.identity(stages)):
            return differing
        epochs = self.recipe.first(stages).epochs
        if len(state["history"]) < epochs:
            return f"it stands at epoch {len(state['history'])} of {epochs}: finish that run first, with resume"
        if self.recipe.continues(stages):
            return f"stage {stages + 1} of recipe {self.recipe.name!r} shares its schedule with stage {stages}"
        return None

    def state(self) -> dict:
        """Everything that the next epoch depends on."""
        masks = self.slots[self.stage].masks if self.stage < len(self.slots) else None
        kept = self.processes.kept
        cuda = {"cuda": kept(torch.cuda.get_rng_state(self.device))} if self.device.type == "cuda" else {}
        return {
            "identity": self.identity(), "stages": len(self.slots), "stage": self.stage, "epoch": self.epoch,
            "model": self.model.state_dict(), "classifier": type(getattr(self.model, "classifier", None)).__name__,
            "optimizer": self.optimizer.state_dict(), "masks": to_keep(masks),
            "generator": kept(self.generator.get_state()),
            "slots' generators": [kept(generator.get_state()) for generator in self.slots_generators()],
            "global generators": {"cpu": kept(torch.get_rng_state()), **cuda},
            "history": self.history, "seconds": self.seconds,
        }  # fmt: skip

    def slots_generators(self) -> list[torch.Generator]:
        """Those that the stages' losses and samplers have of their own."""
        return [generator for slots in self.slots for generator in slots.generators()]

    def load_state(self, state: dict) -> None:
        """The reverse of `state`.

        Raises:
            ValueError: the checkpoint's network is not this one.
        """
        self.stage, self.epoch = state["stage"], state["epoch"]
        begun = self.recipe.stages[: self.stage + (self.epoch > 0)]
        for stage in begun:
            self.change_classifier(stage)  # its kind; its values come from the checkpoint
        try:
            self.model.load_state_dict(state["model"])
        except RuntimeError as error:
            raise ValueError(f"the checkpoint's network is not this run's: {error}") from error
        self.optimizer = self.new_optimizer(begun[-1])
        settings = self.optimizer.state_dict()["param_groups"]  # are the recipe's; the rest is the checkpoint's
        self.optimizer.load_state_dict(state["optimizer"] | {"param_groups": settings})
        if self.stage < len(self.slots):
            slots = self.slots[self.stage]
            slots.masks = self.masks.reopen(slots.foreground, state["masks"], self.stage)
        own = self.processes.own
        self.generator.set_state(own(state["generator"]))
        for generator, kept in zip(self.slots_generators(), state["slots' generators"], strict=False):
            generator.set_state(own(kept))  # of a run to start from there are those of its stages
        torch.set_rng_state(own(state["global generators"]["cpu"]))
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(own(state["global generators"]["cuda"]), self.device)
        self.history, self.seconds = state["history"], state["seconds"]
