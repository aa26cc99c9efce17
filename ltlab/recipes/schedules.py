"""What a recipe leaves open: learning rates as functions of time, and how a kind of data is trained."""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any

from torch import nn

from ..counts import check_integer, comparable
from .contents import contents, describe

# --- schedules: the learning rate as a function of time --------------------------------------------------------------


@dataclass(frozen=True)
class Steps:
    """Linear warm-up from lr/3, then lr times `factor` at every milestone passed.

        lr(t) = lr * w(t) * factor^(number of milestones <= t / span),   w(t) = min(1, 1/3 + 2/3 * t / warmup)

    Args:
        lr: the learning rate after the warm-up.
        milestones: fractions of the span, (0.8, 0.9) for epochs 160 and 180 of 200.
        factor: what each milestone multiplies the learning rate by.
        warmup: length of the warm-up in epochs; 0 for none.

    Raises:
        ValueError: lr or factor not above 0 and finite, milestones that are not rising fractions of the span, a
            negative warmup.
    """

    lr: float
    milestones: tuple[float, ...] = ()
    factor: float = 0.1
    warmup: float = 0

    def __post_init__(self) -> None:
        _check_above_zero("lr", self.lr)
        _check_above_zero("factor", self.factor)
        if not all(a < b for a, b in pairwise((0, *self.milestones, 1))):
            raise ValueError(
                f"milestones={self.milestones}: they are rising fractions of the span, between 0 and 1: (0.8, 0.9) "
                "for epochs 160 and 180 of 200"
            )
        if not 0 <= comparable(self.warmup) < math.inf:
            raise ValueError(f"warmup={self.warmup!r}: it is a number of epochs, at least 0")

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
        rise: fraction of the span in which the learning rate rises.

    Raises:
        ValueError: lr not above 0 and finite, or rise outside [0, 1).
    """

    lr: float
    rise: float = 0.25

    def __post_init__(self) -> None:
        _check_above_zero("lr", self.lr)
        if not 0 <= comparable(self.rise) < 1:
            raise ValueError(f"rise={self.rise!r}: it is a fraction of the span, at least 0 and below 1")

    def __call__(self, t: float, span: float) -> float:
        """The learning rate at t epochs since the span's start, 0 <= t < span."""
        done = t / span
        if done < self.rise:
            return self.lr * (1 / 25 + (1 - 1 / 25) * (1 - math.cos(math.pi * done / self.rise)) / 2)
        return self.lr * (1 + math.cos(math.pi * (done - self.rise) / (1 - self.rise))) / 2

    def scaled(self, k: float) -> "OneCycle":
        """The same schedule for a span k times as long: it knows only fractions."""
        return self


Schedule = Steps | OneCycle


def _check_above_zero(name: str, value: float) -> None:
    if not 0 < comparable(value) < math.inf:
        raise ValueError(f"{name}={value!r}: it must be above 0 and finite")


# --- settings: what a kind of data fills in -------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """How a kind of data is trained where a recipe leaves it open.

    `epochs` is the length of a stage with share 1. `schedules` are the learning rates that a stage may name:

        base      training from scratch
        first     the first four fifths of `base`, where a `second` stage follows
        second    the last fifth, in a stage of its own
        finetune  some epochs more at a low learning rate, after mixup
        retrain   a new classifier on frozen features
        refit     the trained classifier, scaled or aligned, on frozen features

    `model` is the name of a network in `ltlab.models`, or a custom function that makes one, called as
    model(num_classes, mean, std) with the channel statistics of the training images in [0, 1], each (3,); for images on
    disk these are None. Its weights are drawn from the run's seed.

    `optimizer` is called as optimizer(parameters, lr=..., weight_decay=...), such as `torch.optim.AdamW`; before every
    step the schedule sets the learning rate. One whose step needs a closure does not fit, and none can be captured.
    None is SGD with Nesterov `momentum`.

    The augmentation is, in this order and each where it is set,

        crop             a random part of the image, resized to crop x crop pixels; evaluation takes the centre crop
        crop_padding     a random crop from the image padded by so many black pixels
        flip             a horizontal flip of half of the images
        colour_jitter    brightness, contrast and saturation by random factors in 1 ± these

    see `ltlab.train.augmentation`.

    Raises:
        TypeError: a model or an optimizer that cannot be called as above.
        ValueError: a batch of less than one image.
    """

    name: str
    model: str | Callable
    epochs: int
    batch_size: int
    weight_decay: float
    schedules: Mapping[str, Schedule]
    momentum: float = 0.9
    crop_padding: int = 4
    flip: bool = True
    crop: int | None = None
    colour_jitter: tuple[float, float, float] | None = None
    optimizer: Callable | None = None

    def __post_init__(self) -> None:
        if isinstance(self.model, nn.Module):
            raise TypeError(
                f"model={type(self.model).__name__}(...): settings take a name, or a function that makes a network; "
                "one that is made goes to fit(recipe, data, model)"
            )
        if not isinstance(self.model, str):
            check_call("model", self.model, "(num_classes, mean, std)", None, None, None)
        if self.optimizer is not None:
            check_call("optimizer", self.optimizer, "(parameters, lr=..., weight_decay=...)", [], lr=0, weight_decay=0)
        object.__setattr__(self, "batch_size", check_integer("batch_size", self.batch_size, least=1))

    def with_learning_rate(self, lr: float) -> "Settings":
        """The same with `lr` as the learning rate of `base`, and with those of all other schedules in proportion.

        Raises:
            ValueError: a learning rate that is not above 0 and finite.
        """
        _check_above_zero("lr", lr)
        base = self.schedules["base"].lr
        return replace(
            self, schedules={name: replace(each, lr=lr * (each.lr / base)) for name, each in self.schedules.items()}
        )

    def identity(self) -> dict[str, str]:
        """What makes two settings train alike, as text; schedules are the stages'.

        What is not set is not in it, so that what settings may set in the future leaves the identities of today.
        """
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        unset = {name for name in ("crop", "colour_jitter", "optimizer") if values[name] is None}
        return {
            name: contents(value) if callable(value) else str(value)
            for name, value in values.items()
            if name not in {"name", "schedules"} | unset
        }


def check_call(name: str, value: Any, call: str, *args: object, **keywords: object) -> None:
    """TypeError unless a recipe or settings can call this value, with these arguments if there are any."""
    if not callable(value):
        raise TypeError(f"{name}={value!r}: it must be callable as {name}{call}")
    try:
        if args or keywords:
            inspect.signature(value).bind(*args, **keywords)
    except ValueError:  # the signature of a function in C is not known
        return
    except TypeError as error:
        raise TypeError(f"{name}={describe(value)}: ltlab calls it as {name}{call}: {error}") from error


# The settings of the paper and the authors' code. Warm-up differs there in details: their second stage names the five
# epochs in a kind of schedule that ignores them, and their fine-tuning and re-training of a classifier have five.
CIFAR = Settings(
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
        "refit": OneCycle(lr=0.1, rise=0),
    },
)

SHAPES = Settings(
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
        "refit": OneCycle(lr=0.05, rise=0),
    },
    crop_padding=2,
)

FEW = 5_000  # training images up to which a custom set is small: seconds or minutes on a laptop
SMALL = replace(SHAPES, name="small sets", epochs=60, batch_size=16)

LARGE = 224  # pixels from which images are trained as large ones
# The authors' later code: 100 epochs, or 160 + 40 + 20 for the bag of tricks (their configs/ImageNet_LT and iNat18).
IMAGENET = Settings(
    name="ImageNet-LT",
    model="resnet10",
    epochs=100,
    batch_size=512,
    weight_decay=1e-4,
    schedules={
        "base": Steps(lr=0.2, milestones=(0.6, 0.8)),
        "first": Steps(lr=0.2, milestones=(0.75,)),
        "second": Steps(lr=0.002),
        "finetune": Steps(lr=0.002, milestones=(0.4, 0.8)),
        "retrain": Steps(lr=0.1, milestones=(1 / 3, 2 / 3)),
        "refit": OneCycle(lr=0.1, rise=0),
    },
    crop_padding=0,
    crop=LARGE,
    colour_jitter=(0.4, 0.4, 0.4),
)
# Their plain training on iNaturalist 2018 has no colour jitter; of its bag of tricks there is no configuration.
INAT = replace(IMAGENET, name="iNaturalist 2018", model="resnet50", colour_jitter=None)
PLACES = replace(INAT, name="Places-LT")

# The paper's own: 90 epochs, the learning rate falls at 30, 60 and 80 (stated for ImageNet-LT; of iNaturalist 2018 the
# 90 epochs). Two-stage training cuts them at 72. The augmentation is that of the later code.
IMAGENET_90 = replace(
    IMAGENET,
    name="ImageNet-LT, 90 epochs",
    epochs=90,
    schedules={
        **IMAGENET.schedules,
        "base": Steps(lr=0.2, milestones=(30 / 90, 60 / 90, 80 / 90)),
        "first": Steps(lr=0.2, milestones=(30 / 72, 60 / 72)),
        "second": Steps(lr=0.002, milestones=(8 / 18,)),
    },
)
INAT_90 = replace(IMAGENET_90, name="iNaturalist 2018, 90 epochs", model="resnet50", colour_jitter=None)

# A classifier on the features of a frozen network: nothing to augment, a step takes a millisecond. Batch, learning rate
# and weight decay were chosen by plain training's likelihood on held-out training images of both CIFAR-LT.
FEATURES = Settings(
    name="features",
    model="head",
    epochs=20,
    batch_size=256,
    weight_decay=5e-3,
    schedules={
        "base": OneCycle(lr=0.01, rise=0.1),
        "first": OneCycle(lr=0.01, rise=0.1),
        "second": OneCycle(lr=0.01, rise=0.1),
        "finetune": OneCycle(lr=0.001, rise=0),
        "retrain": OneCycle(lr=0.01, rise=0.1),
        "refit": OneCycle(lr=0.01, rise=0),
    },
    crop_padding=0,
    flip=False,
)

SETTINGS = {  # by the names that a person types
    "shapes": SHAPES, "cifar": CIFAR, "imagenet-lt": IMAGENET, "imagenet-lt-90": IMAGENET_90, "inat18": INAT,
    "inat18-90": INAT_90, "places-lt": PLACES, "features": FEATURES,
}  # fmt: skip

OF_DATA = {
    "shapes-lt": SHAPES, "cifar10-lt": CIFAR, "cifar100-lt": CIFAR,
    "imagenet-lt": IMAGENET, "inat18": INAT, "places-lt": PLACES,
}  # fmt: skip


def settings_for(data_name: str, side: int | None = None, images: int | None = None) -> Settings:
    """The settings of a data set by its name; of a custom set by the side and number of its training images.

    Of features, whose side is 1, they are `FEATURES`.
    From `LARGE` pixels on it is trained like ImageNet-LT, below that, with at most `FEW` images, by `SMALL`, else like
    `CIFAR`; what is left out counts as small side and many images. Any other settings are given to the recipe,
    `recipe.resolve(SETTINGS["inat18"])`.
    """
    if data_name in OF_DATA:
        return OF_DATA[data_name]
    if side == 1:
        return FEATURES
    if side is not None and side >= LARGE:
        return IMAGENET
    return CIFAR if images is None or images > FEW else SMALL
