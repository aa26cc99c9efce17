"""The exercises of notebook 02."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data import long_tail_counts
from ..losses import BalancedSoftmaxLoss, ClassBalancedLoss, CostSensitiveLoss, class_balanced_weights, softmax_focal
from ..recipes import Recipe
from .answers import Matches, NotYet, check_kind

_COUNTS = long_tail_counts(10, 320, imbalance=100)


def tenfold(answer: Any) -> str:
    """A recipe with a class-balanced loss that weights the tail of shapes-lt about ten times as much as the head."""
    check_kind(answer, Recipe, "a Recipe")
    if len(answer.stages) > 1:
        raise NotYet("stages", f"one stage is enough here, this recipe has {len(answer.stages)}")
    loss = answer.stages[0].loss
    loss = loss if isinstance(loss, nn.Module) else loss(_COUNTS)
    if not isinstance(loss, ClassBalancedLoss):
        raise NotYet("loss", f"the loss must be a ClassBalancedLoss with another beta, this is {loss}")
    weight: Any = loss.weight
    ratio = (weight.max() / weight.min()).item()
    if not 8 <= ratio <= 12:
        hint, way = ("nearer", "nearer to 1") if ratio < 8 else ("further", "further from 1")
        told = f"at beta = {loss.beta:g} an arrow costs {ratio:.3g} times what a circle costs"
        raise NotYet(hint, f"{told}; take beta {way}")
    return f"at beta = {loss.beta:g} an arrow costs {ratio:.3g} times what a circle costs: now train it"


_GENERATOR = torch.Generator().manual_seed(0)
_TOY = torch.tensor([[2.0, 1.0, 0.0], [0.0, 0.0, 0.0]]), torch.tensor([2, 0]), torch.tensor([100.0, 10.0, 1.0])
_RANDOM = (
    torch.randn(20, 10, generator=_GENERATOR, dtype=torch.float64),
    torch.randint(10, (20,), generator=_GENERATOR),
    torch.tensor(_COUNTS, dtype=torch.float64),
)

my_balanced_softmax = Matches(
    oracle=lambda logits, targets, counts: BalancedSoftmaxLoss(counts)(logits, targets),
    cases={
        "two images, counts 100, 10, 1": _TOY,
        "equal counts, where it is plain cross-entropy": (*_TOY[:2], torch.full((3,), 5.0)),
        "20 images of ten classes": _RANDOM,
    },
    mistakes={
        "sign": ("The sign is wrong: in training the frequent classes get a head start, so that the logits need not "
                 "give them one", lambda z, targets, counts: F.cross_entropy(z - counts.log(), targets)),
        "weights": ("The counts belong in the softmax, not in front of the loss as weights",
                    lambda z, targets, counts: F.cross_entropy(z, targets, weight=counts.to(z.dtype))),
        "class_weights": ("That is a class weight: it changes what a mistake costs. Balanced softmax shifts the logits",
                          lambda z, targets, counts: F.cross_entropy(z, targets, weight=1 / counts.to(z.dtype))),
        "class_weights_mean": ("That is a class weight: it changes what a mistake costs. Balanced softmax shifts the "
                               "logits", lambda z, targets, counts: CostSensitiveLoss(counts, reduction="mean")(
                                   z, targets)),
        "no_logarithm": ("Add the logarithm of the counts: the softmax takes the exponential",
                         lambda z, targets, counts: F.cross_entropy(z + counts, targets)),
        "product": ("Add the logarithm to the logits, do not multiply by it",
                    lambda z, targets, counts: F.cross_entropy(z * counts.log(), targets)),
        "plain": ("That is plain cross-entropy", lambda z, targets, counts: F.cross_entropy(z, targets)),
        "sum": ("That is the sum over the batch; take the mean",
                lambda z, targets, counts: F.cross_entropy(z + counts.log(), targets, reduction="sum")),
    },
    right="cross-entropy of z + log n, as in losses.BalancedSoftmaxLoss; with equal counts it is plain cross-entropy",
)  # fmt: skip


def class_balanced_focal(logits: Tensor, targets: Tensor, weights: Tensor, gamma: float) -> Tensor:
    """Weight times the softmax focal loss, (N,); p_t from the unweighted logits."""
    return weights[targets] * softmax_focal(logits, targets, gamma)


def _weight_in_the_probability(logits: Tensor, targets: Tensor, weights: Tensor, gamma: float) -> Tensor:
    cost = F.cross_entropy(logits, targets, weight=weights, reduction="none")
    return (1 - torch.exp(-cost)) ** gamma * cost


def _weighted_twice(logits: Tensor, targets: Tensor, weights: Tensor, gamma: float) -> Tensor:
    return weights[targets] * class_balanced_focal(logits, targets, weights, gamma)


_WEIGHTS = class_balanced_weights(_COUNTS, 0.99)

fixed_focal = Matches(
    oracle=class_balanced_focal,
    cases={
        "two unsure images, weights 4 and 0.25, gamma 2": (
            torch.zeros(2, 2), torch.tensor([0, 1]), torch.tensor([4.0, 0.25]), 2.0),
        "gamma 0, where it is the weighted cross-entropy": (*_RANDOM[:2], _WEIGHTS.double(), 0.0),
        "20 images of ten classes, gamma 1": (*_RANDOM[:2], _WEIGHTS.double(), 1.0),
    },
    mistakes={
        "probability": ("At these logits p should be 1/2 for both images, with any weight: what is it here?",
                        _weight_in_the_probability),
        "twice": ("The weight is applied twice", _weighted_twice),
        "no_weights": ("The weights are missing: they belong in front, once",
                       lambda logits, targets, weights, gamma: class_balanced_focal(
                           logits, targets, torch.ones_like(weights), gamma)),
        "mean": ("Return one loss for each image, not their mean", lambda *args: class_balanced_focal(*args).mean()),
    },
    right="p from the unweighted cross-entropy, the weight in front: losses.ClassBalancedFocalLoss, softmax form",
)  # fmt: skip

EXERCISES = {"tweak": tenfold, "implement": my_balanced_softmax, "bug": fixed_focal}
