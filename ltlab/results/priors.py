"""The errors of finished runs under any prior of the test set: from their rows, without a network."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from ..counts import ClassCounts, as_counts, as_prior, comparable

TENTHS = tuple(k / 10 for k in range(11))  # of the way from the training prior to its reverse


def prior_path(class_counts: ClassCounts, t: float) -> Tensor:
    """Prior between that of the training set and its reverse, pi_c ~ n_c^(1 - 2t).

    Args:
        class_counts: (C,) training images per class, n, above zero.
        t: 0 is the training prior, 0.5 uniform, 1 reversed: inverse frequencies, which are the fractions of an
            exponential tail in reversed order.

    Returns:
        (C,) float64 that sums to one.

    Raises:
        ValueError: t outside [0, 1]; otherwise as `counts.as_counts`.
    """
    if not 0 <= comparable(t) <= 1:
        raise ValueError(f"t={t!r}: it must be from 0 (training prior) over 0.5 (uniform) to 1 (reversed)")
    return ((1 - 2 * float(t)) * as_counts(class_counts).log()).softmax(0)


PRIORS = {"train": 0.0, "uniform": 0.5, "reversed": 1.0}  # places on `prior_path`


def prior_named(name: str, class_counts: ClassCounts) -> Tensor:
    """The prior of that name, "train", "uniform" or "reversed", or that in a file: a number per class, in class order.

    The numbers are separated by spaces, commas or lines, and may be counts: they are divided by their sum.

    Raises:
        ValueError: neither a name nor a file; what is in the file is not a number per class, at least 0.
    """
    if name in PRIORS:
        return prior_path(class_counts, PRIORS[name])
    try:
        numbers = [float(number) for number in Path(name).read_text(encoding="utf-8").replace(",", " ").split()]
    except OSError as error:
        raise ValueError(f"prior={name}: it is one of {', '.join(PRIORS)}, or a file of a number per class") from error
    except ValueError as error:
        raise ValueError(f"prior={name}: {error}; it holds a number per class") from error
    return as_prior(f"prior={name}:", torch.tensor(numbers) / max(sum(numbers), 1e-12), len(as_counts(class_counts)))


def errors_under(rows: pd.DataFrame, prior: ClassCounts) -> pd.Series:
    """`metrics.error_under` of finished runs, from the accuracies that their rows keep: sum_c prior_c (1 - accuracy_c).

    Args:
        rows: of `measured`, `compare` or `read_rows`, whose column per_class_accuracy holds C numbers per run.
        prior: (C,) fractions that sum to one, above 0 only for classes with test images.

    Returns:
        Fractions in [0, 1], rounded to 12 digits, with the index of the rows.

    Raises:
        ValueError: a run without accuracies, or with NaN for a class that counts; otherwise as `counts.as_prior`.
    """
    return pd.Series([_error(row, prior) for _, row in rows.iterrows()], rows.index, float, name="error_under_prior")


def errors_by_prior(rows: pd.DataFrame, class_counts: ClassCounts, ts: Iterable[float] = TENTHS) -> pd.DataFrame:
    """Mean error over seeds of every recipe under the priors of `prior_path`, in percent.

    Args:
        rows: as for `errors_under`.
        class_counts: (C,) training images per class, above zero.
        ts: places on the path from the training prior, 0, over uniform, 0.5, to reversed, 1.

    Returns:
        Indexed by recipe in the order of the rows, one column per t.

    Raises:
        ValueError: as `errors_under` and `prior_path`.
    """
    errors: Any = pd.DataFrame({t: 100 * errors_under(rows, prior_path(class_counts, t)) for t in ts})
    return errors.groupby(rows["recipe"], sort=False).mean()


def _error(row: pd.Series, prior: ClassCounts) -> float:
    text, run = row.get("per_class_accuracy"), f"rows: {row.get('recipe')}, seed {row.get('seed')},"
    if not isinstance(text, str) or not text:
        raise ValueError(f"{run} has no per_class_accuracy: it was measured without, train it again")
    accuracy = torch.tensor([float(number) for number in text.split()], dtype=torch.float64)  # (C,)
    fractions = as_prior("prior", prior, len(accuracy)).cpu()
    counted = fractions > 0
    if (unknown := counted & accuracy.isnan()).any():
        c = int(unknown.nonzero()[0])
        raise ValueError(f"{run} has no test image of class {c}, and prior is {fractions[c].item():g}: set it to 0")
    return round((fractions * (1 - accuracy))[counted].sum().item(), 12)
