"""Classes made exactly equal: minority images repeated, or majority images left out."""

from typing import Unpack

from torch import Generator, Tensor

from ..counts import Labels
from .epochs import EpochOptions, EpochSampler
from .groups import ImagesByClass


class EqualSampler(EpochSampler):
    """The same number of draws from every class, spread over its images as evenly as possible.

    Called as cls(labels, **options), see `EpochSampler`. A subclass defines `images_per_class(counts)`.
    """

    def __init__(self, labels: Labels, **options: Unpack[EpochOptions]) -> None:
        self.groups = ImagesByClass(labels)
        self.per_class = self.images_per_class(self.groups.counts)
        super().__init__(len(self.groups.counts) * self.per_class, **options)

    def images_per_class(self, counts: Tensor) -> int:
        """The draws from each class, given its (C,) images."""
        raise NotImplementedError(f"{type(self).__name__} must define images_per_class(counts)")

    def draw(self, generator: Generator) -> Tensor:
        return self.groups.deal(self.per_class, generator)


class RandomOverSampler(EqualSampler):
    """Minority images repeated until every class has n_max, C * n_max draws an epoch.

    Each image of class j appears floor(n_max / n_j) times, and n_max mod n_j of them, a new random subset every
    epoch, once more. Classes of equal size: every image once.
    """

    def images_per_class(self, counts: Tensor) -> int:
        return int(counts.max())


class RandomUnderSampler(EqualSampler):
    """Majority images left out until every class has n_min, C * n_min draws an epoch.

    The n_min images of class j are a new random subset every epoch; none appears twice. Classes of equal size:
    every image once.
    """

    def images_per_class(self, counts: Tensor) -> int:
        return int(counts.min())
