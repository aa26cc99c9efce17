"""The exercises of notebook 00."""

from typing import Any

import pandas as pd
import torch

from ..metrics import per_class_accuracy, top1_error
from ..recipes import CIFAR, RECIPES, SHAPES, Recipe, describe
from .answers import Matches, NotYet, check_kind


def twice_as_long(answer: Any) -> str:
    """Plain training for twice the epochs of `ce`, on every data set."""
    check_kind(answer, Recipe, "a Recipe")
    if len(answer.stages) > 1:
        raise NotYet("stages", f"one stage is enough here, this recipe has {len(answer.stages)}")
    for settings in (SHAPES, CIFAR):
        given, wanted = (vars(recipe.resolve(settings).stages[0]) for recipe in (answer, RECIPES["ce_long"]))
        if changed := [name for name in wanted if name != "epochs" and describe(given[name]) != describe(wanted[name])]:
            raise NotYet("plain", f"{changed[0]} is not that of plain training: only the length must change")
        if given["epochs"] != wanted["epochs"]:
            told = f"on {settings.name} it trains for {given['epochs']} epochs instead of {wanted['epochs']}"
            raise NotYet("epochs", f"{told}; share= is relative to the data's own number, epochs= is fixed")
    if answer.name in RECIPES:
        raise NotYet("name", f"right, but {answer.name!r} is another recipe's name, and runs are stored by name")
    return "60 epochs on shapes-lt, 400 on CIFAR-LT: the fair comparison for a trick that trains this long"


_GENERATOR = torch.Generator().manual_seed(0)
_FOUR = torch.tensor([[4.0, 1, 0, 0], [3, 2, 0, 0], [0, 1, 2, 0], [1, 0, 0, 5]]), torch.tensor([0, 1, 2, 3])
_TAILED = torch.randn(200, 5, generator=_GENERATOR), torch.arange(200).sqrt().long() // 3

my_top1_error = Matches(
    oracle=top1_error,
    cases={"four images, one of them wrong": _FOUR, "200 images of classes of unequal size": _TAILED},
    mistakes={
        "accuracy": ("That is the fraction of right answers; the error is the fraction of wrong ones",
                     lambda logits, labels: 1 - top1_error(logits, labels)),
        "percent": ("That is in percent; the error is a fraction, a number in [0, 1]",
                    lambda logits, labels: 100 * top1_error(logits, labels)),
        "count": ("That is how many are wrong; the error is a fraction, so divide by the number of images",
                  lambda logits, labels: (logits.argmax(1) != labels).sum()),
        "class_mean": ("That is the mean over the classes; top-1 error is the mean over the images",
                       lambda logits, labels: 1 - per_class_accuracy(logits, labels).nanmean()),
        "dimension": ("argmax(0) compares the images with each other; the classes are dimension 1",
                      lambda logits, labels: (logits.argmax(0) != labels[: logits.shape[1]]).double().mean()),
    },
    right="the fraction of images whose largest logit is not their label's, as in metrics.top1_error",
)  # fmt: skip


def _history(errors: list[float], losses: list[float] | None = None) -> pd.DataFrame:
    """A row per epoch; without `losses` the training loss falls to the end."""
    epochs = range(1, len(errors) + 1)
    losses = losses or [1 / epoch for epoch in epochs]
    return pd.DataFrame({"epoch": epochs, "train_loss": losses, "test_error": errors})


reported_error = Matches(
    oracle=lambda history: history["test_error"].iloc[-1],
    cases={
        "a run whose errors are 0.9, 0.4, 0.3, 0.35": (_history([0.9, 0.4, 0.3, 0.35]),),
        "a run whose last epoch is its best": (_history([0.8, 0.5, 0.2]),),
        "a run whose training loss is least in its third epoch of four": (
            _history([0.7, 0.35, 0.4, 0.45], losses=[1.0, 0.5, 0.2, 0.3]),
        ),
    },
    mistakes={
        "best_epoch": ("Who chose that epoch, and by which measurement?", lambda history: history["test_error"].min()),
        "least_loss": ("That epoch was chosen by its training loss; nobody chooses the last one",
                       lambda history: history["test_error"][history["train_loss"].idxmin()]),
        "mean": ("A mean over the epochs is not the error of any model", lambda history: history["test_error"].mean()),
    },
    right="the last epoch's, however good: nothing was chosen by evaluating on the test set",
)  # fmt: skip

EXERCISES = {"tweak": twice_as_long, "implement": my_top1_error, "bug": reported_error}
