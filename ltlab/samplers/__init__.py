"""Which image next: re-sampling, the first slot of the training step.

A sampler decides how often each class is seen, and thereby which classes the network considers frequent. With n_j
images in class j of C, n_max and n_min the largest and the smallest count, and N images in all:

    sampler                        an epoch is                             fraction of draws from class j
    ShuffledSampler                every image once                        n_j / N
    PowerSampler                   N draws with replacement                n_j^q / sum_i n_i^q
    ReversedSampler                N draws with replacement                n_j^-1 / sum_i n_i^-1
    BilateralSampler               N draws with replacement                the mean of n_j / N and the reversed fraction
    ProgressivelyBalancedSampler   N draws with replacement                from n_j / N to 1 / C over training
    RandomOverSampler              C * n_max: minority images repeated     1 / C, exactly
    RandomUnderSampler             C * n_min: majority images left out     1 / C, exactly
    RepeatFactorSampler            images repeated by their rarest class   see `repeat_factors`

All are `torch.utils.data.Sampler`s and work on labels alone. They share `EpochSampler`: an epoch's sequence is a
pure function of (seed, epoch), and every process of a distributed run keeps a disjoint part of one sequence.
"""

from .classes import BilateralSampler, ClassSampler, PowerSampler, ProgressivelyBalancedSampler, ReversedSampler
from .epochs import EpochSampler, ShuffledSampler, generator_seed
from .equal import EqualSampler, RandomOverSampler, RandomUnderSampler
from .groups import ImagesByClass
from .probabilities import (
    bilateral_probabilities,
    class_probabilities,
    progressive_probabilities,
    reversed_probabilities,
)
from .repeat_factor import RepeatFactorSampler, repeat_factors

__all__ = [
    "BilateralSampler",
    "ClassSampler",
    "EpochSampler",
    "EqualSampler",
    "ImagesByClass",
    "PowerSampler",
    "ProgressivelyBalancedSampler",
    "RandomOverSampler",
    "RandomUnderSampler",
    "RepeatFactorSampler",
    "ReversedSampler",
    "ShuffledSampler",
    "bilateral_probabilities",
    "class_probabilities",
    "generator_seed",
    "progressive_probabilities",
    "repeat_factors",
    "reversed_probabilities",
]
