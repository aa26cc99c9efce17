"""Federated loss: of many classes, only some are asked about in each step."""

import torch
from torch import Tensor

from ..counts import ClassCounts, as_counts, check_integer
from .background import uniform, without_column
from .base import Reduction
from .sigmoid import SigmoidLoss
from .weights import as_knob


class FederatedLoss(SigmoidLoss):
    """Federated loss: binary cross-entropy on the classes of the batch and some drawn ones, the others left out.

        no_j = 1 for the classes S, else 0;   S: the labels of the batch, filled up to num_sampled by draws without
        replacement with probability proportional to n_j^power

    S is drawn for every call. The background's column is not used; its rows are negatives of S; scores are p_j.

    Args:
        image_counts: (C,) training images that show each class; those without images are drawn last.
        num_sampled: classes in S, at least 1; C or more is binary cross-entropy.
        power: at least 0; 0 draws all classes equally.
        generator: the source of the draws; None is the default generator of the logits' device.

    Source: Zhou et al., "Probabilistic two-stage detection", 2021, section 4.2, and the code of Detectron2.
    """

    knobs = ("num_sampled", "power")
    objectness = False
    draw_weight: Tensor  # (C,)

    def __init__(
        self, image_counts: ClassCounts, num_sampled: int = 50, power: float = 0.5, *, background: int | None = None,
        generator: torch.Generator | None = None, reduction: Reduction = "mean",
    ) -> None:  # fmt: skip
        counts = as_counts(image_counts, empty=True)
        super().__init__(len(counts), background, reduction)
        self.num_sampled = check_integer("num_sampled", num_sampled, 1)
        self.power, self.generator = as_knob("power", power, 0), generator
        self.set_buffer("draw_weight", torch.where(counts > 0, (counts / counts.max().clamp(min=1)) ** self.power, 0.0))

    def weights(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        present = without_column(targets, self.background).sum(0) > 0  # (C,)
        # the order of exponential times, divided by the weights, is that of draws without replacement
        times = -torch.log1p(-uniform(len(present), self.generator, logits)) / self.draw_weight
        times = torch.where(self.draw_weight > 0, times, torch.inf)
        rank = torch.where(present, -1.0, times).argsort().argsort()
        used = self.with_background(present | (rank < self.num_sampled), False)  # (columns,)
        return targets * used, (targets.sum(1, keepdim=True) - targets) * used
