"""How likely each class is to be drawn: formulas of the class counts alone.

All take class_counts, (C,) images per class, finite and above zero, and return (C,) float64 probabilities that sum
to one. A ValueError names other counts, or an argument outside its range.
"""

import math

from torch import Tensor

from ..counts import ClassCounts, as_counts, comparable


def class_probabilities(class_counts: ClassCounts, q: float) -> Tensor:
    """Probability of drawing each class, a power of its count.

        p_j = n_j^q / sum_i n_i^q

    q = 1: instance-balanced, every image equally likely (plain training); q = 1/2: square-root; q = 0:
    class-balanced, p_j = 1/C.

    Args:
        q: the sampling exponent, at least 0 and finite.

    Source: Kang et al., "Decoupling Representation and Classifier for Long-Tailed Recognition", ICLR 2020, eq. 1.
    """
    if not 0 <= comparable(q) < math.inf:
        raise ValueError(f"q must be in [0, inf), got {q!r}; for q = -1 use ReversedSampler")
    counts = as_counts(class_counts)
    powers = (counts / counts.max()) ** q  # p_j / p_largest: at most 1, so that no power overflows
    return powers / powers.sum()


def reversed_probabilities(class_counts: ClassCounts) -> Tensor:
    """Probability of drawing each class, inverse to its count: the least frequent class most often.

        p_j = n_j^-1 / sum_i n_i^-1

    Source: Zhou et al., "BBN: Bilateral-Branch Network with Cumulative Learning", CVPR 2020, section 4.2.
    """
    inverse = 1 / as_counts(class_counts)
    return inverse / inverse.sum()


def bilateral_probabilities(class_counts: ClassCounts) -> Tensor:
    """Probability of drawing each class when half of the draws are instance-balanced and half reversed.

        p_j = 1/2 n_j / sum_i n_i + 1/2 n_j^-1 / sum_i n_i^-1

    Source: Zhou et al., CVPR 2020, section 4.2: the samplers of its two branches. As one stream of images, without the
    branches, it is "BBN-style sampling".
    """
    return (class_probabilities(class_counts, q=1) + reversed_probabilities(class_counts)) / 2


def progressive_probabilities(class_counts: ClassCounts, progress: float) -> Tensor:
    """Class probabilities that move linearly from instance-balanced to class-balanced.

        p_j(progress) = (1 - progress) * p_j(q=1) + progress * p_j(q=0),   progress = t/T in [0, 1]

    progress = 0: exactly `class_probabilities(class_counts, q=1)`; progress = 1: exactly q = 0.

    Args:
        progress: the fraction of training completed, in [0, 1].

    Source: Kang et al., ICLR 2020, eq. 2.
    """
    if not 0 <= comparable(progress) <= 1:
        raise ValueError(f"progress must be in [0, 1], got {progress!r}; it is epoch / (epochs - 1)")
    instance_balanced = class_probabilities(class_counts, q=1)
    class_balanced = class_probabilities(class_counts, q=0)
    return (1 - progress) * instance_balanced + progress * class_balanced
