"""Detectors with a loss slot, their runs and average precision."""

import copy
import subprocess
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from test_distributed import finished, started
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.ops import MultiScaleRoIAlign

from ltlab import detection
from ltlab.cam import WholeImageTransform
from ltlab.classifiers import CosineClassifier, cosine, with_prior
from ltlab.data import DetectionData, load
from ltlab.detection import SCENES, SlotRoIHeads, average_precision, detect, detector, small_detector
from ltlab.detection.detection_recipes import BCE, RECIPES, get, sigmoid
from ltlab.detection.detection_run import DetectionRun, for_torchvision
from ltlab.detection.detectors import RegionPool
from ltlab.losses import CrossEntropyLoss, EqualizationV2Loss
from ltlab.mixup import InputMixup
from ltlab.recipes import Recipe, Stage
from ltlab.train import fit


@pytest.fixture(scope="module")
def scenes() -> DetectionData:
    return load("scenes-lt", max_count=30, imbalance=15, test_count=3, seed=0)


@pytest.fixture(scope="module")
def batch(scenes: DetectionData) -> tuple[Tensor, list[dict[str, Tensor]]]:
    images = scenes.train.images[:6].float() / 255
    targets = [{"boxes": scenes.train.boxes[i], "labels": scenes.train.labels[i] + 1} for i in range(5)]
    return images, [*targets, {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}]


@pytest.fixture(scope="module")
def gaps(scenes: DetectionData) -> DetectionData:
    """A class without a box in training, and images without any."""
    train = scenes.train.take(torch.arange(12))
    kept = [(labels != 17) & (i > 1) for i, labels in enumerate(train.labels)]
    boxes, labels = ([each[k] for each, k in zip(part, kept, strict=True)] for part in (train.boxes, train.labels))
    return replace(
        scenes, train=replace(train, boxes=boxes, labels=labels, masks=None), test=scenes.test.take(torch.arange(8))
    )


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


# --- runs ------------------------------------------------------------------------------------------------------------


def short(recipe: Recipe | str, epochs: int) -> Recipe:
    """The recipe in so few epochs."""
    recipe = get(recipe) if isinstance(recipe, str) else recipe
    return recipe.resolve(SCENES).with_epochs(epochs)


def same(ours: detection.DetectionResult, theirs: detection.DetectionResult) -> None:
    assert ours.metrics == pytest.approx(theirs.metrics, rel=0, abs=0, nan_ok=True)
    for (name, mine), their in zip(ours.model.state_dict().items(), theirs.model.state_dict().values(), strict=True):
        assert torch.equal(mine, their), name
    for mine, their in zip(ours.detections, theirs.detections, strict=True):
        assert torch.equal(mine["scores"], their["scores"])
    pd.testing.assert_frame_equal(ours.history, theirs.history)


def interrupted(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Stop the next run when so many epochs are over and saved."""
    save = DetectionRun.save

    def stopping(run: DetectionRun) -> None:
        save(run)
        if len(run.history) == after:
            raise KeyboardInterrupt

    monkeypatch.setattr(DetectionRun, "save", stopping)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "epochs", "after"), [("det_eqlv2", 3, 1), ("det_acsl", 4, 2), ("det_acsl", 4, 3)])
def test_a_killed_run_resumes_to_the_bit(scenes, tmp_path, monkeypatch, name, epochs, after):
    plan, path = short(name, epochs), tmp_path / "run.pt"
    whole = detection.fit(plan, scenes, seed=1, device="cpu", progress=False)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        interrupted(patched, after)
        detection.fit(plan, scenes, seed=1, device="cpu", progress=False, checkpoint=path)
    state = torch.load(path, weights_only=True)
    if name == "det_eqlv2":
        assert state["losses"][0]["negative"].min() > 0, "the sums of EQL v2 are in the checkpoint"
    torch.manual_seed(99)
    before = torch.get_rng_state()
    same(detection.fit(plan, scenes, seed=1, device="cpu", progress=False, checkpoint=path, resume=True), whole)
    assert torch.equal(before, torch.get_rng_state()), "global generators are neither read nor written"
    with pytest.raises(ValueError, match="another run"):
        detection.fit(plan, scenes, seed=2, device="cpu", progress=False, checkpoint=path, resume=True)


def test_the_second_stage_trains_the_last_layer_alone(scenes, tmp_path):
    first = detection.fit(short("det_ce", 1), scenes, device="cpu", progress=False, checkpoint=tmp_path / "ce.pt")
    kept = copy.deepcopy(first.model.state_dict())
    both = detection.fit(short("det_acsl", 2), scenes, device="cpu", progress=False, start_from=tmp_path / "ce.pt")
    changed = {name for name, value in both.model.state_dict().items() if not torch.equal(value, kept[name])}
    assert changed == {"rcnn.roi_heads.box_predictor.cls_score.weight", "rcnn.roi_heads.box_predictor.cls_score.bias"}
    same(both, detection.fit(short("det_acsl", 2), scenes, device="cpu", progress=False))
    assert all(parameter.requires_grad for parameter in both.model.parameters())


@pytest.mark.parametrize("name", ["det_eqlv2", "det_seesaw"])
def test_a_detector_is_loaded_from_its_checkpoint(gaps, tmp_path, name):
    run = detection.fit(short(name, 1), gaps, device="cpu", progress=False, checkpoint=tmp_path / "run.pt")
    before = torch.get_rng_state()
    loaded = detection.load_model(tmp_path / "run.pt", name)
    assert torch.equal(before, torch.get_rng_state())
    for mine, their in zip(detect(loaded, gaps.test.images), run.detections, strict=True):
        assert torch.equal(mine["scores"], their["scores"]) and torch.equal(mine["boxes"], their["boxes"])
    with pytest.raises(ValueError, match="another network"):
        detection.load_model(tmp_path / "run.pt", name, small_detector(7))


def test_the_prior_is_part_of_the_recipe(scenes):
    identities = [sigmoid("own", BCE, prior).resolve(SCENES).identity() for prior in (0.1, 0.01)]
    assert identities[0] != identities[1]
    run = detection.fit(short(sigmoid("own", BCE, 0.1), 1), scenes, device="cpu", progress=False)
    assert list(run.history) == [
        "epoch",
        "stage",
        "lr",
        "train_loss",
        "ap",
        "ap50",
        "ap_rare",
        "ap_common",
        "ap_frequent",
    ]
    assert run.history["ap"].iloc[-1] == run.metrics["ap"] and len(run.detections) == len(scenes.test)


def test_runs_repeat_and_seeds_differ(scenes):
    runs = [detection.fit(short("det_ce", 1), scenes, seed=seed, device="cpu", progress=False) for seed in (0, 0, 1)]
    same(*runs[:2])
    assert not torch.equal(runs[0].model.classifier.weight, runs[2].model.classifier.weight)


def test_flipping_moves_boxes_and_masks_with_the_image():
    mask = torch.zeros(1, 6, 10, dtype=torch.bool)
    mask[0, 1:4, 2:7] = True
    target = {"boxes": torch.tensor([[2.0, 1, 7, 4]]), "labels": torch.tensor([0]), "masks": mask}
    flipped = for_torchvision(target, flip=True, width=10)
    assert flipped["boxes"].tolist() == [[3, 1, 8, 4]] and flipped["labels"].tolist() == [1]
    assert flipped["masks"][0, 1:4, 3:8].all() and flipped["masks"].sum() == 15
    assert for_torchvision(target, flip=False, width=10)["boxes"].tolist() == [[2, 1, 7, 4]]


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_trains_also_where_a_class_and_an_image_have_no_box(gaps, name):
    assert gaps.instance_counts[17] == 0 and len(gaps.train.boxes[0]) == 0
    plan = get(name).resolve(SCENES).with_epochs(len(get(name).stages))
    run = detection.fit(plan, gaps, device="cpu", progress=False)
    assert np.isfinite(run.history["train_loss"]).all()
    assert all(((each["scores"] >= 0) & (each["scores"] <= 1)).all() for each in run.detections)


def test_logits_that_are_not_finite_stop_the_run(gaps):
    model = small_detector(18)
    nn.init.constant_(model.classifier.bias, float("nan"))
    with pytest.raises(FloatingPointError, match="logits must be finite"):
        detection.fit(short("det_ce", 1), gaps, model, device="cpu", progress=False)


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (Recipe(Stage(mix=InputMixup(1.0))), "mix"),
        (Recipe(Stage(), Stage(foreground=WholeImageTransform())), "foreground"),
        (Recipe(Stage(loss=partial(EqualizationV2Loss, gamma=-1.0))), "gamma"),
        (Recipe(Stage(loss=EqualizationV2Loss(7, background=0))), "7|8"),
        ("det_eqlv3", "det_eqlv2"),
    ],
    ids=["mix", "foreground", "gamma", "classes", "name"],
)
def test_what_a_detector_cannot_use_is_refused_before_training(scenes, recipe, words):
    with pytest.raises(ValueError, match=words):
        detection.fit(recipe, scenes, device="cpu", progress=False)


def test_other_things_than_recipes_data_and_detectors_are_refused(scenes):
    with pytest.raises(TypeError, match="data"):
        detection.fit("det_ce", load("shapes-lt", imbalance=10))
    with pytest.raises(TypeError, match="detection"):
        fit("ce", scenes)
    with pytest.raises(TypeError, match="model"):
        detection.fit("det_ce", scenes, nn.Linear(2, 2))
    with pytest.raises(TypeError, match="recipe"):
        detection.fit(Stage(), scenes)
    with pytest.raises(ValueError, match="classes"):
        detection.fit("det_ce", scenes, small_detector(7), device="cpu")
    with pytest.raises(ValueError, match="batch_size"):
        detect(small_detector(7), scenes.test.images, batch_size=0)


def test_a_checkpoint_of_other_classes_is_refused(scenes, tmp_path):
    detection.fit(short("det_eqlv2", 1), scenes, device="cpu", progress=False, checkpoint=tmp_path / "run.pt")
    state = torch.load(tmp_path / "run.pt", weights_only=True)
    state["losses"][0]["positive"] = torch.zeros(7)
    torch.save(state, tmp_path / "run.pt")
    with pytest.raises(ValueError, match="positive"):
        detection.fit(
            short("det_eqlv2", 1), scenes, device="cpu", progress=False, checkpoint=tmp_path / "run.pt", resume=True
        )


# --- average precision -----------------------------------------------------------------------------------------------


def detections_near(boxes: list[Tensor], labels: list[Tensor], classes: int, seed: int) -> list[dict[str, Tensor]]:
    """Moved copies of the objects, some of them of other classes, and false alarms."""
    generator, found = torch.Generator().manual_seed(seed), []
    for those, kinds in zip(boxes, labels, strict=True):
        n = len(those)
        moved = those.repeat(3, 1) + 4 * torch.randn(3 * n, 4, generator=generator)
        moved[:, 2:] = torch.maximum(moved[:, 2:], moved[:, :2] + 1)
        other = torch.randint(classes, (3 * n,), generator=generator)
        kept = torch.rand(3 * n, generator=generator) < 0.6
        found.append({
            "boxes": moved, "scores": torch.rand(3 * n, generator=generator),
            "labels": torch.where(kept, kinds.repeat(3), other),
        })  # fmt: skip
    return found


def objects(classes: int, images: int, seed: int) -> tuple[list[Tensor], list[Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    counts = torch.randint(0, 4, (images,), generator=generator).tolist()
    corners = [70 * torch.rand(n, 2, generator=generator) for n in counts]
    boxes = [torch.cat([c, c + 5 + 40 * torch.rand(len(c), 2, generator=generator)], 1) for c in corners]
    return boxes, [torch.randint(classes - 1, (n,), generator=generator) for n in counts]  # the last class has none


GROUPS = torch.tensor([0, 0, 1, 1, 2, 0])


def as_coco(boxes: list[Tensor], labels: list[Tensor], found: list[dict[str, Tensor]]) -> tuple[dict, list[dict]]:
    annotations = [
        {"image_id": i, "category_id": int(label), "bbox": [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()],
         "area": float((box[2] - box[0]) * (box[3] - box[1])), "iscrowd": 0}
        for i in range(len(boxes)) for box, label in zip(boxes[i].double(), labels[i], strict=True)
    ]  # fmt: skip
    truth = {
        "info": {}, "images": [{"id": i, "height": 96, "width": 96} for i in range(len(boxes))],
        "annotations": [each | {"id": k} for k, each in enumerate(annotations, start=1)],
        "categories": [{"id": c, "name": str(c)} for c in range(len(GROUPS))],
    }  # fmt: skip
    results = [
        {"image_id": i, "category_id": int(label), "score": float(score),
         "bbox": [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()]}
        for i, each in enumerate(found)
        for box, score, label in zip(each["boxes"].double(), each["scores"].double(), each["labels"], strict=True)
    ]  # fmt: skip
    return truth, results


@pytest.mark.parametrize("seed", range(3))
def test_ap_is_that_of_pycocotools(seed):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    boxes, labels = objects(len(GROUPS), 25, seed)
    found = detections_near(boxes, labels, len(GROUPS), seed)
    truth, results = as_coco(boxes, labels, found)
    theirs = COCO()
    theirs.dataset = truth
    theirs.createIndex()
    evaluation = COCOeval(theirs, theirs.loadRes(results), "bbox")
    evaluation.evaluate(), evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, -1]  # (T, R, C), -1 for a class without a box

    def mean(values: np.ndarray) -> float:
        return float(values[values > -1].mean()) if (values > -1).any() else float("nan")

    ours = average_precision(found, boxes, labels, GROUPS, max_detections=None)
    wanted = {"ap": mean(precision), "ap50": mean(precision[0])} | {
        f"ap_{name}": mean(precision[:, :, torch.eq(GROUPS, group).numpy()])
        for group, name in enumerate(("rare", "common", "frequent"))
    }
    assert ours == pytest.approx(wanted, abs=1e-12, nan_ok=True) and 0.02 < ours["ap"] < 0.9


def test_ap_is_near_that_of_torchmetrics():
    from torchmetrics.detection import MeanAveragePrecision

    boxes, labels = objects(len(GROUPS), 25, 3)
    found = detections_near(boxes, labels, len(GROUPS), 3)
    metric = MeanAveragePrecision(backend="faster_coco_eval", max_detection_thresholds=[1, 10, 300])
    metric.update(found, [{"boxes": b, "labels": k} for b, k in zip(boxes, labels, strict=True)])
    ours = average_precision(found, boxes, labels, GROUPS)
    theirs = metric.compute()
    assert ours["ap"] == pytest.approx(float(theirs["map"]), abs=5e-3)
    assert ours["ap50"] == pytest.approx(float(theirs["map_50"]), abs=5e-3)


BOX = torch.tensor([[10.0, 10, 30, 30]])
AWAY = torch.tensor([[50.0, 50, 70, 70]])


def one(boxes: Tensor, labels: list[int], scores: list[float]) -> dict[str, Tensor]:
    return {"boxes": boxes, "labels": torch.tensor(labels), "scores": torch.tensor(scores)}


def test_the_federated_rules_on_four_images():
    """One object of class 0 in image 0; class 1 in image 1. A false alarm of class 0 stands above all, in image 2."""
    none = torch.zeros(0, 4)
    boxes, labels = (
        [BOX, BOX, none, none],
        [torch.tensor([0]), torch.tensor([1]), *2 * [torch.tensor([], dtype=torch.int64)]],
    )
    found = [one(BOX, [0], [0.5]), one(BOX, [1], [0.5]), one(AWAY, [0], [0.9]), one(none, [], [])]
    groups = torch.tensor([0, 2])

    def ap(**rules) -> list[float]:
        metrics = average_precision(found, boxes, labels, groups, **rules)
        return [metrics["ap_rare"], metrics["ap_frequent"]]

    assert ap() == [pytest.approx(0.5), 1.0], "all is annotated: the false alarm counts"
    assert ap(negatives=[[], [], [], []]) == [1.0, 1.0], "whether class 0 is in image 2 is not known"
    assert ap(negatives=[[], [], [0], []]) == [pytest.approx(0.5), 1.0], "it is known to be absent"
    assert ap(negatives=[[], [], [0], []], not_exhaustive=[[], [], [0], []]) == [1.0, 1.0]


def test_the_cap_per_image_falls_on_the_least_certain_of_all_classes_and_fixed_ap_has_none():
    boxes, labels = [torch.cat([BOX, AWAY])], [torch.tensor([0, 1])]
    found = [one(torch.cat([BOX, AWAY, AWAY]), [0, 1, 0], [0.9, 0.1, 0.5])]
    groups = torch.tensor([2, 0])
    metrics = [average_precision(found, boxes, labels, groups, max_detections=most) for most in (1, 2, 3, None)]
    assert [each["ap_rare"] for each in metrics] == [0, 0, 1, 1] and {each["ap_frequent"] for each in metrics} == {1}
    assert average_precision(found, boxes, labels, groups, max_detections=1, fixed=True)["ap_rare"] == 1
    assert np.isnan(metrics[0]["ap_common"]), "a group without classes"


def test_a_crowd_is_neither_found_nor_missed():
    found = [one(torch.cat([BOX, AWAY + torch.tensor([1, 1, -1, -1])]), [0, 0], [0.5, 0.9])]
    boxes, labels, groups = [BOX], [torch.tensor([0])], torch.tensor([0])
    crowd = [{"boxes": AWAY, "labels": torch.tensor([0])}]
    assert average_precision(found, boxes, labels, groups, crowd=crowd)["ap"] == 1
    assert average_precision(found, boxes, labels, groups)["ap"] < 1


def test_nothing_detected_is_an_ap_of_zero_and_nothing_to_detect_is_none():
    nothing = one(torch.zeros(0, 4), [], [])
    assert average_precision([nothing], [BOX], [torch.tensor([0])], torch.tensor([0, 1]))["ap"] == 0
    none = average_precision(
        [nothing], [torch.zeros(0, 4)], [torch.tensor([], dtype=torch.int64)], torch.tensor([0, 1])
    )
    assert all(np.isnan(value) for value in none.values())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"detections": [], "boxes": [], "labels": []}, "at least one"),
        ({"detections": []}, "same images"),
        ({"labels": [torch.tensor([2])]}, "labels"),
        ({"detections": [one(BOX, [-1], [0.5])]}, "labels"),
        ({"detections": [one(BOX * float("nan"), [0], [0.5])]}, "finite"),
        ({"max_detections": 0}, "max_detections"),
    ],
)
def test_ap_refuses_what_it_cannot_judge(change, words):
    given = {
        "detections": [one(BOX, [0], [0.5])], "boxes": [BOX], "labels": [torch.tensor([0])],
        "groups": torch.tensor([0, 1]),
    } | change  # fmt: skip
    with pytest.raises(ValueError, match=words):
        average_precision(**given)


def test_importing_ltlab_and_its_detection_leaves_the_library_of_ap_alone():
    code = "import sys, ltlab; ltlab.detection.fit; assert 'faster_coco_eval' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    code = "import sys, ltlab; assert 'torchvision' not in sys.modules and 'ltlab.detection' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_two_processes_train_one_detector_with_one_sum_of_gradients(tmp_path):
    code = """
    import os
    from ltlab import detection
    data = load("scenes-lt", max_count=30, imbalance=15, test_count=3)
    plan = detection.get("det_eqlv2").resolve(detection.SCENES).with_epochs(1)
    run = detection.fit(plan, data, device="cpu", progress=False, checkpoint=f"{sys.argv[1]}/run.pt")
    torch.save([run.model.state_dict(), run.metrics], f"{sys.argv[1]}/{os.environ['RANK']}.pt")
    """
    for one in finished(started(code, str(tmp_path))):
        assert one.status == 0, one.err
    (mine, metrics), (their, others) = (torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in range(2))
    for name, value in mine.items():
        assert torch.equal(value, their[name]), name
    assert metrics == pytest.approx(others, nan_ok=True)
    sums = torch.load(tmp_path / "run.pt", weights_only=True)["losses"][0]["negative"]  # (2, C)
    assert sums.shape == (2, 18) and torch.equal(sums[0], sums[1]) and sums.min() > 0
