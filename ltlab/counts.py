"""Counts, labels and numbers in the forms that people have them: Python's, NumPy's, pandas' and torch's."""

import math
import operator
from collections.abc import Sequence
from numbers import Real

import torch
from torch import Tensor

ClassCounts = Sequence[float] | Tensor  # or a NumPy array or a pandas Series: C numbers


def as_tensor(values: Sequence[float] | Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Numbers of any sequence, array, Series or tensor as a tensor; tensors are not copied."""
    if hasattr(values, "__array__") and not isinstance(values, Tensor):
        array = values.__array__()
        if array.dtype.kind == "O":  # a nullable Series
            values = array.tolist()
        else:  # copied, because torch warns of what is read-only, and with the one width that it fully supports
            values = array.astype("int64" if array.dtype.kind in "iu" else array.dtype)
    return torch.as_tensor(values, dtype=dtype)


def as_counts(class_counts: ClassCounts) -> Tensor:
    """Class counts as a (C,) float64 tensor; ValueError unless every one is a finite number above zero."""
    if isinstance(class_counts, Tensor) and class_counts.device.type == "mps":  # which has no float64
        class_counts = class_counts.cpu()
    try:
        counts = as_tensor(class_counts, dtype=torch.float64).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"class_counts must hold one number per class, in order of class, got {class_counts!r:.80}; of a Counter "
            "take [counts[c] for c in range(C)]"
        ) from error
    if counts.ndim != 1 or len(counts) == 0:
        raise ValueError(f"class_counts must hold one number per class, got shape {tuple(counts.shape)}")
    bad = ~(counts.isfinite() & (counts > 0))
    if bad.any():
        worst = int(bad.nonzero()[0])
        raise ValueError(
            f"class_counts must be finite and above zero, got {counts[worst].item():g} for class {worst}; "
            "leave out classes without training images"
        )
    return counts


def as_labels(labels: Sequence[int] | Tensor) -> Tensor:
    """Labels as an (N,) int64 tensor; ValueError unless there are some, and all are integers."""
    labels = as_tensor(labels)
    if labels.ndim != 1 or len(labels) == 0:
        raise ValueError(f"labels must be N >= 1 class indices in a row, got shape {tuple(labels.shape)}")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"labels must be integer class indices, got {labels.dtype}; convert them to int64")
    return labels.long()


def comparable(value: object) -> float:
    """`value` as it is if it can be compared with numbers; NaN, which is in no range, if it is none."""
    return value if isinstance(value, Real) or (isinstance(value, Tensor) and value.numel() == 1) else math.nan


def check_whole_number(name: str, value: object, least: int, most: float = math.inf) -> int:
    """`value`, also where NumPy or torch hold it, as a plain int from `least` to `most`; ValueError if it is none."""
    try:
        number = math.nan if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = math.nan
    if not least <= number <= most:  # also true for NaN
        bounds = f"of at least {least}" if most == math.inf else f"from {least} to {most}"
        raise ValueError(f"{name}={value!r} must be a whole number {bounds}")
    return number


def check_seed(seed: object) -> int:
    """`seed` as a plain int of those that the generators of NumPy and torch tell apart; ValueError if it is none."""
    return check_whole_number("seed", seed, 0, 2**32 - 1)
