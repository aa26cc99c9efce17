"""One weight per class, from the number of training images per class.

All take class_counts, (C,) images per class, finite and above zero, and return (C,) float64. A ValueError names other
counts, or a setting outside its range.
"""

import math

import torch
from torch import Tensor

from ..counts import ClassCounts, as_counts, comparable


def as_knob(name: str, value: float, low: float, high: float = math.inf) -> float:
    """A setting as a float; ValueError unless low <= value < high."""
    if not low <= comparable(value) < high:  # also false for NaN
        raise ValueError(f"{name} must be in [{low:g}, {high:g}), got {value!r}")
    return float(value)


def effective_numbers(class_counts: ClassCounts, beta: float) -> Tensor:
    """Effective number of samples of each class, E_c = (1 - beta^n_c) / (1 - beta).

    Computed as expm1(n log beta) / (beta - 1), so that nothing cancels as beta nears 1.

    Args:
        beta: in [0, 1). At 0 every class counts as 1; as beta -> 1, E_c -> n_c.

    Source: Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019, Proposition 1.
    """
    counts, beta = as_counts(class_counts), as_knob("beta", beta, 0, 1)
    log_beta = math.log(beta) if beta > 0 else -math.inf
    return torch.expm1(counts * log_beta) / (beta - 1)


def class_balanced_weights(class_counts: ClassCounts, beta: float) -> Tensor:
    """Weights inverse to the effective number, w_c = (1 - beta) / (1 - beta^n_c), scaled to sum to C.

    Args:
        beta: in [0, 1). At 0 all weights are 1; as beta -> 1 they become proportional to 1 / n_c.

    Source: Cui et al., CVPR 2019, section 4.
    """
    weights = 1 / effective_numbers(class_counts, beta)
    return weights * (len(weights) / weights.sum())


def cost_sensitive_weights(class_counts: ClassCounts, gamma: float = 1.0) -> Tensor:
    """Weights inverse to the class frequency, w_c = (n_min / n_c)^gamma; the least frequent class has weight 1.

    Args:
        gamma: at least 0 and finite. At 0 all weights are 1; 1/2 is the smooth (square-root) version.

    Source: Zhang et al., "Bag of Tricks for Long-Tailed Visual Recognition", AAAI 2021, CS_CE.
    """
    counts, gamma = as_counts(class_counts), as_knob("gamma", gamma, 0)
    return (counts.min() / counts) ** gamma
