"""The recipes of detection by name, each with the settings that were chosen on held-out scenes.

det_ce               cross-entropy with the background as one more class
det_ce_long          then its last layer alone, for as long: what a second stage gains by itself
det_bce              a yes/no question per class, and objectness
det_eqlv2            EQL v2
det_acsl             cross-entropy, then the last layer by ACSL
det_bags             cross-entropy, then the last layer by balanced group softmax
det_eql              EQL, its sigmoid form
det_federated        federated loss
det_seesaw           Seesaw loss, on cosines
det_rfs              cross-entropy, images by repeat factor sampling, in fewer epochs and as many steps
det_eqlv2_rfs        EQL v2 and repeat factor sampling
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn

from ..classifiers import cosine, with_prior
from ..data.detection_sets import COMMON, frequency_groups
from ..losses import (
    ACSLLoss,
    BalancedGroupSoftmaxLoss,
    BinaryCrossEntropyLoss,
    CrossEntropyLoss,
    EqualizationV2Loss,
    FederatedLoss,
    SeesawLoss,
    SigmoidEqualizationLoss,
)
from ..names import look_up
from ..recipes import Recipe, Stage
from ..samplers import RepeatFactorSampler

BACKGROUND = 0  # the background's column in a detector of torchvision


def eqlv2(class_counts: Tensor, **options: Any) -> EqualizationV2Loss:
    """EQL v2 for as many classes."""
    return EqualizationV2Loss(len(class_counts), background=BACKGROUND, **options)


def acsl(class_counts: Tensor, *, xi: float) -> ACSLLoss:
    """ACSL with LVIS's groups."""
    return ACSLLoss(xi, groups=frequency_groups(class_counts), background=BACKGROUND)


def seesaw(class_counts: Tensor) -> SeesawLoss:
    """Seesaw for as many classes."""
    return SeesawLoss(len(class_counts), background=BACKGROUND)


def repeated(labels: list[Tensor], **options: Any) -> RepeatFactorSampler:
    """Repeat factors below LVIS's border between common and frequent classes."""
    return RepeatFactorSampler(labels, min(1.0, COMMON / len(labels)), **options)


def second(loss: Any = None) -> Stage:
    """The last layer, trained on for as long."""
    return Stage(loss=loss or CrossEntropyLoss(), trains="classifier", batch_norm="eval")


def sigmoid(name: str, loss: nn.Module | Callable, prior: float, **slots: Any) -> Recipe:
    """A loss of yes/no questions, which all begin at a low score."""
    return Recipe(Stage(loss=loss, classifier=partial(with_prior, prior=prior), **slots), name=name)


BCE = BinaryCrossEntropyLoss(background=BACKGROUND)
EQL = partial(SigmoidEqualizationLoss, threshold=0.07, background=BACKGROUND)
FEDERATED = partial(FederatedLoss, num_sampled=9, background=BACKGROUND)
BAGS = partial(BalancedGroupSoftmaxLoss, background=BACKGROUND)

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(Stage(), name="det_ce"),
        Recipe(Stage(), second(), name="det_ce_long"),
        sigmoid("det_bce", BCE, 0.1),
        sigmoid("det_eqlv2", eqlv2, 0.1),
        Recipe(Stage(), second(partial(acsl, xi=0.3)), name="det_acsl"),
        Recipe(Stage(loss=seesaw, classifier=partial(cosine, scale=20.0)), name="det_seesaw"),
        Recipe(Stage(), second(BAGS), name="det_bags"),
        sigmoid("det_eql", EQL, 0.1),
        sigmoid("det_federated", FEDERATED, 0.1),
        Recipe(Stage(sampler=repeated, share=0.75), name="det_rfs"),
        sigmoid("det_eqlv2_rfs", eqlv2, 0.1, sampler=repeated, share=0.75),
    )
}


def get(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        ValueError: an unknown name; the nearest known one is named.
    """
    return look_up("recipe", name, RECIPES)
