"""Detection sets from json: reading, checking, training and evaluating by the command line."""

import json
import re
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ltlab.cli import run
from ltlab.data import coco_set, load
from ltlab.data.coco import read_annotations

CLASSES = 6  # of scenes-lt, the most frequent ones


def write_coco(folder: Path, *, lvis: bool, images: int = 20) -> tuple[Path, Path]:
    """A training and a test json of 20 scenes each, with ids that are not contiguous, and their images."""
    scenes = load("scenes-lt", seed=0, max_count=60, imbalance=20, test_count=8)
    paths = []
    for part, split in (("train", scenes.train), ("test", scenes.test)):
        chosen = [i for i in range(len(split)) if (split.labels[i] < CLASSES).any()][:images]
        content: dict[str, Any] = {"info": {"year": 2026}, "licenses": [{"id": 1, "name": "none", "url": ""}]}
        content["images"], content["annotations"] = [], []
        content["categories"] = [
            {"id": 3 * c + 2, "name": f"class {c}"} | ({"frequency": "fccrrr"[c]} if lvis else {})
            for c in range(CLASSES)
        ]
        for number, i in enumerate(chosen):
            name = f"{part}_{i:04}.png"
            (folder / "val2017").mkdir(exist_ok=True)
            Image.fromarray(split.images[i].permute(1, 2, 0).numpy()).save(folder / ("val2017" if lvis else "") / name)
            image: dict[str, Any] = {"id": 100 + 7 * number, "height": 96, "width": 96}
            image |= {"coco_url": f"http://images.cocodataset.org/val2017/{name}"} if lvis else {"file_name": name}
            there = {3 * int(c) + 2 for c in split.labels[i] if c < CLASSES}
            if lvis:
                others = [3 * c + 2 for c in range(CLASSES) if 3 * c + 2 not in there]
                image |= {"neg_category_ids": others[:2], "not_exhaustive_category_ids": sorted(there)[:1]}
            content["images"].append(image)
            for box, label in zip(split.boxes[i].tolist(), split.labels[i].tolist(), strict=True):
                if label < CLASSES:
                    x1, y1, x2, y2 = box
                    content["annotations"].append({
                        "id": len(content["annotations"]) + 1, "image_id": image["id"], "category_id": 3 * label + 2,
                        "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "iscrowd": 0,
                        "segmentation": [[x1, y1, x2, y1, x2, y2]],
                    })  # fmt: skip
        paths.append(folder / f"{part}.json")
        paths[-1].write_text(json.dumps(content))
    return paths[0], paths[1]


def official(truth: Path, results: Path, lvis: bool) -> list[float]:
    """AP, AP50 and, of LVIS, AP by group, of a file of results by the library's own front door."""
    from faster_coco_eval import COCO, COCOeval_faster

    annotated = COCO(str(truth))
    evaluator = COCOeval_faster(annotated, annotated.loadRes(str(results)), "bbox", lvis_style=lvis)
    evaluator.params.maxDets = [300]
    evaluator.evaluate(), evaluator.accumulate(), evaluator.summarize()
    stats = evaluator.all_stats
    return [*stats[:2], *(stats[-3:] if lvis else ())]


@pytest.mark.slow
@pytest.mark.parametrize("lvis", [False, True], ids=["coco", "lvis"])
def test_a_json_is_trained_on_evaluated_and_shown_by_the_command_line(tmp_path, capsys, lvis):
    train, test = write_coco(tmp_path, lvis=lvis)
    folder = tmp_path / "run"
    options = ["--train-json", train, "--test-json", test, "--images", tmp_path, "--output", folder, "--epochs", "6",
               "--batch-size", "4", "--evaluate-every", "6", "--device", "cpu", "--recipe", "det_eqlv2"]  # fmt: skip
    assert run(["detect", "train", *map(str, options)]) == 0, capsys.readouterr().err
    assert "ap rare" in capsys.readouterr().out
    metrics = json.loads((folder / "metrics.json").read_text())
    theirs = official(test, folder / "detections.json", lvis)
    names = ["ap", "ap50", "ap_rare", "ap_common", "ap_frequent"][: len(theirs)]
    assert metrics["ap"] > 0
    for name, their in zip(names, theirs, strict=True):
        assert metrics[name] == pytest.approx(their, abs=1e-6) or (np.isnan(metrics[name]) and their == -1)
    assert run(["detect", "evaluate", str(folder)]) == 0
    assert json.loads((folder / "metrics.json").read_text()) == pytest.approx(metrics, nan_ok=True)
    more = ["--test-json", str(train), "--images", str(tmp_path), "--max-detections", "5"]
    assert run(["detect", "evaluate", str(folder), *more]) == 0, capsys.readouterr().err
    assert run(["detect", "show", str(folder), "--count", "3", "--threshold", "0.01"]) == 0
    pictures = sorted((folder / "pictures").glob("*.png"))
    assert len(pictures) == 3 and Image.open(pictures[0]).size == (384, 384)
    assert run(["detect", "train", *map(str, options)]) == 2, "the run is there"
    assert "resume" in capsys.readouterr().err


def test_what_is_read_is_what_was_written(tmp_path):
    train, test = write_coco(tmp_path, lvis=True)
    data = coco_set(train, test=test, images=tmp_path)
    content = json.loads(train.read_text())
    assert len(data.train) == 20 and data.class_names == tuple(f"class {c}" for c in range(CLASSES))
    assert data.groups.tolist() == [2, 1, 1, 0, 0, 0]
    assert int(data.instance_counts.sum()) == len(content["annotations"])
    first = [a for a in content["annotations"] if a["image_id"] == content["images"][3]["id"]]
    boxes = torch.tensor([[x, y, x + w, y + h] for x, y, w, h in (a["bbox"] for a in first)])
    torch.testing.assert_close(data.train.boxes[3], boxes)
    assert data.train.labels[3].tolist() == [(a["category_id"] - 2) // 3 for a in first]
    rules = data.train.rules()
    assert [[3 * c + 2 for c in each] for each in rules["negatives"]] == [
        i["neg_category_ids"] for i in content["images"]
    ]
    (chosen, images, targets), *_ = data.train.batches([torch.tensor([3, 1])])
    assert chosen.tolist() == [3, 1] and len(images) == 2 and torch.equal(images[0], data.train.read(3))
    assert torch.equal(targets[0]["boxes"], data.train.boxes[3])
    half = data.train.take(torch.tensor([3]))
    assert torch.equal(half.boxes[0], boxes) and half.read(0).shape == (3, 96, 96) and len(half) == 1
    assert coco_set(train, test=test, images=tmp_path).fingerprint == data.fingerprint


def test_resized_images_keep_their_boxes_and_results_go_back_to_the_file(tmp_path):
    Image.fromarray(np.full((30, 60, 3), 200, np.uint8)).save(tmp_path / "a.png")
    content = coco(
        images=[{"id": 1, "file_name": "a.png", "height": 30, "width": 60}], annotations=[box(5, 1, 1, [6, 3, 12, 9])]
    )
    path = written(tmp_path, content)
    data = coco_set(path, test=path, images=tmp_path, size=20)
    image = data.train.images[0:1]
    assert image.shape == (1, 3, 20, 20) and (image[0, :, :10] == 200).all() and (image[0, :, 10:] == 0).all()
    torch.testing.assert_close(data.train.boxes[0], torch.tensor([[2.0, 1, 6, 4]]))
    found = [{"boxes": data.train.boxes[0], "labels": torch.tensor([0]), "scores": torch.tensor([0.5])}]
    assert data.test.as_results(found) == [{"image_id": 1, "category_id": 1, "bbox": [6, 3, 12, 9], "score": 0.5}]


def box(id: int, image: int, category: int, bbox: list[float], **more: Any) -> dict[str, Any]:
    return {"id": id, "image_id": image, "category_id": category, "bbox": bbox} | more


def coco(**parts: Any) -> dict[str, Any]:
    return {
        "images": [{"id": 1, "file_name": "a.png", "height": 30, "width": 60}],
        "annotations": [box(5, 1, 1, [6, 3, 12, 9])],
        "categories": [{"id": 1, "name": "cat"}, {"id": 4, "name": "dog"}],
    } | parts


def written(folder: Path, content: Any) -> Path:
    path = folder / "own.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_what_is_left_out_is_counted_and_named(tmp_path, caplog):
    boxes = [[0, 0, 9, 9], [3, 3, 0, 5], [3, 3, 5, -2], [70, 3, 5, 5], [50, 20, 20, 20], [1, 1, 59.4, 3]]
    annotations = [box(i + 1, 1, 1, each) for i, each in enumerate(boxes)]
    notes = read_annotations(
        written(tmp_path, coco(annotations=[*annotations, box(9, 1, 1, [1, 1, 30, 20], iscrowd=1)]))
    )
    assert notes.report == {
        "boxes without area": 2, "boxes outside their image": 1, "boxes cut off at an edge": 1, "crowds": 1,
        "classes without a box": 1,
    }  # fmt: skip
    assert notes.boxes.tolist()[:3] == [[0, 0, 9, 9], [50, 20, 60, 30], [1, 1, 60, 4]]
    assert "dog" in caplog.text and "2 boxes without area" in caplog.text
    assert notes.crowd.tolist() == [False, False, False, True]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not a json"),
        ("[" * 100_000, "not a json"),
        ([], "images, annotations, categories"),
        ({"images": []}, "images, annotations, categories"),
        (coco(images=[]), "0 images"),
        (coco(categories=[]), "0 categories"),
        (coco(images=[{"id": 1, "height": 3}]), "1 images without"),
        (coco(categories=[{"id": 1}]), "1 categories without"),
        (coco(annotations=[{"id": 7, "image_id": 1, "category_id": 1}]), r"1 annotations without .*\(7\)"),
        (coco(annotations=[box(7, 1, 1, [1, 2, 3])]), r"bbox of 4 numbers \(7\)"),
        (coco(images=2 * coco()["images"]), r"1 repeated image ids \(1\)"),
        (coco(annotations=2 * coco()["annotations"]), r"1 repeated annotation ids \(5\)"),
        (coco(categories=[{"id": 1, "name": "cat"}, {"id": 1, "name": "dog"}]), "1 repeated category ids"),
        (coco(categories=[{"id": 1, "name": "cat"}, {"id": 2, "name": "cat"}]), "repeated category names"),
        (coco(annotations=[box(7, 2, 1, [1, 2, 3, 4])]), r"1 annotations of an unknown image \(7\)"),
        (coco(annotations=[box(7, 1, 2, [1, 2, 3, 4])]), r"1 annotations of an unknown category \(7\)"),
        (coco(annotations=[box(7, 1, 1, [1, 2, float("nan"), 4])]), r"1 boxes that are not finite \(7\)"),
    ],
)
def test_a_json_that_cannot_be_meant_is_refused(tmp_path, content, words):
    with pytest.raises(ValueError, match=words):
        read_annotations(written(tmp_path, content))


def test_files_that_are_not_there_or_do_not_fit_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.json"):
        read_annotations(tmp_path / "none.json")
    path = written(tmp_path, coco())
    with pytest.raises(FileNotFoundError, match=r"1 of 1 images are not there .*a\.png"):
        load(path, test=path, images=tmp_path)
    Image.fromarray(np.zeros((31, 60, 3), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png has \(31, 60\)"):
        load(path, test=path, images=tmp_path).train.read(0)
    other = tmp_path / "other.json"
    other.write_text(json.dumps(coco(categories=[{"id": 1, "name": "cat"}, {"id": 4, "name": "cow"}])))
    with pytest.raises(ValueError, match="other categories"):
        coco_set(path, test=other, images=tmp_path)


def test_reading_keeps_arrays_and_not_the_polygons(tmp_path):
    """A file of 6 MB, nearly all polygons: what is held afterwards is a small part, and at its peak the text."""
    polygon = [list(range(200))]
    annotations = [box(i + 1, 1, 1, [1, 2, 3, 4], segmentation=polygon) for i in range(6_000)]
    path = written(tmp_path, coco(annotations=annotations))
    size = path.stat().st_size
    del annotations
    tracemalloc.start()
    notes = read_annotations(path)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(notes.label) == 6_000 and held < 0.15 * size and peak < 2.5 * size


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "--data", "shapes-lt"], "scenes-lt"),
        (["train", "--train-json", "a.json"], "--images"),
        (["train", "--recipe", "det_eqlv3"], "det_eqlv2"),
        (["train", "--model", "yolo"], "fasterrcnn_resnet50_fpn_v2"),
        (["evaluate", "nowhere"], "nowhere"),
        (["show", "nowhere", "--threshold", "2"], "threshold"),
    ],
)
def test_mistakes_on_the_command_line_are_one_line(arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(["detect", *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


@pytest.mark.slow
def test_the_guide_s_code_runs(tmp_path, monkeypatch, capsys):
    guide = (Path(__file__).parents[1] / "docs" / "detection.md").read_text(encoding="utf-8")
    (tmp_path / "images").mkdir()
    for path in write_coco(tmp_path / "images", lvis=False):
        path.rename(tmp_path / path.name)
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    exec(code, {})
    (commands,) = re.findall(r"```bash\n(.*?)```", guide, re.DOTALL)
    for command in commands.splitlines():
        ltlab, *arguments = command.split()
        more = ["--epochs", "1", "--device", "cpu"] if "train" in arguments else []
        assert ltlab == "ltlab" and run([*arguments, *more]) == 0, capsys.readouterr().err
    assert (tmp_path / "runs" / "own" / "pictures" / "0000.png").exists()
