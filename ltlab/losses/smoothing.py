"""Cross-entropy with smoothed labels: the same for all, or more for the head than for the tail."""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from ..counts import ClassCounts, as_counts
from ..names import look_up, one_of
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


Shape = Literal["concave", "linear", "convex"] | float
CURVES: dict[str, Callable[[Tensor], Tensor]] = {  # from u in [0, 1], 0 at n_min and 1 at n_max, to [0, 1]
    "concave": lambda u: torch.sin(math.pi / 2 * u),
    "linear": lambda u: u,
    "convex": lambda u: 1 - torch.cos(math.pi / 2 * u),
}


def label_aware_smoothing(class_counts: ClassCounts, head: float, tail: float, shape: Shape = "concave") -> Tensor:
    """Smoothing per class, s_c = tail + (head - tail) h(u_c) with u_c = (n_c - n_min) / (n_max - n_min).

        concave: h(u) = sin(pi u / 2),   linear: u,   convex: 1 - cos(pi u / 2),   an exponent a: u^a

    Args:
        class_counts: (C,) counts above zero.
        head: in [0, 1), the smoothing at n_max, and everywhere if all counts are equal.
        tail: from 0 to head, the smoothing at n_min.
        shape: "concave", "linear", "convex", or an exponent above 0.

    Source: Zhong et al., "Improving Calibration for Long-Tailed Recognition" (MiSLAS), CVPR 2021; the exponent is in
    the authors' code.
    """
    counts = as_counts(class_counts)
    head, tail = as_knob("head", head, 0, 1), as_knob("tail", tail, 0, 1)
    if tail > head:
        raise ValueError(f"tail must be at most head, got tail={tail:g} and head={head:g}; the head is smoothed most")
    low, high = counts.min(), counts.max()
    if not isinstance(shape, str) and as_knob("shape", shape, 0) == 0:
        raise ValueError(f"shape must be an exponent above 0, got {shape!r}")
    h = look_up("shape", shape, CURVES) if isinstance(shape, str) else lambda u: u ** float(shape)
    return torch.full_like(counts, head) if low == high else tail + (head - tail) * h((counts - low) / (high - low))


class LabelAwareSmoothingLoss(Loss):
    """Label smoothing that grows with the count of the label, loss = -(1 - s_y) log p_y - s_y mean_k log p_k.

    s comes from `label_aware_smoothing`: the network is most confident of head classes, so these are smoothed most.

    With the spread "all", s_y is spread over all C classes, as in the authors' code and in `LabelSmoothingLoss`; with
    "others" over the C - 1 other ones, as in the paper, which is the same with C / (C - 1) times the smoothing. The
    loss is least where the label's logit is above all others, which are equal, by a finite

        log((C (1 - s_y) + s_y) / s_y), all,   log((C - 1) (1 - s_y) / s_y), others

    Args:
        head, tail: 0 <= tail <= head < 1; head = tail is `LabelSmoothingLoss`, both 0 is cross-entropy.
        shape: see `label_aware_smoothing`.
        spread: "all" or "others".

    Source: Zhong et al. (MiSLAS), CVPR 2021, section 3.2.
    """

    knobs = ("head", "tail", "shape", "spread")
    smoothing: Tensor  # (C,)

    def __init__(
        self, class_counts: ClassCounts, head: float = 0.4, tail: float = 0.1, shape: Shape = "concave",
        spread: Literal["all", "others"] = "all", *, reduction: Reduction = "weighted_mean",
    ) -> None:  # fmt: skip
        smoothing = label_aware_smoothing(class_counts, head, tail, shape)
        if one_of("spread", spread, ("all", "others")) == "others":
            smoothing = smoothing * (len(smoothing) / (len(smoothing) - 1))
        super().__init__(reduction, num_classes=len(smoothing))
        self.set_buffer("smoothing", smoothing)
        self.head, self.tail, self.shape, self.spread = float(head), float(tail), shape, spread

    def per_sample(self, logits: Tensor, targets: Tensor) -> Tensor:
        return softmax_cross_entropy(logits, targets, smoothing=self.smoothing)
