"""Focal losses: what is already easy counts less."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..counts import ClassCounts, as_tensor
from .base import Loss, Reduction
from .softmax import log_odds
from .weights import as_knob, class_balanced_weights

Form = Literal["sigmoid", "softmax"]


def binary_focal(u: Tensor, gamma: float) -> Tensor:
    """Focal loss of one answer that is right with log-odds u, -(1 - p)^gamma log p with p = sigmoid(u).

    (1 - p)^gamma is taken as exp(gamma log(1 - p)), log(1 - p) = log p - u, so that value and gradient are
    finite for every finite u and gamma >= 0: as a power its slope is infinite at p = 1 for gamma < 1. At gamma = 0
    it is -log p.
    """
    log_p = F.logsigmoid(u)
    return -torch.exp(gamma * (log_p - u)) * log_p


def sigmoid_focal(logits: Tensor, targets: Tensor, gamma: float = 2.0, alpha: float | Tensor | None = None) -> Tensor:
    """Focal loss over C independent yes/no questions, one loss per sample.

        loss(c) = sum_k -alpha_k (1 - q_k)^gamma log q_k
            q_k = sigmoid(z_k),   alpha_k = alpha        for k = c
            q_k = sigmoid(-z_k),  alpha_k = 1 - alpha    for k != c

    For hard targets this is `torchvision.ops.sigmoid_focal_loss`, summed over the classes.

    Args:
        logits, targets: see `ltlab.losses.softmax`.
        gamma: at least 0; 0 is binary cross-entropy.
        alpha: () or (C,), in [0, 1]; None leaves the factor out.

    Source: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, eqs. 4 and 5.
    """
    if targets.is_floating_point():
        yes, no = binary_focal(logits, gamma), binary_focal(-logits, gamma)  # (N, C)
        if alpha is not None:
            yes, no = alpha * yes, (1 - alpha) * no
        return (targets * yes + (targets.sum(1, keepdim=True) - targets) * no).sum(1)
    is_label = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, targets[:, None], True)  # (N, C)
    losses = binary_focal(torch.where(is_label, logits, -logits), gamma)  # (N, C)
    if alpha is not None:
        losses = torch.where(is_label, alpha * losses, (1 - alpha) * losses)
    return losses.sum(1)


def softmax_focal(logits: Tensor, targets: Tensor, gamma: float = 2.0, alpha: float | Tensor | None = None) -> Tensor:
    """Focal loss of the softmax, loss(c) = -alpha_c (1 - p_c)^gamma log p_c, one loss per sample.

    Args:
        logits, targets: see `ltlab.losses.softmax`.
        gamma: at least 0; 0 is cross-entropy.
        alpha: () or (C,); None leaves it out.

    Source: the form of Cao et al., NeurIPS 2019 (LDAM-DRW), in their code.
    """
    if targets.is_floating_point():
        losses = binary_focal(log_odds(logits), gamma)  # (N, C)
        return (targets * (losses if alpha is None else alpha * losses)).sum(1)
    losses = binary_focal(log_odds(logits, targets), gamma)  # (N,)
    if alpha is None:
        return losses
    return (alpha[targets] if isinstance(alpha, Tensor) else alpha) * losses


FORMS = {"sigmoid": sigmoid_focal, "softmax": softmax_focal}


def check_form(form: Form) -> None:
    """ValueError for a form that is not in `FORMS`."""
    if form not in FORMS:
        raise ValueError(f"form must be 'sigmoid' or 'softmax', got {form!r}")


class FocalLoss(Loss):
    """Focal loss, -alpha_t (1 - p_t)^gamma log p_t, in the two forms that go by this name.

    form="sigmoid" asks C yes/no questions and sums their costs, see `sigmoid_focal`: the loss of Lin et al.
    and of the class-balanced literature. form="softmax" is the cross-entropy of the one label times
    (1 - p_y)^gamma, see `softmax_focal`: the loss of LDAM-DRW. Their values cannot be compared.

    alpha is part of the loss, not a weight of the sample: both means divide by N.

    Args:
        gamma: at least 0; 0 is cross-entropy (softmax) or binary cross-entropy summed over classes (sigmoid).
        alpha: () or (C,); in [0, 1] for sigmoid, at least 0 for softmax. None leaves it out.
        form: "sigmoid" or "softmax".

    Source: Lin et al., ICCV 2017, eq. 5.
    """

    default_reduction = "mean"
    knobs = ("gamma", "alpha", "form")
    alpha: float | Tensor | None

    def __init__(
        self, gamma: float = 2.0, alpha: float | Sequence[float] | Tensor | None = None, form: Form = "sigmoid", *,
        reduction: Reduction = "mean",
    ) -> None:  # fmt: skip
        check_form(form)
        factors = as_tensor(0.0 if alpha is None else alpha, torch.float64)  # () or (C,)
        highest = 1.0 if form == "sigmoid" else math.inf
        if factors.ndim > 1 or not ((factors >= 0) & (factors <= highest) & factors.isfinite()).all():
            raise ValueError(f"alpha must be a number or one per class, in [0, {highest:g}] for {form}, got {alpha!r}")
        super().__init__(reduction, num_classes=len(factors) if factors.ndim else None)
        if factors.ndim:
            self.set_buffer("alpha", factors)
        else:
            self.alpha = None if alpha is None else factors.item()
        self.gamma, self.form = as_knob("gamma", gamma, 0), form

    def per_sample(self, logits: Tensor, targets: Tensor) -> Tensor:
        return FORMS[self.form](logits, targets, self.gamma, self.alpha)


class ClassBalancedFocalLoss(Loss):
    """Focal loss weighted by effective numbers (CB_Focal), loss = w_y focal(z, y), w from `class_balanced_weights`.

    p_t comes from the unweighted logits; the weight of the label multiplies the whole focal loss of the sample.
    The mean divides by N, so that the scale of the weights (they sum to C) acts as a learning rate.

    Args:
        beta: in [0, 1); 0 is `FocalLoss`.
        gamma: at least 0; 0 is (binary) cross-entropy, weighted.
        form: "sigmoid" or "softmax", see `FocalLoss`.

    Source: Cui et al., CVPR 2019, section 4.3.
    """

    default_reduction = "mean"
    knobs = ("beta", "gamma", "form")

    def __init__(
        self, class_counts: ClassCounts, beta: float = 0.9999, gamma: float = 1.0, form: Form = "sigmoid", *,
        reduction: Reduction = "mean",
    ) -> None:  # fmt: skip
        check_form(form)
        super().__init__(reduction, weight=class_balanced_weights(class_counts, beta))
        self.beta, self.gamma, self.form = float(beta), as_knob("gamma", gamma, 0), form

    def per_sample(self, logits: Tensor, targets: Tensor) -> Tensor:
        return FORMS[self.form](logits, targets, self.gamma)
