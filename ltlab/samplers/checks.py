"""What every sampler asks of labels, counts and numbers."""

from collections.abc import Sequence
from numbers import Integral

import torch
from torch import Tensor


def _as_tensor(values: Sequence[float] | Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Any sequence, array or tensor as a tensor; arrays are copied, because torch warns of read-only ones."""
    if hasattr(values, "__array__") and not isinstance(values, Tensor):
        values = values.__array__().copy()
    return torch.as_tensor(values, dtype=dtype)


def check_counts(class_counts: Sequence[int] | Tensor) -> Tensor:
    """The counts as (C,) float64; a ValueError unless they are positive."""
    counts = _as_tensor(class_counts, dtype=torch.float64)
    if counts.ndim != 1 or len(counts) == 0:
        raise ValueError(f"class_counts must be C >= 1 counts in a row, got shape {tuple(counts.shape)}")
    bad = ~(counts.isfinite() & (counts > 0))
    if bad.any():
        raise ValueError(f"class_counts must be positive, got {counts[bad][0]}; leave out empty classes")
    return counts


def check_labels(labels: Sequence[int] | Tensor) -> Tensor:
    """The labels as (N,) int64 on the CPU, where the generator is; a ValueError for a class without images."""
    labels = _as_tensor(labels)
    if labels.ndim != 1 or len(labels) == 0:
        raise ValueError(f"labels must be N >= 1 class indices in a row, got shape {tuple(labels.shape)}")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"labels must be integer class indices, got {labels.dtype}; convert them to int64")
    labels = labels.to("cpu", torch.int64)
    if labels.min() < 0:
        raise ValueError(f"labels must be at least 0, got {labels.min().item()}; leave out unlabelled images")
    counts = torch.bincount(labels.clamp(max=len(labels)))  # N images fill no more than N classes
    if (counts == 0).any():
        missing, last = (counts == 0).int().argmax(), labels.max()
        raise ValueError(f"labels has no image of class {missing} below class {last}; close gaps in the numbers")
    return labels


def check_integer(name: str, value: int, low: int, high: int | None = None) -> int:
    """The value as an int; a ValueError unless it is an integer in low .. high."""
    if not isinstance(value, Integral) or value < low or (high is not None and value > high):
        bounds = f"of at least {low}" if high is None else f"from {low} to {high}"
        raise ValueError(f"{name} must be an integer {bounds}, got {value!r}")
    return int(value)
