"""The images of every class, to draw from or to deal out."""

import torch
from torch import Generator, Tensor

from ..counts import Labels, as_labels


class ImagesByClass:
    """The images of each class next to each other: class j owns images[starts[j] : starts[j] + counts[j]].

    Attributes:
        images: (N,) int64 image indices, sorted by class.
        counts: (C,) int64 images per class.
        starts: (C,) int64 where each class begins in `images`.
    """

    def __init__(self, labels: Labels) -> None:
        indices = check_labels(labels)
        self.images = torch.argsort(indices, stable=True)
        self.counts = torch.bincount(indices)
        self.starts = self.counts.cumsum(0) - self.counts

    def draw(self, classes: Tensor, generator: Generator) -> Tensor:
        """A uniformly random image of each given class, with replacement: (S,) -> (S,)."""
        uniform = torch.rand(len(classes), dtype=torch.float64, generator=generator, device="cpu")  # (S,) in [0, 1)
        turns = (uniform * self.counts[classes]).long()  # (S,) in 0 .. counts[class] - 1
        return self.images[self.starts[classes] + turns]

    def deal(self, per_class: int, generator: Generator) -> Tensor:
        """`per_class` images of every class, in random order: () -> (C * per_class,).

        Each class is shuffled and then dealt in turn, so that the numbers of times two of its images appear differ
        by one at most, and chance decides which images appear once more.
        """
        classes = torch.arange(len(self.counts), device="cpu").repeat_interleave(self.counts)  # (N,)
        order = torch.randperm(len(classes), generator=generator, device="cpu")
        order = order[torch.argsort(classes[order], stable=True)]  # (N,) by class again, shuffled within
        turns = torch.arange(per_class, device="cpu") % self.counts[:, None]  # (C, per_class)
        dealt = self.images[order[self.starts[:, None] + turns]].flatten()  # (C * per_class,)
        return dealt[torch.randperm(len(dealt), generator=generator, device="cpu")]


def check_labels(labels: Labels) -> Tensor:
    """The labels as (N,) int64 on the CPU, where the generator is; a ValueError for a class without images."""
    indices = as_labels(labels).cpu()
    counts = torch.bincount(indices.clamp(max=len(indices)))  # N images fill no more than N classes
    if (counts == 0).any():
        missing, last = (counts == 0).int().argmax(), indices.max()
        raise ValueError(f"labels has no image of class {missing} below class {last}; close gaps in the numbers")
    return indices
