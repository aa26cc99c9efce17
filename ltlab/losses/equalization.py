"""Softmax equalisation: rare classes are, at random, spared from being pushed down."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..counts import ClassCounts, as_counts, comparable
from .base import Loss, Reduction
from .softmax import log_odds
from .weights import as_knob


def equalized_cross_entropy(logits: Tensor, targets: Tensor, dropped: Tensor) -> Tensor:
    """Cross-entropy whose denominator leaves out the dropped classes, one loss per sample.

        loss(c) = -log (e^{z_c} / sum_k w_k e^{z_k}),   w_k = 0 where k is dropped and k != c, else 1

    Args:
        logits, targets: see `ltlab.losses.softmax`.
        dropped: (N, C) bool; all False is cross-entropy.
    """
    # log w_k, with a finite stand-in for log 0: a whole row may be dropped, and inf - inf has no gradient.
    log_w = torch.zeros_like(logits).masked_fill_(dropped, torch.finfo(logits.dtype).min / 4)  # (N, C)
    if not targets.is_floating_point():
        return F.cross_entropy(logits + log_w.scatter(1, targets[:, None], 0.0), targets, reduction="none")
    kept = logits + log_w  # (N, C)
    back_in = logits - kept.logsumexp(1, keepdim=True)  # log-odds of a dropped c, put back
    odds = torch.where(dropped, back_in, log_odds(kept))  # (N, C)
    return -(targets * F.logsigmoid(odds)).sum(1)


class EqualizationLoss(Loss):
    """Softmax equalisation loss (SEQL), loss = -log (e^{z_y} / sum_k w_k e^{z_k}).

        w_k = 1 - b_k [n_k / sum_j n_j < threshold] (1 - y_k),   b_k ~ Bernoulli(gamma), drawn per sample and class

    A rare class that is not the label leaves the denominator with probability gamma, so that images of other
    classes push its logit down less often. The draw is part of the loss: two calls differ.

    Args:
        gamma: in [0, 1], the probability of sparing; 0 is cross-entropy.
        threshold: at least 0, the fraction of the images below which a class is rare; 0 is cross-entropy.
        generator: the source of the draws; None is the default generator of the logits' device.

    Source: Tan et al., "Equalization Loss for Long-Tailed Object Recognition", CVPR 2020, softmax form.
    """

    knobs = ("gamma", "threshold")
    rare: Tensor  # (C,) bool

    def __init__(
        self, class_counts: ClassCounts, gamma: float = 0.9, threshold: float = 0.005, *,
        generator: torch.Generator | None = None, reduction: Reduction = "weighted_mean",
    ) -> None:  # fmt: skip
        counts = as_counts(class_counts)
        super().__init__(reduction, num_classes=len(counts))
        if not 0 <= comparable(gamma) <= 1:
            raise ValueError(f"gamma must be in [0, 1], got {gamma!r}")
        self.gamma, self.threshold = float(gamma), as_knob("threshold", threshold, 0)
        self.generator = generator
        self.register_buffer("rare", counts / counts.sum() < self.threshold, persistent=False)

    def per_sample(self, logits: Tensor, targets: Tensor) -> Tensor:
        device = logits.device if self.generator is None else self.generator.device
        draws = torch.rand(logits.shape, generator=self.generator, device=device, dtype=torch.float32)  # (N, C)
        return equalized_cross_entropy(logits, targets, self.rare & (draws.to(logits.device) < self.gamma))
