"""The exercises of notebook 00."""

from typing import Any

import pandas as pd
import torch

from ..metrics import per_class_accuracy, top1_error
from ..recipes import OneCycle
from .answers import Matches, NotYet, kind


def late_peak(answer: Any) -> str:
    """A one-cycle schedule that begins at 0.004 and is highest in the middle of training."""
    if not isinstance(answer, OneCycle):
        raise NotYet(f"this wants a recipes.OneCycle, it got {kind(answer)}")
    start = answer(0, span=1)
    if abs(start - 0.004) > 1e-6:
        raise NotYet(f"it begins at {start:.4g} instead of 0.004; the beginning is always lr / 25, so move lr")
    if abs(answer.rise - 0.5) > 1e-6:
        raise NotYet(f"it begins at 0.004, but is highest after {answer.rise:.0%} of training instead of half of it")
    return "from 0.004 up to 0.1 in the middle of training: lr sets the beginning and the peak, rise the place of it"


_GENERATOR = torch.Generator().manual_seed(0)
_FOUR = torch.tensor([[4.0, 1, 0, 0], [3, 2, 0, 0], [0, 1, 2, 0], [1, 0, 0, 5]]), torch.tensor([0, 1, 2, 3])
_TAILED = torch.randn(200, 5, generator=_GENERATOR), torch.arange(200).sqrt().long() // 3

my_top1_error = Matches(
    oracle=top1_error,
    cases={"four images, one of them wrong": _FOUR, "200 images of classes of unequal size": _TAILED},
    mistakes={
        "That is the share of right answers; the error is the share of wrong ones": (
            lambda logits, labels: 1 - top1_error(logits, labels)
        ),
        "That is how many are wrong; the error is a share, so divide by the number of images": (
            lambda logits, labels: (logits.argmax(1) != labels).sum()
        ),
        "That is the mean over the classes; top-1 error is the mean over the images": (
            lambda logits, labels: 1 - per_class_accuracy(logits, labels).nanmean()
        ),
        "argmax(0) compares the images with each other; the classes are dimension 1": (
            lambda logits, labels: (logits.argmax(0) != labels[: logits.shape[1]]).double().mean()
        ),
    },
    right="the share of images whose largest logit is not their label's, as in metrics.top1_error",
)


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
        "Who chose that epoch, and by looking at what?": (lambda history: history["test_error"].min()),
        "That epoch was chosen by its training loss; the last one is chosen by nobody": (
            lambda history: history["test_error"][history["train_loss"].idxmin()]
        ),
        "That is the training loss": lambda history: history["train_loss"].iloc[-1],
        "That is the first epoch": lambda history: history["test_error"].iloc[0],
        "A mean over the epochs belongs to no model that was ever there": lambda history: history["test_error"].mean(),
    },
    right="the last epoch's, whatever it is: nothing was chosen by looking at the test set",
)

EXERCISES = {"tweak": late_peak, "implement": my_top1_error, "bug": reported_error}
