"""How many images each class keeps, and which ones."""

import csv
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..counts import as_labels, check_integer, check_seed, comparable, in_class_order
from ..defaults import usual_defaults
from ..names import look_up, one_of
from .places import tables_folder

BENCHMARKS = {
    "imagenet-lt": "imagenet_lt_class_counts.csv",
    "inat18": "inat18_class_counts.csv",
    "places-lt": "places_lt_class_counts.csv",
}


def long_tail_counts(num_classes: int, max_count: int, imbalance: float, kind: str = "exp") -> list[int]:
    """Training images per class, from the largest class to the smallest.

        exp:   n_j = int(N0 * (1/imbalance) ** (j / (C - 1))),   j = 0, ..., C - 1
        step:  n_j = N0 for the first C // 2 classes, int(N0 * (1/imbalance)) for the others

    The order of these operations is part of the definition: int() truncates, and another order of the same formula
    gives 99 instead of 100 images in the last class of CIFAR-10-LT at imbalance 50.

    Args:
        num_classes, max_count: C and N0, integers of at least 1.
        imbalance: ratio of the largest count to the smallest, at least 1. 1 gives N0 images to every class.
        kind: "exp" or "step".

    Limit cases: one class (C = 1) has no tail and keeps N0.

    Raises:
        ValueError: an argument outside its range, or an imbalance that leaves a class without an image.

    Source: Cao et al., "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss", NeurIPS 2019.

    >>> long_tail_counts(10, 5000, imbalance=100)
    [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    """
    num_classes = check_integer("num_classes", num_classes, least=1)
    max_count = check_integer("max_count", max_count, least=1)
    if not 1 <= comparable(imbalance) < math.inf:
        raise ValueError(f"imbalance={imbalance!r} must be a finite number of at least 1; 1 keeps all classes equal")
    if one_of("kind", kind, ("exp", "step")) == "exp":
        exponents = [j / max(num_classes - 1, 1) for j in range(num_classes)]
    else:
        head = max(num_classes // 2, 1)
        exponents = [0.0] * head + [1.0] * (num_classes - head)
    counts = [int(max_count * (1 / float(imbalance)) ** exponent) for exponent in exponents]
    if 0 in counts:
        raise ValueError(
            f"imbalance={imbalance!r} leaves class {counts.index(0)} of {num_classes} without an image; "
            f"with max_count={max_count} the largest imbalance that works is about {max_count}"
        )
    return counts


@usual_defaults()
def long_tail_subset(
    labels: Tensor | Sequence[int], counts: Tensor | Sequence[int], seed: int, class_names: Sequence[str] | None = None
) -> Tensor:
    """Choose `counts[c]` images of every class c at random and return their indices, class after class.

    Class by class, the indices are shuffled and the first n kept. The generator is NumPy's legacy RandomState, so the
    subset is exactly that of the LDAM-DRW code (Cao et al., NeurIPS 2019), which calls `np.random.seed(seed)` and
    whose subsets later papers use.

    Args:
        labels: class indices, (N,).
        counts: images to keep of each class, C integers.
        seed: an integer from 0 to 2**32 - 1.
        class_names: C names for error messages.

    Returns:
        (sum of counts,) int64 indices into `labels`, on the CPU.

    Raises:
        ValueError: a class has fewer images than asked for; labels, a count or a seed that are not integers in range.
    """
    seed = check_seed(seed)
    of_images = as_labels(labels).cpu().numpy()
    generator = np.random.RandomState(seed)
    chosen = []
    for c, count in enumerate(in_class_order(counts).tolist()):
        check_integer(f"counts[{c}]", count, least=0)
        indices = np.flatnonzero(of_images == c)
        if len(indices) < count:
            name = f"class {c}" if class_names is None else f"class {c} ({class_names[c]!r})"
            raise ValueError(
                f"{name} has {len(indices)} images, the long tail needs {count}; imbalance=None keeps every image. "
                "Classes keep their order (folders: sorted by name), and the first one, the head, must be the largest"
            )
        generator.shuffle(indices)
        chosen.append(indices[:count])
    return torch.from_numpy(np.concatenate(chosen).astype(np.int64))


def long_tail_indices(
    labels: Tensor, class_names: Sequence[str], *, imbalance: float | None, kind: str, seed: int
) -> Tensor:
    """Indices that give `labels` the profile of `long_tail_counts`; N0 is the largest class. None: every index."""
    if imbalance is None:
        return torch.arange(len(labels))
    one_of("kind", kind, ("exp", "step"))
    largest = int(torch.bincount(labels).max())
    try:
        counts = long_tail_counts(len(class_names), largest, imbalance, kind)
    except ValueError as error:
        raise ValueError(f"{error}; imbalance=None keeps every image") from error
    return long_tail_subset(labels, counts, seed, class_names)


@usual_defaults()
def benchmark_class_counts(name: str) -> Tensor:
    """Training images per class of a large benchmark, from ltlab's tables. -> (C,) int64

    name           classes    images    largest, smallest    source
    imagenet-lt      1,000   115,846             1280, 5     Liu et al., CVPR 2019
    inat18           8,142   437,513             1000, 2     Van Horn et al., CVPR 2018
    places-lt          365    62,500             4980, 5     Liu et al., CVPR 2019
    """
    path = tables_folder("class_counts") / look_up("benchmark", name, BENCHMARKS)
    with path.open(newline="", encoding="utf-8") as table:
        return torch.tensor([int(row["count"]) for row in csv.DictReader(table)])
