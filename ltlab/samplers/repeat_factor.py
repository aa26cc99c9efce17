"""Repeat factor sampling: images with a rare class more often, also where an image has several classes."""

import math
from collections.abc import Collection, Sequence, Set
from typing import Any, Unpack

import torch
from torch import Generator, Tensor

from ..counts import Labels, as_labels, as_tensor, comparable
from .epochs import EpochOptions, EpochSampler
from .groups import check_labels

ImageLabels = Labels | Sequence[Collection[int] | Tensor]  # a class per image, or a set of classes per image


def repeat_factors(labels: ImageLabels, threshold: float) -> tuple[Tensor, Tensor]:
    """How often an epoch repeats each image, and each class on its own.

        r_c = max(1, sqrt(threshold / f_c)),  f_c the fraction of the images with class c;   r_i = max of r_c over the
        classes of image i, 1 for an image without any

    threshold = 0, or at most the smallest f_c, repeats nothing. With one class per image r_i is r_c.

    Args:
        labels: N class indices, or N sets of them, as tensors, lists or sets; a set may be empty.
        threshold: in [0, 1], the fraction of the images below which a class is repeated.

    Returns:
        (N,) and (C,) float64, C the highest index + 1; of sets, a class without images has 1.

    Raises:
        ValueError: labels that are neither, or a threshold outside [0, 1].

    Source: Gupta et al., "LVIS", CVPR 2019, appendix B.2.
    """
    if not 0 <= comparable(threshold) <= 1:
        raise ValueError(f"threshold={threshold!r} must be a fraction of the images, in [0, 1]")
    images, classes, n = _pairs(labels)
    counts = torch.bincount(classes)  # (C,)
    of_class = torch.where(counts > 0, (threshold * n / counts.clamp(min=1)).double().sqrt().clamp(min=1), 1.0)
    of_image = torch.ones(n, dtype=torch.float64, device="cpu")
    return of_image.scatter_reduce(0, images, of_class[classes], "amax"), of_class


def _pairs(labels: Any) -> tuple[Tensor, Tensor, int]:
    """Every image with every class in it, once: images (K,), classes (K,), and the number of images."""
    if not isinstance(labels, (list, tuple)) or not any(_several(entry) for entry in labels):
        classes = check_labels(labels)
        return torch.arange(len(classes), device="cpu"), classes, len(classes)
    sets = [sorted(entry) if isinstance(entry, Set) else entry for entry in labels]
    empty = torch.zeros(0, dtype=torch.int64, device="cpu")
    each = [as_labels(entry, f"labels[{i}]").cpu().unique() if len(entry) else empty for i, entry in enumerate(sets)]
    sizes = torch.tensor([len(classes) for classes in each], device="cpu")
    if not sizes.any():
        raise ValueError("labels has no class at all: every image is empty")
    return torch.arange(len(each), device="cpu").repeat_interleave(sizes), torch.cat(each), len(each)


def _several(entry: Any) -> bool:
    return isinstance(entry, (Set, list, tuple)) or (hasattr(entry, "__array__") and as_tensor(entry).ndim == 1)


class RepeatFactorSampler(EpochSampler):
    """Every image floor(r_i) or ceil(r_i) times an epoch, r_i on average, see `repeat_factors` (RFS).

    An epoch has ceil(sum of r_i) draws, always as many: the factors are scaled to that sum, by less than one image in
    all, and rounded by one systematic draw over a new random order of the images. The threshold of LVIS, 0.001, is its
    border between common and frequent classes, 100 of 99,388 images.

    Args:
        labels: one class or a set of classes per image, see `repeat_factors`.
        threshold: in [0, 1].
        options: see `EpochSampler`, also for the errors.
    """

    def __init__(self, labels: ImageLabels, threshold: float, **options: Unpack[EpochOptions]) -> None:
        self.factors, _ = repeat_factors(labels, threshold)  # (N,)
        self.threshold = float(threshold)
        total = self.factors.sum().item()
        super().__init__(math.ceil(total - 1e-9 * total), **options)

    def draw(self, generator: Generator) -> Tensor:
        order = torch.randperm(len(self.factors), generator=generator, device="cpu")
        ends = self.factors[order].cumsum(0)  # (N,)
        ends = ends * (self.num_samples / ends[-1])
        ends[-1] = self.num_samples
        start = torch.rand(1, dtype=torch.float64, generator=generator, device="cpu")
        times = torch.cat([start, ends + start]).floor().diff().long()  # (N,)
        sequence = order.repeat_interleave(times)  # (num_samples,)
        return sequence[torch.randperm(len(sequence), generator=generator, device="cpu")]

    def knobs(self) -> str:
        return f"threshold={self.threshold:g}"
