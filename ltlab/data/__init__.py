"""Long-tailed data: counts, subsets, the built-in shapes, CIFAR-LT, arrays and folders of your own.

    counts    how many images each class keeps, and which
    sets      Split and LongTailedData: what every set looks like once loaded
    shapes    shapes-lt, drawn by code            cifar     CIFAR-10-LT and CIFAR-100-LT
    files     an .npz file or a folder of images  loading   all of them by name

`load("shapes-lt")` is the short way in. A set lies whole in memory, as uint8 tensors that can move to a device.
"""

from .counts import benchmark_class_counts, long_tail_counts, long_tail_subset
from .loading import DATA_SETS, load
from .sets import LongTailedData, Split

__all__ = [
    "DATA_SETS",
    "LongTailedData",
    "Split",
    "benchmark_class_counts",
    "load",
    "long_tail_counts",
    "long_tail_subset",
]
