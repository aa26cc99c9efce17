"""
benchmarks/samplers.py
What re-sampling costs: building a sampler from labels and drawing one epoch, compared with WeightedRandomSampler.

    python benchmarks/samplers.py                                  # the class counts of iNaturalist 2018
    python benchmarks/samplers.py --class-counts data/class_counts/imagenet_lt_class_counts.csv

Expected on one core of an AMD EPYC server, iNaturalist 2018 (437,513 images, 8,142 classes), as tensors, fastest of 9:
WeightedRandomSampler 76 ms, samplers with replacement 0.8 of that, ShuffledSampler 0.05. On a busy machine medians
scatter: read the fastest. RandomOverSampler has an epoch of C * n_max draws, 19 times as many; compare it with the
WeightedRandomSampler of the same length.

Every repeat times all samplers once, in a new random order, so that other load affects all alike. "tensor" ends with
the indices as a tensor, "list" with Python integers, which is what a DataLoader reads.
"""

import argparse
import csv
import platform
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import WeightedRandomSampler
from turns import by_turns

from ltlab import samplers

Draw = Callable[[], object]
COUNTS = Path(__file__).parent.parent / "data" / "class_counts" / "inat18_class_counts.csv"


class ClassBalancedBaseline(WeightedRandomSampler):
    """torch's sampler with the weights of class-balanced sampling, 1 / n_c for each image."""

    def __init__(self, labels: Tensor, num_samples: int) -> None:
        weights = 1 / torch.bincount(labels).double()
        super().__init__(weights[labels], num_samples)

    def epoch_indices(self) -> Tensor:
        return torch.multinomial(self.weights, self.num_samples, self.replacement)


def contestants(labels: Tensor) -> dict[str, Callable[[], torch.utils.data.Sampler]]:
    counts = torch.bincount(labels)
    over = len(counts) * int(counts.max())
    return {
        "WeightedRandomSampler": lambda: ClassBalancedBaseline(labels, len(labels)),
        "ShuffledSampler": lambda: samplers.ShuffledSampler(labels),
        "PowerSampler q=1": lambda: samplers.PowerSampler(labels, q=1),
        "PowerSampler q=0.5": lambda: samplers.PowerSampler(labels, q=0.5),
        "PowerSampler q=0": lambda: samplers.PowerSampler(labels, q=0),
        "ProgressivelyBalancedSampler": lambda: samplers.ProgressivelyBalancedSampler(labels, epochs=90),
        "ReversedSampler": lambda: samplers.ReversedSampler(labels),
        "RandomUnderSampler": lambda: samplers.RandomUnderSampler(labels),
        "RandomOverSampler": lambda: samplers.RandomOverSampler(labels),
        "WeightedRandomSampler, as long": lambda: ClassBalancedBaseline(labels, over),
    }


def report(title: str, draws: dict[str, Draw], lengths: dict[str, int], repeats: int) -> None:
    times = by_turns(draws, repeats, warm_up=1)
    base = times["WeightedRandomSampler"]
    print(f"\n{title:32s}{'draws':>11s}{'median ms':>11s}{'fastest ms':>12s}{'ratio':>8s}{'of fastest':>12s}")
    for name, elapsed in times.items():
        median, fastest = statistics.median(elapsed), min(elapsed)
        print(
            f"{name:32s}{lengths[name]:11,}{1e3 * median:11.1f}{1e3 * fastest:12.1f}"
            f"{median / statistics.median(base):8.2f}{fastest / min(base):12.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--class-counts", type=Path, default=COUNTS, help="a CSV file with a column `count`")
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    with args.class_counts.open(newline="", encoding="utf-8") as file:
        counts = torch.tensor([int(row["count"]) for row in csv.DictReader(file)])
    labels = torch.arange(len(counts)).repeat_interleave(counts)
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]
    builders = contestants(labels)
    lengths = {name: len(build()) for name, build in builders.items()}
    as_tensor = {name: lambda build=build: build().epoch_indices() for name, build in builders.items()}
    # Eight million Python integers take seconds and add no information.
    as_list = {
        name: lambda build=build: list(build()) for name, build in builders.items() if lengths[name] <= len(labels)
    }

    print(
        f"{args.class_counts.name}: {len(labels):,} images, {len(counts):,} classes; "
        f"{platform.processor() or platform.machine()} CPU, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    report("build and draw, tensor", as_tensor, lengths, args.repeats)
    report("build and draw, list", as_list, lengths, args.repeats)


if __name__ == "__main__":
    main()
