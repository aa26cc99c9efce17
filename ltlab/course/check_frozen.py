"""The exercises of notebook 11."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..classifiers import class_means
from ..losses import BalancedSoftmaxLoss
from ..recipes import Recipe
from .answers import Matches, NotYet, check_kind


def cosine_balanced(answer: Any) -> str:
    """Balanced softmax on a cosine head."""
    check_kind(answer, Recipe, "a Recipe")
    if len(answer.stages) != 1:
        raise NotYet("stages", f"expected one stage, got {len(answer.stages)}: head and loss are there from the start")
    (stage,) = answer.stages
    if stage.sampler or stage.mix or stage.foreground:
        raise NotYet("slots", "only the loss and the head differ from plain training; leave the other slots empty")
    loss = stage.loss if isinstance(stage.loss, torch.nn.Module) else stage.loss([3, 1])
    if not isinstance(loss, BalancedSoftmaxLoss):
        raise NotYet("loss", f"the loss is {type(loss).__name__}: losses.BalancedSoftmaxLoss has the training prior")
    if answer.classifier == "linear":
        raise NotYet("head", 'the head is still linear: Recipe(..., classifier="cosine")')
    if answer.name in ("balanced_softmax", "ce_cosine"):
        raise NotYet("name", "right, but give it another name: finished runs are stored by name")
    return "a head of cosines, and a loss that knows the prior: one slot and one word"


# --- shrunk class means ----------------------------------------------------------------------------------------------


def _shrunk(*, weighted: bool = True, of_classes: bool = True) -> Callable[[Tensor, Tensor, float], Tensor]:
    """Means that are mixed with their common mean; every argument leaves something out."""

    def shrunk(features: Tensor, labels: Tensor, k: float) -> Tensor:
        counts = torch.bincount(labels)[:, None].to(features.dtype)
        means = class_means(features, labels, len(counts))
        common = means.mean(0) if of_classes else features.mean(0)
        n = counts if weighted else counts.mean()
        return (n * means + k * common) / (n + k)

    return shrunk


_GENERATOR = torch.Generator().manual_seed(0)
_X, _Y = torch.tensor([[2.0, 0], [4, 0], [0, 1]]), torch.tensor([0, 0, 1])
_MANY = torch.randn(60, 5, generator=_GENERATOR, dtype=torch.float64) + 1
_LABELS = torch.arange(60).clamp(max=2)

my_shrunk_means = Matches(
    oracle=_shrunk(),
    cases={
        "three images, k = 1": (_X, _Y, 1.0),
        "k = 0, the means themselves": (_X, _Y, 0.0),
        "60 images of three classes, k = 10": (_MANY, _LABELS, 10.0),
    },
    mistakes={
        "unweighted": ("A mean of many images moves less than one of few: n_c is the number of its own images",
                       _shrunk(weighted=False)),
        "of_images": ("The common mean is that of the class means; the mean of all images is the head's",
                      _shrunk(of_classes=False)),
        "both": ("n_c is the number of a class's own images, and the common mean is that of the class means",
                 _shrunk(weighted=False, of_classes=False)),
    },
    right="few images lean on what all classes share, many speak for themselves",
)  # fmt: skip

# --- standardised features -------------------------------------------------------------------------------------------


def _standardised(*, own: bool = False, guarded: bool = True) -> Callable[[Tensor, Tensor], Tensor]:
    """Test features as a head sees them; every argument makes one thing wrong."""

    def standardised(train: Tensor, test: Tensor) -> Tensor:
        source = test if own else train
        std = source.std(0, correction=0)
        return (test - source.mean(0)) / (std.where(std > 0, 1) if guarded else std)

    return standardised


_DEAD = torch.cat([_MANY, torch.full((60, 1), 3.0, dtype=torch.float64)], 1)  # its last feature is constant

fixed_standardised = Matches(
    oracle=_standardised(),
    cases={
        "a constant feature": (_DEAD[:40], _DEAD[40:]),
        "four test images": (_MANY[:30], _MANY[30:34]),
    },
    mistakes={
        "own": ("One test image has no mean of its own: the head has learnt with the training features' mean and std",
                _standardised(own=True)),
        "dead": ("A feature that is constant in training has std 0; divide it by 1", _standardised(guarded=False)),
        "both": ("Mean and std are those of the training features, and a std of 0 counts as 1",
                 _standardised(own=True, guarded=False)),
    },
    right="every image is shifted and scaled as in training, alone or among others",
)  # fmt: skip

EXERCISES = {"tweak": cosine_balanced, "implement": my_shrunk_means, "bug": fixed_standardised}
