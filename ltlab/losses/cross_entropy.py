"""Cross-entropy, plain and re-weighted by class."""

import torch.nn.functional as F
from torch import Tensor

from ..counts import ClassCounts
from .base import Loss, Reduction
from .weights import as_knob, class_balanced_weights, cost_sensitive_weights


class WeightedCrossEntropy(Loss):
    """Base of the cross-entropies with one weight per class, loss = -w_y log p_y: a subclass gives the weights.

    With "weighted_mean" the scale of the weights cancels, and in a batch of one the weight itself.
    """

    def per_sample(self, logits: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(logits, targets, reduction="none")


class CrossEntropyLoss(WeightedCrossEntropy):
    """Cross-entropy, loss = -log p_y: the baseline, `F.cross_entropy`."""

    def __init__(self, *, reduction: Reduction = "weighted_mean") -> None:
        super().__init__(reduction)


class CostSensitiveLoss(WeightedCrossEntropy):
    """Cross-entropy weighted by inverse frequency (CS_CE), loss = -(n_min / n_y)^gamma log p_y.

    Args:
        gamma: at least 0; 0 is cross-entropy, 1/2 the smooth version. A gamma so large that a weight vanishes in
            float32 is refused.

    Source: Zhang et al., AAAI 2021, re-weighting.
    """

    knobs = ("gamma",)

    def __init__(
        self, class_counts: ClassCounts, gamma: float = 1.0, *, reduction: Reduction = "weighted_mean"
    ) -> None:
        super().__init__(reduction, weight=cost_sensitive_weights(class_counts, gamma))
        self.gamma = float(gamma)


class GeneralizedReweightLoss(WeightedCrossEntropy):
    """Cross-entropy weighted by generalised inverse frequency (GRW), loss = -w_y log p_y,  w_c ~ n_c^-rho of sum C.

    With the default reduction the scale of w cancels, and it is `CostSensitiveLoss` with gamma = rho. What it adds to
    the logits of a calibrated model is, at the optimum, the correction -rho log pi_c of `adjust_logits`.

    Args:
        rho: at least 0; 0 is cross-entropy, 1 weighs by inverse frequency, more weighs the tail above the head. A rho
            so large that a weight vanishes in float32 is refused.
        reduction: "mean" is C times the paper's loss, "weighted_mean" that of the authors' code.

    Source: Zhang et al., "Distribution Alignment: A Unified Framework for Long-tail Visual Recognition" (DisAlign),
    CVPR 2021, eqs. 9 to 11.
    """

    knobs = ("rho",)

    def __init__(self, class_counts: ClassCounts, rho: float = 1.2, *, reduction: Reduction = "weighted_mean") -> None:
        weight = cost_sensitive_weights(class_counts, as_knob("rho", rho, 0))
        super().__init__(reduction, weight=weight * (len(weight) / weight.sum()))
        self.rho = float(rho)


class ClassBalancedLoss(WeightedCrossEntropy):
    """Cross-entropy weighted by effective numbers (CB_CE), loss = -w_y log p_y, w from `class_balanced_weights`.

    Args:
        beta: in [0, 1); 0 is cross-entropy, beta -> 1 is `CostSensitiveLoss` with gamma = 1 ("weighted_mean").

    Source: Cui et al., CVPR 2019, section 4.1.
    """

    knobs = ("beta",)

    def __init__(
        self, class_counts: ClassCounts, beta: float = 0.9999, *, reduction: Reduction = "weighted_mean"
    ) -> None:
        super().__init__(reduction, weight=class_balanced_weights(class_counts, beta))
        self.beta = float(beta)
