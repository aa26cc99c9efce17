"""Label-distribution-aware margins: the rarer the class, the wider its margin."""

from torch import Tensor

from ..counts import ClassCounts, as_counts
from .base import Loss, Reduction
from .softmax import margin_cross_entropy
from .weights import as_knob, class_balanced_weights


def ldam_margins(class_counts: ClassCounts, max_margin: float = 0.5) -> Tensor:
    """Margins per class, m_c = max_margin (n_min / n_c)^(1/4).

    Args:
        class_counts: (C,) counts above zero.
        max_margin: at least 0 and finite, the margin of the least frequent class, in units of cosine.

    Source: Cao et al., "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss", NeurIPS 2019, eqs. 12
    and 13, with the constant that makes max_margin the largest margin.
    """
    counts = as_counts(class_counts)
    return as_knob("max_margin", max_margin, 0) * (counts.min() / counts) ** 0.25


class LDAMLoss(Loss):
    """Cross-entropy with label-distribution-aware margins, loss = -w_y log softmax(s (z - m_y e_y))_y.

    The logits must be cosines in [-1, 1], from a classifier that normalises features and weights: margins are a
    fraction of that range. s = scale, m from `ldam_margins`, w from `class_balanced_weights`. A run moves s into a
    `CosineClassifier`, whose logits are then s z: the same arithmetic.

    Args:
        max_margin: at least 0, the margin of the least frequent class; 0 leaves cross-entropy of s z.
        scale: above 0, the inverse temperature of the cosines.
        beta: in [0, 1), the re-weighting; 0 is none, 0.9999 the second stage of LDAM-DRW.

    Source: Cao et al., NeurIPS 2019, eqs. 12 and 13; s and the re-weighting as in the authors' code.
    """

    knobs = ("max_margin", "scale", "beta")
    margins: Tensor  # (C,)
    scaled = False  # whether the logits come as s z, from a classifier that owns the scale

    def __init__(
        self, class_counts: ClassCounts, max_margin: float = 0.5, scale: float = 30.0, *, beta: float = 0.0,
        reduction: Reduction = "weighted_mean",
    ) -> None:  # fmt: skip
        super().__init__(reduction, weight=class_balanced_weights(class_counts, beta))
        self.set_buffer("margins", ldam_margins(class_counts, max_margin))
        self.max_margin, self.beta = float(max_margin), float(beta)
        self.scale = as_knob("scale", scale, 0)
        if self.scale == 0:
            raise ValueError("scale must be above 0, got 0")

    def per_sample(self, logits: Tensor, targets: Tensor) -> Tensor:
        if self.scaled:
            return margin_cross_entropy(logits, targets, scale=1.0, margin=self.scale * self.margins)
        return margin_cross_entropy(logits, targets, scale=self.scale, margin=self.margins)
