"""What to believe: how often, for whom and how confidently a classifier is right.

One number hides a long tail: a network that ignores the rare classes can have a low error. So the error is accompanied
by the accuracy of every class, its mean over the many-, medium- and few-shot classes, and the calibration.

Conventions: every metric is a fraction in [0, 1]; text and plots multiply by 100. `logits` are an (N, C) tensor of
scores, finite or -inf, on any device, and not probabilities; `labels` are N class indices 0 .. C-1. The prediction is
the first largest logit. A mean over nothing is NaN, never 0.

Errors: a TypeError for logits that are not a tensor; a ValueError for no images, shapes that do not fit, a label
outside 0 .. C-1, logits that hold NaN, +inf or a row of nothing but -inf, or probabilities in place of logits.
"""

import torch
from torch import Tensor

from .calibration import expected_calibration_error as expected_calibration_error
from .counts import ClassCounts, Labels, as_counts, as_labels_of, as_prior, check_integer

# --- right or wrong --------------------------------------------------------------------------------------------------


def top1_error(logits: Tensor, labels: Labels) -> float:
    """Fraction of the images whose largest logit is not their label's.

        error = 1/N * sum_i [argmax_c z_ic != y_i]

    All right: 0; all wrong: 1. On a balanced test set it is `balanced_error`.
    """
    labels = as_labels_of(logits, labels)
    return (logits.argmax(dim=1) != labels).sum().item() / len(labels)


def per_class_accuracy(logits: Tensor, labels: Labels, num_classes: int | None = None) -> Tensor:
    """Fraction of each class's images that are classified correctly (the class's recall).

        accuracy_c = sum_i [argmax_k z_ik = y_i = c] / sum_i [y_i = c]

    Args:
        num_classes: size of the result, at least C; None for C. Classes from C on have no logit and no images.

    Returns:
        (num_classes,) float64 in [0, 1], NaN for a class without images.
    """
    labels = as_labels_of(logits, labels)
    num_classes = _num_classes(num_classes, logits)
    right = labels[logits.argmax(dim=1) == labels]
    images = torch.bincount(labels, minlength=num_classes)
    return torch.bincount(right, minlength=num_classes).double() / images  # 0 / 0 is NaN


def confusion_matrix(logits: Tensor, labels: Labels, num_classes: int | None = None) -> Tensor:
    """Number of images of each true class (row) that are classified as each class (column).

        matrix[t, p] = sum_i [y_i = t] * [argmax_c z_ic = p]

    Rows sum to the images of each class; the diagonal over the row sums is `per_class_accuracy`, which describes
    `num_classes`. Rows and columns from C on are zero. -> (num_classes, num_classes) int64
    """
    labels = as_labels_of(logits, labels)
    num_classes = _num_classes(num_classes, logits)
    cells = labels * num_classes + logits.argmax(dim=1)  # (N,) row-major cell of each image
    return torch.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def balanced_error(logits: Tensor, labels: Labels) -> float:
    """Mean error of the classes, each with the same weight however many images it has.

        error = 1/C * sum_c (1 - accuracy_c)

    On a balanced test set it is `top1_error`, to which it is equal because it is rounded to 12 digits. A constant
    prediction has 1 - 1/C. Classes without images are left out.

    Source: the balanced error of Menon et al., "Long-tail learning via logit adjustment", ICLR 2021, section 2.
    """
    return round(1 - per_class_accuracy(logits, labels).nanmean().item(), 12)


def error_under(logits: Tensor, labels: Labels, prior: ClassCounts) -> float:
    """Error on test images whose classes are as frequent as `prior` says, from images of any other frequency.

        error = sum_c prior_c (1 - accuracy_c)

    The uniform prior gives `balanced_error`, the fractions of the labels `top1_error`. A class of prior 0 does not
    count.

    Args:
        prior: (C,) fractions that sum to one, above 0 only for classes with images.

    Returns:
        A fraction in [0, 1], rounded to 12 digits, as `balanced_error` is.
    """
    accuracy = per_class_accuracy(logits, labels)  # (C,)
    fractions = as_prior("prior", prior, len(accuracy)).to(accuracy.device)  # (C,)
    counted = fractions > 0
    if (unknown := counted & accuracy.isnan()).any():
        c = int(unknown.nonzero()[0])
        raise ValueError(f"prior is {fractions[c].item():g} for class {c}, which has no image to measure: set it to 0")
    return round((fractions * (1 - accuracy))[counted].sum().item(), 12)


# --- for whom --------------------------------------------------------------------------------------------------------


def class_groups(class_counts: ClassCounts, *, many: int = 100, few: int = 20) -> dict[str, Tensor]:
    """Which classes are many-, medium- and few-shot, by their training images.

        many: n_c > many,   medium: few <= n_c <= many,   few: n_c < few

    Every class is in exactly one group; a group may be empty.

    Args:
        class_counts: (C,) TRAINING images per class, finite and at least 0.
        many, few: the bounds, few at most many.

    Returns:
        {"many", "medium", "few"}: (C,) bool.

    Source: Liu et al., "Large-Scale Long-Tailed Recognition in an Open World", CVPR 2019, section 4.
    """
    counts = as_counts(class_counts, empty=True)
    if not few <= many:
        raise ValueError(f"few must be at most many, got few={few} and many={many}")
    return {"many": counts > many, "medium": (counts >= few) & (counts <= many), "few": counts < few}


def group_accuracy(
    logits: Tensor, labels: Labels, class_counts: ClassCounts, *, many: int = 100, few: int = 20
) -> dict[str, float]:
    """Accuracy on the many-, medium- and few-shot classes, every class of a group with the same weight.

        accuracy_G = mean over c in G of accuracy_c

    On a balanced test set this is also the fraction of the group's images classified correctly. A group without classes
    is NaN: CIFAR-10-LT-100 has no few-shot class. Classes without test images are left out of their group's mean.

    Args:
        class_counts, many, few: see `class_groups`; one count per column of logits.

    Source: Liu et al., CVPR 2019, section 4.
    """
    accuracy = per_class_accuracy(logits, labels)
    groups = class_groups(class_counts, many=many, few=few)
    if len(groups["many"]) != len(accuracy):
        raise ValueError(
            f"class_counts must hold one count per column of logits, {len(accuracy)}, got {len(groups['many'])}"
        )
    return {name: accuracy[group.to(accuracy.device)].nanmean().item() for name, group in groups.items()}


def _num_classes(given: int | None, logits: Tensor) -> int:
    """`given`, at least the columns of logits, the default."""
    columns = logits.shape[1]
    return columns if given is None else check_integer("num_classes", given, least=columns)
