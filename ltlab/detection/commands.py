"""The commands of `ltlab detect`: the signature gives the options, the docstring their help."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import recipes
from ..counts import check_integer, comparable
from ..data import DetectionData, load
from ..data.box_files import BoxFiles, coco_set
from .detection_recipes import get
from .detection_run import SCENES, DetectionResult, detect, fit, judged
from .detectors import detector

OPTIONS = "options.json"  # of a run's folder: what it was trained with
ENLARGED = 384  # pixels of the longer side to which small pictures grow, so that names can be read


def train(
    *, data: str = "scenes-lt", train_json: Path | None = None, test_json: Path | None = None,
    images: Path | None = None, test_images: Path | None = None, size: int | None = None, workers: int = 0,
    recipe: str = "det_ce", model: str = "small_detector", weights: str | None = None, seed: int = 0,
    epochs: int | None = None, batch_size: int | None = None, lr: float | None = None, device: str = "auto",
    precision: str = "float32", evaluate_every: int = 1, output: Path | None = None, resume: bool = False,
) -> None:  # fmt: skip
    """Train a detector; print its AP and write its detections.

    Args:
        data: scenes-lt, unless there are json files
        train_json: boxes of the training images as COCO or LVIS has them
        test_json: boxes of the test images
        images: folder of the images
        test_images: folder of the test images, if it is another one
        size: side in pixels to which images are resized and padded; small_detector needs it unless all have one size
        workers: processes that read images ahead
        recipe: det_ce, det_bce, det_eqlv2, det_acsl, ..., or a custom one, FILE.py:NAME
        model: small_detector, fasterrcnn_resnet50_fpn_v2 or maskrcnn_resnet50_fpn_v2
        weights: of a large model: COCO_V1 or none; the default is a backbone trained on ImageNet
        seed: draws weights, order and flips, and the training scenes of scenes-lt
        epochs: of the whole recipe
        batch_size: images per step
        lr: learning rate; the stages keep their proportions
        device: auto, cpu, cuda, cuda:1, mps
        precision: float32 or bfloat16
        evaluate_every: epochs between evaluations on the test images
        output: folder of the run; runs/detect-RECIPE-seedN is the default
        resume: continue from the run's checkpoint
    """
    folder = output or Path("runs", f"detect-{Path(recipe).name.replace(':', '-')}-seed{seed}")
    options = {name: _plain(value) for name, value in locals().items() if name not in ("folder", "resume", "output")}
    folder.mkdir(parents=True, exist_ok=True)
    result, loaded = _run(options, folder, resume)
    (folder / OPTIONS).write_text(json.dumps(options, indent=1), encoding="utf-8")
    _report(result.metrics, result.detections, loaded, folder)
    print(f"{'seconds':13} {result.seconds:6.1f}\nwritten to {folder}")


def evaluate(
    run: Path, /, *, test_json: Path | None = None, images: Path | None = None, max_detections: int = 300,
    fixed: bool = False,
) -> None:  # fmt: skip
    """Print the AP of a finished run, also on other images or by other rules.

    Args:
        run: folder of the run
        test_json: other test images of the same categories
        images: their folder
        max_detections: of an image, over all classes together
        fixed: AP fixed: no cap per image, but 10,000 of every class
    """
    result, data = _finished(run)
    detections = result.detections
    if test_json is not None:
        options = _options(run)
        if options["train_json"] is None or images is None:
            raise ValueError("test_json: it takes a run on json files, and --images, the folder of its images")
        data = coco_set(options["train_json"], test=test_json, images=(options["images"], images), size=options["size"])
        detections = detect(result.model, data.test.images)
    metrics = judged(detections, data, max_detections=max_detections, fixed=fixed)
    _report(metrics, detections, data, run)


def show(run: Path, /, *, count: int = 12, threshold: float = 0.3, output: Path | None = None) -> None:
    """Draw detections and true boxes into pictures.

    Args:
        run: folder of the run
        count: the first so many test images
        threshold: the lowest score that is drawn
        output: folder of the pictures; RUN/pictures is the default
    """
    if not 0 <= comparable(threshold) <= 1:
        raise ValueError(f"threshold={threshold!r} must be a score between 0 and 1")
    result, data = _finished(run)
    folder = output or run / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(min(check_integer("count", count, 1), len(data.test))):
        image = data.test.images[i : i + 1][0].cpu()
        truth = {"boxes": data.test.boxes[i], "labels": data.test.labels[i]}
        picture(image, result.detections[i], truth, data.class_names, threshold, folder / f"{i:04}.png")
    print(f"written to {folder}")


def picture(
    image: Tensor, found: dict[str, Tensor], truth: dict[str, Tensor], names: tuple[str, ...], threshold: float,
    path: Path,
) -> None:  # fmt: skip
    """Write an image (3, H, W) uint8 with its true boxes, white, and the detections from `threshold` on, orange."""
    from PIL import Image
    from torchvision.transforms.v2.functional import resize
    from torchvision.utils import draw_bounding_boxes

    scale = max(1.0, ENLARGED / max(image.shape[1:]))
    shown = resize(image, [round(side * scale) for side in image.shape[1:]], antialias=True)
    sure = found["scores"] >= threshold
    texts = [
        f"{names[label]} {score:.2f}"
        for label, score in zip(found["labels"][sure].tolist(), found["scores"][sure].tolist(), strict=True)
    ]
    for boxes, labels, colour, width in (
        (truth["boxes"].cpu(), None, "white", 1), (found["boxes"][sure], texts, "orange", 2)
    ):  # fmt: skip
        if len(boxes):
            shown = draw_bounding_boxes(
                shown, boxes * scale, labels, colors=colour, width=width, label_colors="black",
                label_background_colors=colour, fill_labels=True,
            )  # fmt: skip
    Image.fromarray(shown.permute(1, 2, 0).numpy()).save(path)


def _plain(value: Any) -> Any:
    return str(value.absolute()) if isinstance(value, Path) else value


def _options(run: Path) -> dict[str, Any]:
    path = run / OPTIONS
    if not path.exists():
        raise FileNotFoundError(f"{run} is not the folder of a finished run of `ltlab detect train`: {path} is missing")
    return json.loads(path.read_text(encoding="utf-8"))


def _finished(run: Path) -> tuple[DetectionResult, DetectionData]:
    return _run(_options(run), run, resume=True)


def _run(options: dict[str, Any], folder: Path, resume: bool) -> tuple[DetectionResult, DetectionData]:
    """Train by these options, or continue, if need be."""
    data, name = _data(options), options["recipe"]
    recipe = recipes.load(name) if ":" in name else get(name)
    settings = replace(SCENES, batch_size=options["batch_size"] or SCENES.batch_size)
    if options["lr"] is not None:
        settings = settings.with_learning_rate(options["lr"])
    if options["model"] != "small_detector":
        settings = replace(settings, name=options["model"], model=_large(options["model"], options["weights"]))
    plan = recipe.resolve(settings)
    if options["epochs"] is not None:
        plan = plan.with_epochs(options["epochs"])
    result = fit(
        plan, data, seed=options["seed"], device=options["device"], precision=options["precision"],
        evaluate_every=options["evaluate_every"], checkpoint=folder / "checkpoint.pt", resume=resume,
    )  # fmt: skip
    return result, data


def _large(name: str, weights: str | None) -> Callable[..., torch.nn.Module]:
    if weights is None:
        return partial(detector, name)
    if weights == "none":
        return partial(detector, name, weights_backbone=None)
    return partial(detector, name, weights=weights)


def _data(options: dict[str, Any]) -> DetectionData:
    given = [options[name] for name in ("train_json", "test_json", "images")]
    if not any(given):
        if options["data"] != "scenes-lt":
            raise ValueError(
                f"data={options['data']!r}: boxes come from scenes-lt, or from --train-json, --test-json and --images"
            )
        return load("scenes-lt", seed=options["seed"])
    if not all(given):
        raise ValueError("train_json: a detection set from disk takes --train-json, --test-json and --images")
    folders = options["images"], options["test_images"] or options["images"]
    return coco_set(given[0], test=given[1], images=folders, size=options["size"], workers=options["workers"])


def _report(metrics: dict[str, float], detections: list[dict[str, Tensor]], data: DetectionData, folder: Path) -> None:
    """Print AP, and write it, and the detections in COCO's form."""
    print(data)
    for name, value in metrics.items():
        print(f"{name.replace('_', ' '):13} {f'{value:6.1%}' if value == value else '     – (no class in this group)'}")
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1), encoding="utf-8")
    if isinstance(data.test, BoxFiles):
        results = json.dumps(data.test.as_results(detections))
        (folder / "detections.json").write_text(results, encoding="utf-8")


COMMANDS: dict[str, Callable[..., None]] = {"train": train, "evaluate": evaluate, "show": show}
