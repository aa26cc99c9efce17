"""The exercises of notebook 03."""

from typing import Any

import torch
from torch import Tensor

from ..data import long_tail_counts
from ..losses import effective_numbers
from ..recipes import SHAPES, Recipe
from ..samplers import ClassSampler, RandomOverSampler
from .answers import NotYet, check_callable, check_given, check_kind, difference, kind, raise_hint

_COUNTS = torch.tensor(long_tail_counts(10, 320, imbalance=100))
_LABELS = torch.arange(10).repeat_interleave(_COUNTS)


def as_many_steps(answer: Any) -> str:
    """Over-sampling for as many steps as 30 epochs of plain training take."""
    check_kind(answer, Recipe, "a Recipe")
    if [stage.sampler for stage in answer.stages] != [RandomOverSampler]:
        raise NotYet("sampler", 'expected recipes.get("over_sampling"), resolved and with another number of epochs')
    epochs = answer.resolve(SHAPES).epochs
    draws, plain = epochs * len(RandomOverSampler(_LABELS)), SHAPES.epochs * len(_LABELS)
    if not 0.9 <= draws / plain <= 1.1:
        way = "fewer" if draws > plain else "more"
        raise NotYet(
            way, f"{epochs} epochs of {len(RandomOverSampler(_LABELS)):,} draws show {draws:,} images, plain training "
            f"shows {plain:,}: take {way} epochs",
        )  # fmt: skip
    return f"{epochs} epochs show {draws:,} images, {SHAPES.epochs} epochs of plain training {plain:,}: a fair opponent"


BETA = 0.99


def effective_number_sampler(answer: Any) -> str:
    """A `ClassSampler` whose class probabilities are proportional to the effective number, beta = 0.99."""
    if not (isinstance(answer, type) and issubclass(answer, ClassSampler)):
        raise NotYet("kind", f"expected the class itself, a subclass of samplers.ClassSampler; got {kind(answer)}")
    given = check_given(answer(_LABELS).probabilities())
    if not isinstance(given, Tensor):
        raise NotYet("tensor", f"probabilities() must return a tensor, from which draws are made; got {kind(given)}")
    expected = _fractions(effective_numbers(_COUNTS, BETA))
    if found := difference(given, expected):
        text = f"probabilities for counts {_COUNTS.tolist()}: {found}"
        raise_hint(text, PROBABILITY_MISTAKES, lambda wrong: not difference(given, wrong(_COUNTS)))
    drawn = torch.bincount(_LABELS[answer(_LABELS, num_samples=100_000).epoch_indices()]) / 100_000
    if not torch.allclose(drawn.double(), expected, atol=0.01):
        raise NotYet("draws", "the probabilities are right, but the draws do not follow them: keep the other methods")
    return f"a circle's class is drawn {expected[0] / expected[-1]:.0f} times as often as an arrow's, not 107 times"


def _fractions(scores: Tensor) -> Tensor:
    return scores / scores.sum()


PROBABILITY_MISTAKES = {
    "sum": ("They sum to more than 1: divide by their sum", lambda counts: effective_numbers(counts, BETA)),
    "inverse": ("The least frequent class is drawn most often: 1 / effective number is the weight of a loss, a "
                "sampler that balances a little draws in proportion to the effective number",
                lambda counts: _fractions(1 / effective_numbers(counts, BETA))),
    "plain": ("That is plain sampling: n, not the effective number of n", lambda counts: _fractions(counts.double())),
    "balanced": ("That is class-balanced sampling, beta = 0",
                 lambda counts: _fractions(torch.ones(len(counts)).double())),
    "beta": ("That is beta = 0.9; take 0.99", lambda counts: _fractions(effective_numbers(counts, 0.9))),
}  # fmt: skip


def balanced_sampler(answer: Any) -> str:
    """A sampler that draws N images, every class equally often."""
    check_callable(answer)
    counts = torch.tensor([4000, 1000, 200])
    labels = torch.arange(3).repeat_interleave(counts).flip(0)  # not in the order of the classes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # what torch's own samplers draw from, if they are given no generator
        drawn = torch.tensor(list(check_given(answer(labels.clone()))))
    if len(drawn) != len(labels):
        raise NotYet("length", f"an epoch of {len(labels):,} images has as many draws, this one {len(drawn):,}")
    if drawn.max() < len(counts):
        told = f"of {len(labels):,} images it only ever draws the first {len(counts)}, which are all of one class"
        raise NotYet("classes", told)
    if len(drawn.unique()) == len(drawn):
        raise NotYet(
            "replacement", "every image is drawn once, so weights only change the order: draw with replacement"
        )
    fractions = torch.bincount(labels[drawn], minlength=3) / len(drawn)
    told = f"of counts {counts.tolist()} it draws {', '.join(f'{part:.0%}' for part in fractions)}"
    if fractions[0] > 0.9:
        raise NotYet("head", f"{told}: the head gains. An image of a large class needs a small weight")
    if (fractions - 1 / 3).abs().max() > 0.04:
        raise NotYet("thirds", f"{told}: every class must have a third of the draws")
    return f"{told}: one weight for every image, so that the numbers drawn are images of the whole set"


EXERCISES = {"tweak": as_many_steps, "implement": effective_number_sampler, "bug": balanced_sampler}
