"""The exercises of notebook 02."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data import long_tail_counts
from ..losses import BalancedSoftmaxLoss, ClassBalancedLoss, class_balanced_weights, softmax_focal
from ..recipes import Recipe
from .answers import Matches, NotYet, kind

_COUNTS = long_tail_counts(10, 320, imbalance=100)


def tenfold(answer: Any) -> str:
    """A recipe with a class-balanced loss that weighs the rarest class of shapes-lt about ten times the commonest."""
    if not isinstance(answer, Recipe):
        raise NotYet(f"this wants a Recipe, it got {kind(answer)}")
    if len(answer.stages) > 1:
        raise NotYet(f"one stage is enough here, this recipe has {len(answer.stages)}")
    loss = answer.stages[0].loss
    loss = loss if isinstance(loss, nn.Module) else loss(_COUNTS)
    if not isinstance(loss, ClassBalancedLoss):
        raise NotYet(f"the loss is to be a ClassBalancedLoss with another beta, this is {loss}")
    ratio = (loss.weight.max() / loss.weight.min()).item()
    if not 8 <= ratio <= 12:
        way = "nearer to 1" if ratio < 8 else "further from 1"
        raise NotYet(f"at beta = {loss.beta:g} an arrow costs {ratio:.3g} times what a circle costs; take beta {way}")
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
        "The sign is the other way round: in training the common classes get a head start, so that the logits need not "
        "give them one": lambda logits, targets, counts: F.cross_entropy(logits - counts.log(), targets),
        "The counts belong into the softmax, not in front of the loss as weights": (
            lambda logits, targets, counts: F.cross_entropy(logits, targets, weight=counts.to(logits.dtype))
        ),
        "Add the logarithm of the counts: the softmax takes the exponential again": (
            lambda logits, targets, counts: F.cross_entropy(logits + counts, targets)
        ),
        "Add the logarithm to the logits, do not multiply by it": (
            lambda logits, targets, counts: F.cross_entropy(logits * counts.log(), targets)
        ),
        "That is the plain cross-entropy": lambda logits, targets, counts: F.cross_entropy(logits, targets),
        "That is the sum over the batch; take the mean": (
            lambda logits, targets, counts: F.cross_entropy(logits + counts.log(), targets, reduction="sum")
        ),
    },
    right="cross-entropy of z + log n, as in losses.BalancedSoftmaxLoss; with equal counts it is plain cross-entropy",
)


def class_balanced_focal(logits: Tensor, targets: Tensor, weights: Tensor, gamma: float) -> Tensor:
    """Weight times the softmax focal loss, (N,); p_t from the unweighted logits."""
    return weights[targets] * softmax_focal(logits, targets, gamma)


def _weight_in_the_probability(logits: Tensor, targets: Tensor, weights: Tensor, gamma: float) -> Tensor:
    cost = F.cross_entropy(logits, targets, weight=weights, reduction="none")
    return (1 - torch.exp(-cost)) ** gamma * cost


def _weighted_twice(logits: Tensor, targets: Tensor, weights: Tensor, gamma: float) -> Tensor:
    return weights[targets] * class_balanced_focal(logits, targets, weights, gamma)


def _confident_counts_more(logits: Tensor, targets: Tensor, weights: Tensor, gamma: float) -> Tensor:
    cost = F.cross_entropy(logits, targets, reduction="none")
    return weights[targets] * torch.exp(-cost) ** gamma * cost


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
        "At these logits p should be 1/2 for both images, whatever they weigh: what is it here?": (
            _weight_in_the_probability
        ),
        "The weight is in twice": _weighted_twice,
        "The weights are gone: they belong in front, once": (
            lambda logits, targets, weights, gamma: class_balanced_focal(
                logits, targets, torch.ones_like(weights), gamma)
        ),
        "One loss for each image is wanted, not their mean": (
            lambda *arguments: class_balanced_focal(*arguments).mean()
        ),
        "p ** gamma makes easy images dear; the focal loss makes them cheap": _confident_counts_more,
    },
    right="p from the unweighted cross-entropy, the weight in front: losses.ClassBalancedFocalLoss, softmax form",
)  # fmt: skip

EXERCISES = {"tweak": tenfold, "implement": my_balanced_softmax, "bug": fixed_focal}
