"""Cross-entropy with smoothed labels: the same for all, or more for the head than for the tail."""

import math

import torch
from torch import Tensor

from ..counts import ClassCounts, as_counts
from .base import Loss, Reduction
from .softmax import softmax_cross_entropy
from .weights import as_knob


class LabelSmoothingLoss(Loss):
    """Cross-entropy with smoothed labels, loss = -(1 - s) log p_y - s mean_k log p_k, s = smoothing.

    Args:
        smoothing: in [0, 1); 0 is cross-entropy.

    Source: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016, section 7; equal to
    `F.cross_entropy(label_smoothing=smoothing)`.
    """

    knobs = ("smoothing",)

    def __init__(self, smoothing: float = 0.1, *, reduction: Reduction = "weighted_mean") -> None:
        super().__init__(reduction)
        self.smoothing = as_knob("smoothing", smoothing, 0, 1)

    def per_sample(self, logits: Tensor, targets: Tensor) -> Tensor:
        return softmax_cross_entropy(logits, targets, smoothing=self.smoothing)


def label_aware_smoothing(class_counts: ClassCounts, head: float, tail: float) -> Tensor:
    """Smoothing per class, s_c = tail + (head - tail) sin(pi/2 (n_c - n_min) / (n_max - n_min)).

    Args:
        class_counts: (C,) counts above zero.
        head: in [0, 1), the smoothing at n_max, and everywhere if all counts are equal.
        tail: in [0, 1), the smoothing at n_min.

    Source: Zhong et al., "Improving Calibration for Long-Tailed Recognition" (MiSLAS), CVPR 2021, concave form.
    """
    counts = as_counts(class_counts)
    head, tail = as_knob("head", head, 0, 1), as_knob("tail", tail, 0, 1)
    low, high = counts.min(), counts.max()
    if low == high:
        return torch.full_like(counts, head)
    return tail + (head - tail) * torch.sin(math.pi / 2 * (counts - low) / (high - low))


class LabelAwareSmoothingLoss(Loss):
    """Label smoothing that grows with the count of the label, loss = -(1 - s_y) log p_y - s_y mean_k log p_k.

    s comes from `label_aware_smoothing`: the network is most confident of head classes, so these are smoothed most.

    The mean is over all C classes, as in the authors' code and in `LabelSmoothingLoss`. The formula in the
    paper spreads s_y over the C - 1 other classes: head and tail times C / (C - 1) give exactly that.

    Args:
        head, tail: in [0, 1); head = tail is `LabelSmoothingLoss`, both 0 is cross-entropy.

    Source: Zhong et al. (MiSLAS), CVPR 2021, section 3.2.
    """

    knobs = ("head", "tail")
    smoothing: Tensor  # (C,)

    def __init__(
        self, class_counts: ClassCounts, head: float = 0.4, tail: float = 0.1, *, reduction: Reduction = "weighted_mean"
    ) -> None:
        smoothing = label_aware_smoothing(class_counts, head, tail)
        super().__init__(reduction, num_classes=len(smoothing))
        self.set_buffer("smoothing", smoothing)
        self.head, self.tail = float(head), float(tail)

    def per_sample(self, logits: Tensor, targets: Tensor) -> Tensor:
        return softmax_cross_entropy(logits, targets, smoothing=self.smoothing)
