"""Detectors: a small one that a laptop trains in a minute, and torchvision's large ones, each with a loss slot."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, fasterrcnn_resnet50_fpn_v2, maskrcnn_resnet50_fpn_v2
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNPredictor
from torchvision.ops import MultiScaleRoIAlign

from ..defaults import usual_defaults
from ..models import Normalise
from ..names import look_up
from .heads import BoxPredictor, SlotRoIHeads

Target = dict[str, Tensor]
LAYERS = ((3, 24, 3, 2), (24, 48, 3, 2), (48, 48, 3, 1), (48, 64, 3, 2), (64, 64, 3, 1))  # channels, size and stride
SIDE = 5  # of a pooled region
LOW = {"box_score_thresh": 0.001, "box_detections_per_img": 300}  # AP ranks all, down to what is most unlikely
LARGE = {make.__name__: make for make in (fasterrcnn_resnet50_fpn_v2, maskrcnn_resnet50_fpn_v2)}


class Detector(nn.Module):
    """A detector of torchvision whose classification loss is a slot.

    In training mode called as detector(images, targets), with targets that have boxes (B, 4) and labels (B,) from 1,
    for its losses by name; in evaluation mode as detector(images), for a dictionary of boxes, labels and scores of
    every image. `classifier` is the layer that gives the logits (R, C + 1), the background's first; it can be replaced.

    Args:
        rcnn: Faster or Mask R-CNN; its head is changed in place.
    """

    def __init__(self, rcnn: GeneralizedRCNN) -> None:
        super().__init__()
        rcnn.roi_heads.__class__ = SlotRoIHeads  # the same parts with another forward
        self.rcnn: Any = rcnn

    @property
    def heads(self) -> SlotRoIHeads:
        return self.rcnn.roi_heads

    @property
    def classifier(self) -> nn.Module:
        return self.heads.box_predictor.cls_score

    @classifier.setter
    def classifier(self, layer: nn.Module) -> None:
        self.heads.box_predictor.cls_score = layer

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "classifier":  # of modules nn.Module would make a part of that name, and pass the setter over
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def forward(self, images: Tensor | Sequence[Tensor], targets: list[Target] | None = None) -> object:
        return self.rcnn(images, targets)


class SameSize(nn.Module):
    """In the place of torchvision's transform: images of one size are normalised, and neither resized nor padded."""

    def __init__(self, mean: Tensor | None, std: Tensor | None) -> None:
        super().__init__()
        self.normalise = Normalise(mean, std)

    def forward(
        self, images: Tensor | Sequence[Tensor], targets: list[Target] | None = None
    ) -> tuple[ImageList, list[Target] | None]:
        if not isinstance(images, Tensor):
            if len(sizes := {tuple(image.shape[1:]) for image in images}) > 1:
                raise ValueError(
                    f"images have the sizes {sorted(sizes)}, this detector takes one: load them with size=..., or use "
                    "one of torchvision's detectors"
                )
            images = torch.stack([*images])
        height, width = images.shape[-2:]
        return ImageList(self.normalise(images), [(height, width)] * len(images)), targets

    def postprocess(self, detections: list[Target], *sizes: object) -> list[Target]:
        return detections


class RegionPool(nn.Module):
    """RoIAlign of one feature map with one sample per bin, by `grid_sample`, whose backward is faster on a CPU.

    Equal to torchvision's `MultiScaleRoIAlign([name], side, 1)`, but for regions smaller than the stride that end at
    the image's edge, which RoIAlign fills up with zeros, this with the edge.

    Args:
        side: s, bins in a row and in a column.
        stride: pixels of the image per point of the map.
    """

    def __init__(self, side: int, stride: int) -> None:
        super().__init__()
        self.side, self.stride = side, stride

    def forward(self, features: dict[str, Tensor], boxes: list[Tensor], image_shapes: object) -> Tensor:
        """A map (n, K, h, w) and the boxes (r_i, 4) of n images -> (sum of r_i, K, s, s)."""
        (maps,), s = features.values(), self.side
        padded = nn.utils.rnn.pad_sequence(boxes, batch_first=True) / self.stride  # (n, r, 4)
        start, size = padded[..., :2], (padded[..., 2:] - padded[..., :2]).clamp(min=1)
        bins = (torch.arange(s, device=maps.device, dtype=torch.float32) + 0.5) / s  # (s,)
        middle = start[..., None, :] + bins[:, None] * size[..., None, :]  # (n, r, s, 2), x and y
        last = torch.tensor([maps.shape[3] - 1, maps.shape[2] - 1], device=maps.device)
        x, y = (middle / last * 2 - 1).unbind(3)  # (n, r, s), in [-1, 1] from the first point to the last
        grid = torch.stack(torch.broadcast_tensors(x[:, :, None], y[:, :, :, None]), 4)  # (n, r, s, s, 2)
        pooled = F.grid_sample(maps, grid.flatten(1, 2).to(maps.dtype), padding_mode="border", align_corners=True)
        pooled = pooled.unflatten(2, (-1, s)).transpose(1, 2)  # (n, r, K, s, s)
        return torch.cat([each[: len(own)] for each, own in zip(pooled, boxes, strict=True)])


@usual_defaults()
def small_detector(
    num_classes: int, mean: Tensor | None = None, std: Tensor | None = None, *, proposals: int = 40, regions: int = 24,
    width: int = 128,
) -> Detector:  # fmt: skip
    """A Faster R-CNN for a laptop: five convolutions, anchors of 16, 24 and 36 pixels, 0.36 M parameters.

    It takes images of one size. Boxes of all classes are moved alike.

    Args:
        num_classes: C, without the background.
        mean, std: (3,) statistics of the training images in [0, 1]; None leaves images unchanged.
        proposals: of an image, kept by the first stage; regions: of them and of the true boxes, classified in training,
            a quarter of them objects if there are as many; width: K, features of a region.
    """
    layers: list[nn.Module] = []
    for inside, outside, size, stride in LAYERS:
        convolution = nn.Conv2d(inside, outside, size, stride, size // 2, bias=False)
        layers += [convolution, nn.BatchNorm2d(outside), nn.ReLU(inplace=True)]
    backbone, channels = nn.Sequential(*layers), LAYERS[-1][1]
    vars(backbone)["out_channels"] = channels  # which torchvision asks for
    rcnn = FasterRCNN(
        backbone, rpn_anchor_generator=AnchorGenerator(((16, 24, 36),), ((1.0,),)), rpn_batch_size_per_image=64,
        rpn_pre_nms_top_n_train=3 * proposals, rpn_pre_nms_top_n_test=3 * proposals,
        rpn_post_nms_top_n_train=proposals, rpn_post_nms_top_n_test=proposals,
        box_roi_pool=MultiScaleRoIAlign(["0"], SIDE, 1),
        box_head=nn.Sequential(nn.Flatten(), nn.Linear(channels * SIDE**2, width), nn.ReLU(inplace=True)),
        box_predictor=BoxPredictor(width, num_classes), box_batch_size_per_image=regions, **LOW,
    )  # fmt: skip
    rcnn.transform = SameSize(mean, std)
    rcnn.roi_heads.box_roi_pool = RegionPool(SIDE, math.prod(stride for *_, stride in LAYERS))
    return Detector(rcnn)


@usual_defaults()
def detector(
    name: str, num_classes: int, mean: Tensor | None = None, std: Tensor | None = None, **options: Any
) -> Detector:
    """One of torchvision's detectors, its last layers made for these classes, with a loss slot.

    Args:
        name: "fasterrcnn_resnet50_fpn_v2" or "maskrcnn_resnet50_fpn_v2".
        num_classes: C, without the background.
        mean, std: ignored; images are normalised by ImageNet's statistics.
        options: of torchvision's function: weights="COCO_V1" takes its trained detector, weights_backbone=None draws
            all weights, min_size=..., and so on.

    Raises:
        ValueError: an unknown name; the nearest known one is named.
    """
    make = look_up("detector", name, LARGE)
    rcnn = make(**LOW | options)
    heads: Any = rcnn.roi_heads
    heads.box_predictor = FastRCNNPredictor(heads.box_predictor.cls_score.in_features, num_classes + 1)
    if heads.has_mask():
        layer = heads.mask_predictor.conv5_mask
        heads.mask_predictor = MaskRCNNPredictor(layer.in_channels, layer.out_channels, num_classes + 1)
    return Detector(rcnn)
