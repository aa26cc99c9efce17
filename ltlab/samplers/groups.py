"""The images of every class, to draw from or to deal out."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from ..counts import as_labels


class ImagesByClass:
    """The images of each class side by side: class j owns images[starts[j] : starts[j] + counts[j]].

    Args:
        labels: N class indices 0 .. C-1, each class at least once.

    Attributes:
        images: (N,) int64 image indices, sorted by class.
        counts: (C,) int64 images per class.
        starts: (C,) int64 where each class begins in `images`.
    """

    def __init__(self, labels: Sequence[int] | Tensor) -> None:
        labels = check_labels(labels)
        self.images = torch.argsort(labels, stable=True)
        self.counts = torch.bincount(labels)
        self.starts = self.counts.cumsum(0) - self.counts

    def draw(self, classes: Tensor, generator: Generator) -> Tensor:
        """A uniformly random image of each given class, with replacement: (S,) -> (S,)."""
        uniform = torch.rand(len(classes), dtype=torch.float64, generator=generator)  # (S,) in [0, 1)
        turns = (uniform * self.counts[classes]).long()  # (S,) in 0 .. counts[class] - 1
        return self.images[self.starts[classes] + turns]

    def deal(self, per_class: int, generator: Generator) -> Tensor:
        """`per_class` images of every class, in random order: () -> (C * per_class,).

        Each class is shuffled and then dealt round and round, so two of its images appear equally often or one
        of them, by chance, once more.
        """
        classes = torch.arange(len(self.counts)).repeat_interleave(self.counts)  # (N,) class at each place
        order = torch.randperm(len(classes), generator=generator)
        order = order[torch.argsort(classes[order], stable=True)]  # (N,) by class again, shuffled within
        turns = torch.arange(per_class) % self.counts[:, None]  # (C, per_class)
        dealt = self.images[order[self.starts[:, None] + turns]].flatten()  # (C * per_class,)
        return dealt[torch.randperm(len(dealt), generator=generator)]


def check_labels(labels: Sequence[int] | Tensor) -> Tensor:
    """The labels as (N,) int64 on the CPU, where the generator is; a ValueError for a class without images."""
    labels = as_labels(labels).cpu()
    if labels.min() < 0:
        raise ValueError(f"labels must be at least 0, got {labels.min().item()}; leave out unlabelled images")
    counts = torch.bincount(labels.clamp(max=len(labels)))  # N images fill no more than N classes
    if (counts == 0).any():
        missing, last = (counts == 0).int().argmax(), labels.max()
        raise ValueError(f"labels has no image of class {missing} below class {last}; close gaps in the numbers")
    return labels
