"""Detectors with a loss slot, their runs and average precision."""

import copy
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.ops import MultiScaleRoIAlign

from ltlab import detection
from ltlab.classifiers import CosineClassifier, cosine, with_prior
from ltlab.data import DetectionData, load
from ltlab.detection import SCENES, SlotRoIHeads, average_precision, detect, detector, small_detector
from ltlab.detection.detectors import RegionPool
from ltlab.losses import CrossEntropyLoss
from ltlab.mixup import InputMixup
from ltlab.recipes import Recipe, Stage


@pytest.fixture(scope="module")
def scenes() -> DetectionData:
    return load("scenes-lt", max_count=30, imbalance=15, test_count=3, seed=0)


@pytest.fixture(scope="module")
def batch(scenes: DetectionData) -> tuple[Tensor, list[dict[str, Tensor]]]:
    images = scenes.train.images[:6].float() / 255
    targets = [
        {"boxes": scenes.train.boxes[i], "labels": scenes.train.labels[i] + 1} for i in range(5)
    ]
    return images, [*targets, {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}]


def own(rcnn: FasterRCNN) -> FasterRCNN:
    """The same detector with torchvision's head."""
    theirs = copy.deepcopy(rcnn)
    theirs.roi_heads.__class__ = SlotRoIHeads.__mro__[1]
    return theirs


@pytest.mark.parametrize("loss", [None, nn.CrossEntropyLoss()], ids=["none", "torch"])
def test_with_cross_entropy_the_head_is_torchvision_s_to_the_bit(batch, loss):
    torch.manual_seed(0)
    model = small_detector(18)
    theirs = own(model.rcnn)
    if loss is not None:
        model.heads.set_loss(loss)
    torch.manual_seed(1)
    ours = model(*batch)
    torch.manual_seed(1)
    expected = theirs(*batch)
    assert set(ours) == set(expected) and len(ours) == 4
    for name, value in expected.items():
        assert torch.equal(ours[name], value), name
    sum(ours.values()).backward()
    sum(expected.values()).backward()
    for (name, mine), their in zip(model.rcnn.named_parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine.grad, their.grad), name
    model.eval(), theirs.eval()
    with torch.no_grad():
        found, wanted = model(batch[0]), theirs(batch[0])
    assert sum(len(each["scores"]) for each in found) > 100
    for mine, their in zip(found, wanted, strict=True):
        for name in ("boxes", "scores", "labels"):
            assert torch.equal(mine[name], their[name]), name


def test_cross_entropy_of_ltlab_is_the_same_up_to_rounding(batch):
    torch.manual_seed(0)
    model = small_detector(18)
    values = []
    for loss in (nn.CrossEntropyLoss(), CrossEntropyLoss()):
        model.heads.set_loss(loss)
        torch.manual_seed(1)
        values.append(model(*batch)["loss_classifier"])
    torch.testing.assert_close(*values, rtol=1e-6, atol=0)


def test_a_loss_decides_training_and_scores(batch):
    class Halved(nn.Module):
        def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
            assert logits.shape == (len(labels), 19) and labels.dtype == torch.int64 and labels.max() > 0
            return logits.square().mean()

        def scores(self, logits: Tensor) -> Tensor:
            return torch.full_like(logits[:, 1:], 0.5)

    torch.manual_seed(0)
    model = small_detector(18)
    model.heads.set_loss(Halved())
    assert not [name for name in model.state_dict() if "loss" in name]
    losses = model(*batch)
    torch.testing.assert_close(losses["loss_classifier"], model.heads.logits.square().mean())
    model.eval()
    with torch.no_grad():
        assert all((found["scores"] == 0.5).all() and len(found["scores"]) for found in model(batch[0]))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fasterrcnn_resnet50_fpn_v2", "maskrcnn_resnet50_fpn_v2"])
def test_the_head_sits_on_torchvision_s_large_detectors(name):
    torch.manual_seed(0)
    options = {"weights": None, "weights_backbone": None, "min_size": 64, "max_size": 64}
    model = detector(name, 3, **options, rpn_post_nms_top_n_train=20, rpn_post_nms_top_n_test=20)
    images = [torch.rand(3, 64, 64), torch.rand(3, 48, 64)]
    targets = [
        {
            "boxes": torch.tensor([[4.0, 5, 40, 41]]), "labels": torch.tensor([3]),
            "masks": torch.ones(1, *image.shape[1:], dtype=torch.uint8),
        }
        for image in images
    ]  # fmt: skip
    theirs = own(model.rcnn)
    model.heads.set_loss(nn.CrossEntropyLoss())
    torch.manual_seed(1)
    ours = model(images, targets)
    torch.manual_seed(1)
    expected = theirs(images, targets)
    assert len(ours) == (5 if name.startswith("mask") else 4)
    for part, value in expected.items():
        assert torch.equal(ours[part], value), part
    model.eval(), theirs.eval()
    with torch.no_grad():
        for mine, their in zip(model(images), theirs(images), strict=True):
            assert set(mine) == set(their) and all(torch.equal(mine[part], their[part]) for part in their)
    assert isinstance(model.classifier, nn.Linear) and model.classifier.out_features == 4


def test_the_classifier_is_one_part_that_can_be_replaced(batch):
    torch.manual_seed(0)
    model = small_detector(18)
    with pytest.raises(ValueError, match="prior"):
        with_prior(model, *batch, torch.ones(18), prior=1.0)
    model.classifier = with_prior(model, *batch, torch.ones(18), prior=0.1)
    torch.testing.assert_close(model.classifier.bias.sigmoid(), torch.full((19,), 0.1))
    assert 0.005 < model.classifier.weight.std() < 0.02
    assert model.get_submodule("classifier") is model.heads.box_predictor.cls_score
    assert not any("loss" in name for name in model.state_dict())
    model.classifier = cosine(model, *batch, torch.ones(18), scale=20.0)
    assert isinstance(model.heads.box_predictor.cls_score, CosineClassifier)
    model(*batch)
    assert model.heads.logits.abs().max() <= 20


def test_regions_are_pooled_as_by_torchvision():
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(3, 7, 12, 15, generator=generator, requires_grad=True)
    boxes = []
    for count in (4, 0, 9):
        corner = torch.rand(count, 2, generator=generator) * torch.tensor([80.0, 60.0])
        boxes.append(torch.cat([corner, corner + 9 + 25 * torch.rand(count, 2, generator=generator)], 1))
    boxes[0][0] = torch.tensor([0.0, 0.0, 120.0, 96.0])
    ours = RegionPool(5, 8)({"0": maps}, boxes, None)
    theirs = MultiScaleRoIAlign(["0"], 5, 1)({"0": maps}, boxes, [(96, 120)] * 3)
    torch.testing.assert_close(ours, theirs)
    weight = torch.rand(ours.shape, generator=generator)
    mine, their = (torch.autograd.grad((pooled * weight).sum(), maps)[0] for pooled in (ours, theirs))
    torch.testing.assert_close(mine, their)
