"""Losses that ask a yes/no question per class, as detectors do: one box is one positive and C - 1 negatives.

With p_j = sigmoid(z_j) and y_j = 1 for the label of a row, else 0, all are binary cross-entropy with weights,

    loss = sum_j yes_j y_j (-log p_j) + no_j (1 - y_j) (-log(1 - p_j)),    gradient by z_j: yes_j (p_j - 1) or no_j p_j

    loss                        yes_j                   no_j
    BinaryCrossEntropyLoss      1                       1
    SigmoidEqualizationLoss     1                       0 for rare classes on rows of objects, else 1
    FederatedLoss               1                       1 for the classes of the batch and some drawn ones, else 0
    EqualizationV2Loss          1 + alpha (1 - f(g_j))  f(g_j),  g_j = positive / negative gradient of class j so far
    ACSLLoss                    1                       1 for classes with p_j >= xi, else 0

Each takes `background`. None makes it a loss of classification: (N, C) logits, every row an object. Otherwise it is the
index of the background's column, and the label of rows without an object: logits are (N, C + 1), 0 in torchvision's
detectors. `scores(logits)` are what a detector ranks its boxes by. The mean divides by all rows, the background's too.
"""

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ..counts import ClassCounts, Labels, as_counts, as_labels, check_integer, comparable
from .background import background_column, check_background, drawn_rows, summed_over_processes, without_column
from .base import Loss, Reduction
from .weights import as_knob


class SigmoidLoss(Loss):
    """Base of the losses above: a subclass gives `weights`, and says whether the background is told by its column.

    Args:
        num_classes: C, without the background; None takes any.
        background: None, or the column of the background, 0 to C.
    """

    default_reduction = "mean"
    objectness: ClassVar[bool] = True  # scores are p_j (1 - p_background)

    def __init__(self, num_classes: int | None, background: int | None, reduction: Reduction) -> None:
        column = background_column(background, math.inf if num_classes is None else num_classes)
        super().__init__(reduction, num_classes=None if num_classes is None else num_classes + (column is not None))
        self.background = column

    def weights(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """What -log p_j and -log(1 - p_j) are multiplied by, (N, columns) each, for targets of the same shape."""
        raise NotImplementedError

    def per_sample(self, logits: Tensor, targets: Tensor) -> Tensor:
        check_background(self.background, logits)
        if not targets.is_floating_point():
            targets = torch.zeros_like(logits).scatter_(1, targets[:, None], 1.0)  # (N, columns)
        yes, no = self.weights(logits.detach(), targets)
        return -(yes * F.logsigmoid(logits) + no * F.logsigmoid(-logits)).sum(1)

    def scores(self, logits: Tensor) -> Tensor:
        """Probability of every class, without the background's column: (N, columns) -> (N, C)."""
        check_background(self.background, logits)
        p = logits.sigmoid()
        if self.background is None:
            return p
        classes = without_column(p, self.background)
        return classes * (1 - p[:, self.background, None]) if self.objectness else classes

    def of_background(self, targets: Tensor) -> Tensor:
        """How much of each row is background, (N, 1)."""
        return torch.zeros_like(targets[:, :1]) if self.background is None else targets[:, self.background, None]

    def with_background(self, of_classes: Tensor, value: float) -> Tensor:
        """Values of the classes, (..., C), with the background's in its column."""
        if self.background is None:
            return of_classes
        b, column = self.background, torch.full_like(of_classes[..., :1], value)
        return torch.cat([of_classes[..., :b], column, of_classes[..., b:]], dim=-1)


class BinaryCrossEntropyLoss(SigmoidLoss):
    """Binary cross-entropy, one yes/no question per class, loss = -log p_y - sum_{j != y} log(1 - p_j).

    With a background it has the question of objectness in addition, and scores are p_j (1 - p_background).
    """

    def __init__(self, *, background: int | None = None, reduction: Reduction = "mean") -> None:
        super().__init__(None, background, reduction)

    def weights(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return targets, targets.sum(1, keepdim=True) - targets


class SigmoidEqualizationLoss(SigmoidLoss):
    """Sigmoid equalisation loss (EQL): objects of other classes do not push a rare class down.

        no_ij = 0 where row i is an object and class j is rare, n_j / num_images < threshold; else 1

    Rows of background still push all classes. The background's column is not used; scores are p_j.

    Args:
        image_counts: (C,) training images that show each class.
        threshold: at least 0, the fraction of the images below which a class is rare; 0 is binary cross-entropy.
        num_images: all training images; None is the sum of the counts, one label per image.

    Source: Tan et al., "Equalization Loss for Long-Tailed Object Recognition", CVPR 2020, as in the code of EQL v2.
    """

    knobs = ("threshold",)
    objectness = False
    rare: Tensor  # (C,) bool

    def __init__(
        self, image_counts: ClassCounts, threshold: float = 0.001, *, num_images: int | None = None,
        background: int | None = None, reduction: Reduction = "mean",
    ) -> None:  # fmt: skip
        counts = as_counts(image_counts, empty=True)
        super().__init__(len(counts), background, reduction)
        images = counts.sum() if num_images is None else check_integer("num_images", num_images, int(counts.max()))
        self.threshold = as_knob("threshold", threshold, 0)
        self.register_buffer("rare", counts / images < self.threshold, persistent=False)

    def weights(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        used = self.with_background(torch.ones_like(self.rare), False)  # (columns,)
        others = targets.sum(1, keepdim=True) - targets
        spared = self.with_background(self.rare, False)
        return targets * used, torch.where(spared, self.of_background(targets), others) * used


class EqualizationV2Loss(SigmoidLoss):
    """Equalisation loss v2 (EQL v2): classes whose negatives outweigh their positives get weaker negatives.

        yes_j = 1 + alpha (1 - f(g_j)),   no_j = f(g_j),   f(g) = 1 / (1 + e^{-gamma (g - mu)}),   g_j = P_j / N_j

    P_j and N_j are the absolute gradients |p - y| of all positives and negatives so far, after weighting: plain sums
    over rows and steps, in the persistent buffers `positive` and `negative`, which a checkpoint continues. They grow in
    training mode with gradients on, by the sum over all processes. A step's weights come from the steps before it;
    before the first, g = 100. The background's column has weights 1 and no sums; scores are p_j (1 - p_background).

    Under plain SGD at a constant rate P_j - N_j = rows / lr * (bias_j - bias_j at the start): a class with g_j < 1 is
    one whose bias had to fall, so what the loss does depends on the initial bias.

    Args:
        num_classes: C, without the background.
        gamma, mu: finite slope and middle of f, gamma at least 0; gamma = 0 makes f 1/2, mu -> -inf makes it 1.
        alpha: at least 0; 0 leaves positives as they are. With f = 1 the loss is binary cross-entropy.

    Source: Tan et al., "Equalization Loss v2", CVPR 2021. Their code, not their formula, has the start of g and sums
    weighted gradients.
    """

    knobs = ("gamma", "mu", "alpha")
    positive: Tensor  # (C,)
    negative: Tensor  # (C,)

    def __init__(
        self, num_classes: int, gamma: float = 12.0, mu: float = 0.8, alpha: float = 4.0, *,
        background: int | None = None, reduction: Reduction = "mean",
    ) -> None:  # fmt: skip
        num_classes = check_integer("num_classes", num_classes, 1 if background is not None else 2)
        super().__init__(num_classes, background, reduction)
        self.gamma, self.alpha = as_knob("gamma", gamma, 0), as_knob("alpha", alpha, 0)
        self.mu = as_knob("mu", mu, -torch.finfo(torch.float32).max)
        for name in ("positive", "negative"):
            self.register_buffer(name, torch.zeros(num_classes, dtype=torch.float32, device="cpu"))

    @property
    def ratio(self) -> Tensor:
        """g, (C,)."""
        return gradient_ratio(self.positive, self.negative)

    def weights(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        up, down = equalization_weights(self.ratio, self.gamma, self.mu, self.alpha)  # (C,), (C,)
        yes = targets * self.with_background(up, 1.0)
        no = (targets.sum(1, keepdim=True) - targets) * self.with_background(down, 1.0)
        if self.training and torch.is_grad_enabled():
            p = logits.sigmoid()
            sums = without_column(torch.stack([(yes * (1 - p)).sum(0), (no * p).sum(0)]), self.background)  # (2, C)
            summed_over_processes(sums)
            self.positive += sums[0]
            self.negative += sums[1]
        return yes, no


def gradient_ratio(positive: Tensor, negative: Tensor) -> Tensor:
    """g = P / (N + 1e-10), (C,), and 100 for all classes before anything was summed."""
    ratio = positive / (negative + 1e-10)
    return torch.where((positive + negative).sum() > 0, ratio, 100.0)


def equalization_weights(
    ratio: Tensor, gamma: float = 12.0, mu: float = 0.8, alpha: float = 4.0
) -> tuple[Tensor, Tensor]:
    """Weights of positives and negatives for a gradient ratio of any shape, 1 + alpha (1 - f(g)) and f(g).

    Source: Tan et al., "Equalization Loss v2", CVPR 2021.
    """
    down = torch.sigmoid(gamma * (ratio - mu))
    return 1 + alpha * (1 - down), down


class ACSLLoss(SigmoidLoss):
    """Adaptive class suppression loss (ACSL): only classes that are confused with the label are pushed down.

        no_j = 1 where p_j >= xi, else 0, on rows of objects; the background's column too

    On rows of background the rule is off. Column j then is a negative on a fraction of them, `shares` of its group,
    drawn for every call and group: int(share * rows of background), without replacement. Scores are p_j alone, so the
    loss suits the second stage that its authors train: the last layer, from a classifier trained with softmax.

    Args:
        xi: at least 0. 0 is binary cross-entropy on rows of objects, and above 1 nothing is suppressed on them. The
            authors' 0.7 belongs to 1,230 classes.
        groups: (C,), 0 rare, 1 common, 2 frequent, see `data.frequency_groups`; None calls all frequent.
        shares: of the rows of background, for each group, in [0, 1]; as the authors' code has them.
        generator: the source of the draws; None is the default generator of the logits' device.

    Source: Wang et al., "Adaptive Class Suppression Loss for Long-Tail Object Detection", CVPR 2021. Their code, not
    their formula, has the background.
    """

    knobs = ("xi", "shares")
    objectness = False
    groups: Tensor | None  # (C,) int64

    def __init__(
        self, xi: float = 0.7, *, groups: Labels | None = None, shares: Sequence[float] = (0.01, 0.1, 1.0),
        background: int | None = None, generator: torch.Generator | None = None, reduction: Reduction = "mean",
    ) -> None:  # fmt: skip
        of_classes = None if groups is None else as_labels(groups, "groups")
        super().__init__(None if of_classes is None else len(of_classes), background, reduction)
        if of_classes is not None and (of_classes > 2).any():
            raise ValueError(f"groups must be 0 (rare), 1 (common) or 2 (frequent), got {int(of_classes.max())}")
        if len(shares) != 3 or not all(0 <= comparable(share) <= 1 for share in shares):
            raise ValueError(f"shares must be three fractions in [0, 1], of rare, common and frequent, got {shares!r}")
        self.xi, self.shares, self.generator = as_knob("xi", xi, 0), tuple(map(float, shares)), generator
        self.register_buffer("groups", of_classes, persistent=False)

    def weights(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        background = self.of_background(targets)  # (N, 1)
        objects = targets.sum(1, keepdim=True) - background
        kept = (logits.sigmoid() >= self.xi).to(logits.dtype)  # (N, columns)
        if self.background is None:
            return targets, (objects - targets) * kept
        b = self.background
        of_objects = objects - targets.index_fill(1, torch.tensor(b, device=targets.device), 0.0)
        return targets, of_objects * kept + background * self.drawn(background[:, 0] > 0, logits)

    def drawn(self, rows: Tensor, logits: Tensor) -> Tensor:
        """1 where a row of background, (N,) bool, is a negative of a column, else 0. -> (N, columns)"""
        n = rows.sum(dtype=torch.float32 if rows.device.type == "mps" else torch.float64)  # MPS has no float64
        taken = torch.stack([drawn_rows(rows, share * n, self.generator) for share in self.shares], 1)  # (N, 3)
        groups = taken.new_full((logits.shape[1] - 1,), 2, dtype=torch.int64) if self.groups is None else self.groups
        return self.with_background(taken.to(logits.dtype)[:, groups], 0.0)
