"""The exercises of notebook 00."""

from typing import Any

import pandas as pd
import torch

from ..metrics import per_class_accuracy, top1_error
from ..recipes import OneCycle
from .answers import Matches, NotYet, check_kind


def late_peak(answer: Any) -> str:
    """A one-cycle schedule that begins at 0.004 and is highest in the middle of training."""
    check_kind(answer, OneCycle, "a recipes.OneCycle")
    start = answer(0, span=1)
    if abs(start - 0.004) > 1e-6:
        raise NotYet("start", f"it begins at {start:.4g} instead of 0.004; the beginning is always lr / 25, so move lr")
    if abs(answer.rise - 0.5) > 1e-6:
        raise NotYet("peak", f"it begins at 0.004, but its peak is after {answer.rise:.0%} of training, not half of it")
    return "from 0.004 up to 0.1 in the middle of training: lr sets the start and the peak, rise when the peak comes"


_GENERATOR = torch.Generator().manual_seed(0)
_FOUR = torch.tensor([[4.0, 1, 0, 0], [3, 2, 0, 0], [0, 1, 2, 0], [1, 0, 0, 5]]), torch.tensor([0, 1, 2, 3])
_TAILED = torch.randn(200, 5, generator=_GENERATOR), torch.arange(200).sqrt().long() // 3

my_top1_error = Matches(
    oracle=top1_error,
    cases={"four images, one of them wrong": _FOUR, "200 images of classes of unequal size": _TAILED},
    mistakes={
        "accuracy": ("That is the fraction of right answers; the error is the fraction of wrong ones",
                     lambda logits, labels: 1 - top1_error(logits, labels)),
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
        "loss": ("That is the training loss", lambda history: history["train_loss"].iloc[-1]),
        "first_epoch": ("That is the first epoch", lambda history: history["test_error"].iloc[0]),
        "mean": ("A mean over the epochs is not the error of any model", lambda history: history["test_error"].mean()),
    },
    right="the last epoch's, however good: nothing was chosen by evaluating on the test set",
)  # fmt: skip

EXERCISES = {"tweak": late_peak, "implement": my_top1_error, "bug": reported_error}
