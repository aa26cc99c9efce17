"""How likely each class is to be drawn: formulas of the class counts alone."""

import math
from collections.abc import Sequence

from torch import Tensor

from ..counts import as_counts, check_whole_number, comparable


def class_probabilities(class_counts: Sequence[int] | Tensor, q: float) -> Tensor:
    """Probability of drawing each class, a power of its count.

        p_j = n_j^q / sum_i n_i^q

    q = 1: instance-balanced, every image equally likely (plain training); q = 1/2: square-root; q = 0:
    class-balanced, p_j = 1/C.

    Args:
        class_counts: (C,) images per class, all positive.
        q: the sampling exponent, at least 0.

    Returns:
        (C,) float64, sums to 1.

    Raises:
        ValueError: `class_counts` is empty, not one-dimensional or not positive; `q` is negative or not finite.

    Source: Kang et al., "Decoupling Representation and Classifier for Long-Tailed Recognition", ICLR 2020,
    eq. 1.
    """
    if not 0 <= comparable(q) < math.inf:
        raise ValueError(f"q must be finite and at least 0, got {q!r}; for q = -1 take ReversedSampler")
    counts = as_counts(class_counts)
    powers = (counts / counts.max()) ** q  # p_j / p_largest: at most 1, so that no power overflows
    return powers / powers.sum()


def reversed_probabilities(class_counts: Sequence[int] | Tensor) -> Tensor:
    """Probability of drawing each class, inverse to its count: the rarest class most often.

        p_j = n_j^-1 / sum_i n_i^-1

    Args:
        class_counts: (C,) images per class, all positive.

    Returns:
        (C,) float64, sums to 1.

    Raises:
        ValueError: `class_counts` as in `class_probabilities`.

    Source: Zhou et al., "BBN: Bilateral-Branch Network with Cumulative Learning", CVPR 2020, section 4.2.
    """
    inverse = 1 / as_counts(class_counts)
    return inverse / inverse.sum()


def bilateral_probabilities(class_counts: Sequence[int] | Tensor) -> Tensor:
    """Probability of drawing each class when half of the draws are instance-balanced and half reversed.

        p_j = 1/2 n_j / sum_i n_i + 1/2 n_j^-1 / sum_i n_i^-1

    Args:
        class_counts: (C,) images per class, all positive.

    Returns:
        (C,) float64, sums to 1.

    Raises:
        ValueError: `class_counts` as in `class_probabilities`.

    Source: Zhou et al., "BBN: Bilateral-Branch Network with Cumulative Learning", CVPR 2020, section 4.2: the samplers
    of its two branches; as one stream of images, and without the branches, it is "BBN-style sampling".
    """
    return (class_probabilities(class_counts, q=1) + reversed_probabilities(class_counts)) / 2


def progressive_probabilities(class_counts: Sequence[int] | Tensor, progress: float) -> Tensor:
    """Class probabilities that move from instance-balanced to class-balanced in a straight line.

        p_j(progress) = (1 - progress) * p_j(q=1) + progress * p_j(q=0),   progress = t/T in [0, 1]

    progress = 0: exactly `class_probabilities(class_counts, q=1)`; progress = 1: exactly q = 0.

    Args:
        class_counts: (C,) images per class, all positive.
        progress: the share of training that is over.

    Returns:
        (C,) float64, sums to 1.

    Raises:
        ValueError: `progress` lies outside [0, 1]; `class_counts` as in `class_probabilities`.

    Source: Kang et al., "Decoupling Representation and Classifier for Long-Tailed Recognition", ICLR 2020,
    eq. 2.
    """
    if not 0 <= comparable(progress) <= 1:
        raise ValueError(f"progress must lie in [0, 1], got {progress!r}; it is epoch / (epochs - 1)")
    instance_balanced = class_probabilities(class_counts, q=1)
    class_balanced = class_probabilities(class_counts, q=0)
    return (1 - progress) * instance_balanced + progress * class_balanced


def switched_probabilities(class_counts: Sequence[int] | Tensor, epoch: int, switch: int) -> Tensor:
    """Class probabilities that jump from instance-balanced to class-balanced: deferred re-sampling.

        p_j(epoch) = p_j(q=1) if epoch < switch, else p_j(q=0)

    switch = 0: class-balanced throughout; a switch that is never reached: instance-balanced throughout.

    Args:
        class_counts: (C,) images per class, all positive.
        epoch: the epoch, counted from 0.
        switch: the first class-balanced epoch.

    Returns:
        (C,) float64, sums to 1.

    Raises:
        ValueError: `epoch` or `switch` is not an integer of at least 0; `class_counts` as in
            `class_probabilities`.

    Source: Cao et al., "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss", NeurIPS
    2019, section 3.3 (deferred re-balancing).
    """
    check_whole_number("epoch", epoch, 0)
    check_whole_number("switch", switch, 0)
    return class_probabilities(class_counts, q=1 if epoch < switch else 0)
