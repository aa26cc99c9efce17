"""First a class, then one of its images: draws with replacement, by class probabilities."""

from typing import Unpack

import torch
from torch import Generator, Tensor

from ..counts import Labels, check_integer
from .epochs import EpochOptions, EpochSampler
from .groups import ImagesByClass
from .probabilities import (
    bilateral_probabilities,
    class_probabilities,
    progressive_probabilities,
    reversed_probabilities,
)


class DrawOptions(EpochOptions, total=False):
    """The keyword arguments that every `ClassSampler` takes."""

    num_samples: int | None


class ClassSampler(EpochSampler):
    """First a class, by the current epoch's probabilities, then one of its images, uniformly; with replacement.

        P(image i of class j) = p_j / n_j

    A subclass defines `probabilities()` and passes its `**options` on.

    Args:
        num_samples: draws per epoch, all processes together; None for N.
        labels, options: see `EpochSampler`, also for the errors.
    """

    def __init__(self, labels: Labels, *, num_samples: int | None = None, **options: Unpack[EpochOptions]) -> None:
        self.groups = ImagesByClass(labels)
        super().__init__(len(self.groups.images) if num_samples is None else num_samples, **options)

    def probabilities(self) -> Tensor:
        """The current epoch's class probabilities, (C,) float64."""
        raise NotImplementedError(f"{type(self).__name__} must define probabilities()")

    def draw(self, generator: Generator) -> Tensor:
        classes = torch.multinomial(self.probabilities(), self.num_samples, replacement=True, generator=generator)
        return self.groups.draw(classes, generator)


class PowerSampler(ClassSampler):
    """Draws of class j with probability proportional to n_j^q, see `class_probabilities`.

    q = 1: instance-balanced; q = 1/2: square-root; q = 0: class-balanced. q = -1 is `ReversedSampler`.

    Args:
        q: the sampling exponent, at least 0 and finite.
        labels, options: see `ClassSampler`.
    """

    def __init__(self, labels: Labels, q: float, **options: Unpack[DrawOptions]) -> None:
        super().__init__(labels, **options)
        self.q = q
        self.probabilities()  # refuses a bad q now, not in the first epoch

    def probabilities(self) -> Tensor:
        return class_probabilities(self.groups.counts, self.q)

    def knobs(self) -> str:
        return f"q={self.q}"


class ReversedSampler(ClassSampler):
    """Draws of class j with probability proportional to 1 / n_j, see `reversed_probabilities`: the tail most often."""

    def probabilities(self) -> Tensor:
        return reversed_probabilities(self.groups.counts)


class BilateralSampler(ClassSampler):
    """Draws that are half instance-balanced, half reversed (BBN-style sampling), see `bilateral_probabilities`.

    Under mixup half of the pairs join an image of one kind with one of the other.
    """

    def probabilities(self) -> Tensor:
        return bilateral_probabilities(self.groups.counts)


class ProgressivelyBalancedSampler(ClassSampler):
    """Draws that are instance-balanced in the first epoch and class-balanced in the last.

        p_j(t) = (1 - t/(T-1)) * p_j(q=1) + t/(T-1) * p_j(q=0),   t = 0 .. T-1

    The paper writes t/T, see `progressive_probabilities`. As epochs count from 0, that would end at (T-1)/T, short of
    class-balanced; t/(T-1) makes the first epoch exactly q = 1 and the last exactly q = 0. With T = 1 the only epoch
    has q = 1.

    Args:
        epochs: T, the epochs of the whole training, at least 1. `set_epoch` takes 0 .. T - 1.
        labels, options: see `ClassSampler`.
    """

    def __init__(self, labels: Labels, epochs: int, **options: Unpack[DrawOptions]) -> None:
        self.epochs = check_integer("epochs", epochs, 1)
        super().__init__(labels, **options)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = check_integer("epoch", epoch, 0, self.epochs - 1)

    def probabilities(self) -> Tensor:
        progress = self.epoch / (self.epochs - 1) if self.epochs > 1 else 0
        return progressive_probabilities(self.groups.counts, progress)

    def knobs(self) -> str:
        return f"epochs={self.epochs}"
