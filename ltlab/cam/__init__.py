"""Finding the object and moving it: CAM-based sampling, the foreground slot of the training step.

    image, label ──▶ class activation map ──▶ foreground mask ──▶ the foreground moved over its own background

maps        class activation maps: where the evidence for a class is
masks       from a map to a foreground, as bits; how well it fits
transforms  flip, shift, turn and scale the foreground, or the whole image, exactly
slot        the objects for a stage's foreground slot, and the materialised set of the authors' code
"""

from .maps import class_activation_maps, maps_of
from .masks import (
    bounding_boxes,
    foreground_masks,
    intersection_over_union,
    otsu_thresholds,
    pack_masks,
    unpack_masks,
)
from .slot import (
    KINDS,
    ForegroundTransform,
    ShuffledForegroundTransform,
    WholeImageTransform,
    materialise,
    new_image_counts,
)
from .transforms import fill_holes, transform_foreground, transform_images

__all__ = [
    "KINDS",
    "ForegroundTransform",
    "ShuffledForegroundTransform",
    "WholeImageTransform",
    "bounding_boxes",
    "class_activation_maps",
    "fill_holes",
    "foreground_masks",
    "intersection_over_union",
    "maps_of",
    "materialise",
    "new_image_counts",
    "otsu_thresholds",
    "pack_masks",
    "transform_foreground",
    "transform_images",
    "unpack_masks",
]
