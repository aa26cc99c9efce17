"""Long-tailed data: counts, subsets, the built-in shapes, CIFAR-LT, large benchmarks, arrays and folders of your own.

    counts        how many images each class keeps, and which
    sets          Split and LongTailedData: what every set looks like once loaded
    shapes        shapes-lt, drawn by code
    cifar         CIFAR-10-LT and CIFAR-100-LT
    arrays        arrays or tensors in memory
    files         an .npz file, or a folder of images
    lists         the lists in which others publish large sets
    benchmarks    ImageNet-LT, Places-LT, iNaturalist 2018, and lists of your own
    streaming     StreamedSplit: what a split that does not fit into memory looks like
    loading       all of them by name

`load("shapes-lt")` is the short way in. A small set lies whole in memory, as uint8 tensors that can move to a device; a
large one stays on disk and hands over the same batches.
"""

from .arrays import array_set
from .benchmarks import list_set
from .counts import benchmark_class_counts, long_tail_counts, long_tail_subset
from .loading import DATA_SETS, load
from .sets import LongTailedData, Split
from .streaming import StreamedSplit

__all__ = [
    "DATA_SETS",
    "LongTailedData",
    "Split",
    "StreamedSplit",
    "array_set",
    "benchmark_class_counts",
    "list_set",
    "load",
    "long_tail_counts",
    "long_tail_subset",
]
