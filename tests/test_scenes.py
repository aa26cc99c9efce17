"""scenes-lt, and the types of detection sets."""

import dataclasses

import pytest
import torch

from ltlab.data import DetectionData, DetectionSplit, frequency_groups, load, long_tail_counts
from ltlab.data.scenes import CLASSES, tight_boxes
from ltlab.results import hold_out

SMALL = {"max_count": 12, "imbalance": 6, "test_count": 2}


@pytest.fixture(scope="module")
def scenes() -> DetectionData:
    return load("scenes-lt")


def test_counts_are_the_profile_and_the_test_set_is_balanced(scenes):
    assert scenes.instance_counts.tolist() == long_tail_counts(18, 460, 200)
    assert scenes.test.label_of_object.bincount().tolist() == [30] * 18
    assert sorted(scenes.class_names) == sorted(CLASSES) and len(scenes.test) == 225
    assert torch.bincount(scenes.groups).tolist() == [6, 7, 5]
    for split in (scenes.train, scenes.test):
        sizes = [len(labels) for labels in split.labels]
        assert set(sizes) == {1, 2, 3, 4}
    loops = torch.zeros(18, dtype=torch.int64)
    for labels in scenes.train.labels:
        for c in set(labels.tolist()):
            loops[c] += 1
    assert scenes.image_counts.tolist() == loops.tolist()


def test_boxes_are_tight_on_what_is_seen_of_each_object(scenes):
    split = scenes.train
    assert split.masks is not None
    for boxes, masks in zip(split.boxes[:200], split.masks[:200], strict=True):
        assert masks.sum(0).max() <= 1  # a pixel shows one object
        for (x1, y1, x2, y2), mask in zip(boxes.int().tolist(), masks, strict=True):
            assert mask[y1:y2, x1:x2].sum() == mask.sum() > 40
            assert mask[y1].any() and mask[y2 - 1].any() and mask[:, x1].any() and mask[:, x2 - 1].any()


def test_objects_differ_from_their_ground(scenes):
    without = load("scenes-lt", noise=0.0, **SMALL).test
    for image, masks in zip(without.images.float(), without.masks, strict=True):
        ground = image[:, ~masks.any(0)].mean(1)
        for mask in masks:
            assert (image[:, mask].mean(1) - ground).norm() > 30


def test_a_seed_has_its_scenes_and_the_test_scenes_are_common_to_all():
    one, again, other = (load("scenes-lt", seed=seed, **SMALL) for seed in (1, 1, 2))
    assert one.fingerprint == again.fingerprint != other.fingerprint
    assert one.class_names != other.class_names
    assert one.test.images.equal(other.test.images) and not one.train.images.equal(other.train.images[: len(one.train)])
    names = [[data.class_names[c] for c in data.test.label_of_object.tolist()] for data in (one, other)]
    assert names[0] == names[1]
    held_out = load("scenes-lt", seed=1, held_out=True, **SMALL)
    assert held_out.train.images.equal(one.train.images) and not held_out.test.images.equal(one.test.images)


@pytest.mark.parametrize(
    ("options", "match"),
    [({"seed": 2021}, "seed=2021"), ({"size": 10}, "size=10"), ({"noise": -1}, "noise=-1"), ({"rare": -1}, "rare=-1"),
     ({"rare": 5, "common": 4}, "common=4"), ({"test_count": 0}, "test_count=0"), ({"held_out": 1}, "held_out=1"),
     ({"imbalance": 1e4}, "imbalance"), ({"colour": 1}, "colour")],
)  # fmt: skip
def test_bad_options_are_named(options, match):
    with pytest.raises(ValueError, match=match):
        load("scenes-lt", **(SMALL | options))


def test_lvis_borders_belong_to_the_lower_group():
    assert frequency_groups([0, 1, 10, 11, 100, 101]).tolist() == [0, 0, 0, 1, 1, 2]
    assert frequency_groups(torch.tensor([3, 4, 5]), rare=3, common=4).tolist() == [0, 1, 2]


def test_tight_boxes_against_a_loop():
    masks = torch.rand(20, 9, 7, generator=torch.Generator().manual_seed(0)) < 0.05
    masks[:, 4, 3] = True
    for mask, box in zip(masks, tight_boxes(masks).tolist(), strict=True):
        rows, columns = mask.nonzero().T
        assert box == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def split_of(**changes: object) -> DetectionSplit:
    made = {
        "images": torch.zeros(2, 3, 8, 6, dtype=torch.uint8),
        "boxes": [torch.tensor([[0.0, 1.0, 6.0, 8.0]]), torch.zeros(0, 4)],
        "labels": [torch.tensor([1]), torch.zeros(0, dtype=torch.int64)],
    }
    return DetectionSplit(**(made | changes))


def test_an_image_may_have_no_box_and_a_class_none():
    split = split_of()
    data = DetectionData("mine", split, split, ("a", "b"), frequency_groups([0, 1]))
    assert data.instance_counts.tolist() == data.image_counts.tolist() == [0, 1]
    assert len(split.take(torch.tensor([1])).label_of_object) == 0
    assert data.to("cpu").fingerprint == data.fingerprint
    other = dataclasses.replace(data, class_names=("a", "c"))
    assert other.fingerprint != data.fingerprint


EMPTY = torch.zeros(0, 4)


@pytest.mark.parametrize(
    ("changes", "match"),
    [({"images": torch.zeros(2, 3, 8, 6)}, "images must be"), ({"boxes": [EMPTY]}, "one tensor per image"),
     ({"labels": [torch.tensor([1, 1]), torch.zeros(0, dtype=torch.int64)]}, r"labels\[0\]"),
     ({"boxes": [torch.tensor([[0.0, 0.0, 0.0, 4.0]]), EMPTY]}, r"boxes\[0\] has the box \[0.0, 0.0, 0.0, 4.0\]"),
     ({"boxes": [torch.tensor([[0.0, 0.0, 7.0, 4.0]]), EMPTY]}, "6 wide and 8 high"),
     ({"boxes": [torch.tensor([[0.0, torch.nan, 5.0, 4.0]]), EMPTY]}, "nan"),
     ({"masks": [torch.zeros(1, 6, 8, dtype=torch.bool), torch.zeros(0, 8, 6, dtype=torch.bool)]}, r"masks\[0\]")],
)  # fmt: skip
def test_bad_boxes_are_named(changes, match):
    with pytest.raises(ValueError, match=match):
        split_of(**changes)


def test_labels_and_groups_must_fit_the_classes():
    split = split_of()
    with pytest.raises(ValueError, match="label 1"):
        DetectionData("mine", split, split, ("a",), frequency_groups([1]))
    with pytest.raises(ValueError, match="groups must be"):
        DetectionData("mine", split, split, ("a", "b"), torch.tensor([0, 3]))
    with pytest.raises(ValueError, match="class_names"):
        DetectionData("mine", split, split, ("a", "a"), torch.tensor([0, 0]))


def test_hold_out_takes_a_fraction_of_every_class_and_leaves_every_class_to_train(scenes):
    held = hold_out(scenes, 0.2, seed=3)
    assert held.fingerprint == hold_out(scenes, 0.2, seed=3).fingerprint != hold_out(scenes, 0.2, seed=4).fingerprint
    assert len(held.train) + len(held.test) == len(scenes.train) and held.options["held_out"] == 0.2
    assert held.groups.equal(scenes.groups)
    shown = held.test.images_per_class(18)
    assert (held.image_counts + shown).equal(scenes.image_counts) and held.image_counts.min() >= 1
    least = torch.minimum((0.2 * scenes.image_counts).round().clamp(min=1), scenes.image_counts - 1)
    assert (shown >= least).all() and (shown.sum() < 1.3 * least.sum())
    rows = {row.numpy().tobytes() for row in scenes.train.images}
    parts = [row.numpy().tobytes() for split in (held.train, held.test) for row in split.images]
    assert len(rows) == len(parts) and set(parts) == rows


def test_a_class_in_one_image_only_trains():
    split = split_of(labels=[torch.tensor([1]), torch.tensor([0])], boxes=[torch.tensor([[0.0, 1.0, 6.0, 8.0]])] * 2)
    split = split.take(torch.tensor([0, 1, 1, 1, 1]))
    held = hold_out(DetectionData("mine", split, split, ("a", "b"), torch.tensor([0, 0])), 0.5)
    assert held.image_counts.tolist() == [2, 1] and held.test.images_per_class(2).tolist() == [2, 0]
