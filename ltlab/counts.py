"""What people bring, read in one place: counts, labels, logits and numbers of Python, NumPy, pandas and torch."""

import math
import operator
from collections.abc import Mapping, Sequence
from itertools import pairwise
from numbers import Real
from typing import Any, Protocol, cast

import torch
from torch import Tensor


class Array(Protocol):
    """A NumPy array, a pandas Series, or anything else that becomes an array."""

    def __array__(self) -> Any: ...


Labels = Sequence[int] | Array | Tensor  # N class indices
ClassCounts = Sequence[float] | Mapping[int, float] | Array | Tensor  # C counts


def as_tensor(values: float | Sequence[float] | Array | Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Numbers of any form as a tensor. Tensors are not copied and stay on their device.

    Everything else goes to the CPU, and Python's floats become float64, independent of torch's defaults.
    """
    if isinstance(values, Tensor):
        return values if dtype is None else values.to(dtype)
    numbers = cast(Any, values)
    if hasattr(values, "__array__"):
        array = numbers.__array__()
        if array.dtype.kind == "O":  # a nullable Series
            numbers = array.tolist()
        else:  # copied, because torch warns about read-only arrays, in the byte order and the widths that it supports
            numbers = array.astype("int64" if array.dtype.kind in "iu" else array.dtype.newbyteorder("="))
    tensor = torch.as_tensor(numbers, dtype=dtype, device="cpu")
    if dtype is None and tensor.is_floating_point() and not hasattr(numbers, "dtype"):
        return torch.as_tensor(numbers, dtype=torch.float64, device="cpu")
    return tensor


def in_class_order(class_counts: ClassCounts, name: str = "class_counts") -> Tensor:
    """Counts of any form as a (C,) tensor of their own dtype, with the count of class c in place c.

    The index of a Series, or the keys of a mapping, are the classes if they are 0 .. C-1 in any order, as those of
    `value_counts()` and `Counter` are. A Series whose index holds names, or ascending numbers as the rows of a table
    have them, is read in its own order.

    Raises:
        ValueError: not C >= 1 numbers in a row, or keys that are neither.
    """
    values = cast(Any, class_counts)
    try:
        counts = as_tensor(_by_class(values) if _keys(values) else values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"{name} must hold one number per class, in order of class, got {values!r:.80}; {error}"
        ) from error
    if counts.ndim != 1 or len(counts) == 0 or counts.is_complex():
        raise ValueError(f"{name} must hold one number per class, got {counts.dtype} {tuple(counts.shape)}")
    return counts.detach()


def _keys(values: Any) -> list:
    """The index of a Series or the keys of a mapping; none for all else."""
    if isinstance(values, Mapping):
        return list(values)
    index: Any = getattr(values, "index", None)  # a method of lists and tuples
    names = index.tolist() if hasattr(index, "tolist") else []
    return [name[0] if isinstance(name, tuple) and len(name) == 1 else name for name in names]


def _by_class(values: Any) -> list:
    """The values of a Series or mapping in order of class; a ValueError if its keys leave the order open."""
    keys = _keys(values)
    counts = list(values.values()) if isinstance(values, Mapping) else values.__array__().tolist()
    by_key = dict(zip(keys, counts, strict=True))
    if len(by_key) == len(keys) and by_key.keys() == set(range(len(keys))):  # also True for 1, 2.0 for 2
        return [by_key[c] for c in range(len(keys))]
    numbers: list[Any] = [key for key in keys if isinstance(key, Real)]
    ascending = len(numbers) == len(keys) and numbers[0] >= 0 and all(a < b for a, b in pairwise(numbers))
    if isinstance(values, Mapping) or (numbers and not ascending):
        raise ValueError(f"its keys must be 0 .. {len(keys) - 1}; pass a list to keep its order")
    return counts


def as_counts(class_counts: ClassCounts, *, empty: bool = False) -> Tensor:
    """Class counts as a (C,) float64 tensor, see `in_class_order`; ValueError unless finite and above zero.

    With `empty`, zero is allowed.
    """
    counts = in_class_order(class_counts)
    counts = (counts.cpu() if counts.device.type == "mps" else counts).double()  # mps has no float64
    bad = ~(counts.isfinite() & ((counts >= 0) if empty else (counts > 0)))
    if bad.any():
        worst = int(bad.nonzero()[0])
        bound = "at least zero" if empty else "above zero (leave out classes without training images)"
        raise ValueError(f"class_counts must be finite and {bound}, got {counts[worst].item():g} for class {worst}")
    return counts


def as_prior(name: str, prior: ClassCounts, num_classes: int) -> Tensor:
    """A prior as a (C,) float64 tensor that sums to one, see `in_class_order`. A class may have none of it.

    Raises:
        ValueError: not C numbers, a negative one, or a sum that is not one, within 1e-4.
    """
    values = in_class_order(prior, name)
    values = (values.cpu() if values.device.type == "mps" else values).double()
    total = values.sum().item()
    if len(values) != num_classes or not (values >= 0).all() or not abs(total - 1) <= 1e-4:
        raise ValueError(
            f"{name} must be {num_classes} non-negative numbers that sum to one, one per class, got {len(values)} "
            f"from {values.min().item():g} to {values.max().item():g}, of sum {total:g}; divide them by their sum"
        )
    return values / total


def as_labels(labels: Any, name: str = "labels") -> Tensor:
    """Labels, in their own order, as an (N,) int64 tensor; a ValueError calls what is not class indices `name`."""
    try:
        indices, what = as_tensor(labels), ""
        if indices.ndim != 1 or len(indices) == 0 or indices.is_floating_point() or indices.dtype == torch.bool:
            what = f"{indices.dtype} of shape {tuple(indices.shape)}"
        elif (low := int(indices.min())) < 0:
            what = f"{low}; leave out unlabelled images"
    except (TypeError, ValueError, RuntimeError):
        what = f"{labels!r:.80}"
    if what:
        raise ValueError(
            f"{name} must be N >= 1 integer class indices from 0 in a row, got {what}. pandas.factorize(names)[0] "
            "numbers class names; a torchvision data set has them in dataset.targets"
        )
    return indices.long()


def check_scores(logits: Tensor) -> None:
    """Refuse what is not scores (N, C), finite or -inf.

    Raises:
        TypeError: logits that are not a tensor.
        ValueError: no images, NaN, +inf, a row of nothing but -inf, or probabilities in place of logits.
    """
    if not isinstance(logits, Tensor):
        raise TypeError(f"logits must be a tensor, got {type(logits).__name__}; torch.as_tensor makes one")
    if logits.ndim != 2 or 0 in logits.shape:
        raise ValueError(f"logits must be (N, C) with N, C >= 1, got shape {tuple(logits.shape)}")
    largest = logits.amax(dim=1)  # NaN if any is
    if not largest.isfinite().all():
        row = int((~largest.isfinite()).int().argmax())
        raise ValueError(f"logits must have a finite largest value per row, got {largest[row]} in row {row}")
    check_not_probabilities(logits)


def as_labels_of(logits: Tensor, labels: Labels) -> Tensor:
    """The labels of checked logits (N, C), as (N,) int64 on their device.

    Raises:
        ValueError: not one per row, or from C on; otherwise as `check_scores` and `as_labels`.
    """
    check_scores(logits)
    indices = as_labels(labels).to(logits.device)
    if len(indices) != len(logits):
        raise ValueError(f"labels must be {len(logits)}, one class index per row of logits, got {len(indices)}")
    if (high := indices.max().item()) >= logits.shape[1]:
        raise ValueError(f"labels must be in 0 .. {logits.shape[1] - 1}, the columns of logits, got {high}")
    return indices


def check_not_probabilities(logits: Tensor) -> None:
    """ValueError for probabilities in place of logits, (..., C) of any dtype.

    At least two rows of at least two classes are probabilities if every row is non-negative and sums to one, within
    1e-3 or the precision of the dtype. One row may do so by chance; rows that are all one-hot are hard decisions.
    """
    rows = logits.detach().reshape(-1, logits.shape[-1])  # (N, C)
    if len(rows) < 2 or rows.shape[1] < 2 or not rows.is_floating_point() or not (rows >= 0).all():
        return
    tolerance = max(1e-3, torch.finfo(rows.dtype).eps)
    sums = rows.sum(1, dtype=torch.promote_types(rows.dtype, torch.float32))  # (N,)
    if ((sums - 1).abs() <= tolerance).all() and not ((rows == 0) | (rows == 1)).all():
        raise ValueError("logits hold probabilities, rows that sum to one; pass the network's logits, or take the log")


def comparable(value: object) -> float:
    """`value` unchanged if it can be compared with numbers; otherwise NaN, which is in no range."""
    real = isinstance(value, Real) or (isinstance(value, Tensor) and value.numel() == 1)
    return cast(float, value) if real else math.nan


def check_integer(name: str, value: object, least: int, most: float = math.inf) -> int:
    """`value`, from NumPy and torch too, as a plain int from `least` to `most`; ValueError if it is not one."""
    try:
        number = None if isinstance(value, bool) else operator.index(cast(Any, value))
    except TypeError:
        number = None
    if number is None or not least <= number <= most:
        bounds = f"of at least {least}" if most == math.inf else f"from {least} to {most}"
        raise ValueError(f"{name}={value!r} must be an integer {bounds}")
    return number


def check_seed(seed: object) -> int:
    """`seed` as a plain int; ValueError unless the generators of NumPy and torch distinguish it from all others."""
    return check_integer("seed", seed, 0, 2**32 - 1)
