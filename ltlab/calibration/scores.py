"""What every probability counts for, without bins: the proper scores, and the gap with its sign."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from ..counts import Labels, as_labels_of


def negative_log_likelihood(logits: Tensor, labels: Labels) -> float:
    """Mean of -log p_y, with p the softmax of the logits: the cross-entropy, in float64.

    Least, in expectation, where p are the true probabilities. Equal logits: log C; sure and right: 0; a label that is
    ruled out, by a logit of -inf: infinite.

    Equal to `sklearn.metrics.log_loss` of the probabilities.
    """
    labels = as_labels_of(logits, labels)
    return F.cross_entropy(logits.double(), labels).item()


def brier_score(logits: Tensor, labels: Labels) -> float:
    """Mean squared distance of the probabilities from the one-hot label, mean_i sum_c (p_ic - [y_i = c])^2.

    Least, in expectation, where p are the true probabilities. Sure and right: 0; equal logits: 1 - 1/C; sure and
    wrong: 2. Equal to `sklearn.metrics.brier_score_loss` of the probabilities for more than two classes.

    Source: Brier, "Verification of forecasts expressed in terms of probability", Monthly Weather Review, 1950.
    """
    labels = as_labels_of(logits, labels)
    p = logits.double().softmax(dim=1)  # (N, C)
    return (p - F.one_hot(labels, p.shape[1])).square().sum(1).mean().item()


def signed_gap(logits: Tensor, labels: Labels, groups: Mapping[str, Tensor]) -> dict[str, float]:
    """Mean confidence minus accuracy of the images of each group of classes; above 0 is over-confident.

        gap_G = mean over {i: y_i in G} of (max_c p_ic - [argmax_c z_ic = y_i])

    Gaps of opposite sign cancel; over all classes the size is at most `expected_calibration_error`.

    Returns:
        {name: a number in [-1, 1]}, NaN for a group without images.
    """
    labels = as_labels_of(logits, labels)
    confidence, predicted = logits.double().softmax(dim=1).max(dim=1)  # (N,), (N,)
    return mean_by_group(confidence - (predicted == labels).double(), labels, groups, logits.shape[1])


def mean_by_group(values: Tensor, labels: Tensor, groups: Mapping[str, Tensor], num_classes: int) -> dict[str, float]:
    """Mean of (N,) values over the images whose label is in each group; NaN where there are none."""
    means = {}
    for name, group in groups.items():
        members = torch.as_tensor(group, device=labels.device)
        if members.dtype != torch.bool or members.shape != (num_classes,):
            raise ValueError(
                f"groups[{name!r}] must be ({num_classes},) bool, whether each class is in the group, got "
                f"{members.dtype} {tuple(members.shape)}"
            )
        means[name] = values[members[labels]].mean().item()
    return means
