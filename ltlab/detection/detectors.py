"""Detectors: a small one that a laptop trains in a minute, and torchvision's large ones, each with a loss slot."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, fasterrcnn_resnet50_fpn_v2, maskrcnn_resnet50_fpn_v2
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import MultiScaleRoIAlign

from ..defaults import usual_defaults
from ..models import Normalise
from ..names import look_up
from .heads import BoxPredictor, SlotRoIHeads

Target = dict[str, Tensor]


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
        self.rcnn = rcnn

    @property
    def heads(self) -> SlotRoIHeads:
        return self.rcnn.roi_heads

    @property
    def classifier(self) -> nn.Module:
        return self.heads.box_predictor.cls_score

    def __setattr__(self, name: str, value: object) -> None:
        if name == "classifier":  # a property's setter is passed over for modules
            self.heads.box_predictor.cls_score = value
        else:
            super().__setattr__(name, value)

    def forward(self, images: Tensor | Sequence[Tensor], targets: list[Target] | None = None) -> object:
        return self.rcnn(images, targets)


class SameSize(nn.Module):
    """In the place of torchvision's transform: images of one size are normalised, and neither resized nor padded."""

    def __init__(self, mean: Tensor | None, std: Tensor | None) -> None:
        super().__init__()
        self.normalise = Normalise(mean, std)

    def forward(self, images: Tensor, targets: list[Target] | None = None) -> tuple[ImageList, list[Target] | None]:
        return ImageList(self.normalise(images), [tuple(images.shape[-2:])] * len(images)), targets

    def postprocess(self, detections: list[Target], *sizes: object) -> list[Target]:
        return detections


def _backbone(widths: Sequence[int], strides: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inside, outside, stride in zip((3, *widths), widths, strides, strict=False):
        layers += [
            nn.Conv2d(inside, outside, 5 if inside == 3 else 3, stride, 2 if inside == 3 else 1, bias=False),
            nn.BatchNorm2d(outside),
            nn.ReLU(inplace=True),
        ]
    backbone = nn.Sequential(*layers)
    vars(backbone)["out_channels"] = widths[-1]  # torchvision asks for it
    return backbone


class RegionHead(nn.Sequential):
    """The features of a region: (R, K, s, s) -> (R, width)."""

    def __init__(self, channels: int, side: int, width: int) -> None:
        super().__init__(nn.Flatten(), nn.Linear(channels * side**2, width), nn.ReLU(inplace=True))


@usual_defaults()
def small_detector(
    num_classes: int, mean: Tensor | None = None, std: Tensor | None = None, *,
    widths: Sequence[int] = (24, 48, 48, 64, 64), strides: Sequence[int] = (2, 2, 1, 2, 1), proposals: int = 40,
    regions: int = 24, width: int = 128, 
) -> Detector:  # fmt: skip
    backbone = _backbone(widths, strides)
    rcnn = FasterRCNN(
        backbone,
        rpn_anchor_generator=AnchorGenerator(((16, 24, 36),), ((1.0,),)),
        rpn_pre_nms_top_n_train=3 * proposals,
        rpn_pre_nms_top_n_test=3 * proposals,
        rpn_post_nms_top_n_train=proposals,
        rpn_post_nms_top_n_test=proposals,
        rpn_batch_size_per_image=64,
        box_roi_pool=MultiScaleRoIAlign(["0"], output_size=5, sampling_ratio=1),
        box_head=RegionHead(widths[-1], 5, width),
        box_predictor=BoxPredictor(width, num_classes),
        box_batch_size_per_image=regions,
        box_score_thresh=0.001,
        box_detections_per_img=300,
    )
    rcnn.transform = SameSize(mean, std)
    rcnn.roi_heads.box_roi_pool = RegionPool(5, 8)  # faster on a CPU
    return Detector(rcnn)


class RegionPool(nn.Module):
    """RoIAlign with one sample per bin, of one feature map, by `grid_sample`, whose backward is faster on the CPU."""

    def __init__(self, side: int, stride: int) -> None:
        super().__init__()
        self.side, self.stride = side, stride

    def forward(self, features: dict[str, Tensor], boxes: list[Tensor], image_shapes: object) -> Tensor:
        maps, counts = features["0"], [len(each) for each in boxes]
        padded = nn.utils.rnn.pad_sequence(boxes, batch_first=True) / self.stride  # (n, r, 4)
        low, size = padded[..., :2], (padded[..., 2:] - padded[..., :2]).clamp(min=1)
        centres = (torch.arange(self.side, device=maps.device, dtype=torch.float32) + 0.5) / self.side  # (s,)
        points = low[..., None, :] + centres[:, None] * size[..., None, :]  # (n, r, s, 2)
        points = points / (torch.tensor(maps.shape[:1:-1], device=maps.device) - 1) * 2 - 1
        n, r, s, _ = points.shape
        grid = torch.stack([
            points[:, :, None, :, 0].expand(n, r, s, s), points[:, :, :, None, 1].expand(n, r, s, s)
        ], -1).reshape(n, r * s, s, 2)
        pooled = nn.functional.grid_sample(maps, grid, padding_mode="border", align_corners=True)  # (n, K, r * s, s)
        pooled = pooled.unflatten(2, (r, s)).transpose(1, 2)  # (n, r, K, s, s)
        return torch.cat([each[:count] for each, count in zip(pooled, counts, strict=True)])
