"""The recipes of detection by name, each with the settings that were chosen on held-out scenes."""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn

from ..classifiers import with_prior
from ..data import frequency_groups
from ..losses import CrossEntropyLoss
from ..losses.sigmoid import (
    ACSLLoss,
    BinaryCrossEntropyLoss,
    EqualizationV2Loss,
    FederatedLoss,
    SigmoidEqualizationLoss,
)
from ..names import look_up
from ..recipes import Recipe, Stage

BACKGROUND = 0  # the background's column in a detector of torchvision


def eqlv2(class_counts: Tensor, **options: float) -> EqualizationV2Loss:
    """EQL v2 for as many classes."""
    return EqualizationV2Loss(len(class_counts), background=BACKGROUND, **options)


def acsl(class_counts: Tensor, *, xi: float) -> ACSLLoss:
    """ACSL with LVIS's groups."""
    return ACSLLoss(xi, groups=frequency_groups(class_counts), background=BACKGROUND)


def second(loss: Any = None) -> Stage:
    """The last layer, trained on for as long."""
    return Stage(loss=loss or CrossEntropyLoss(), trains="classifier", batch_norm="eval")


def sigmoid(name: str, loss: nn.Module | Callable, prior: float, **slots: Any) -> Recipe:
    """A loss of yes/no questions, which all begin at a low score."""
    return Recipe(Stage(loss=loss, classifier=partial(with_prior, prior=prior), **slots), name=name)


BCE = BinaryCrossEntropyLoss(background=BACKGROUND)
EQL = partial(SigmoidEqualizationLoss, threshold=0.07, background=BACKGROUND)
FEDERATED = partial(FederatedLoss, num_sampled=9, background=BACKGROUND)

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(Stage(), name="det_ce"),
        Recipe(Stage(), second(), name="det_ce_long"),
        sigmoid("det_bce", BCE, 0.1),
        sigmoid("det_eqlv2", eqlv2, 0.1),
        Recipe(Stage(), second(partial(acsl, xi=0.3)), name="det_acsl"),
        sigmoid("det_eql", EQL, 0.1),
        sigmoid("det_federated", FEDERATED, 0.1),
    )
}


def get(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        ValueError: an unknown name; the nearest known one is named.
    """
    return look_up("recipe", name, RECIPES)
