"""The exercises of notebook 03."""

from typing import Any

import torch
from torch import Tensor

from ..data import long_tail_counts
from ..losses import effective_numbers
from ..recipes import SHAPES, Recipe
from ..samplers import ClassSampler, RandomOverSampler
from .answers import NotYet, Unsolved, difference, kind, wants_function

_COUNTS = torch.tensor(long_tail_counts(10, 320, imbalance=100))
_LABELS = torch.arange(10).repeat_interleave(_COUNTS)


def as_many_steps(answer: Any) -> str:
    """Over-sampling for as many steps as 30 epochs of plain training take."""
    if not isinstance(answer, Recipe):
        raise NotYet(f"this wants a Recipe, it got {kind(answer)}")
    if [stage.sampler for stage in answer.stages] != [RandomOverSampler]:
        raise NotYet('this wants recipes.get("over_sampling"), resolved and with another number of epochs')
    epochs = answer.resolve(SHAPES).epochs
    draws, plain = epochs * len(RandomOverSampler(_LABELS)), SHAPES.epochs * len(_LABELS)
    if not 0.9 <= draws / plain <= 1.1:
        way = "fewer" if draws > plain else "more"
        raise NotYet(
            f"{epochs} epochs of {len(RandomOverSampler(_LABELS)):,} draws show {draws:,} images, plain training shows "
            f"{plain:,}: take {way} epochs"
        )
    return f"{epochs} epochs show {draws:,} images, {SHAPES.epochs} epochs of plain training {plain:,}: a fair opponent"


BETA = 0.99


def effective_number_sampler(answer: Any) -> str:
    """A `ClassSampler` whose class probabilities are proportional to the effective number, beta = 0.99."""
    if not (isinstance(answer, type) and issubclass(answer, ClassSampler)):
        raise NotYet(f"this wants the class itself, derived from samplers.ClassSampler; it got {kind(answer)}")
    given = answer(_LABELS).probabilities()
    if given is None or given is ...:
        raise Unsolved
    if not isinstance(given, Tensor):
        raise NotYet(f"probabilities() is to return a tensor, as draws are made from one; it returned {kind(given)}")
    expected = _shares(effective_numbers(_COUNTS, BETA))
    if found := difference(given, expected):
        hints = [hint for hint, wrong in PROBABILITY_MISTAKES.items() if not difference(given, wrong(_COUNTS))]
        raise NotYet(f"probabilities for counts {_COUNTS.tolist()}: {found}" + "".join(f". {h}" for h in hints[:1]))
    drawn = torch.bincount(_LABELS[answer(_LABELS, num_samples=100_000).epoch_indices()]) / 100_000
    if not torch.allclose(drawn.double(), expected, atol=0.01):
        raise NotYet("the probabilities are right, but the draws do not follow them: leave the other methods alone")
    return f"a circle's class is drawn {expected[0] / expected[-1]:.0f} times as often as an arrow's, not 107 times"


def _shares(scores: Tensor) -> Tensor:
    return scores / scores.sum()


PROBABILITY_MISTAKES = {
    "They sum to more than 1: divide by their sum": lambda counts: effective_numbers(counts, BETA),
    "The rarest class comes most often: 1 / effective number is the weight of a loss, a sampler that balances a little "
    "draws in proportion to the effective number": lambda counts: _shares(1 / effective_numbers(counts, BETA)),
    "That is plain sampling: n, not the effective number of n": lambda counts: _shares(counts.double()),
    "That is class-balanced sampling, beta = 0": lambda counts: _shares(torch.ones(len(counts)).double()),
    "That is beta = 0.9; take 0.99": lambda counts: _shares(effective_numbers(counts, 0.9)),
}


def balanced_sampler(answer: Any) -> str:
    """A sampler that draws N images, every class equally often."""
    wants_function(answer)
    counts = torch.tensor([4000, 1000, 200])
    labels = torch.arange(3).repeat_interleave(counts).flip(0)  # not in the order of the classes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # what torch's own samplers draw from, if they are given no generator
        sampler = answer(labels.clone())
        if sampler is None or sampler is ...:
            raise Unsolved
        drawn = torch.tensor(list(sampler))
    if len(drawn) != len(labels):
        raise NotYet(f"an epoch of {len(labels):,} images is to have as many draws, this one has {len(drawn):,}")
    if drawn.max() < len(counts):
        raise NotYet(
            f"of {len(labels):,} images it only ever draws the first {len(counts)}, which are all of one class"
        )
    shares = torch.bincount(labels[drawn], minlength=3) / len(drawn)
    told = f"of counts {counts.tolist()} it draws {', '.join(f'{share:.0%}' for share in shares)}"
    if shares[0] > 0.9:
        raise NotYet(f"{told}: the commonest class gains. An image of a large class needs a small weight")
    if shares[0] > 0.5:
        raise NotYet(f"{told}: less than plain drawing gives the commonest class, but not the same for all")
    if (shares - 1 / 3).abs().max() > 0.04:
        raise NotYet(f"{told}: every class is to have a third of the draws")
    return f"{told}: one weight for every image, so that the numbers drawn are images of the whole set"


EXERCISES = {"tweak": as_many_steps, "implement": effective_number_sampler, "bug": balanced_sampler}
