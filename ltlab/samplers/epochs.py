"""One epoch's sequence for one process or many, and the sampler of plain training."""

from collections.abc import Iterator
from typing import TypedDict, Unpack

import torch
from torch import Generator, Tensor
from torch.utils.data import Sampler

from ..counts import Labels, check_integer, check_seed
from .groups import check_labels


class EpochOptions(TypedDict, total=False):
    """The keyword arguments that every sampler takes, see `EpochSampler`."""

    seed: int
    num_replicas: int
    rank: int


class EpochSampler(Sampler[int]):
    """A sampler whose sequence is a pure function of (seed, epoch).

    Call `set_epoch(epoch)` before each epoch, as with torch's DistributedSampler; without it every epoch repeats the
    same sequence. To resume, only the epoch is needed. Global generators are neither read nor written.

    With `num_replicas` processes each draws the one common sequence and keeps the draws at rank, rank + num_replicas,
    rank + 2 * num_replicas, ... These parts are disjoint and equally long, because a longer one would make the other
    processes wait: the epoch's last num_samples % num_replicas draws are left out.
    `torch.stack(parts, dim=1).flatten()` is the sequence. Lightning and Fabric shard a DataLoader's sampler themselves
    and pass `set_epoch` on: leave out `num_replicas` and `rank` there, or set use_distributed_sampler=False.

    A custom sampler is a subclass with one method, `draw(generator)`. Those that come with ltlab are called as
    cls(labels, ..., **options).

    Args:
        num_samples: draws per epoch, all processes together.
        labels: (N,) class indices 0 .. C-1, each class at least once.
        options: seed, 0 <= seed < 2^32; num_replicas, the number of processes; rank, of this process,
            0 <= rank < num_replicas.

    Raises:
        ValueError: labels that are not class indices or lack a class; an argument that is not an integer in its range;
            more processes than draws.
    """

    def __init__(self, num_samples: int, *, seed: int = 0, num_replicas: int = 1, rank: int = 0) -> None:
        self.num_samples = check_integer("num_samples", num_samples, 1)
        self.seed = check_seed(seed)
        self.num_replicas = check_integer("num_replicas", num_replicas, 1, self.num_samples)
        self.rank = check_integer("rank", rank, 0, self.num_replicas - 1)
        self.epoch = 0

    def draw(self, generator: Generator) -> Tensor:
        """The current epoch's common sequence of all processes, (num_samples,) int64 image indices."""
        raise NotImplementedError(f"{type(self).__name__} must define draw(generator)")

    def epoch_indices(self) -> Tensor:
        """This process's part of the current epoch, (len(self),) int64 image indices on the CPU."""
        sequence = self.draw(Generator("cpu").manual_seed(generator_seed(self.seed, self.epoch)))
        return sequence[self.rank :: self.num_replicas][: len(self)]

    def set_epoch(self, epoch: int) -> None:
        """Go to an epoch, counted from 0."""
        self.epoch = check_integer("epoch", epoch, 0)

    def __iter__(self) -> Iterator[int]:
        return iter(self.epoch_indices().tolist())

    def __len__(self) -> int:
        return self.num_samples // self.num_replicas

    def knobs(self) -> str:
        """The arguments that define this sampler, as `__repr__` shows them."""
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


class ShuffledSampler(EpochSampler):
    """Every image once per epoch, in a new random order: what plain training uses.

    The fraction of class j in the epoch is n_j / N, as with `PowerSampler(q=1)`, but without replacement.

    labels and options: see `EpochSampler`.
    """

    def __init__(self, labels: Labels, **options: Unpack[EpochOptions]) -> None:
        super().__init__(len(check_labels(labels)), **options)

    def draw(self, generator: Generator) -> Tensor:
        return torch.randperm(self.num_samples, generator=generator, device="cpu")
