"""Losses that shift or scale the logit of each class by its count, and the same shift after training."""

import torch
from torch import Tensor

from ..counts import ClassCounts, as_counts, as_prior, check_not_probabilities
from .base import Loss, Reduction, at_least_float32
from .softmax import softmax_cross_entropy
from .weights import as_knob


def log_prior(class_counts: ClassCounts) -> Tensor:
    """Log of the prior, log pi_c with pi_c = n_c / sum_k n_k, the fraction of class c in the training set.

    (C,) counts above zero -> (C,) float64; equal counts give -log C.
    """
    counts = as_counts(class_counts)
    return (counts / counts.sum()).log()


def adjust_logits(
    logits: Tensor, class_counts: ClassCounts, tau: float = 1.0, target: ClassCounts | None = None
) -> Tensor:
    """Post-hoc logit adjustment, z_c - tau log pi_c with pi_c = n_c / sum_k n_k, or z_c - tau log (pi_c / target_c).

    For a model trained with cross-entropy. `BalancedSoftmaxLoss` and `LogitAdjustedLoss` make the same
    correction in training: never apply both.

    Args:
        logits: (..., C) floating point, z.
        class_counts: (C,) counts above zero, of the training set.
        tau: at least 0; 0 leaves the logits unchanged, 1 divides the prior of the training set out.
        target: (C,) the test set's prior, fractions that sum to one. The training prior leaves the logits unchanged, a
            class of 0 gets -inf. None is uniform, up to a constant that softmax does not see.

    Returns:
        (..., C); float32 for half-precision logits.

    Raises:
        ValueError: bad counts or target, or not C of them; tau negative or not finite; probabilities in place of
            logits.

    Source: Menon et al., "Long-tail learning via logit adjustment", ICLR 2021, post-hoc form; with a target: Hong et
    al., "Disentangling Label Distribution for Long-tailed Visual Recognition" (LADE), CVPR 2021.
    """
    shift = as_knob("tau", tau, 0) * log_prior(class_counts)  # (C,)
    precise = at_least_float32(logits)  # (..., C)
    if logits.shape[-1:] != shift.shape:
        raise ValueError(
            f"class_counts must hold one count per logit, got {len(shift)} for logits {tuple(logits.shape)}"
        )
    check_not_probabilities(logits)
    if target is not None:
        shift = shift - torch.xlogy(float(tau), as_prior("target", target, len(shift)).to(shift.device))  # 0 log 0 is 0
    return precise - shift.to(precise)


class LogitAdjustedLoss(Loss):
    """Cross-entropy of shifted logits, loss = -log softmax(z + tau log pi)_y with pi_c = n_c / sum_k n_k.

    Predict with the plain logits; `adjust_logits` makes the same correction after training instead.

    Args:
        tau: at least 0; 0 is cross-entropy, 1 is `BalancedSoftmaxLoss`.

    Source: Menon et al., ICLR 2021, logit-adjusted softmax cross-entropy.
    """

    knobs = ("tau",)
    shift: Tensor  # (C,)

    def __init__(self, class_counts: ClassCounts, tau: float = 1.0, *, reduction: Reduction = "weighted_mean") -> None:
        shift = as_knob("tau", tau, 0) * log_prior(class_counts)
        super().__init__(reduction, num_classes=len(shift))
        self.set_buffer("shift", shift)
        self.tau = float(tau)

    def per_sample(self, logits: Tensor, targets: Tensor) -> Tensor:
        return softmax_cross_entropy(logits + self.shift, targets)


class BalancedSoftmaxLoss(LogitAdjustedLoss):
    """Cross-entropy of shifted logits, loss = -log softmax(z + log n)_y.

    Predict with the plain logits. It is `LogitAdjustedLoss` with tau = 1.

    Equal counts give cross-entropy.

    Source: Ren et al., "Balanced Meta-Softmax for Long-Tailed Visual Recognition", NeurIPS 2020, Theorem 1.
    """

    knobs = ()

    def __init__(self, class_counts: ClassCounts, *, reduction: Reduction = "weighted_mean") -> None:
        super().__init__(class_counts, tau=1.0, reduction=reduction)


def class_dependent_temperatures(class_counts: ClassCounts, gamma: float) -> Tensor:
    """Temperature of each class, a_c = (n_max / n_c)^gamma.

    Args:
        class_counts: (C,) counts above zero.
        gamma: at least 0 and finite; at 0 all temperatures are 1.

    Source: Ye et al., "Identifying and Compensating for Feature Deviation in Imbalanced Deep Learning", arXiv
    2001.01385, 2020.
    """
    counts, gamma = as_counts(class_counts), as_knob("gamma", gamma, 0)
    return (counts.max() / counts) ** gamma


class CDTLoss(Loss):
    """Cross-entropy with class-dependent temperatures (CDT), loss = -log softmax(z / a)_y, a_c = (n_max / n_c)^gamma.

    A rare class is trained with a small logit, so that its raw logit grows. Predict with the plain logits.

    Args:
        gamma: at least 0; 0 is cross-entropy. A gamma so large that a temperature overflows is refused.

    Source: Ye et al., arXiv 2001.01385, 2020.
    """

    knobs = ("gamma",)
    temperatures: Tensor  # (C,)

    def __init__(
        self, class_counts: ClassCounts, gamma: float = 0.2, *, reduction: Reduction = "weighted_mean"
    ) -> None:
        temperatures = class_dependent_temperatures(class_counts, gamma)
        super().__init__(reduction, num_classes=len(temperatures))
        self.set_buffer("temperatures", temperatures)
        self.gamma = float(gamma)

    def per_sample(self, logits: Tensor, targets: Tensor) -> Tensor:
        return softmax_cross_entropy(logits, targets, scale=1 / self.temperatures)
