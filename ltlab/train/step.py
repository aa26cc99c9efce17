"""The training step, one epoch of it, and the evaluation on a test set."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .. import calibration, metrics
from ..data import ImageSplit
from ..defaults import usual_defaults
from ..images import evaluated, to_float
from ..recipes import PlannedStage, Settings, describe
from ..recipes.recipe import takes_epochs
from ..samplers import ShuffledSampler
from ..testing import NotConforming, calling
from .augmentation import colour_jitter, crop_and_jitter, random_resized_crop
from .processes import ALONE, OneProcess, average_statistics

if TYPE_CHECKING:
    from ..data.streaming import ImageFiles


@dataclass
class TrainingStep:
    """The training step of one stage: the four slots in their order, then backward and the optimiser.

    Nothing in it waits for an accelerator, so that it can be recorded there once and replayed, see `CapturedStep`.
    """

    model: nn.Module
    slots: "Slots"
    settings: Settings
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    autocast: torch.autocast
    processes: OneProcess = ALONE

    def __call__(self, indices: Tensor, images: Tensor, targets: Tensor) -> Tensor:
        """Train on a batch and return its loss: indices (n,), images uint8 (n, 3, H, W), targets int64 (n,)."""
        loss = self.loss(indices, images, targets)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def loss(self, indices: Tensor, images: Tensor, targets: Tensor) -> Tensor:
        """The loss of a batch, a number with its graph; of many processes, see `OneProcess.part_of_mean`."""
        slots, generator = self.slots, self.generator
        if slots.foreground:  # FOREGROUND: move the object
            images = slots.foreground(images, slots.masks[indices], generator=generator)
        images = augmented(images, self.settings, generator)  # float
        with self.autocast:
            if slots.mix:  # MIX: between images
                logits, targets = slots.mix(
                    self.model, images, targets, class_counts=slots.class_counts, generator=generator
                )
            else:
                logits = self.model(images)  # (n, C)
        loss = slots.loss(logits.float(), targets)  # LOSS: what a mistake costs
        return self.processes.part_of_mean(loss, slots.loss, targets)


@usual_defaults()
def train_epoch(
    step: TrainingStep,
    split: ImageSplit,
    learning_rate: Callable[[float], float],
    take: Callable[..., Tensor] | None = None,
) -> float:
    """Train for one epoch of a stage and return its mean training loss.

    Args:
        step: of the stage; each of its processes takes a fraction of every batch.
        split: the training images.
        learning_rate: maps the fraction of the epoch completed, in [0, 1), to the learning rate of the next step.
        take: what takes the step instead, such as a `CapturedStep` of it.
    """
    take = take or step
    step.slots.set_mode(step.model)
    batches = step.slots.batches(step.settings.batch_size)  # SAMPLER: which image next
    shares = [step.processes.share(batch) for batch in batches]
    total = torch.zeros((), device=step.slots.device)
    for number, batch in enumerate(split.batches(shares)):
        set_learning_rate(step.optimizer, learning_rate(number / len(batches)))
        total = total + take(*batch) * len(batches[number])
    average_statistics([module for module in batch_norms(step.model) if module.training], step.processes)
    return float(step.processes.mean(total)) / sum(map(len, batches))


def factors_of(names: Iterable[str], rates: Mapping[str, float]) -> list[float]:
    """The factor of each parameter's learning rate, by its name or the longest name of a part that has it.

    Raises:
        ValueError: `rates` names something else.
    """
    factors, unused = [], set(rates)
    for name in (names := list(names)):
        parts = [part for part in rates if f"{name}.".startswith(f"{part}.")]
        unused -= set(parts)
        factors.append(rates[max(parts, key=len)] if parts else 1.0)
    if unused:
        raise ValueError(f"rates: the stage trains nothing called {min(unused)!r}; there are {', '.join(names)}")
    return factors


def parameter_groups(model: nn.Module, rates: Mapping[str, float]) -> list[dict[str, Any]]:
    """What has a gradient, in an optimiser's groups by the `factor` of the learning rate."""
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    groups: dict[float, list[Tensor]] = {}
    for factor, parameter in zip(factors_of(trained, rates), trained.values(), strict=True):
        groups.setdefault(factor, []).append(parameter)
    return [{"params": parameters, "factor": factor} for factor, parameters in groups.items()]


def sgd(
    model: nn.Module, settings: Settings, *, weight_decay: float | None = None, capture: bool = False,
    rates: Mapping[str, float] | None = None,
) -> torch.optim.SGD:  # fmt: skip
    """The settings' SGD on what has a gradient, its learning rate still to be set.

    Args:
        weight_decay: None takes the settings'.
        capture: for a `CapturedStep`.
        rates: factors of the learning rate, see `Stage`.
    """
    groups = parameter_groups(model, rates or {})
    if capture:
        device = groups[0]["params"][0].device
        groups = [group | {"lr": torch.zeros((), dtype=torch.float32, device=device)} for group in groups]
    decay = settings.weight_decay if weight_decay is None else weight_decay
    return torch.optim.SGD(
        groups, 0.0, momentum=settings.momentum, nesterov=settings.momentum > 0, weight_decay=decay,
        fused=True if capture else None,
    )  # fmt: skip


def optimizer_for(
    model: nn.Module, settings: Settings, stage: PlannedStage, *, capture: bool = False
) -> torch.optim.Optimizer:
    """The settings' optimiser on what has a gradient, `sgd` unless they have a custom one.

    Raises:
        TypeError: a custom one gives something else than an optimiser.
    """
    if settings.optimizer is None:
        return sgd(model, settings, weight_decay=stage.weight_decay, capture=capture, rates=stage.rates)
    parameters = parameter_groups(model, stage.rates or {})
    decay = settings.weight_decay if stage.weight_decay is None else stage.weight_decay
    optimizer = settings.optimizer(parameters, lr=stage.schedule(0, 1), weight_decay=decay)
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(
            f"optimizer={describe(settings.optimizer)} of settings {settings.name!r} gives {optimizer!r:.80}: it must "
            "give a torch.optim.Optimizer"
        )
    return optimizer


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Give all parameters this learning rate, times its group's factor; a tensor keeps its place in memory."""
    for group in optimizer.param_groups:
        rate = value * group.get("factor", 1.0)
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


class Slots:
    """The four slots of one stage, built for one data set and ready for the step.

    The order of images continues from stage to stage, so that cutting a stage in two changes nothing. A sampler or a
    loss that asks for `epochs` counts from its stage's start instead.

    With them a custom training loop has all tricks; this is a small `fit` with another optimiser:

        slots = Slots(stage, 0, data.train, data.class_counts, seed=0)
        if slots.foreground:
            slots.masks = slots.foreground.prepare(model, data.train.images, data.train.labels)
        optimizer = torch.optim.AdamW(model.parameters())
        autocast = torch.autocast("cpu", enabled=False)
        step = TrainingStep(model, slots, recipes.SHAPES, optimizer, torch.Generator().manual_seed(0), autocast)
        for epoch in range(stage.epochs):
            slots.set_epoch(epoch)
            train_epoch(step, data.train, learning_rate=lambda share: 1e-3)

    Args:
        stage: of a plan; a loss module in it is used without a copy.
        first_epoch: of the stage in its run, counted from 0.
        split: the training images.
        class_counts: (C,), on the device of the labels.
        seed: of the order of images.

    Raises:
        ValueError: the stage's sampler or loss cannot be made.
        TypeError: the stage's loss is a function that gives something else than a module.
    """

    def __init__(
        self, stage: PlannedStage, first_epoch: int, split: ImageSplit, class_counts: Tensor, seed: int
    ) -> None:
        self.device, self.images = class_counts.device, len(split)
        labels = split.labels
        if isinstance(labels, Tensor):
            labels = labels.cpu()
        elif stage.sampler is None:  # a detection set has the labels of each image's objects
            labels = torch.zeros(self.images, dtype=torch.int64)
        factory = stage.sampler or ShuffledSampler
        schedule, self.sampler_start = _schedule(factory, stage, first_epoch)
        with calling(f"sampler={describe(factory)}", "a stage makes it by sampler(labels, seed=seed)"):
            self.sampler = factory(labels, seed=seed, **schedule)
        self.foreground: Any = stage.foreground
        self.masks: Any = None  # the slot's rows, one per image, once they are prepared
        self.mix = stage.mix
        loss, self.loss_start = stage.loss, first_epoch
        if not isinstance(loss, nn.Module):
            schedule, self.loss_start = _schedule(loss, stage, first_epoch)
            with calling(f"loss={describe(stage.loss)}", "a stage makes it by loss(class_counts)"):
                loss = loss(class_counts, **schedule)
        if not isinstance(loss, nn.Module):
            raise TypeError(f"loss={describe(stage.loss)} gives {loss!r:.80} for class counts: it must give a module")
        self.loss = loss.to(self.device)
        self.class_counts = class_counts
        self.batch_norm = stage.batch_norm

    def check(self, number: int, model: nn.Module, capture: bool = False) -> None:
        """Refuse a loss that would have to be trained, or recorded again every epoch; `number` is the stage's, from 1.

        Parameters that are the model's are trained with it.
        """
        name, trained = type(self.loss).__name__, {id(parameter) for parameter in model.parameters()}
        if own := [key for key, p in self.loss.named_parameters() if p.requires_grad and id(p) not in trained]:
            attribute = own[0].rpartition(".")[2]
            raise ValueError(
                f"stage {number}: the loss {name} has parameters of its own, {', '.join(own)}, but only the model's "
                f"are trained: give the model one, model.{attribute} = nn.Parameter(...), and the loss that of the "
                f"model, Stage(loss={name}(model.{attribute})); or fix them with loss.requires_grad_(False)"
            )
        if capture and hasattr(self.loss, "set_epoch"):
            raise ValueError(
                f"stage {number}: the loss {name} changes with set_epoch, a recorded step would not: leave capture out"
            )

    def generators(self) -> list[torch.Generator]:
        """The random generators that the sampler and the loss hold."""
        attributes = [vars(holder) for holder in (self.sampler, *self.loss.modules()) if hasattr(holder, "__dict__")]
        return [value for held in attributes for value in held.values() if isinstance(value, torch.Generator)]

    def set_mode(self, model: nn.Module) -> None:
        """Put the model into training mode, its batch norms into the stage's."""
        model.train()
        if self.batch_norm == "eval":
            for module in batch_norms(model):
                module.eval()

    def set_epoch(self, epoch: int) -> None:
        """Tell sampler and loss which epoch of the stage comes next, counted from 0."""
        for slot, start in ((self.sampler, self.sampler_start), (self.loss, self.loss_start)):
            if callable(set_epoch := getattr(slot, "set_epoch", None)):
                set_epoch(start + epoch)

    def batches(self, batch_size: int) -> tuple[Tensor, ...]:
        """The epoch's image indices in batches; the last one may be smaller.

        Raises:
            ValueError: the sampler gives something else, or nothing.
        """
        draw = getattr(self.sampler, "epoch_indices", lambda: torch.tensor(list(self.sampler), device="cpu"))
        indices = draw()
        known = range(self.images)
        if indices.dtype != torch.int64 or indices.ndim != 1 or not len(indices) or not all(
            int(end) in known for end in indices.aminmax()
        ):  # fmt: skip
            raise NotConforming(
                f"{type(self.sampler).__name__} gives {indices.dtype} {tuple(indices.shape)}: it must give "
                f"indices of images, integers from 0 to {self.images - 1}, at least one an epoch"
            )
        return indices.to(self.device).split(batch_size)


def _schedule(factory: Callable, stage: PlannedStage, first_epoch: int) -> tuple[dict[str, int], int]:
    """The epochs that a factory of a stage asks for, if it does, and the epoch that its product counts from."""
    if takes_epochs(factory):
        return {"epochs": stage.epochs}, 0
    return {}, first_epoch


def batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """The model's batch-norm layers of any dimension."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


def augmented(images: Tensor, settings: Settings, generator: torch.Generator) -> Tensor:
    """A batch as the settings train on it: uint8 (n, 3, H, W) -> float32 in [0, 1], of the settings' crop if any."""
    crop, jitter = settings.crop, settings.colour_jitter
    if crop is not None and jitter is not None and not settings.crop_padding:  # the same as below in one go
        return to_float(crop_and_jitter(images, crop, jitter, flip=settings.flip, generator=generator))
    if crop is not None:
        images = random_resized_crop(images, crop, flip=settings.flip, generator=generator)
    images = augment(images, settings.crop_padding, settings.flip and crop is None, generator)
    if jitter is not None:
        images = colour_jitter(images, *jitter, generator=generator)
    return to_float(images)


def augment(images: Tensor, crop_padding: int, flip: bool, generator: torch.Generator) -> Tensor:
    """Random crop from the zero-padded image and horizontal flip with probability 1/2, each image by its own draw.

    Shapes: (N, 3, H, W) in and out, of any dtype. crop_padding = 0 and flip = False give the images back.
    """
    n, _, h, w = images.shape
    device = images.device
    if crop_padding:
        p = crop_padding
        windows = F.pad(images, (p, p, p, p)).unfold(2, h, 1).unfold(3, w, 1)  # (N, 3, 2p+1, 2p+1, H, W), a view
        down, right = torch.randint(2 * p + 1, (2, n), generator=generator, device=device)
        images = windows[torch.arange(n, device=device), :, down, right]  # (N, 3, H, W)
    if flip:
        chosen = torch.rand(n, 1, 1, 1, generator=generator, dtype=torch.float32, device=device) < 0.5
        images = torch.where(chosen, images.flip(-1), images)
    return images


def predict(
    model: nn.Module, images: "Tensor | ImageFiles", *, crop: int | None = None, batch_size: int = 500
) -> Tensor:
    """Logits of un-augmented images in evaluation mode, in order.

    Args:
        model: from float images in [0, 1] to logits (n, C).
        images: (N, 3, H, W), uint8, in memory or on disk, or float in [0, 1].
        crop: take the centre of every image, so many pixels wide and high; None takes the whole.
        batch_size: images per forward pass.

    Returns:
        (N, C) float32 on the model's device.

    Raises:
        ValueError: images that are something else, or smaller than `crop`, see `images.as_evaluated`.
    """
    return evaluated(model, images, lambda batch: model(batch).float(), crop=crop, batch_size=batch_size)


def evaluate(logits: Tensor, labels: Tensor, class_counts: Tensor) -> dict[str, float]:
    """The metrics that every run reports: errors and accuracies as fractions, calibration and its proper scores.

    A gap is the mean confidence minus the accuracy, over the many-, medium- or few-shot classes' images.
    """
    logits, labels, class_counts = logits.cpu(), labels.cpu(), class_counts.cpu()
    groups, members = metrics.group_accuracy(logits, labels, class_counts), metrics.class_groups(class_counts)
    return {
        "top1_error": metrics.top1_error(logits, labels),
        "balanced_error": metrics.balanced_error(logits, labels),
        **{f"{group}_accuracy": accuracy for group, accuracy in groups.items()},
        "expected_calibration_error": metrics.expected_calibration_error(logits, labels),
        "negative_log_likelihood": calibration.negative_log_likelihood(logits, labels),
        "brier_score": calibration.brier_score(logits, labels),
        **{f"{group}_gap": gap for group, gap in calibration.signed_gap(logits, labels, members).items()},
    }
