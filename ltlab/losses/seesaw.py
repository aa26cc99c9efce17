"""Seesaw loss: a softmax in which frequent classes push rare ones down less, and mistakes make up for it."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..counts import check_integer
from .background import background_column, check_background, summed_over_processes, without_column
from .base import Loss, Reduction
from .weights import as_knob

LEAST_SCORE = 0.01  # of the label, in the compensation


class SeesawLoss(Loss):
    """Seesaw loss, loss = -log (e^{z_y} / sum_j S_yj e^{z_j}),  S = M Q, S_yy = 1.

        M_ij = min(1, N_j / N_i)^p           mitigation: N_j labels of class j so far, at least 1
        Q_ij = max(1, p_j / max(p_i, 0.01))^q  compensation: p = softmax(z), without a gradient

    The counts are the persistent buffer `seen`; they grow in training mode with gradients on, before the step's loss,
    by the sum over all processes.

    With `background`, the index of its column and label, the classes' softmax counts rows of objects only, divided by
    all rows, and the column's sigmoid tells the background from objects, an equivalent of the authors' softmax of two
    columns. Scores are p_j (1 - p_background). The authors' last layer is normalised, with cosines times 20:
    `classifiers.CosineClassifier(K, C + 1, 20.0)`.

    Args:
        num_classes: C >= 2, without the background.
        p, q: at least 0; p = 0 or equal counts leave M out, q = 0 leaves Q out. Without both it is cross-entropy.

    Source: Wang et al., "Seesaw Loss for Long-Tailed Instance Segmentation", CVPR 2021, eqs. 5 to 9, and MMDetection.
    """

    default_reduction = "mean"
    knobs = ("p", "q")
    seen: Tensor  # (C,)

    def __init__(
        self, num_classes: int, p: float = 0.8, q: float = 2.0, *, background: int | None = None,
        reduction: Reduction = "mean",
    ) -> None:  # fmt: skip
        num_classes = check_integer("num_classes", num_classes, 2)
        column = background_column(background, num_classes)
        super().__init__(reduction, num_classes=num_classes + (column is not None))
        self.p, self.q, self.background = as_knob("p", p, 0), as_knob("q", q, 0), column
        self.register_buffer("seen", torch.zeros(num_classes, dtype=torch.float32, device="cpu"))

    def per_sample(self, logits: Tensor, targets: Tensor) -> Tensor:
        hard = not targets.is_floating_point()
        t = torch.zeros_like(logits).scatter_(1, targets[:, None], 1.0) if hard else targets  # (N, columns)
        of_classes, z = without_column(t, self.background), without_column(logits, self.background)  # (N, C), (N, C)
        if self.training and torch.is_grad_enabled():
            seen = of_classes.sum(0)
            summed_over_processes(seen)
            self.seen += seen
        if hard:
            losses = of_classes.sum(1) * self.class_loss(z, of_classes.argmax(1))  # 0 on rows of background
        else:
            labels = torch.arange(z.shape[1], device=z.device)[:, None].expand(-1, len(z))  # (C, N)
            losses = (of_classes.T * torch.stack([self.class_loss(z, c) for c in labels])).sum(0)
        if self.background is None:
            return losses
        u, of_background = logits[:, self.background], t[:, self.background]  # (N,), (N,)
        return losses - of_background * F.logsigmoid(u) - (t.sum(1) - of_background) * F.logsigmoid(-u)

    def class_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of the softmax over classes, (N, C) and (N,) -> (N,)."""
        log_n = self.seen.clamp(min=1).log().to(logits.dtype)  # (C,)
        mitigation = self.p * (log_n - log_n[labels, None]).clamp(max=0)  # (N, C)
        log_p = logits.detach().log_softmax(1)  # (N, C)
        of_label = log_p.gather(1, labels[:, None]).clamp(min=math.log(LEAST_SCORE))
        compensation = self.q * (log_p - of_label).clamp(min=0)
        factor = (mitigation + compensation).scatter(1, labels[:, None], 0.0)  # log S, (N, C)
        return F.cross_entropy(logits + factor, labels, reduction="none")

    def scores(self, logits: Tensor) -> Tensor:
        """Probability of every class, without the background's column: (N, columns) -> (N, C)."""
        check_background(self.background, logits)
        p = without_column(logits, self.background).softmax(1)
        return p if self.background is None else p * (1 - logits[:, self.background, None].sigmoid())
