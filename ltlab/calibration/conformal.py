"""Sets of classes that hold the label as often as asked for: split conformal prediction."""

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from ..counts import ClassCounts, Labels, as_labels_of, check_scores, comparable
from ..names import one_of
from .fitting import positive_prior
from .scores import mean_by_group


def set_thresholds(
    logits: Tensor, labels: Labels, coverage: float = 0.9,
    kind: Literal["marginal", "classwise", "prevalence"] = "marginal", *, prior: ClassCounts | None = None,
) -> Tensor:  # fmt: skip
    """Thresholds t from held-out images, so that {c: p_c >= t_c} holds the label as often as `coverage` says.

        marginal     t_c = t, the k-th largest p_y of the n images, k = ceil((n + 1) coverage)
        classwise    t_c, the same over the images of class c alone
        prevalence   t_c = t prior_c, with t the k-th largest p_y / prior_y

    Images to come must be drawn as the held-out ones are. Then a class-wise set holds the label with at least this
    probability in every class, the others over all images together: marginal sets miss the labels of rare classes,
    prevalence-adjusted ones are wider there and narrower for the head.

    Args:
        logits: of held-out images, at least coverage / (1 - coverage).
        coverage: in (0, 1).
        kind: "marginal", "classwise" or "prevalence".
        prior: (C,) fractions above 0 of the training set, for "prevalence".

    Returns:
        (C,) float64. A class with fewer than coverage / (1 - coverage) images has the class-wise threshold 0: it is in
        every set.

    Source: Vovk et al., "Algorithmic Learning in a Random World", 2005; the score p_y: Sadinle et al., "Least Ambiguous
    Set-Valued Classifiers with Bounded Error Levels", JASA 2019; prevalence: Ding et al., "Conformal Prediction for
    Long-Tailed Classification", ICLR 2026.
    """
    labels = as_labels_of(logits, labels)
    one_of("kind", kind, ("marginal", "classwise", "prevalence"))
    if not 0 < comparable(coverage) < 1:
        raise ValueError(f"coverage must be in (0, 1), got {coverage!r}")
    if _rank(len(labels), coverage) > len(labels):
        raise ValueError(
            f"labels: {len(labels)} held-out images are too few for coverage={coverage}, which takes "
            f"{math.ceil(coverage / (1 - coverage) - 1e-9)}; hold out more, or ask for less"
        )
    p = logits.double().softmax(1)  # (N, C)
    of_label = p.gather(1, labels[:, None])[:, 0]  # (N,)
    if kind == "classwise":
        return torch.stack([_kth_largest(of_label[labels == c], coverage) for c in range(p.shape[1])])
    scale = torch.ones_like(p[0]) if kind == "marginal" else positive_prior("prior", prior, p)  # (C,)
    return _kth_largest(of_label / scale[labels], coverage) * scale


def prediction_sets(logits: Tensor, thresholds: Tensor) -> Tensor:
    """The classes whose softmax probability reaches their threshold, {c: p_c >= t_c}, (N, C) bool; a set may be empty.

    thresholds: (C,), see `set_thresholds`.
    """
    check_scores(logits)
    if thresholds.shape != logits.shape[1:]:
        raise ValueError(f"thresholds must be ({logits.shape[1]},), one per class, got {tuple(thresholds.shape)}")
    return logits.double().softmax(1) >= thresholds.to(logits.device)


def set_coverage(sets: Tensor, labels: Labels, groups: Mapping[str, Tensor]) -> dict[str, float]:
    """How often the label is in its set, over the images of each group of classes.

    sets: (N, C) bool, see `prediction_sets`. Returns {name: a fraction in [0, 1]}, NaN for a group without images.
    """
    labels = as_labels_of(sets.float(), labels)
    return mean_by_group(sets.gather(1, labels[:, None])[:, 0].double(), labels, groups, sets.shape[1])


def _rank(images: int, coverage: float) -> int:
    """k, that the k-th largest of so many values is the threshold; the subtraction forgives rounding."""
    return math.ceil((images + 1) * coverage - 1e-9)


def _kth_largest(values: Tensor, coverage: float) -> Tensor:
    """The threshold () of the values (n,); 0 where they are too few."""
    k = _rank(len(values), coverage)
    return values.sort(descending=True).values[k - 1] if k <= len(values) else values.new_zeros(())
