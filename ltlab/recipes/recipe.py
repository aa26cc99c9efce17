"""A stage fixes the four slots of the training step for some epochs; a recipe is a list of stages."""

import hashlib
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Self

from torch import nn

from ..classifiers import Change, declared
from ..counts import check_integer, comparable
from ..losses import CrossEntropyLoss, LDAMLoss, LogitAdjustedLoss
from ..names import look_up, one_of
from .contents import contents, describe
from .schedules import Schedule, Settings, check_call

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Stage:
    """The four slots of the training step, fixed for some epochs.

    Args:
        epochs: how many; None takes `share` of the settings' epochs. 0 trains nothing: the stage only gives the
            model another `classifier`.
        share: 0.8 is 160 of CIFAR's 200 epochs and 24 of the 30 of shapes-lt. Ignored where `epochs` is given.
        sampler: called as sampler(labels, seed=seed), and with epochs=... if it has such a parameter; for example
            `partial(PowerSampler, q=0.5)`. None: every image once per epoch, in a new order each epoch.
        foreground: its prepare(model, images, labels) is called once, at the stage's start, with the model of the
            stage before, and returns a tensor with a row per image, such as packed masks; each batch then is
            foreground(images, rows, generator=...).
        mix: called as mix(model, images, targets, class_counts=..., generator=...); returns logits and targets. Its
            method check(model), if any, is called before training and raises ValueError for a model that does not fit.
        loss: `CrossEntropyLoss()`, or a function of the class counts (and of epochs=..., if it has such a parameter):
            `partial(ClassBalancedLoss, beta=0.9999)`. The module is called as loss(logits, targets), float32 (n, C)
            and int64 (n,) or, with a mix, probabilities (n, C), and returns a number. What it remembers is in buffers;
            its method set_epoch(epoch), if any, is called every epoch.
        schedule: a schedule such as `OneCycle(lr=0.05)`, any function (t, span) of the epochs completed since its
            start and of their total number, or the name of one of the settings'. Neighbouring stages with the same
            schedule share it and the optimiser. A change of it, or of any of the following, starts a new optimiser.
        classifier: called at the stage's start as classifier(model, images, labels, class_counts), and with the
            settings' crop=... if it has such a parameter, to make the new one, see `ltlab.classifiers`; None keeps it.
        trains: "all" parameters, or only the "classifier", which leaves the others bit-identical.
        batch_norm: "train": batch statistics, and the running ones follow; "eval": the running statistics are used
            and stay; "shift": as "train", but scale and shift (the affine part) stay (Zhong et al., CVPR 2021).
        weight_decay: None takes the settings'.
        rates: factors of the learning rate by the name of a parameter, or of the part that has it:
            {"classifier.weight": 0.1} lets the weight learn at a tenth of the rate, {"features": 0} freezes a part.

    Raises:
        TypeError: something in a slot that a run could not call.
        ValueError: epochs negative, or 0 without `classifier` or with a slot; share or weight_decay not positive; an
            unknown value of `trains` or `batch_norm`; a factor in `rates` that is negative or not finite.
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
    rates: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        if self.epochs is not None:
            object.__setattr__(self, "epochs", check_integer("epochs", self.epochs, least=0))
        if self.epochs == 0 and (not self.classifier or self.sampler or self.foreground or self.mix):
            raise ValueError("epochs=0: such a stage trains nothing, it takes a classifier= and nothing else")
        if not 0 < comparable(self.share) < math.inf:
            raise ValueError(f"share={self.share!r}: a stage takes a positive fraction of the settings' epochs")
        if self.weight_decay is not None and not 0 <= comparable(self.weight_decay) < math.inf:
            raise ValueError(f"weight_decay={self.weight_decay!r}: it is at least 0, or None for the settings'")
        for part, factor in (self.rates or {}).items():
            if not 0 <= comparable(factor) < math.inf:
                raise ValueError(f"rates={{{part!r}: {factor!r}}}: a factor of the learning rate is at least 0")
        _check_slots(self)
        if not (isinstance(self.schedule, str) or callable(self.schedule)):
            raise TypeError(
                f"schedule={self.schedule!r}: a stage takes a name, or what can be called as schedule(t, span)"
            )
        one_of("trains", self.trains, ("all", "classifier"))
        one_of("batch_norm", self.batch_norm, ("train", "eval", "shift"))


SLOTS = ("sampler", "foreground", "mix", "loss")
EXAMPLES = {"foreground": "ForegroundTransform()", "mix": "InputMixup(alpha=1.0)"}
OTHERS = (
    "classifier",
    "trains",
    "batch_norm",
    "weight_decay",
    "rates",
)  # what a stage may set in addition to slots and schedule


class Recipe:
    """A list of stages with a name.

    `Recipe(Stage(), name="ce")` is the whole of plain training. `settings=None` takes the data's own.
    `classifier="cosine"` gives the network the normalised classifier that LDAM needs, and "cosine_learnt" one whose
    scale is trained, see `classifiers`.

    Every slot combines with every other, but for what makes no sense:

    - LDAM on a classifier that is not "cosine": its margins are a fraction of a cosine's range;
    - a change of the classifier that needs a linear one where there is a normalised one, or one with learnt factors;
    - post-hoc logit adjustment after balanced softmax or the logit-adjusted loss: the same correction twice.

    Raises:
        TypeError: something else than a stage.
        ValueError: no stage, none that trains, or a combination that makes no sense, with the reason.
    """

    stages: tuple[Stage, ...]
    settings: Settings | None

    def __init__(
        self, *stages: Stage, name: str = "custom", settings: Settings | None = None, classifier: str = "linear"
    ) -> None:
        if not stages:
            raise ValueError("a recipe takes at least one Stage")
        for stage in stages:
            if not isinstance(stage, Stage):
                raise TypeError(f"a recipe takes stages, not {stage!r}; write Recipe(Stage(...), Stage(...))")
        if all(stage.epochs == 0 for stage in stages):
            raise ValueError("a recipe takes at least one Stage that trains: all of these have 0 epochs")
        _check_classifier(stages, classifier)
        self.stages, self.name, self.settings, self.classifier = stages, name, settings, classifier

    def with_stages(self, *stages: Stage) -> Self:
        """The same with other stages."""
        return type(self)(*stages, name=self.name, settings=self.settings, classifier=self.classifier)

    def resolve(self, settings: Settings) -> "Plan":
        """The recipe with everything that it left open filled in: epochs, schedules and, unless it has one, settings.

        Raises:
            ValueError: a stage names a schedule that the settings do not have.
        """
        settings = self.settings or settings
        stages = []
        for stage in self.stages:
            epochs = max(1, round(stage.share * settings.epochs)) if stage.epochs is None else stage.epochs
            schedule = stage.schedule
            if isinstance(schedule, str):
                schedule = look_up(f"schedule of {settings.name}", schedule, settings.schedules)
            given = {field.name: getattr(stage, field.name) for field in fields(stage)}
            stages.append(PlannedStage(**given | {"epochs": epochs, "share": 1.0, "schedule": schedule}))
        return Plan(*stages, name=self.name, settings=settings, classifier=self.classifier)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            """What only a plan has: say how to get one."""
            if hasattr(Plan, name) and not name.startswith("_"):
                raise AttributeError(
                    f'a recipe has {name} only once it is resolved, recipe.resolve(recipes.settings_for("cifar10-lt"))'
                )
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def first(self, stages: int) -> Self:
        """The first stages alone."""
        return self.with_stages(*self.stages[:stages])

    def table(self) -> "pd.DataFrame":
        """One row per stage: its epochs, its four slots and its learning rate; and what else a stage sets, if any."""
        import pandas as pd  # here, because recipes need torch alone

        stages = pd.RangeIndex(1, len(self.stages) + 1, name="stage")
        return pd.DataFrame(self._rows(describe), index=stages)

    def _rows(self, shown: Callable[[object], str]) -> list[dict[str, object]]:
        """For every stage its epochs and, as `shown` tells them, its slots and what else any stage sets."""
        rows = []
        others = [name for name in OTHERS if any(getattr(s, name) != getattr(Stage, name) for s in self.stages)]
        for stage in self.stages:
            epochs = f"{stage.share:.0%} of the settings'" if stage.epochs is None else stage.epochs
            slots = {slot: getattr(stage, slot) for slot in SLOTS}
            slots["learning rate"] = stage.schedule
            if stage.epochs == 0:
                slots = dict.fromkeys(slots)
            other = {name.replace("_", " "): getattr(stage, name) for name in others}
            values = {column: shown(value) for column, value in (slots | other).items()}
            rows.append({"epochs": epochs, **values})
        return rows

    def __str__(self) -> str:
        return f"recipe {self.name!r}\n{self.table().to_string()}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<b>{self.name}</b>{self.table().to_html()}"


@dataclass(frozen=True, kw_only=True)
class PlannedStage(Stage):
    """A stage with its epochs and its schedule filled in."""

    epochs: int  # pyright: ignore[reportGeneralTypeIssues] (given by keyword, so that no default is needed)
    schedule: Schedule  # pyright: ignore[reportGeneralTypeIssues]


class Plan(Recipe):
    """A recipe with everything filled in, which is what is trained; `Recipe.resolve` makes it.

    Every stage has a number of epochs and a schedule, and there are settings.
    """

    stages: tuple[PlannedStage, ...]
    settings: Settings
    told: dict[str, str] | None = None  # see `as_told`

    def resolve(self, settings: Settings) -> "Plan":
        """Itself, since nothing is left open."""
        return self

    @property
    def epochs(self) -> int:
        """Epochs of all stages."""
        return sum(stage.epochs for stage in self.stages)

    def with_epochs(self, epochs: int) -> "Plan":
        """The plan shortened or stretched to `epochs` in all: stages and warm-up keep their fractions.

        Raises:
            ValueError: fewer epochs than stages that train.
        """
        if epochs == self.epochs:
            return self
        trained = list(accumulate(int(stage.epochs > 0) for stage in self.stages))  # stages that train, up to each one
        if epochs < trained[-1]:
            raise ValueError(f"epochs={epochs}: recipe {self.name!r} needs at least {trained[-1]}, one per stage")
        k = epochs / self.epochs
        ends = accumulate(stage.epochs for stage in self.stages)
        ends = [max(least, round(k * end)) for least, end in zip(trained, ends, strict=True)]
        for i in reversed(range(len(ends) - 1)):  # no stage that trains shrinks to nothing
            ends[i] = min(ends[i], ends[i + 1] - (self.stages[i + 1].epochs > 0))
        lengths = [end - start for start, end in zip([0, *ends[:-1]], ends, strict=True)]
        stages = []
        for stage, n in zip(self.stages, lengths, strict=True):
            scaled = getattr(stage.schedule, "scaled", None)  # a custom function is called with the new span
            stages.append(replace(stage, epochs=n, schedule=scaled(k) if scaled else stage.schedule))
        return self.with_stages(*stages)

    def continues(self, i: int) -> bool:
        """Whether stage i (from 0) continues the schedule and optimiser of the one before."""
        if i == 0 or self.stages[i].classifier is not None:
            return False
        return all(
            getattr(self.stages[i], name) == getattr(self.stages[i - 1], name)
            for name in ("schedule", "trains", "batch_norm", "weight_decay", "rates")
        )

    def spans(self) -> list[tuple[int, int]]:
        """For every stage its offset in its schedule and the schedule's whole span, in epochs."""
        starts = [i for i in range(len(self.stages)) if not self.continues(i)]
        spans = []
        for start, end in zip(starts, [*starts[1:], len(self.stages)], strict=True):
            offsets = list(accumulate((stage.epochs for stage in self.stages[start:end]), initial=0))
            spans += [(offset, offsets[-1]) for offset in offsets[:-1]]
        return spans

    def as_told(self) -> "Plan":
        """The plan with its identity as it is now, for another process, where custom code arrives without its text."""
        plan = self.with_stages(*self.stages)
        plan.told = self.identity()
        return plan

    def identity(self) -> dict[str, str]:
        """What makes two plans train alike, as text, by which checkpoints and rows are recognised."""
        if self.told is not None:
            return self.told
        settings = {f"protocol.{k}": v for k, v in self.settings.identity().items()}
        stages = {
            f"stage {number}.{column}": str(value)
            for number, row in enumerate(self._rows(contents), start=1)
            for column, value in row.items()
        }
        return settings | {"classifier": self.classifier} | stages

    def done(self, stages: int, epochs: int) -> dict[str, str]:
        """What is trained when `stages` stages have begun and `epochs` epochs are over, as text.

        Equal for two plans exactly where they train alike up to there; what each does next does not count. Plain
        training for 160 of 200 epochs is what every deferred trick begins with. A stage counts as long as it has
        trained, its schedule by the learning rates that it gave, at every quarter of an epoch.
        """
        begun = self.first(stages)
        done, start = begun.identity(), 0
        for i, (stage, (offset, span)) in enumerate(zip(begun.stages, self.spans(), strict=False)):
            over = min(stage.epochs, epochs - start)
            start += stage.epochs
            rates = [f"{stage.schedule(offset + quarter / 4, span):.9g}" for quarter in range(4 * over)]
            digest = hashlib.sha256(" ".join(rates).encode()).hexdigest()[:8]
            done[f"stage {i + 1}.learning rate"] = f"{rates[0]} to {rates[-1]} ({digest})" if rates else "none"
            done[f"stage {i + 1}.optimizer"] = "continued" if self.continues(i) else "new"
            if not any(map(takes_epochs, (stage.sampler, stage.loss))):
                done[f"stage {i + 1}.epochs"] = str(over)
        return done

    def place(self, stages: int, epochs: int) -> tuple[int, int]:
        """The stage (from 0) and its epoch that come next when `stages` stages have begun and `epochs` are over.

        Raises:
            ValueError: the recipe has not as many, or nothing is left of it.
        """
        ends = list(accumulate((stage.epochs for stage in self.stages), initial=0))
        last = stages == len(self.stages)
        if stages > len(self.stages) or not ends[stages - 1] <= epochs <= ends[stages] - last:
            raise ValueError(
                f"{stages} stages and {epochs} epochs are trained there: recipe {self.name!r} has to train longer, and "
                "to have begun as many stages by then"
            )
        return (stages, 0) if epochs == ends[stages] else (stages - 1, epochs - ends[stages - 1])

    def begins_with(self, other: "Plan") -> bool:
        """Whether all that another plan trains is how this one begins, so that it can start from there."""
        begun = len(other.stages), other.epochs
        try:
            self.place(*begun)
        except ValueError:
            return False
        return self.done(*begun) == other.done(*begun)


def _check_slots(stage: Stage) -> None:
    """Refuse what a run could not call, or would call with something else than it takes."""
    if stage.sampler is not None:
        check_call("sampler", stage.sampler, "(labels, seed=seed)")
    if stage.classifier is not None:
        check_call("classifier", stage.classifier, "(model, images, labels, class_counts)")
    for name, called in (("foreground", stage.foreground), ("mix", stage.mix)):
        if called is not None and (isinstance(_made_by(called), type) or not callable(called)):
            raise TypeError(f"{name}={describe(called)}: a stage takes one that is made, such as {EXAMPLES[name]}")
    if stage.foreground is not None and not hasattr(stage.foreground, "prepare"):
        raise TypeError(f"foreground={describe(stage.foreground)} has no method prepare(model, images, labels)")
    if not isinstance(stage.loss, nn.Module):
        check_call("loss", stage.loss, "(class_counts), unless it is a loss module")
        made_by, signature = _made_by(stage.loss), inspect.signature(stage.loss)
        first = next(iter(signature.parameters.values()), None)
        if isinstance(made_by, type) and (first is None or first.default is not first.empty):
            raise TypeError(f"loss={describe(stage.loss)}: it takes no class counts, make it: {made_by.__name__}(...)")
        epochs = {"epochs": 1} if takes_epochs(stage.loss) else {}
        check_call("loss", stage.loss, "(class_counts); functools.partial gives the rest", None, **epochs)


def _check_classifier(stages: Sequence[Stage], kind: str) -> None:
    """Refuse losses and changes of the classifier that do not go together, stage by stage."""
    adjusted = None  # the loss, if the stage before has taught the prior's correction to the model
    for number, stage in enumerate(stages, start=1):
        change, loss = declared(stage.classifier) or Change(), _loss_class(stage.loss)
        name = getattr(_made_by(stage.classifier), "__name__", "")
        if change.needs and kind not in change.needs:
            raise ValueError(
                f"stage {number}: {name} needs a {' or '.join(change.needs)} classifier, there it is {kind}"
            )
        if change.adjusts_prior and adjusted:
            raise ValueError(
                f"stage {number}: {name} after {adjusted.__name__} is the same correction twice; leave one out"
            )
        kind = change.leaves or kind
        if stage.epochs == 0:
            continue
        if issubclass(loss, LDAMLoss) and kind != "cosine":
            raise ValueError(
                f"stage {number}: LDAMLoss needs a normalised classifier, there it is {kind}; "
                'write Recipe(..., classifier="cosine")'
            )
        adjusted = loss if issubclass(loss, LogitAdjustedLoss) else None


def takes_epochs(make: object) -> bool:
    """Whether a sampler or loss asks for the epochs of its stage when it is made."""
    return callable(make) and not isinstance(make, nn.Module) and "epochs" in inspect.signature(make).parameters


def _made_by(slot: object) -> object:
    """What a slot calls: of a partial its function or class, else itself."""
    return slot.func if isinstance(slot, partial) else slot


def _loss_class(slot: object) -> type:
    """The class of the loss that a slot holds or makes; of a custom function, which may make any, object."""
    if isinstance(slot, nn.Module):
        return type(slot)
    made_by = _made_by(slot)
    return made_by if isinstance(made_by, type) else object
