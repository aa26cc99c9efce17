"""Balanced group softmax: classes compete only with classes of about as many instances."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..counts import ClassCounts, as_counts
from .background import background_column, check_background, drawn_rows, without_column
from .base import Loss, Reduction


class BalancedGroupSoftmaxLoss(Loss):
    """Balanced group softmax (BAGS): one softmax per group of classes, each with an answer "others" of logit 0.

        p_j = e^{z_j} / (1 + sum_k e^{z_k}), k in the group of j;   p_others = 1 / (1 + sum_k e^{z_k})
        loss = sum_g mean over the rows of group g (-log p of the row's class in g, or of "others")

    The rows of a group are those of its classes and, drawn for every call, `ratio` times as many of all other rows; a
    group without a row of its own counts nothing. Classes are grouped by their instances: fewer than borders[0], fewer
    than borders[1], and so on. The authors' "others" have logits of their own, which the invariance of softmax makes
    redundant: a group of one class is a sigmoid.

    With `background`, the index of its column and label, that column is one more group, on all rows, and scores are
    p_j (1 - p_background). The authors train the last layer alone, from a detector trained with softmax.

    Args:
        instance_counts: (C,) training instances of each class; 0 is allowed.
        borders: ascending, each above 0.
        ratio: at least 0; infinite takes all rows of others.
        generator: the source of the draws; None is the default generator of the logits' device.

    Raises:
        ValueError: probability targets, as rows are drawn by their label.

    Source: Li et al., "Overcoming Classifier Imbalance for Long-Tail Object Detection with Balanced Group Softmax",
    CVPR 2020, and its code.
    """

    default_reduction = "mean"
    knobs = ("borders", "ratio")
    group: Tensor  # (C,) int64

    def __init__(
        self, instance_counts: ClassCounts, borders: Sequence[float] = (10, 100, 1000), ratio: float = 8.0, *,
        background: int | None = None, generator: torch.Generator | None = None, reduction: Reduction = "mean",
    ) -> None:  # fmt: skip
        counts = as_counts(instance_counts, empty=True)
        column = background_column(background, len(counts))
        super().__init__(reduction, num_classes=len(counts) + (column is not None))
        edges = torch.tensor([0.0, *borders], dtype=torch.float64, device="cpu")
        if not (edges.diff() > 0).all() or not edges.isfinite().all():
            raise ValueError(f"borders must be finite, ascending and above 0, got {borders!r}")
        if not ratio >= 0:
            raise ValueError(f"ratio must be at least 0, got {ratio!r}")
        self.borders, self.ratio, self.background, self.generator = tuple(borders), float(ratio), column, generator
        self.register_buffer("group", torch.bucketize(counts.cpu(), edges[1:], right=True), persistent=False)

    def per_sample(self, logits: Tensor, targets: Tensor) -> Tensor:
        if targets.is_floating_point():
            raise ValueError("targets must be class indices: BalancedGroupSoftmaxLoss draws rows by their label")
        n, z = len(logits), without_column(logits, self.background)  # (N, C)
        y = torch.zeros_like(logits).scatter_(1, targets[:, None], 1.0)  # (N, columns)
        of_class = without_column(y, self.background)
        losses = torch.zeros_like(z[:, 0])
        for g in range(len(self.borders) + 1):
            member = self.group == g  # (C,)
            own = (of_class * member).sum(1)  # (N,), 1 for the rows of the group's classes
            used = own + drawn_rows(own == 0, self.ratio * own.sum(), self.generator)
            fraction = used * (n / used.sum().clamp(min=1))  # so that the mean over all rows is that over the group's
            losses = losses + (own.sum() > 0) * fraction * -((of_class * member * z).sum(1) - log_sum(z, member))
        if self.background is not None:
            u = logits[:, self.background]
            losses = losses - torch.where(targets == self.background, F.logsigmoid(u), F.logsigmoid(-u))
        return losses

    def scores(self, logits: Tensor) -> Tensor:
        """Probability of every class, without the background's column: (N, columns) -> (N, C)."""
        check_background(self.background, logits)
        z = without_column(logits, self.background)
        sums = torch.stack([log_sum(z, self.group == g) for g in range(len(self.borders) + 1)], 1)  # (N, groups)
        p = (z - sums[:, self.group]).exp()
        return p if self.background is None else p * (1 - logits[:, self.background, None].sigmoid())


def log_sum(logits: Tensor, member: Tensor) -> Tensor:
    """log(1 + sum_k e^{z_k}) over the members of a group, (C,) bool. -> (N,)"""
    kept = torch.where(member, logits, -torch.inf)
    return F.pad(kept, (1, 0)).logsumexp(1)
