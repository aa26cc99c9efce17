"""Frozen regions: what a detector finds from them is what it finds by itself."""

import copy

import pytest
import torch

from ltlab.data import DetectionData, load
from ltlab.detection import average_precision, detect, small_detector
from ltlab.detection.regions import Regions, detections, judge, regions, train_classifier
from ltlab.losses import BinaryCrossEntropyLoss, CrossEntropyLoss


@pytest.fixture(scope="module")
def scenes() -> DetectionData:
    return load("scenes-lt", max_count=12, imbalance=6, test_count=2)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return small_detector(18).eval()


@pytest.mark.parametrize("loss", [None, BinaryCrossEntropyLoss(background=0)])
def test_detections_from_regions_are_the_detectors(model, scenes, loss):
    model.heads.set_loss(loss or CrossEntropyLoss())
    found = regions(model, scenes.test, labelled=False, batch_size=7)
    made = detections(model, found, scenes.test, model.heads.scores(found.logits(model.classifier)))
    for mine, theirs in zip(made, detect(model, scenes.test.images, batch_size=7), strict=True):
        assert all(mine[key].equal(theirs[key]) for key in ("boxes", "scores", "labels"))
    again, ap = judge(model, found, scenes.test, scenes.groups, model.classifier, loss or CrossEntropyLoss())
    theirs = average_precision(again, scenes.test.boxes, scenes.test.labels, scenes.groups)
    assert ap == pytest.approx({name: 100 * value for name, value in theirs.items()}, abs=0.051, nan_ok=True)


def test_labelled_regions_hold_objects_and_background_and_are_drawn_by_the_seed(model, scenes):
    before = torch.get_rng_state()
    one, again, other = (regions(model, scenes.train, labelled=True, seed=seed) for seed in (0, 0, 1))
    assert before.equal(torch.get_rng_state())
    assert one.features.equal(again.features) and not one.features.equal(other.features)
    assert one.labels.min() == 0 and one.labels.max() <= 18 and len(one.labels) == sum(one.sizes)
    assert max(one.sizes) <= 24 and len(one.sizes) == len(scenes.train)
    shown = {c + 1 for c in scenes.train.label_of_object.tolist()}
    assert set(one.labels.tolist()) == {0, *shown}  # the true boxes are among the regions


def test_a_last_layer_learns_from_regions(model, scenes):
    found = regions(model, scenes.train, labelled=True)
    layer, loss = copy.deepcopy(model.classifier), CrossEntropyLoss()
    before = loss(layer(found.features), found.labels)
    trained = train_classifier(layer, found, loss, epochs=3, seed=1)
    same = train_classifier(copy.deepcopy(model.classifier), found, loss, epochs=3, seed=1)
    assert trained is layer and trained.weight.equal(same.weight)
    assert loss(trained(found.features), found.labels) < 0.8 * before
    with pytest.raises(ValueError, match="labelled=True"):
        train_classifier(layer, Regions(found.features, None, found.boxes, found.sizes), loss)
