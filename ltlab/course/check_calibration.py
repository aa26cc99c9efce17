"""The exercises of notebook 08."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..calibration import expected_calibration_error, reliability, signed_gap
from ..data import long_tail_counts
from ..losses import LabelAwareSmoothingLoss
from .answers import Matches, NotYet, check_kind

_COUNTS = torch.tensor(long_tail_counts(10, 320, imbalance=100))
WANTED = {"head": 0.8, "tail": 0.95}  # how sure the best network is of the most and of the least frequent class


def as_sure_as_asked_for(answer: Any) -> str:
    """A label-aware smoothing loss whose best network is 80 % sure of circles and 95 % of arrows."""
    check_kind(answer, LabelAwareSmoothingLoss, "a losses.LabelAwareSmoothingLoss")
    if len(answer.smoothing) != len(_COUNTS):
        raise NotYet("counts", f"the loss is of {len(answer.smoothing)} classes, shapes-lt has {len(_COUNTS)}")
    sure = 1 - answer.smoothing.double() * (1 - 1 / len(_COUNTS))  # (C,), the target of the label
    for end, place in (("head", _COUNTS.argmax()), ("tail", _COUNTS.argmin())):
        if abs(sure[place] - WANTED[end]) > 0.003:
            told = (
                f"with {answer} the best network is {sure[place]:.1%} sure of the {end}'s class, not {WANTED[end]:.0%}"
            )
            raise NotYet(end, f"{told}: how much of the smoothing does the label get back?")
    return "80 % for circles, 95 % for arrows: the label keeps 1 - e + e/C with the spread 'all', 1 - e with 'others'"


# --- signed gap ------------------------------------------------------------------------------------------------------


def _gap(
    *, sure: Callable[[Tensor, Tensor], Tensor] = lambda p, y: p.amax(1),
    of: Callable[[Tensor, Tensor], Tensor] = lambda p, y: y,
    by_image: Callable[[Tensor], Tensor] = lambda gap: gap, sign: float = 1,
) -> Callable[..., dict[str, float]]:  # fmt: skip
    """`calibration.signed_gap`; every argument makes one thing wrong."""

    def gap(logits: Tensor, labels: Tensor, groups: dict[str, Tensor]) -> dict[str, float]:
        p = logits.double().softmax(1)
        gaps = sign * by_image(sure(p, labels) - (p.argmax(1) == labels).double())
        return {name: gaps[group[of(p, labels)]].mean().item() for name, group in groups.items()}

    return gap


_GENERATOR = torch.Generator().manual_seed(0)
_GROUPS = {"first": torch.tensor([True, False, False]), "rest": torch.tensor([False, True, True])}
_TOY = torch.tensor([[0.9, 0.05, 0.05], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.5, 0.2, 0.3]]).log()
_RANDOM = (
    2 * torch.randn(40, 3, generator=_GENERATOR, dtype=torch.float64),
    torch.randint(3, (40,), generator=_GENERATOR),
)

my_signed_gap = Matches(
    oracle=signed_gap,
    cases={
        "four images": (_TOY, torch.tensor([0, 1, 1, 2]), _GROUPS),
        "40 images, and a group without any": (*_RANDOM, _GROUPS | {"none": torch.zeros(3, dtype=torch.bool)}),
    },
    mistakes={
        "sign": ("The sign is wrong: over-confident is above zero", _gap(sign=-1)),
        "absolute": ("The sign is lost: no absolute values", _gap(by_image=torch.abs)),
        "label": ("That is the probability of the label; the confidence is the largest probability",
                  _gap(sure=lambda p, y: p.gather(1, y[:, None])[:, 0])),
        "predicted": ("An image belongs to the group of its label, not of its prediction",
                      _gap(of=lambda p, y: p.argmax(1))),
    },
    right="mean confidence minus accuracy, by the group of the label, as in calibration.signed_gap",
)  # fmt: skip

# --- expected calibration error --------------------------------------------------------------------------------------


def _error(
    *, weighted: bool = True, closed: bool = True, signed: bool = False, confidence: bool = True
) -> Callable[[Tensor, Tensor, int], float]:
    """The expected calibration error over bins of equal width; every argument makes one thing wrong."""

    def error(logits: Tensor, labels: Tensor, bins: int) -> float:
        p = logits.double().softmax(1)
        sure, right = p.max(1).values, (p.argmax(1) == labels).double()
        sure = sure if confidence else p.gather(1, labels[:, None])[:, 0]
        place = (sure * bins).floor() if not closed else (sure * bins).ceil() - 1
        parts = []
        for m in range(bins):
            inside = place == m
            if inside.any():
                gap = (sure[inside] - right[inside]).mean()
                part = inside.double().mean() if weighted else torch.tensor(1.0)
                parts.append(part * (gap if signed else gap.abs()))
        total = sum(parts, torch.tensor(0.0).double()).item()
        return total if weighted else total / max(len(parts), 1)

    return error


_SATURATED = torch.tensor([[900.0, 0, 0], [900, 0, 0], [900, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 3]])
ERROR_CASES = {
    "four images, two bins": (_TOY, torch.tensor([0, 0, 1, 2]), 2),
    "six images, three of them with a confidence of exactly 1, five bins": (
        _SATURATED, torch.tensor([0, 1, 2, 0, 0, 2]), 5),
    "40 images, ten bins": (*_RANDOM, 10),
}  # fmt: skip

fixed_error = Matches(
    oracle=lambda logits, labels, bins: expected_calibration_error(logits, labels, bins),
    cases=ERROR_CASES,
    mistakes={
        "unweighted": ("The bins count alike, also one that holds a single image", _error(weighted=False)),
        "open": ("Where do images of a confidence of exactly 1 go? A bin holds (low, high]", _error(closed=False)),
        "both": ("The bins count alike, and images of a confidence of exactly 1 are in none",
                 _error(weighted=False, closed=False)),
        "signed": ("Gaps of opposite sign cancel: take absolute values, bin by bin", _error(signed=True)),
        "label": ("That is the probability of the label; the confidence is the largest probability",
                  _error(confidence=False)),
        "maximum": ("That is the largest gap, the maximum calibration error",
                    lambda logits, labels, bins: reliability(logits, labels, bins).gaps().nan_to_num(0).max().item()),
    },
    right="every bin counts by its images, and the last holds 1, as in calibration.expected_calibration_error",
)  # fmt: skip

EXERCISES = {"tweak": as_sure_as_asked_for, "implement": my_signed_gap, "bug": fixed_error}
