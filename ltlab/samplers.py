"""Which image next: re-sampling, the first slot of the training step.

A sampler decides how often each class is seen, and thereby what the network takes to be common. With n_j images
in class j of C, n_max and n_min the largest and the smallest count, and N images in all:

    sampler                        an epoch is                             class j's share of the draws
    ShuffledSampler                every image once                        n_j / N
    PowerSampler                   N draws with replacement                n_j^q / sum_i n_i^q
    ReversedSampler                N draws with replacement                n_j^-1 / sum_i n_i^-1
    BilateralSampler               N draws with replacement                the mean of n_j / N and the reversed share
    ProgressivelyBalancedSampler   N draws with replacement                from n_j / N to 1 / C over training
    RandomOverSampler              C * n_max: minority images repeated     1 / C, exactly
    RandomUnderSampler             C * n_min: majority images left out     1 / C, exactly

All are `torch.utils.data.Sampler`s and work on labels alone. They share `EpochSampler`: an epoch's sequence is a
pure function of (seed, epoch), and every process of a distributed run keeps a disjoint share of one sequence.
"""

import math
from collections.abc import Iterator, Sequence
from numbers import Integral

import torch
from torch import Generator, Tensor
from torch.utils.data import Sampler

# --- class probabilities ---------------------------------------------------------------------------------------------


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
    if not 0 <= q < math.inf:
        raise ValueError(f"q must be finite and at least 0, got {q}; for q = -1 take ReversedSampler")
    counts = _check_counts(class_counts)
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
    inverse = 1 / _check_counts(class_counts)
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
    if not 0 <= progress <= 1:
        raise ValueError(f"progress must lie in [0, 1], got {progress}; it is epoch / (epochs - 1)")
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
    _check_integer("epoch", epoch, 0)
    _check_integer("switch", switch, 0)
    return class_probabilities(class_counts, q=1 if epoch < switch else 0)


# --- one epoch, many processes ---------------------------------------------------------------------------------------


class EpochSampler(Sampler[int]):
    """A sampler whose sequence is a pure function of (seed, epoch).

    Call `set_epoch(epoch)` before each epoch, as with torch's DistributedSampler; without it every epoch
    repeats the same sequence. Resuming needs the epoch alone. No global generator is read or written.

    With `num_replicas` processes each draws the one common sequence and keeps the draws at rank,
    rank + num_replicas, rank + 2 * num_replicas, ... The shares are disjoint and, because a longer one would
    leave the other processes waiting, equally long: the epoch's last num_samples % num_replicas draws are left
    out, and none counts twice. Side by side, `torch.stack(shares, dim=1).flatten()`, they are the sequence.

    A sampler of your own is a subclass with one method, `draw(generator)`.

    Args:
        num_samples: draws per epoch, all processes together.
        seed: 0 <= seed < 2^32.
        num_replicas: number of processes.
        rank: this process, 0 <= rank < num_replicas.

    Raises:
        ValueError: an argument is not an integer in its range; more processes than draws.
    """

    def __init__(self, num_samples: int, *, seed: int = 0, num_replicas: int = 1, rank: int = 0) -> None:
        self.num_samples = _check_integer("num_samples", num_samples, 1)
        self.seed = _check_integer("seed", seed, 0, 2**32 - 1)
        self.num_replicas = _check_integer("num_replicas", num_replicas, 1, self.num_samples)
        self.rank = _check_integer("rank", rank, 0, self.num_replicas - 1)
        self.epoch = 0

    def draw(self, generator: Generator) -> Tensor:
        """The current epoch's common sequence of all processes, (num_samples,) int64 image indices."""
        raise NotImplementedError(f"{type(self).__name__} must define draw(generator)")

    def epoch_indices(self) -> Tensor:
        """This process's share of the current epoch, (len(self),) int64 image indices on the CPU."""
        sequence = self.draw(Generator().manual_seed(generator_seed(self.seed, self.epoch)))
        return sequence[self.rank :: self.num_replicas][: len(self)]

    def set_epoch(self, epoch: int) -> None:
        """Go to an epoch, counted from 0; a ValueError if it is negative or not an integer."""
        self.epoch = _check_integer("epoch", epoch, 0)

    def __iter__(self) -> Iterator[int]:
        return iter(self.epoch_indices().tolist())

    def __len__(self) -> int:
        return self.num_samples // self.num_replicas

    def knobs(self) -> str:
        """The arguments that make this sampler what it is, as `__repr__` shows them."""
        return ""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.knobs()})"


def generator_seed(seed: int, epoch: int) -> int:
    """One 32-bit generator seed per (seed, epoch).

        (seed + 1) * 2654435769 + epoch  mod 2^32,   2654435769 = floor(2^32 / golden ratio)

    With seed + epoch, epoch 1 of seed 0 would be epoch 0 of seed 1. Multiples of the golden ratio keep far apart
    modulo 1: any 1,000 consecutive seeds have a million epochs each without two alike. 32 bits, because torch's
    CPU generator reads no more of its seed.

    Source: Knuth, "The Art of Computer Programming", volume 3, section 6.4 (Fibonacci hashing).
    """
    return ((seed + 1) * 2654435769 + epoch) % 2**32


class ImagesByClass:
    """The images of each class side by side: class j owns images[starts[j] : starts[j] + counts[j]].

    Args:
        labels: N class indices 0 .. C-1, each class at least once.

    Attributes:
        images: (N,) int64 image indices, sorted by class.
        counts: (C,) int64 images per class.
        starts: (C,) int64 where each class begins in `images`.
    """

    def __init__(self, labels: Sequence[int] | Tensor) -> None:
        labels = _check_labels(labels)
        self.images = torch.argsort(labels, stable=True)
        self.counts = torch.bincount(labels)
        self.starts = self.counts.cumsum(0) - self.counts

    def draw(self, classes: Tensor, generator: Generator) -> Tensor:
        """A uniformly random image of each given class, with replacement: (S,) -> (S,)."""
        uniform = torch.rand(len(classes), dtype=torch.float64, generator=generator)  # (S,) in [0, 1)
        turns = (uniform * self.counts[classes]).long()  # (S,) in 0 .. counts[class] - 1
        return self.images[self.starts[classes] + turns]

    def deal(self, per_class: int, generator: Generator) -> Tensor:
        """`per_class` images of every class, in random order: () -> (C * per_class,).

        Each class is shuffled and then dealt round and round, so two of its images appear equally often or one
        of them, by chance, once more.
        """
        classes = torch.arange(len(self.counts)).repeat_interleave(self.counts)  # (N,) class at each place
        order = torch.randperm(len(classes), generator=generator)
        order = order[torch.argsort(classes[order], stable=True)]  # (N,) by class again, shuffled within
        turns = torch.arange(per_class) % self.counts[:, None]  # (C, per_class)
        dealt = self.images[order[self.starts[:, None] + turns]].flatten()  # (C * per_class,)
        return dealt[torch.randperm(len(dealt), generator=generator)]


# --- every image once ------------------------------------------------------------------------------------------------


class ShuffledSampler(EpochSampler):
    """Every image once per epoch, in a new random order: what plain training uses.

    Class j's share of the epoch is n_j / N, as with `PowerSampler(q=1)`, but without replacement.

    Args:
        labels: N class indices 0 .. C-1, each class at least once.
        seed, num_replicas, rank: see `EpochSampler`.

    Raises:
        ValueError: `labels` is empty, not integer, negative or lacks a class; otherwise as `EpochSampler`.
    """

    def __init__(self, labels: Sequence[int] | Tensor, *, seed: int = 0, num_replicas: int = 1, rank: int = 0) -> None:
        super().__init__(len(_check_labels(labels)), seed=seed, num_replicas=num_replicas, rank=rank)

    def draw(self, generator: Generator) -> Tensor:
        return torch.randperm(self.num_samples, generator=generator)


# --- first a class, then one of its images ---------------------------------------------------------------------------


class ClassSampler(EpochSampler):
    """First a class, by the current epoch's probabilities, then one of its images, uniformly; with replacement.

        P(image i of class j) = p_j / n_j

    A subclass defines `probabilities()`.

    Args:
        labels: N class indices 0 .. C-1, each class at least once.
        num_samples: draws per epoch, all processes together; None for N.
        seed, num_replicas, rank: see `EpochSampler`.

    Raises:
        ValueError: `labels` is empty, not integer, negative or lacks a class; otherwise as `EpochSampler`.
    """

    def __init__(
        self, labels: Sequence[int] | Tensor, *,
        num_samples: int | None = None, seed: int = 0, num_replicas: int = 1, rank: int = 0,
    ) -> None:  # fmt: skip
        self.groups = ImagesByClass(labels)
        if num_samples is None:
            num_samples = len(self.groups.images)
        super().__init__(num_samples, seed=seed, num_replicas=num_replicas, rank=rank)

    def probabilities(self) -> Tensor:
        """The current epoch's class probabilities, (C,) float64."""
        raise NotImplementedError(f"{type(self).__name__} must define probabilities()")

    def draw(self, generator: Generator) -> Tensor:
        classes = torch.multinomial(self.probabilities(), self.num_samples, replacement=True, generator=generator)
        return self.groups.draw(classes, generator)


class PowerSampler(ClassSampler):
    """Draws of class j with probability proportional to n_j^q.

        p_j = n_j^q / sum_i n_i^q

    q = 1: instance-balanced; q = 1/2: square-root; q = 0: class-balanced. q = -1 is `ReversedSampler`.

    Args:
        labels: N class indices 0 .. C-1, each class at least once.
        q: the sampling exponent, at least 0.
        num_samples: draws per epoch, all processes together; None for N.
        seed, num_replicas, rank: see `EpochSampler`.

    Raises:
        ValueError: `q` is negative or not finite; otherwise as `ClassSampler`.

    Source: Kang et al., "Decoupling Representation and Classifier for Long-Tailed Recognition", ICLR 2020,
    eq. 1.
    """

    def __init__(
        self, labels: Sequence[int] | Tensor, q: float, *,
        num_samples: int | None = None, seed: int = 0, num_replicas: int = 1, rank: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(labels, num_samples=num_samples, seed=seed, num_replicas=num_replicas, rank=rank)
        self.q = q
        self.probabilities()  # refuses a bad q now, not in the first epoch

    def probabilities(self) -> Tensor:
        return class_probabilities(self.groups.counts, self.q)

    def knobs(self) -> str:
        return f"q={self.q}"


class ReversedSampler(ClassSampler):
    """Draws of class j with probability proportional to 1 / n_j: the rarest class most often.

        p_j = n_j^-1 / sum_i n_i^-1

    Args:
        labels: N class indices 0 .. C-1, each class at least once.
        num_samples: draws per epoch, all processes together; None for N.
        seed, num_replicas, rank: see `EpochSampler`.

    Raises:
        ValueError: as `ClassSampler`.

    Source: Zhou et al., "BBN: Bilateral-Branch Network with Cumulative Learning", CVPR 2020, section
    4.2.
    """

    def probabilities(self) -> Tensor:
        return reversed_probabilities(self.groups.counts)


class BilateralSampler(ClassSampler):
    """Draws that are instance-balanced and reversed in equal parts (BBN-style sampling).

        p_j = 1/2 n_j / sum_i n_i + 1/2 n_j^-1 / sum_i n_i^-1

    Under mixup half of the pairs join an image of the one kind with one of the other.

    Args:
        labels: N class indices 0 .. C-1, each class at least once.
        num_samples: draws per epoch, all processes together; None for N.
        seed, num_replicas, rank: see `EpochSampler`.

    Raises:
        ValueError: as `ClassSampler`.

    Source: Zhou et al., "BBN: Bilateral-Branch Network with Cumulative Learning", CVPR 2020, section 4.2, without its
    two branches.
    """

    def probabilities(self) -> Tensor:
        return bilateral_probabilities(self.groups.counts)


class ProgressivelyBalancedSampler(ClassSampler):
    """Draws that are instance-balanced in the first epoch and class-balanced in the last.

        p_j(t) = (1 - t/(T-1)) * p_j(q=1) + t/(T-1) * p_j(q=0),   t = 0 .. T-1
        p_j(t) = p_j(q=1) if t < switch, else p_j(q=0),           with a hard switch

    The paper writes t/T. As epochs count from 0, that would end at (T-1)/T, short of class-balanced; t/(T-1)
    makes the first epoch exactly q = 1 and the last exactly q = 0. With T = 1 the only epoch is a first one,
    q = 1. switch = 0: q = 0 throughout; switch = T: q = 1 throughout.

    Args:
        labels: N class indices 0 .. C-1, each class at least once.
        epochs: T, the epochs of the whole training.
        switch: the first class-balanced epoch, 0 <= switch <= epochs; None for the gradual form.
        num_samples: draws per epoch, all processes together; None for N.
        seed, num_replicas, rank: see `EpochSampler`.

    Raises:
        ValueError: `epochs` is not an integer of at least 1; `switch` lies outside 0 .. epochs; `set_epoch` gets
            an epoch outside 0 .. epochs - 1; otherwise as `ClassSampler`.

    Source: Kang et al., "Decoupling Representation and Classifier for Long-Tailed Recognition", ICLR 2020,
    eq. 2.
    """

    def __init__(
        self, labels: Sequence[int] | Tensor, epochs: int, *, switch: int | None = None,
        num_samples: int | None = None, seed: int = 0, num_replicas: int = 1, rank: int = 0,
    ) -> None:  # fmt: skip
        self.epochs = _check_integer("epochs", epochs, 1)
        self.switch = switch if switch is None else _check_integer("switch", switch, 0, self.epochs)
        super().__init__(labels, num_samples=num_samples, seed=seed, num_replicas=num_replicas, rank=rank)

    def set_epoch(self, epoch: int) -> None:
        """Go to an epoch, counted from 0; a ValueError if it is not an integer in 0 .. epochs - 1."""
        self.epoch = _check_integer("epoch", epoch, 0, self.epochs - 1)

    def probabilities(self) -> Tensor:
        if self.switch is not None:
            return switched_probabilities(self.groups.counts, self.epoch, self.switch)
        progress = self.epoch / (self.epochs - 1) if self.epochs > 1 else 0
        return progressive_probabilities(self.groups.counts, progress)

    def knobs(self) -> str:
        return f"epochs={self.epochs}" + ("" if self.switch is None else f", switch={self.switch}")


# --- classes made exactly equal --------------------------------------------------------------------------------------


class EqualSampler(EpochSampler):
    """The same number of draws from every class, as evenly spread over its images as they can be.

    A subclass defines `images_per_class(counts)`.

    Args:
        labels: N class indices 0 .. C-1, each class at least once.
        seed, num_replicas, rank: see `EpochSampler`.

    Raises:
        ValueError: `labels` is empty, not integer, negative or lacks a class; otherwise as `EpochSampler`.
    """

    def __init__(self, labels: Sequence[int] | Tensor, *, seed: int = 0, num_replicas: int = 1, rank: int = 0) -> None:
        self.groups = ImagesByClass(labels)
        self.per_class = self.images_per_class(self.groups.counts)
        num_samples = len(self.groups.counts) * self.per_class
        super().__init__(num_samples, seed=seed, num_replicas=num_replicas, rank=rank)

    def images_per_class(self, counts: Tensor) -> int:
        """The draws from each class, given its (C,) images."""
        raise NotImplementedError(f"{type(self).__name__} must define images_per_class(counts)")

    def draw(self, generator: Generator) -> Tensor:
        return self.groups.deal(self.per_class, generator)


class RandomOverSampler(EqualSampler):
    """Minority images repeated until every class has n_max, C * n_max draws an epoch.

    Each image of class j appears floor(n_max / n_j) times, and n_max mod n_j of them, a new random subset every
    epoch, once more. Classes of equal size: every image once.

    Args and errors: see `EqualSampler`.
    """

    def images_per_class(self, counts: Tensor) -> int:
        return int(counts.max())


class RandomUnderSampler(EqualSampler):
    """Majority images left out until every class has n_min, C * n_min draws an epoch.

    The n_min images of class j are a new random subset every epoch; none appears twice. Classes of equal size:
    every image once.

    Args and errors: see `EqualSampler`.
    """

    def images_per_class(self, counts: Tensor) -> int:
        return int(counts.min())


# --- what comes in ---------------------------------------------------------------------------------------------------


def _as_tensor(values: Sequence[float] | Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Any sequence, array or tensor as a tensor; arrays are copied, because torch warns of read-only ones."""
    if hasattr(values, "__array__") and not isinstance(values, Tensor):
        values = values.__array__().copy()
    return torch.as_tensor(values, dtype=dtype)


def _check_counts(class_counts: Sequence[int] | Tensor) -> Tensor:
    """The counts as (C,) float64; a ValueError unless they are positive."""
    counts = _as_tensor(class_counts, dtype=torch.float64)
    if counts.ndim != 1 or len(counts) == 0:
        raise ValueError(f"class_counts must be C >= 1 counts in a row, got shape {tuple(counts.shape)}")
    bad = ~(counts.isfinite() & (counts > 0))
    if bad.any():
        raise ValueError(f"class_counts must be positive, got {counts[bad][0]}; leave out empty classes")
    return counts


def _check_labels(labels: Sequence[int] | Tensor) -> Tensor:
    """The labels as (N,) int64 on the CPU, where the generator is; a ValueError for a class without images."""
    labels = _as_tensor(labels)
    if labels.ndim != 1 or len(labels) == 0:
        raise ValueError(f"labels must be N >= 1 class indices in a row, got shape {tuple(labels.shape)}")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"labels must be integer class indices, got {labels.dtype}; convert them to int64")
    labels = labels.to("cpu", torch.int64)
    if labels.min() < 0:
        raise ValueError(f"labels must be at least 0, got {labels.min().item()}; leave out unlabelled images")
    counts = torch.bincount(labels.clamp(max=len(labels)))  # N images fill no more than N classes
    if (counts == 0).any():
        missing, last = (counts == 0).int().argmax(), labels.max()
        raise ValueError(f"labels has no image of class {missing} below class {last}; close gaps in the numbers")
    return labels


def _check_integer(name: str, value: int, low: int, high: int | None = None) -> int:
    """The value as an int; a ValueError unless it is an integer in low .. high."""
    if not isinstance(value, Integral) or value < low or (high is not None and value > high):
        bounds = f"of at least {low}" if high is None else f"from {low} to {high}"
        raise ValueError(f"{name} must be an integer {bounds}, got {value!r}")
    return int(value)
