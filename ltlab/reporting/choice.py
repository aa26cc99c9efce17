"""Which recipe to recommend: paired differences, their standard errors, and a rule in favour of plain training."""

from typing import NamedTuple

import torch
from torch import Tensor

LUCK = 0.05  # how often equal recipes may pass as better than plain training
DRAWS = 1000  # sign flips


class Gains(NamedTuple):
    """Of J recipes on the same images, as fractions; the first recipe is plain training."""

    error: Tensor  # (J,)
    gain: Tensor  # (J,), error of plain training minus that of the recipe
    se: Tensor  # (J,), standard error of the gain
    threshold: float  # how many standard errors the best of J equal recipes gains, 19 times in 20 at most


def image_weights(labels: Tensor, prior: Tensor) -> Tensor:
    """Weights with which images of any class frequencies stand for those of a prior, w_i = prior_{y_i} / n_{y_i}.

    labels (N,) int64, prior (C,) -> (N,) float64 that sums to one. Classes without images do not count.
    """
    counts = torch.bincount(labels, minlength=len(prior)).double()
    of_class = torch.where(counts > 0, prior.double() / counts.clamp(min=1), 0)
    weights = of_class[labels]
    return weights / weights.sum()


def class_means(values: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Mean of (N, J) values over the images of every class, 0 without images. -> (C, J)"""
    counts = torch.bincount(labels, minlength=classes).double()
    zeros = torch.zeros(classes, values.shape[1], dtype=torch.float64)
    return zeros.index_add(0, labels, values.double()) / counts.clamp(min=1)[:, None]


def standard_errors(values: Tensor, labels: Tensor, prior: Tensor) -> Tensor:
    """Of sum_c prior_c mean_{i in c} v_i, for (N, J) values: sqrt(sum_c prior_c^2 s_c^2 / n_c). -> (J,)

    A class's variance is s_c^2 = (sum_i (v_i - mean_c)^2 + s^2) / n_c with the variance s^2 within all classes
    together, as one image more: two images that are both right do not say that their class is never wrong.
    """
    counts = torch.bincount(labels, minlength=len(prior)).double()  # (C,)
    spread = (values - class_means(values, labels, len(prior))[labels]) ** 2  # (N, J)
    squares = class_means(spread, labels, len(prior)) * counts[:, None]  # (C, J)
    there = counts > 0
    pooled = squares.sum(0) / (counts.sum() - there.sum()).clamp(min=1)  # (J,)
    variances = (squares + pooled) / counts.clamp(min=1)[:, None]
    of_class = torch.where(there, prior.double(), 0)
    of_class = of_class / of_class.sum()
    return (of_class[:, None] ** 2 * variances / counts.clamp(min=1)[:, None]).sum(0).sqrt()


def gains(wrong: Tensor, labels: Tensor, prior: Tensor, seed: int = 0) -> Gains:
    """What every recipe gains over the first one, plain training, on the same images.

        gain_j = sum_i w_i d_ij,   d_ij = wrong_i0 - wrong_ij

    The threshold is the (1 - `LUCK`) quantile of max_j sum_i w_i s_i (d_ij - mean_{c_i} d_j) / se_j over random signs
    s_i: what recipes that are as good as plain training gain at most by luck. It is at least 1.

    Args:
        wrong: (N, J), 1 where recipe j is wrong on image i, 0 where it is right, between where runs were averaged.
        labels: (N,) int64.
        prior: (C,) class fractions that count.
        seed: of the signs.
    """
    weights = image_weights(labels, prior)
    wrong = wrong.double()
    better = wrong[:, :1] - wrong  # (N, J)
    gain, se = weights @ better, standard_errors(better, labels, prior)
    noise = weights[:, None] * (better - class_means(better, labels, len(prior))[labels])  # (N, J)
    generator = torch.Generator().manual_seed(seed)
    by_luck = []
    for _ in range(DRAWS // 100):  # in parts, to take little memory
        signs = torch.randint(2, (100, len(labels)), generator=generator).double() * 2 - 1
        by_luck.append((signs @ noise / se.clamp(min=1e-12)).amax(1))
    threshold = max(1.0, torch.cat(by_luck).quantile(1 - LUCK).item())
    return Gains(weights @ wrong, gain, se, threshold)


def choose(wrong: Tensor, labels: Tensor, prior: Tensor, seed: int = 0) -> int:
    """The recipe to recommend: the one of the least error, if it is better than plain training, else that, 0.

    Better is a gain of more than `Gains.threshold` standard errors; of equal errors the first counts.

    Args:
        wrong, labels, prior, seed: as for `gains`.
    """
    found = gains(wrong, labels, prior, seed)
    passing = found.gain > found.threshold * found.se
    return int(torch.where(passing, found.error, 2.0).argmin()) if passing.any() else 0
