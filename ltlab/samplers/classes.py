"""First a class, then one of its images: draws with replacement, by class probabilities."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from ..counts import check_whole_number
from .epochs import EpochSampler
from .groups import ImagesByClass
from .probabilities import (
    bilateral_probabilities,
    class_probabilities,
    progressive_probabilities,
    reversed_probabilities,
    switched_probabilities,
)


class ClassSampler(EpochSampler):
    """First a class, by the current epoch's probabilities, then one of its images, uniformly; with replacement.

        P(image i of class j) = p_j / n_j

    A subclass defines `probabilities()`.

    Args:
        labels: N class indices 0 .. C-1, each class at least once.
        num_samples: draws per epoch, all processes together; None for N.
        seed, num_replicas, rank: see `EpochSampler`.

    Raises:
        ValueError: `labels` is empty, not integer, negative or lacks a class; otherwise as `EpochSampler`.
    """

    def __init__(
        self, labels: Sequence[int] | Tensor, *,
        num_samples: int | None = None, seed: int = 0, num_replicas: int = 1, rank: int = 0,
    ) -> None:  # fmt: skip
        self.groups = ImagesByClass(labels)
        if num_samples is None:
            num_samples = len(self.groups.images)
        super().__init__(num_samples, seed=seed, num_replicas=num_replicas, rank=rank)

    def probabilities(self) -> Tensor:
        """The current epoch's class probabilities, (C,) float64."""
        raise NotImplementedError(f"{type(self).__name__} must define probabilities()")

    def draw(self, generator: Generator) -> Tensor:
        classes = torch.multinomial(self.probabilities(), self.num_samples, replacement=True, generator=generator)
        return self.groups.draw(classes, generator)


class PowerSampler(ClassSampler):
    """Draws of class j with probability proportional to n_j^q.

        p_j = n_j^q / sum_i n_i^q

    q = 1: instance-balanced; q = 1/2: square-root; q = 0: class-balanced. q = -1 is `ReversedSampler`.

    Args:
        labels: N class indices 0 .. C-1, each class at least once.
        q: the sampling exponent, at least 0.
        num_samples: draws per epoch, all processes together; None for N.
        seed, num_replicas, rank: see `EpochSampler`.

    Raises:
        ValueError: `q` is negative or not finite; otherwise as `ClassSampler`.

    Source: Kang et al., "Decoupling Representation and Classifier for Long-Tailed Recognition", ICLR 2020,
    eq. 1.
    """

    def __init__(
        self, labels: Sequence[int] | Tensor, q: float, *,
        num_samples: int | None = None, seed: int = 0, num_replicas: int = 1, rank: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(labels, num_samples=num_samples, seed=seed, num_replicas=num_replicas, rank=rank)
        self.q = q
        self.probabilities()  # refuses a bad q now, not in the first epoch

    def probabilities(self) -> Tensor:
        return class_probabilities(self.groups.counts, self.q)

    def knobs(self) -> str:
        return f"q={self.q}"


class ReversedSampler(ClassSampler):
    """Draws of class j with probability proportional to 1 / n_j: the rarest class most often.

        p_j = n_j^-1 / sum_i n_i^-1

    Args:
        labels: N class indices 0 .. C-1, each class at least once.
        num_samples: draws per epoch, all processes together; None for N.
        seed, num_replicas, rank: see `EpochSampler`.

    Raises:
        ValueError: as `ClassSampler`.

    Source: Zhou et al., "BBN: Bilateral-Branch Network with Cumulative Learning", CVPR 2020, section
    4.2.
    """

    def probabilities(self) -> Tensor:
        return reversed_probabilities(self.groups.counts)


class BilateralSampler(ClassSampler):
    """Draws that are instance-balanced and reversed in equal parts (BBN-style sampling).

        p_j = 1/2 n_j / sum_i n_i + 1/2 n_j^-1 / sum_i n_i^-1

    Under mixup half of the pairs join an image of the one kind with one of the other.

    Args:
        labels: N class indices 0 .. C-1, each class at least once.
        num_samples: draws per epoch, all processes together; None for N.
        seed, num_replicas, rank: see `EpochSampler`.

    Raises:
        ValueError: as `ClassSampler`.

    Source: Zhou et al., "BBN: Bilateral-Branch Network with Cumulative Learning", CVPR 2020, section 4.2, without its
    two branches.
    """

    def probabilities(self) -> Tensor:
        return bilateral_probabilities(self.groups.counts)


class ProgressivelyBalancedSampler(ClassSampler):
    """Draws that are instance-balanced in the first epoch and class-balanced in the last.

        p_j(t) = (1 - t/(T-1)) * p_j(q=1) + t/(T-1) * p_j(q=0),   t = 0 .. T-1
        p_j(t) = p_j(q=1) if t < switch, else p_j(q=0),           with a hard switch

    The paper writes t/T. As epochs count from 0, that would end at (T-1)/T, short of class-balanced; t/(T-1)
    makes the first epoch exactly q = 1 and the last exactly q = 0. With T = 1 the only epoch is a first one,
    q = 1. switch = 0: q = 0 throughout; switch = T: q = 1 throughout.

    Args:
        labels: N class indices 0 .. C-1, each class at least once.
        epochs: T, the epochs of the whole training.
        switch: the first class-balanced epoch, 0 <= switch <= epochs; None for the gradual form.
        num_samples: draws per epoch, all processes together; None for N.
        seed, num_replicas, rank: see `EpochSampler`.

    Raises:
        ValueError: `epochs` is not an integer of at least 1; `switch` lies outside 0 .. epochs; `set_epoch` gets
            an epoch outside 0 .. epochs - 1; otherwise as `ClassSampler`.

    Source: Kang et al., "Decoupling Representation and Classifier for Long-Tailed Recognition", ICLR 2020,
    eq. 2.
    """

    def __init__(
        self, labels: Sequence[int] | Tensor, epochs: int, *, switch: int | None = None,
        num_samples: int | None = None, seed: int = 0, num_replicas: int = 1, rank: int = 0,
    ) -> None:  # fmt: skip
        self.epochs = check_whole_number("epochs", epochs, 1)
        self.switch = switch if switch is None else check_whole_number("switch", switch, 0, self.epochs)
        super().__init__(labels, num_samples=num_samples, seed=seed, num_replicas=num_replicas, rank=rank)

    def set_epoch(self, epoch: int) -> None:
        """Go to an epoch, counted from 0; a ValueError if it is not an integer in 0 .. epochs - 1."""
        self.epoch = check_whole_number("epoch", epoch, 0, self.epochs - 1)

    def probabilities(self) -> Tensor:
        if self.switch is not None:
            return switched_probabilities(self.groups.counts, self.epoch, self.switch)
        progress = self.epoch / (self.epochs - 1) if self.epochs > 1 else 0
        return progressive_probabilities(self.groups.counts, progress)

    def knobs(self) -> str:
        return f"epochs={self.epochs}" + ("" if self.switch is None else f", switch={self.switch}")
