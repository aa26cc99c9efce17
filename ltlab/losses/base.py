"""What all losses share: which targets they take, how they weight and reduce, and what they refuse."""

from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from ..counts import check_not_probabilities

CHECKED_ROWS = 8  # of logits, not to be probabilities: reading all would take another pass over (N, C)

Reduction = Literal["weighted_mean", "mean", "none"]


class Loss(nn.Module):
    """Base of all losses: checks the batch, asks `per_sample` for (N,) losses, weights and reduces them.

    Called as loss(logits, targets), with

        logits    (N, C) floating point; half precision is computed, and returned, in float32
        targets   (N,) int64 class indices, or (N, C) probabilities t
        ->        () or, with reduction "none", (N,)

    A probability target costs the mean over its classes, sum_c t_c loss(c), where loss(c) is the cost of the sample
    if c were its label. This is linear in t: a mixed target costs the mixture of the two costs, and a one-hot target
    costs what its index costs.

    A weighted loss multiplies loss(c) by w_c. With W = w_y (or sum_c t_c w_c) the weight of a sample:

        "weighted_mean"   sum of losses / sum of W over the batch; the scale of w cancels. torch does so for class
                          indices, while for probabilities it divides by N
        "mean"            sum of losses / N; the scale of w acts as a learning rate
        "none"            (N,) losses, each with its weight

    Without weights the two means are equal. `.half()` and `.bfloat16()` leave the settings in float32, since a weight
    of 1e-8 is 0 in float16.

    Args:
        class_counts: (C,) training images of each class, above zero; every loss that depends on them takes them first.
        reduction: "weighted_mean", "mean" or "none".

    Raises:
        TypeError: logits or targets that are not tensors.
        ValueError: counts or a setting outside their range; shapes that do not fit; for tensors on the CPU also targets
            out of range, target probabilities that are negative or do not sum to one, or probabilities in place of
            logits, which the first `CHECKED_ROWS` rows tell.
        FloatingPointError: for tensors on the CPU, logits that make a loss infinite or NaN.

    On an accelerator values are not checked, because reading them would stall it at every step. On the CPU they are, so
    `torch.func` and `torch.compile(fullgraph=True)`, which cannot read values, work with the losses on an accelerator
    only.
    """

    default_reduction: ClassVar[Reduction] = "weighted_mean"
    knobs: ClassVar[tuple[str, ...]] = ()  # the settings that the printed form shows
    weight: Tensor | None  # (C,)

    def __init__(self, reduction: Reduction, *, num_classes: int | None = None, weight: Tensor | None = None) -> None:
        super().__init__()
        if reduction not in ("weighted_mean", "mean", "none"):
            raise ValueError(f"reduction must be 'weighted_mean', 'mean' or 'none', got {reduction!r}")
        self.reduction = reduction
        self.num_classes = num_classes if weight is None else len(weight)
        self.set_buffer("weight", weight)
        if weight is not None and (weight < torch.finfo(torch.float32).tiny).any():
            raise ValueError(
                f"the class weights must not be below what float32 holds, got {weight.min().item():g}; "
                f"choose {self.knobs[0]} nearer to 0"
            )

    def set_buffer(self, name: str, values: Tensor | None) -> None:
        """Register per-class values as a float32 buffer that moves with `.to()` and stays out of checkpoints."""
        if values is not None:
            values = values.float()
            if not values.isfinite().all():
                raise ValueError(f"{name} overflows float32 in {type(self).__name__}; choose milder settings")
        self.register_buffer(name, values, persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Loss":
        """Implements `.to()`, `.half()` and the like; half precision changes only the device."""

        def applied(tensor: Tensor) -> Tensor:
            result = fn(tensor)
            return tensor.to(result.device) if result.dtype in (torch.float16, torch.bfloat16) else result

        return super()._apply(applied, recurse)

    def per_sample(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Unweighted losses (N,); for (N, C) targets linear in them, also where they do not sum to one."""
        raise NotImplementedError

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        for name, value in (("logits", logits), ("targets", targets)):
            if not isinstance(value, Tensor):
                raise TypeError(f"{name} must be a tensor, got {type(value).__name__}; use torch.as_tensor({name})")
        given, logits = logits, at_least_float32(logits)  # (N, C)
        check_logits(logits, self.num_classes)
        if given.is_cpu:
            check_not_probabilities(given[:CHECKED_ROWS])
        check_targets(targets, logits)
        if targets.is_floating_point():
            targets = targets.to(logits.dtype)  # (N, C)
        if self.weight is None:
            losses = self.per_sample(logits, targets)  # (N,)
        else:
            weight = self.weight.to(logits.dtype)  # (C,)
            if targets.is_floating_point():
                targets = targets * weight  # (N, C), t_c w_c
                weights = targets.sum(1)  # (N,)
                losses = self.per_sample(logits, targets)
            else:
                weights = weight[targets]
                losses = weights * self.per_sample(logits, targets)
        check_losses(losses, logits)
        if self.reduction == "none":
            return losses
        if self.reduction == "mean" or self.weight is None:
            return losses.mean()
        return losses.sum() / weights.sum()

    def extra_repr(self) -> str:
        values = {name: getattr(self, name) for name in self.knobs}
        if self.reduction != self.default_reduction:
            values["reduction"] = self.reduction
        shown = {name: "per class" if isinstance(v, Tensor) else repr(v) for name, v in values.items()}
        return ", ".join(f"{name}={value}" for name, value in shown.items())


def at_least_float32(logits: Tensor) -> Tensor:
    """Logits in float32, or in float64 if they are float64."""
    if not logits.is_floating_point():
        raise ValueError(f"logits must be floating point, got {logits.dtype}; use .float()")
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def check_logits(logits: Tensor, num_classes: int | None) -> None:
    """ValueError unless the logits are (N, C) with the number of classes of the loss."""
    if logits.ndim != 2 or logits.shape[0] == 0 or logits.shape[1] < 2:
        raise ValueError(f"logits must be (N, C) with N >= 1 and C >= 2, got shape {tuple(logits.shape)}")
    if num_classes is not None and logits.shape[1] != num_classes:
        raise ValueError(
            f"logits have {logits.shape[1]} classes, but the loss was made for {num_classes}; "
            "make the loss with one count (or alpha) per class of the model"
        )


def check_targets(targets: Tensor, logits: Tensor) -> None:
    """ValueError unless the targets are class indices (N,) or probabilities (N, C); values on the CPU only."""
    n, c = logits.shape
    if targets.is_floating_point():
        if targets.shape != (n, c):
            raise ValueError(
                f"probability targets must be (N, C) = {(n, c)} like the logits, got {tuple(targets.shape)}; "
                "class indices must be int64, use .long()"
            )
        if targets.is_cpu:
            check_probabilities(targets)
        return
    if targets.dtype != torch.int64 or targets.shape != (n,):
        raise ValueError(
            f"targets must be int64 class indices of shape (N,) = ({n},) or floating-point probabilities of "
            f"shape (N, C) = {(n, c)}, got {targets.dtype} of shape {tuple(targets.shape)}; use .long() or .float()"
        )
    if targets.is_cpu:
        low, high = (int(extreme) for extreme in targets.aminmax())
        if low < 0 or high >= c:
            raise ValueError(
                f"targets must be in [0, {c - 1}], got {low if low < 0 else high}; class indices count from 0 and "
                "no index is ignored: leave such samples out of the batch"
            )


def check_probabilities(targets: Tensor) -> None:
    """ValueError unless every row is at least 0 and sums to one, within rounding."""
    least, sums = targets.amin(1), targets.sum(1)  # (N,), (N,)
    good = (least >= 0) & ((sums - 1).abs() <= max(1e-4, 4 * torch.finfo(targets.dtype).eps))  # also False for NaN
    if not good.all():
        row = int((~good).nonzero()[0])
        raise ValueError(
            f"probability targets must be non-negative and sum to one in every row, got a minimum of {least[row]:g} "
            f"and a sum of {sums[row]:g} in row {row}; divide non-negative scores by their sum"
        )


def check_losses(losses: Tensor, logits: Tensor) -> None:
    """FloatingPointError for a NaN or infinite logit, read off the (N,) losses to save a pass over (N, C)."""
    if losses.is_cpu and not losses.isfinite().all():
        row = int((~losses.isfinite()).nonzero()[0])
        low, high = logits[row].amin().item(), logits[row].amax().item()
        raise FloatingPointError(
            f"logits must be finite, and so must the loss: row {row} has logits from {low:g} to {high:g} and "
            f"the loss {losses[row].item():g}; a smaller learning rate or clipped gradients may help"
        )
