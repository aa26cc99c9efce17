"""Convex combinations of samples and of their labels.

Throughout, lam is () or (N,), in [0, 1], partner (N,) int64, and targets are (N,) int64 labels or (N, C) probabilities.
A ValueError names another dtype or shape; values are checked on the CPU only.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..counts import as_tensor


def mix(values: Tensor, partner: Tensor, lam: float | Tensor) -> Tensor:
    """Convex combination of each sample with its partner.

        mixed_i = lam x_i + (1 - lam) x_partner(i)

    lam = 1 returns x, lam = 0 x[partner], both bit for bit. Half precision is computed in float32 and rounded once, so
    that images are mixed by the same lam as the labels.

    Args:
        values: (N, ...) floating point: images, features or probabilities, of whose dtype and memory format the
            result is.

    Source: Zhang et al., ICLR 2018, section 2.
    """
    if not values.is_floating_point():
        raise ValueError(f"values must be floating point, got {values.dtype}; for uint8 images use .float() / 255")
    if partner.shape != values.shape[:1]:
        raise ValueError(f"partner must be ({len(values)},), one per sample, got shape {tuple(partner.shape)}")
    lam = check_lambda(lam)
    if lam.ndim and lam.shape != partner.shape:
        raise ValueError(f"lam must be one number or ({len(values)},), one per sample, got shape {tuple(lam.shape)}")
    dtype = torch.promote_types(values.dtype, torch.float32)
    lam = lam.to(dtype).to(values.device).reshape(-1, *[1] * (values.ndim - 1))  # (1 or N, 1, ..., 1)
    precise = values.to(dtype)
    return precise.lerp(precise[partner], 1 - lam).to(values.dtype)  # x + (1 - lam) (x[partner] - x)


def soft_targets(targets: Tensor, num_classes: int) -> Tensor:
    """Labels as one-hot rows, probabilities unchanged. -> (N, C) float32, C = num_classes"""
    if targets.is_floating_point() and targets.ndim == 2 and targets.shape[1] == num_classes:
        return targets.float()
    if targets.dtype != torch.int64 or targets.ndim != 1:
        raise ValueError(
            f"targets must be int64 class indices (N,) or floating-point probabilities (N, C) with C = {num_classes}, "
            f"got {targets.dtype} of shape {tuple(targets.shape)}; use .long() or .float()"
        )
    if targets.is_cpu and len(targets) and not 0 <= targets.min() <= targets.max() < num_classes:
        raise ValueError(
            f"targets must be in [0, {num_classes - 1}], the classes of the logits, got values from "
            f"{targets.min()} to {targets.max()}"
        )
    return F.one_hot(targets, num_classes).float()


def mix_targets(targets: Tensor, partner: Tensor, lam: float | Tensor, num_classes: int) -> Tensor:
    """Soft targets of mixed samples. -> (N, C) float32, C = num_classes

        t_i = lam onehot(y_i) + (1 - lam) onehot(y_partner(i))

    lam = 1 returns `soft_targets(targets, num_classes)`.

    Source: Zhang et al., ICLR 2018, section 2.
    """
    return mix(soft_targets(targets, num_classes), partner, lam)


def check_lambda(lam: float | Tensor) -> Tensor:
    """lam as a tensor."""
    lam = lam if isinstance(lam, Tensor) else as_tensor(lam, torch.float64)
    if lam.is_cpu and not ((lam >= 0) & (lam <= 1)).all():
        raise ValueError(f"lam must be in [0, 1], got {lam.tolist()}")
    return lam
