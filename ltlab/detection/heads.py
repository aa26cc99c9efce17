"""The head of a detector whose classification loss is a slot."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.ops import batched_nms, clip_boxes_to_image, remove_small_boxes


class BoxPredictor(nn.Module):
    """The last layers of a detector: one classifies a region's features, one moves its box, the same for all classes.

    Shapes: features (R, K) -> logits (R, C + 1), the background first, and box deltas (R, 4 (C + 1)).
    """

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.cls_score = nn.Linear(width, num_classes + 1)
        self.bbox_pred = nn.Linear(width, 4)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.cls_score(features)  # (R, C + 1)
        return logits, self.bbox_pred(features).repeat(1, logits.shape[1])


class SlotRoIHeads(RoIHeads):
    """torchvision's `RoIHeads` with a slot for the classification loss, `set_loss`.

    The loss is called as loss(logits, labels), with

        logits   (R, C + 1), the background in column 0
        labels   (R,) int64 from 0, the background, to C

    and its scores(logits), (R, C), are the probabilities of the classes. With torch's cross-entropy, and until a loss
    is set, all losses and detections are torchvision's to the bit. Boxes, masks and keypoints are left to torchvision.
    """

    logits: Tensor  # of the last batch's regions
    labels: Tensor

    def set_loss(self, loss: nn.Module) -> None:
        """Classify by this loss from now on; it is not a part of the head."""
        vars(self)["loss"] = loss

    def select_training_samples(self, proposals: list[Tensor], targets: list[dict[str, Tensor]] | None) -> Any:
        selected = super().select_training_samples(proposals, targets)
        self.labels = torch.cat(selected[2])  # (R,)
        return selected

    def forward(
        self, features: dict[str, Tensor], proposals: list[Tensor], image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:  # fmt: skip
        with self.box_predictor.register_forward_hook(lambda module, inputs, output: self.keep(output[0])):
            detections, losses = super().forward(features, proposals, image_shapes, targets)
        if self.training and "loss" in vars(self):
            losses["loss_classifier"] = vars(self)["loss"](self.logits.float(), self.labels)
        return detections, losses

    def keep(self, logits: Tensor) -> None:
        """Keep the logits of a batch for the loss."""
        self.logits = logits

    def scores(self, logits: Tensor) -> Tensor:
        """The probabilities of the classes: (R, C + 1) -> (R, C)."""
        by_loss = getattr(vars(self).get("loss"), "scores", None)
        return by_loss(logits) if by_loss else F.softmax(logits, -1)[:, 1:]

    def postprocess_detections(
        self, class_logits: Tensor, box_regression: Tensor, proposals: list[Tensor], image_shapes: list[tuple[int, int]]
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """torchvision's, with the loss's scores in place of the softmax."""
        sizes = [len(boxes) for boxes in proposals]
        decoded = self.box_coder.decode(box_regression, proposals)[:, 1:].split(sizes)  # of (R, C, 4)
        found = [
            self.detections(clip_boxes_to_image(boxes, shape), scores)
            for boxes, scores, shape in zip(decoded, self.scores(class_logits).split(sizes), image_shapes, strict=True)
        ]
        boxes, scores, labels = (list(column) for column in zip(*found, strict=True))
        return boxes, scores, labels

    def detections(self, boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The detections of one image, best first: boxes (r, C, 4), scores (r, C) -> (D, 4), (D,), (D,) from 1."""
        row, column = (scores > self.score_thresh).nonzero(as_tuple=True)
        boxes, scores, labels = boxes[row, column], scores[row, column], column + 1
        keep = remove_small_boxes(boxes, min_size=1e-2)
        boxes, scores, labels = boxes[keep], scores[keep], labels[keep]
        keep = batched_nms(boxes, scores, labels, self.nms_thresh)[: self.detections_per_img]
        return boxes[keep], scores[keep], labels[keep]
