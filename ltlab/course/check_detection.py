"""The exercises of notebook 10."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data import load
from ..data.detection_sets import COMMON
from ..losses import EqualizationV2Loss, equalization_weights
from ..samplers import RepeatFactorSampler, repeat_factors
from .answers import Matches, NotYet, check_kind


def border_sampler(answer: Any) -> str:
    """Repeat factor sampling of scenes-lt with the border between common and frequent classes as its threshold."""
    check_kind(answer, RepeatFactorSampler, "a RepeatFactorSampler")
    images = len(answer.factors)
    if answer.threshold == 0.001:
        raise NotYet("lvis", f"0.001 is 100 of LVIS's images; how many of these {images} images are 100?")
    if answer.threshold > 1 or abs(answer.threshold * images - COMMON) > 1.5:
        raise NotYet(
            "border",
            f"threshold {answer.threshold:g} is {answer.threshold * images:.0f} of {images} images; 100 are asked for",
        )
    expected, _ = repeat_factors(load("scenes-lt").train.labels, answer.threshold)
    if len(expected) != images or not torch.allclose(answer.factors, expected):
        raise NotYet("labels", "the sampler needs the labels of every training image, scenes.train.labels")
    return f"classes in fewer than {COMMON} images are repeated, an epoch of {answer.num_samples} images"


# --- repeat factors --------------------------------------------------------------------------------------------------


def _factors(
    *, root: bool = True, boxes: bool = False, most: bool = True, least: bool = True
) -> Callable[[list[Tensor], float], Tensor]:
    """The repeat factor of every image; every argument makes one thing wrong."""

    def factors(labels: list[Tensor], threshold: float) -> Tensor:
        shown = labels if boxes else [each.unique() for each in labels]
        ratio = threshold * len(labels) / torch.bincount(torch.cat(shown)).clamp(min=1).double()
        factor = ratio.sqrt() if root else ratio
        factor = factor.clamp(min=1) if least else factor
        of_image = [factor[each] if len(each) else torch.ones(1, dtype=torch.float64) for each in shown]
        return torch.stack([each.max() if most else each.mean() for each in of_image])

    return factors


def _sets(*images: list[int]) -> list[Tensor]:
    return [torch.tensor(image, dtype=torch.int64) for image in images]


my_repeat_factors = Matches(
    oracle=lambda labels, threshold: repeat_factors(labels, threshold)[0],
    cases={
        "four images of two classes": (_sets([0], [0], [0, 1], [0]), 0.5),
        "ten images, one empty, of three classes": (
            _sets([0], [0, 0, 1], [], [0, 2, 0], [1, 1], [0], [0], [0, 1, 0], [0], [0]), 0.4),
    },
    mistakes={
        "root": ("It is the square root of t / f, so that rare images are not repeated too often",
                 _factors(root=False)),
        "boxes": ("f counts images: a class counts once in an image, however many boxes it has there",
                  _factors(boxes=True)),
        "mean": ("An image is repeated for its rarest class: the largest factor, not the mean", _factors(most=False)),
        "least": ("No image is left out: factors begin at 1", _factors(least=False)),
    },
    right="the largest max(1, sqrt(t / f)) of its classes, and 1 for an empty image, as in samplers.repeat_factors",
)  # fmt: skip

# --- the sums of EQL v2 ----------------------------------------------------------------------------------------------


def _true_sums(logits: Tensor, labels: Tensor, P: Tensor, N: Tensor) -> Tensor:
    loss = EqualizationV2Loss(len(P), background=0).double()
    loss.positive.copy_(P)
    loss.negative.copy_(N)
    loss(logits, labels)
    return torch.stack([loss.positive, loss.negative])


def _sums(
    *, background: bool = True, positives: bool = True, negatives: bool = True
) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """The sums after a batch; every argument makes one thing wrong."""

    def sums(logits: Tensor, labels: Tensor, P: Tensor, N: Tensor) -> Tensor:
        up, down = equalization_weights(P / N)
        rows = slice(None) if background else labels > 0
        p, y = logits.sigmoid()[rows, 1:], F.one_hot(labels, len(P) + 1)[rows, 1:]
        more = (y * (1 - p)).sum(0), ((1 - y) * p).sum(0)
        return torch.stack([P + (up if positives else 1) * more[0], N + (down if negatives else 1) * more[1]])

    return sums


_GENERATOR = torch.Generator().manual_seed(0)
next_sums = Matches(
    oracle=_true_sums,
    cases={
        "four regions, two of background, two classes": (
            torch.tensor([[2.0, -1, -2], [1, -1, 0], [-1, 1, -2], [-2, 0, 1]], dtype=torch.float64),
            torch.tensor([0, 0, 1, 2]), torch.tensor([3.0, 1]).double(), torch.tensor([3.5, 2]).double()),
        "200 regions of five classes": (
            torch.randn(200, 6, generator=_GENERATOR, dtype=torch.float64),
            torch.randint(6, (200,), generator=_GENERATOR) * (torch.arange(200) % 3 == 0),
            torch.tensor([9.0, 7, 4, 2, 1]).double(), torch.tensor([9.0, 8, 5, 4, 3]).double()),
    },
    mistakes={
        "both": ("Regions of background are negatives of every class, and the positives' weights are missing",
                 _sums(background=False, positives=False)),
        "background": ("Regions of background are negatives of every class, so they belong to N",
                       _sums(background=False)),
        "positives": ("Gradients are summed as they were taken: positives have the weight 1 + α (1 − f)",
                      _sums(positives=False)),
        "negatives": ("Gradients are summed as they were taken: negatives have the weight f", _sums(negatives=False)),
        "unweighted": ("Gradients are summed as they were taken, each with its weight",
                       _sums(positives=False, negatives=False)),
    },
    right="weighted gradients of all regions, the background's among the negatives, as EqualizationV2Loss sums them",
)  # fmt: skip

EXERCISES = {"tweak": border_sampler, "implement": my_repeat_factors, "bug": next_sums}
