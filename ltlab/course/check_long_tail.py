"""The exercises of notebook 01."""

from numbers import Real
from typing import Any

import torch
from torch import Tensor

from ..data import long_tail_counts
from ..metrics import class_groups
from .answers import Matches, NotYet, check_callable, check_kind, difference


def two_few_shot(answer: Any) -> str:
    """The imbalance at which two of ten classes, the largest with 320 images, are few-shot."""
    if isinstance(answer, Tensor) and answer.numel() == 1:
        answer = answer.item()
    check_kind(answer, Real, "the imbalance, a number")
    counts = long_tail_counts(10, 320, imbalance=float(answer))
    few = int(class_groups(counts)["few"].sum())
    if few != 2:
        hint = "smaller" if few > 2 else "larger"
        told = f"at imbalance {answer:g}, classes with fewer than 20 images: {few}, of {counts}"
        raise NotYet(hint, f"{told}; a {hint} imbalance {'leaves fewer' if few > 2 else 'makes more'}")
    return f"two few-shot classes at imbalance {answer:g}: {counts}"


def group_accuracy(accuracy: Tensor, counts: Tensor) -> dict[str, Tensor]:
    """Mean accuracy of each group's classes, NaN for a group without one."""
    return {name: accuracy[group].mean() for name, group in class_groups(counts).items()}


def _shifted_limits(accuracy: Tensor, counts: Tensor) -> dict[str, Tensor]:
    groups = {"many": counts >= 100, "medium": (counts > 20) & (counts < 100), "few": counts <= 20}
    return {name: accuracy[group].mean() for name, group in groups.items()}


def _over_images(accuracy: Tensor, counts: Tensor) -> dict[str, Tensor]:
    groups = class_groups(counts)
    return {name: (accuracy * counts)[group].sum() / counts[group].sum() for name, group in groups.items()}


def _none_if_empty(accuracy: Tensor, counts: Tensor) -> dict[str, Tensor | None]:
    return {name: None if v.isnan() else v for name, v in group_accuracy(accuracy, counts).items()}


my_group_accuracy = Matches(
    oracle=group_accuracy,
    cases={
        "counts 320, 120, 60, 30, 8, 3": (
            torch.tensor([0.9, 0.8, 0.7, 0.5, 0.2, 0.1]), torch.tensor([320, 120, 60, 30, 8, 3])),
        "counts 101, 100, 20, 19": (torch.tensor([0.9, 0.7, 0.3, 0.2]), torch.tensor([101, 100, 20, 19])),
        "CIFAR-10-LT-100, which has no few-shot class": (
            torch.linspace(0.9, 0.1, 10), torch.tensor(long_tail_counts(10, 5000, imbalance=100))),
    },
    mistakes={
        "weighted": ("Classes count equally: the test set is balanced, so do not weight them by their training images",
                     _over_images),
        "limits": ("A limit is off by one: many-shot is more than 100 images, few-shot fewer than 20", _shifted_limits),
        "zero": ("A mean over no class is NaN: a 0 would read as if everything were wrong",
                 lambda accuracy, counts: {
                     name: v.nan_to_num(0.0) for name, v in group_accuracy(accuracy, counts).items()}),
        "none": ("A mean over no class is NaN, a number like the others: None cannot be computed with", _none_if_empty),
    },
    right="three means over classes, and NaN where a group is empty",
)  # fmt: skip


def choose(answer: Any) -> str:
    """`keep` of n indices by a seed, as `torch.randperm` draws them, and nothing else changed."""
    check_callable(answer)
    before = torch.get_rng_state()
    try:
        for n, keep, seed in ((10, 3, 0), (1000, 50, 7)):
            given = answer(n, keep, seed)
            moved = not torch.equal(torch.get_rng_state(), before)
            expected = torch.randperm(n, generator=torch.Generator().manual_seed(seed))[:keep]
            if found := difference(given, expected):
                raise NotYet(
                    "subset", f"n = {n}, keep = {keep}, seed = {seed}: {found}. The subset was right: keep "
                    "torch.randperm, and give it its own generator",
                )  # fmt: skip
            if moved:
                raise NotYet("global", "the subset is right, but after the call torch.rand gives other numbers")
    finally:
        torch.set_rng_state(before)
    return "the same subset from its own generator, and everybody else's random numbers are unchanged"


EXERCISES = {"tweak": two_few_shot, "implement": my_group_accuracy, "bug": choose}
