"""Regions with frozen features: the last layer of a trained detector is trained again in seconds, as ACSL does."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..data import DetectionSplit
from ..images import evaluating
from .average_precision import average_precision
from .detection_run import CLIP, as_floats
from .detectors import Detector


@dataclass(frozen=True)
class Regions:
    """Regions of N images as the last layer of a detector receives them.

    features: (R, K); labels: (R,) int64 from 0, the background, to C, or None; boxes: (R, 4), moved by the detector's
    box layer; sizes: regions of every image.
    """

    features: Tensor
    labels: Tensor | None
    boxes: Tensor
    sizes: list[int]

    def logits(self, classifier: nn.Module) -> Tensor:
        """(R, C + 1)."""
        with torch.inference_mode():
            return classifier(self.features)


def regions(model: Detector, split: DetectionSplit, *, labelled: bool, seed: int = 0, batch_size: int = 50) -> Regions:
    """The regions of a split, seen in evaluation mode by a detector that moves the boxes of all classes alike.

    Args:
        model: a small detector, see `small_detector`.
        split: images of one size.
        labelled: True draws regions for training, a quarter of them objects if there are as many, and labels them;
            False takes all proposals.
        seed: of these draws.
        batch_size: images per forward pass.
    """
    rcnn, heads, parts = model.rcnn, model.heads, []
    device = next(model.parameters()).device
    with evaluating(model), torch.inference_mode(), torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        for start in range(0, len(split), batch_size):
            part = split.take(torch.arange(start, min(start + batch_size, len(split)))).to(device)
            images, _ = rcnn.transform(as_floats(part.images), None)
            maps = OrderedDict([("0", rcnn.backbone(images.tensors))])
            proposals, _ = rcnn.rpn(images, maps, None)
            labels = None
            if labelled:
                targets = [{"boxes": b, "labels": y + 1} for b, y in zip(part.boxes, part.labels, strict=True)]
                proposals, _, labels, _ = heads.select_training_samples(proposals, targets)
            h = heads.box_head(heads.box_roi_pool(maps, proposals, images.image_sizes))  # (r, K)
            _, moves = heads.box_predictor(h)
            boxes = heads.box_coder.decode(moves, proposals)[:, 1]  # (r, 4)
            parts.append((h, labels, boxes, [len(each) for each in proposals]))
    features, labels, boxes, sizes = zip(*parts, strict=True)
    found = torch.cat([label for part in labels for label in part]) if labelled else None
    return Regions(torch.cat(features).clone(), found, torch.cat(boxes), [n for part in sizes for n in part])


def detections(
    model: Detector, found: Regions, split: DetectionSplit, scores: Tensor
) -> list[dict[str, Tensor]]:  # fmt: skip
    """What the detector finds if its regions have these scores, (R, C), as `detect` returns it."""
    from torchvision.ops import clip_boxes_to_image

    height, width = split.images.shape[2:]
    boxes = clip_boxes_to_image(found.boxes, (height, width))
    each = zip(boxes.split(found.sizes), scores.split(found.sizes), strict=True)
    made = [model.heads.detections(b[:, None].expand(-1, s.shape[1], -1), s) for b, s in each]
    return [{"boxes": b, "scores": s, "labels": y - 1} for b, s, y in made]


def judge(
    model: Detector, found: Regions, split: DetectionSplit, groups: Tensor, classifier: nn.Module, loss: nn.Module
) -> tuple[list[dict[str, Tensor]], dict[str, float]]:
    """What the detector finds with another last layer, scored as the loss scores, and its AP in percent."""
    model.heads.set_loss(loss)
    made = detections(model, found, split, model.heads.scores(found.logits(classifier)))
    metrics = average_precision(made, split.boxes, split.labels, groups)
    return made, {name: round(100 * value, 1) for name, value in metrics.items()}


def train_classifier(
    classifier: nn.Module, found: Regions, loss: Callable[[Tensor, Tensor], Tensor], *, epochs: int = 8,
    lr: float = 0.04, batch_size: int = 192, seed: int = 0,
) -> nn.Module:  # fmt: skip
    """Train a classifier on labelled regions, in place, by SGD with momentum 0.9 and a rate that falls to 0.

    Args:
        classifier: from features (r, K) to logits (r, C + 1).
        found: labelled regions.
        loss: a loss slot of a detector, in training mode.
        epochs, lr, batch_size: batch_size counts regions; 192 are the 24 regions of 8 images.
        seed: of the order.

    Raises:
        ValueError: regions without labels.
    """
    if found.labels is None:
        raise ValueError("found has no labels: take regions(model, split, labelled=True)")
    optimizer = torch.optim.SGD(classifier.parameters(), lr=lr, momentum=0.9, weight_decay=1e-4)
    generator = torch.Generator("cpu").manual_seed(seed)
    orders = [torch.randperm(len(found.labels), generator=generator) for _ in range(epochs)]
    batches = [batch for order in orders for batch in order.split(batch_size)]
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(batches))
    for batch in batches:
        optimizer.zero_grad()
        loss(classifier(found.features[batch]), found.labels[batch]).backward()
        nn.utils.clip_grad_norm_(classifier.parameters(), CLIP)
        optimizer.step()
        schedule.step()
    return classifier
