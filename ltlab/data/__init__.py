"""Long-tailed data: counts, subsets, the built-in shapes, CIFAR-LT, large benchmarks, your arrays and folders.

    profiles      how many images each class keeps, and which
    sets          ImageSplit, Split and LongTailedData: what every set looks like once loaded
    detection_sets  DetectionSplit and DetectionData: the same for images with boxes
    shapes        shapes-lt, drawn by code
    scenes        scenes-lt, drawn by code
    cifar         CIFAR-10-LT and CIFAR-100-LT
    fashion       Fashion-MNIST-LT
    arrays        arrays or tensors in memory, or an .npz file of them
    folders       a folder of images
    lists         the formats of the lists of large sets
    benchmarks    ImageNet-LT, Places-LT, iNaturalist 2018, and custom lists
    coco          boxes from a json as COCO and LVIS have it
    box_files     BoxFiles and coco_set: images with boxes on disk
    streaming     StreamedSplit: what a split that does not fit into memory looks like
    backbones     frozen networks by name
    extraction    features: what a frozen network makes of a set
    loading       all of them by name

Start with `load("shapes-lt")`. A small set is held in memory, as uint8 tensors that can move to a device; a large one
stays on disk and gives the same batches.
"""

from .arrays import array_set
from .backbones import Backbone, backbone_of
from .benchmarks import list_set
from .box_files import BoxFiles, coco_set
from .detection_sets import FREQUENCY_GROUPS, DetectionData, DetectionSplit, frequency_groups
from .extraction import features
from .loading import DATA_SETS, load
from .profiles import benchmark_class_counts, long_tail_counts, long_tail_subset
from .sets import ImageSplit, LongTailedData, Split
from .streaming import StreamedSplit

__all__ = [
    "DATA_SETS",
    "FREQUENCY_GROUPS",
    "Backbone",
    "BoxFiles",
    "DetectionData",
    "DetectionSplit",
    "ImageSplit",
    "LongTailedData",
    "Split",
    "StreamedSplit",
    "array_set",
    "backbone_of",
    "benchmark_class_counts",
    "coco_set",
    "features",
    "frequency_groups",
    "list_set",
    "load",
    "long_tail_counts",
    "long_tail_subset",
]
