"""Recipes: which trick is on when.

A `Stage` fixes the four slots of the training step for some epochs; a `Recipe` is a list of stages. Recipes are data:
the command line, the notebooks, the comparison tables and the tests all say what they train by a recipe.

    sampler     which image next        a function of the labels, or None: every image once per epoch, shuffled
    foreground  moving the object       an object with prepare(model, images, labels) and (images, masks), or None
    mix         between images          an object called with (model, images, targets, class_counts), or None
    loss        what a mistake costs    a loss module, or a function of the class counts that returns one

Two-stage training also says, per stage, what happens to the classifier at its start, which parameters train and what
the batch-norm statistics do.

What a recipe leaves open (how many epochs, which network, which learning rate) the data's `Protocol` fills in: the
paper's 200 epochs of ResNet-32 on CIFAR, 30 epochs of a small net on shapes-lt. So one recipe serves every data set,
and `recipe.resolve(CIFAR)` shows what exactly will run.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import accumulate

import pandas as pd
from torch import nn

from .cam import ForegroundTransform, WholeImageTransform
from .classifiers import fresh, logit_adjusted, nearest_class_mean, tau_normalised, weight_scaling
from .losses import (
    BalancedSoftmaxLoss,
    CDTLoss,
    ClassBalancedFocalLoss,
    ClassBalancedLoss,
    CostSensitiveLoss,
    CrossEntropyLoss,
    EqualizationLoss,
    FocalLoss,
    LabelAwareSmoothingLoss,
    LabelSmoothingLoss,
    LDAMLoss,
    LogitAdjustedLoss,
)
from .mixup import InputMixup, ManifoldMixup, Remix
from .names import look_up
from .samplers import (
    PowerSampler,
    ProgressivelyBalancedSampler,
    RandomOverSampler,
    RandomUnderSampler,
    ReversedSampler,
)

# --- schedules: the learning rate as a function of time --------------------------------------------------------------


@dataclass(frozen=True)
class Steps:
    """Linear warm-up from lr/3, then lr times `factor` at every milestone passed.

        lr(t) = lr * w(t) * factor^(number of milestones <= t / span),   w(t) = min(1, 1/3 + 2/3 * t / warmup)

    Args:
        lr: the learning rate after the warm-up.
        milestones: shares of the span, (0.8, 0.9) for epochs 160 and 180 of 200.
        factor: what each milestone multiplies the learning rate by.
        warmup: length of the warm-up in epochs; 0 for none.
    """

    lr: float
    milestones: tuple[float, ...] = ()
    factor: float = 0.1
    warmup: float = 0

    def __call__(self, t: float, span: float) -> float:
        """The learning rate at t epochs since the span's start, 0 <= t < span."""
        ramp = min(1.0, 1 / 3 + 2 / 3 * t / self.warmup) if self.warmup else 1.0
        return self.lr * ramp * self.factor ** sum(t / span >= milestone for milestone in self.milestones)

    def scaled(self, k: float) -> "Steps":
        """The same schedule for a span k times as long."""
        return replace(self, warmup=self.warmup * k)


@dataclass(frozen=True)
class OneCycle:
    """Up by half a cosine from lr/25 to lr, then down by half a cosine to zero (Smith and Topin, 2018).

    Args:
        lr: the highest learning rate.
        rise: share of the span in which the learning rate rises.
    """

    lr: float
    rise: float = 0.25

    def __call__(self, t: float, span: float) -> float:
        """The learning rate at t epochs since the span's start, 0 <= t < span."""
        share = t / span
        if share < self.rise:
            return self.lr * (1 / 25 + (1 - 1 / 25) * (1 - math.cos(math.pi * share / self.rise)) / 2)
        return self.lr * (1 + math.cos(math.pi * (share - self.rise) / (1 - self.rise))) / 2

    def scaled(self, k: float) -> "OneCycle":
        """The same schedule for a span k times as long: it knows shares only."""
        return self


Schedule = Steps | OneCycle

# --- protocols: what a kind of data fills in -------------------------------------------------------------------------


@dataclass(frozen=True)
class Protocol:
    """How a kind of data is trained where a recipe leaves it open.

    `epochs` is the length of a stage with share 1. `schedules` are the learning rates that a stage may name:

        base      training from scratch
        first     the part of `base` before its learning rate falls, where a `second` stage follows
        second    the last fifth, in a stage of its own
        finetune  some epochs more at a low learning rate, after mixup
        retrain   a new classifier on frozen features

    SGD has Nesterov momentum. The augmentation is a random crop from the image padded by
    `crop_padding` black pixels, and a horizontal flip of half of the images.
    """

    name: str
    model: str
    epochs: int
    batch_size: int
    weight_decay: float
    schedules: Mapping[str, Schedule]
    momentum: float = 0.9
    crop_padding: int = 4
    flip: bool = True


CIFAR = Protocol(
    name="CIFAR-LT",
    model="resnet32",
    epochs=200,
    batch_size=128,
    weight_decay=2e-4,
    schedules={
        "base": Steps(lr=0.1, milestones=(0.8, 0.9), factor=0.01, warmup=5),
        "first": Steps(lr=0.1, warmup=5),
        "second": Steps(lr=0.001, milestones=(0.5,), factor=0.01, warmup=5),
        "finetune": Steps(lr=0.001, milestones=(0.4, 0.8), factor=0.1),
        "retrain": Steps(lr=0.1, milestones=(1 / 3, 2 / 3), factor=0.1),
    },
)

SHAPES = Protocol(
    name="shapes-lt",
    model="small_net",
    epochs=30,
    batch_size=32,
    weight_decay=5e-4,
    schedules={
        "base": OneCycle(lr=0.05),
        "first": OneCycle(lr=0.05),  # equal to `second`, so the two share one cycle
        "second": OneCycle(lr=0.05),
        "finetune": OneCycle(lr=0.005),
        "retrain": OneCycle(lr=0.05, rise=0.1),
    },
    crop_padding=2,
)


def protocol_for(data_name: str) -> Protocol:
    """The protocol of a data set by its name: `SHAPES` for shapes-lt, `CIFAR` for all other small images."""
    return SHAPES if data_name == "shapes-lt" else CIFAR


# --- stages and recipes ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stage:
    """The four slots of the training step, fixed for some epochs.

    Args:
        epochs: how many; None takes `share` of the protocol's epochs. 0 trains nothing: the stage only gives the
            model another `classifier`.
        share: 0.8 is 160 of CIFAR's 200 epochs and 24 of the 30 of shapes-lt. Ignored where `epochs` is given.
        sampler: called as sampler(labels, seed=seed), and with epochs=... if it has such a parameter; for example
            `partial(PowerSampler, q=0.5)`. None: every image once per epoch, in a new order each epoch.
        foreground: its prepare(model, images, labels) is called once, at the stage's start, with the model of the
            stage before, and returns a tensor with a row per image, such as packed masks; each batch then is
            foreground(images, rows, generator=...).
        mix: called as mix(model, images, targets, class_counts=..., generator=...); returns logits and targets.
        loss: `CrossEntropyLoss()`, or a function of the class counts: `partial(ClassBalancedLoss, beta=0.9999)`.
        schedule: a schedule, or the name of one of the protocol's. Neighbouring stages with the same schedule share
            it: it runs over their epochs together, and the optimiser goes on. A new schedule starts a new optimiser,
            and so does a change of any of the following.
        classifier: what becomes of the classifier at the stage's start, called as classifier(model, images, labels,
            class_counts), see `ltlab.classifiers`; None keeps it.
        trains: "all" parameters, or the "classifier" alone, which leaves the others bit-identical.
        batch_norm: "train": batch statistics, and the running ones follow; "eval": the running statistics are used
            and stay; "shift": as "train", but scale and shift (the affine part) stay (Zhong et al., CVPR 2021).
        weight_decay: None takes the protocol's.

    Raises:
        ValueError: epochs negative, or 0 without `classifier` or with a slot; share or weight_decay not positive; an
            unknown value of `trains` or `batch_norm`.
    """

    epochs: int | None = None
    share: float = 1.0
    sampler: Callable | None = None
    foreground: Callable | None = None
    mix: Callable | None = None
    loss: nn.Module | Callable = field(default_factory=CrossEntropyLoss)
    schedule: Schedule | str = "base"
    classifier: Callable | None = None
    trains: str = "all"
    batch_norm: str = "train"
    weight_decay: float | None = None

    def __post_init__(self) -> None:
        if self.epochs is not None and (not isinstance(self.epochs, int) or self.epochs < 0):
            raise ValueError(f"epochs={self.epochs!r}: a stage takes a whole number of epochs, or None")
        if self.epochs == 0 and (not self.classifier or self.sampler or self.foreground or self.mix):
            raise ValueError("epochs=0: such a stage trains nothing, it takes a classifier= and nothing else")
        if not 0 < self.share < math.inf:
            raise ValueError(f"share={self.share!r}: a stage takes a positive share of the protocol's epochs")
        if self.weight_decay is not None and not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay={self.weight_decay!r}: it is at least 0, or None for the protocol's")
        look_up("trains", self.trains, dict.fromkeys(("all", "classifier")))
        look_up("batch_norm", self.batch_norm, dict.fromkeys(("train", "eval", "shift")))


OTHERS = ("classifier", "trains", "batch_norm", "weight_decay")  # what a stage may set beside slots and schedule


class Recipe:
    """A list of stages with a name.

    `Recipe(Stage(), name="ce")` is the whole of plain training. `protocol=None` takes the data's own.
    `classifier="cosine"` gives the network the normalised classifier that LDAM needs, see `models.CosineClassifier`.
    """

    def __init__(
        self, *stages: Stage, name: str = "custom", protocol: Protocol | None = None, classifier: str = "linear"
    ) -> None:
        if not stages:
            raise ValueError("a recipe takes at least one Stage")
        for stage in stages:
            if not isinstance(stage, Stage):
                raise TypeError(f"a recipe takes stages, not {stage!r}; write Recipe(Stage(...), Stage(...))")
        if all(stage.epochs == 0 for stage in stages):
            raise ValueError("a recipe takes at least one Stage that trains: all of these have 0 epochs")
        self.stages, self.name, self.protocol, self.classifier = stages, name, protocol, classifier

    def _with(self, stages: Sequence[Stage], protocol: Protocol) -> "Recipe":
        return Recipe(*stages, name=self.name, protocol=protocol, classifier=self.classifier)

    def resolve(self, protocol: Protocol) -> "Recipe":
        """The recipe with everything that it left open filled in: epochs, schedules and, unless it has one, protocol.

        Raises:
            ValueError: a stage names a schedule that the protocol does not have.
        """
        protocol = self.protocol or protocol
        stages = []
        for stage in self.stages:
            epochs = max(1, round(stage.share * protocol.epochs)) if stage.epochs is None else stage.epochs
            schedule = stage.schedule
            if isinstance(schedule, str):
                schedule = look_up(f"schedule of {protocol.name}", schedule, protocol.schedules)
            stages.append(replace(stage, epochs=epochs, share=1.0, schedule=schedule))
        return self._with(stages, protocol)

    @property
    def epochs(self) -> int:
        """Epochs of all stages of a resolved recipe."""
        return sum(stage.epochs for stage in self.stages)

    def first(self, stages: int) -> "Recipe":
        """The recipe's first stages alone."""
        return self._with(self.stages[:stages], self.protocol)

    def with_epochs(self, epochs: int) -> "Recipe":
        """A resolved recipe, shortened or stretched to `epochs` in all: stages and warm-up keep their shares.

        Raises:
            ValueError: fewer epochs than stages.
        """
        trained = list(accumulate(int(stage.epochs > 0) for stage in self.stages))  # stages that train, up to each one
        if epochs < trained[-1]:
            raise ValueError(f"epochs={epochs}: recipe {self.name!r} needs at least {trained[-1]}, one per stage")
        k = epochs / self.epochs
        ends = accumulate(stage.epochs for stage in self.stages)
        ends = [max(least, round(k * end)) for least, end in zip(trained, ends, strict=True)]
        for i in reversed(range(len(ends) - 1)):  # no stage that trains shrinks to nothing
            ends[i] = min(ends[i], ends[i + 1] - (self.stages[i + 1].epochs > 0))
        lengths = [end - start for start, end in zip([0, *ends[:-1]], ends, strict=True)]
        stages = [
            replace(stage, epochs=n, schedule=stage.schedule.scaled(k))
            for stage, n in zip(self.stages, lengths, strict=True)
        ]
        return self._with(stages, self.protocol)

    def continues(self, i: int) -> bool:
        """Whether stage i (from 0) of a resolved recipe goes on with the schedule and optimiser of the one before."""
        if i == 0 or self.stages[i].classifier is not None:
            return False
        return all(
            getattr(self.stages[i], name) == getattr(self.stages[i - 1], name)
            for name in ("schedule", "trains", "batch_norm", "weight_decay")
        )

    def spans(self) -> list[tuple[int, int]]:
        """For every stage of a resolved recipe, its offset in its schedule and the schedule's whole span, in epochs."""
        starts = [i for i in range(len(self.stages)) if not self.continues(i)]
        spans = []
        for start, end in zip(starts, [*starts[1:], len(self.stages)], strict=True):
            offsets = list(accumulate((stage.epochs for stage in self.stages[start:end]), initial=0))
            spans += [(offset, offsets[-1]) for offset in offsets[:-1]]
        return spans

    def table(self) -> pd.DataFrame:
        """One row per stage: its epochs, its four slots and its learning rate; and what else a stage sets, if any."""
        rows = []
        others = [name for name in OTHERS if any(getattr(s, name) != getattr(Stage, name) for s in self.stages)]
        for number, stage in enumerate(self.stages, start=1):
            epochs = f"{stage.share:.0%} of the protocol's" if stage.epochs is None else stage.epochs
            slots = {slot: getattr(stage, slot) for slot in ("sampler", "foreground", "mix", "loss")}
            slots["learning rate"] = stage.schedule
            if stage.epochs == 0:
                slots = dict.fromkeys(slots)
            other = {name.replace("_", " "): getattr(stage, name) for name in others}
            shown = {column: describe(value) for column, value in (slots | other).items()}
            rows.append({"stage": number, "epochs": epochs, **shown})
        return pd.DataFrame(rows).set_index("stage")

    def identity(self) -> dict[str, str]:
        """What makes two resolved recipes train alike, as text; checkpoints are compared by it."""
        protocol = {f"protocol.{k}": str(v) for k, v in vars(self.protocol).items() if k not in ("name", "schedules")}
        stages = self.table().T.to_dict()
        return (
            protocol
            | {"classifier": self.classifier}
            | {f"stage {n}.{k}": str(v) for n, row in stages.items() for k, v in row.items()}
        )

    def __str__(self) -> str:
        return f"recipe {self.name!r}\n{self.table().to_string()}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<b>{self.name}</b>{self.table().to_html()}"


def describe(slot: object) -> str:
    """What stands in a slot, in one short text: `PowerSampler(q=0.5)`; an empty slot is a dash."""
    if slot is None:
        return "—"
    if isinstance(slot, partial):
        arguments = [repr(a) for a in slot.args] + [f"{k}={v!r}" for k, v in slot.keywords.items()]
        return f"{slot.func.__name__}({', '.join(arguments)})"
    if callable(slot) and hasattr(slot, "__name__"):
        return slot.__name__
    if isinstance(slot, str):
        return slot
    return type(slot).__name__ if type(slot).__repr__ is object.__repr__ else repr(slot)  # never an address in memory


# --- the recipes by name, family by family ---------------------------------------------------------------------------

CLASS_BALANCED = partial(PowerSampler, q=0.0)

# what a mistake costs, from the first epoch on; or deferred (DRW), in the last fifth
LOSSES: dict[str, nn.Module | Callable] = {
    "cs_ce": CostSensitiveLoss,
    "cs_ce_smooth": partial(CostSensitiveLoss, gamma=0.5),
    "focal": FocalLoss(gamma=2.0),
    "focal_softmax": FocalLoss(gamma=2.0, form="softmax"),
    "cb_ce": partial(ClassBalancedLoss, beta=0.9999),
    "cb_ce_mild": partial(ClassBalancedLoss, beta=0.9),
    "cb_focal": partial(ClassBalancedFocalLoss, beta=0.9999, gamma=1.0),
    "balanced_softmax": BalancedSoftmaxLoss,
    "logit_adjusted": partial(LogitAdjustedLoss, tau=1.0),
    "label_smoothing": LabelSmoothingLoss(smoothing=0.1),
    "label_aware_smoothing": LabelAwareSmoothingLoss,
    "cdt": partial(CDTLoss, gamma=0.2),
    "seql": EqualizationLoss,
}
# which image next, from the first epoch on; or deferred (DRS), in the last fifth
SAMPLERS: dict[str, Callable] = {
    "over_sampling": RandomOverSampler,
    "under_sampling": RandomUnderSampler,
    "instance_balanced": partial(PowerSampler, q=1.0),
    "square_root": partial(PowerSampler, q=0.5),
    "class_balanced": CLASS_BALANCED,
    "progressive": ProgressivelyBalancedSampler,
    "reversed": ReversedSampler,
}
# between images, for twice the epochs; the plain name has the paper's alpha
MIXES: dict[str, InputMixup | ManifoldMixup | Remix] = {
    "input_mixup": InputMixup(alpha=1.0),
    "manifold_mixup": ManifoldMixup(alpha=1.0, layer="pool"),
    **{f"manifold_mixup_{layer}": ManifoldMixup(alpha=1.0, layer=layer) for layer in ("layer1", "layer2", "layer3")},
    "remix": Remix(alpha=1.0),
}
ALPHAS = (0.2, 4.0)  # the rest of the grid over alpha
# which images the second stage of CAM-based re-sampling draws
CAM_SAMPLERS = {
    "": CLASS_BALANCED,
    "_square_root": SAMPLERS["square_root"],
    "_progressive": ProgressivelyBalancedSampler,
    "_over": RandomOverSampler,
    "_under": RandomUnderSampler,
}


def _deferred(name: str, **slot: object) -> Recipe:
    """Plain training, and the trick in the last fifth of the epochs, where the learning rate is low."""
    return Recipe(Stage(share=0.8), Stage(share=0.2, **slot), name=name)


def _two_stages(name: str, **slots: object) -> Recipe:
    """Plain training, then a second stage with a schedule of its own, as the authors train CAM-based re-sampling."""
    return Recipe(Stage(share=0.8, schedule="first"), Stage(share=0.2, schedule="second", **slots), name=name)


def _retrained(name: str, classifier: Callable) -> Recipe:
    """Plain training, then only the new classifier, class-balanced, on features frozen to the bit."""
    second = Stage(
        share=0.15, schedule="retrain", weight_decay=5e-4, sampler=CLASS_BALANCED,
        classifier=classifier, trains="classifier", batch_norm="eval",
    )  # fmt: skip
    return Recipe(Stage(), second, name=name)


def _long(name: str, **slot: object) -> Recipe:
    """Twice the epochs, which mixup needs."""
    return Recipe(Stage(share=2.0, **slot), name=name)


def _finetuned(name: str, **slot: object) -> Recipe:
    """Twice the epochs, then some without the slot at a low learning rate."""
    return Recipe(Stage(share=2.0, **slot), Stage(share=0.1, schedule="finetune"), name=name)


MIX_GRID = {
    f"{name}_alpha{alpha:g}": replace(mix, alpha=alpha)
    for name, mix in MIXES.items()
    if name != "remix"
    for alpha in ALPHAS
}

FAMILIES: dict[str, tuple[Recipe, ...]] = {  # what belongs in one comparison, see `family`
    "baseline": (Recipe(Stage(), name="ce"),),
    "re-weighting": (
        *(Recipe(Stage(loss=loss), name=name) for name, loss in LOSSES.items()),
        Recipe(Stage(loss=LDAMLoss), name="ldam", classifier="cosine"),
    ),
    "re-sampling": tuple(Recipe(Stage(sampler=sampler), name=name) for name, sampler in SAMPLERS.items()),
    "mixup": (
        _long("ce_long"),
        _finetuned("ce_long_finetune"),
        *(_long(name, mix=mix) for name, mix in MIXES.items()),
        *(_finetuned(f"{name}_finetune", mix=MIXES[name]) for name in ("input_mixup", "manifold_mixup", "remix")),
        *(_long(name, mix=mix) for name, mix in MIX_GRID.items()),
    ),
    "two-stage": (
        *(_deferred(f"drw_{name}", loss=loss) for name, loss in LOSSES.items()),
        Recipe(
            Stage(share=0.8, loss=LDAMLoss),
            Stage(share=0.2, loss=partial(LDAMLoss, beta=0.9999)),
            name="drw_ldam", classifier="cosine",
        ),
        *(_deferred(f"drs_{name}", sampler=sampler) for name, sampler in SAMPLERS.items()),
        _two_stages("drs_classifier", sampler=CLASS_BALANCED, trains="classifier", batch_norm="eval"),
        _two_stages("drs_classifier_shift", sampler=CLASS_BALANCED, trains="classifier", batch_norm="shift"),
        _retrained("crt", fresh),
        _retrained("lws", weight_scaling),
        Recipe(Stage(), Stage(epochs=0, classifier=partial(tau_normalised, tau=1.0)), name="tau_norm"),
        Recipe(Stage(), Stage(epochs=0, classifier=nearest_class_mean), name="nearest_class_mean"),
        Recipe(Stage(), Stage(epochs=0, classifier=partial(logit_adjusted, tau=1.0)), name="logit_adjusted_post_hoc"),
    ),
    "cam": (
        *(
            _two_stages(f"cam_drs{name}", sampler=sampler, foreground=ForegroundTransform())
            for name, sampler in CAM_SAMPLERS.items()
        ),
        _two_stages("cam_drs_fill", sampler=CLASS_BALANCED, foreground=ForegroundTransform(fill=True)),
        _two_stages("transform_drs", sampler=CLASS_BALANCED, foreground=WholeImageTransform()),
    ),
}  # fmt: skip

RECIPES: dict[str, Recipe] = {recipe.name: recipe for family in FAMILIES.values() for recipe in family}


def family(name: str) -> list[Recipe]:
    """The recipes of a family, the baseline first.

    Raises:
        ValueError: an unknown name; the nearest known one is named.
    """
    members = look_up("family", name, FAMILIES)
    return [*(FAMILIES["baseline"] if name != "baseline" else ()), *members]


def get(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        ValueError: an unknown name; the nearest known one is named.
    """
    return look_up("recipe", name, RECIPES)
