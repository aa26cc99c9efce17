"""Training a detector: the run of classification with another step, another evaluation and another result."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from ..counts import check_integer
from ..data import DetectionData
from ..images import evaluating, to_float
from ..recipes import Plan, Recipe
from ..recipes.schedules import OneCycle, Settings
from ..testing import calling, loss_of
from ..train import checkpoint as checkpoints
from ..train.fitting import run_to_end
from ..train.run import Run
from ..train.step import Slots, TrainingStep
from .average_precision import average_precision
from .detection_recipes import get
from .detectors import Detector, small_detector

CLIP = 10.0  # the largest norm of the gradient

SCENES = Settings(
    name="scenes-lt",
    model=small_detector,
    epochs=8,
    batch_size=8,
    weight_decay=1e-4,
    schedules={"base": OneCycle(lr=0.04)},
    crop_padding=0,
)


@dataclass
class DetectionStep(TrainingStep):
    """The training step of a detector: flip, losses of proposals and regions, backward with a clipped gradient."""

    model: Detector

    def __call__(self, indices: Tensor, images: Any, targets: Any) -> Tensor:
        """Train on a batch: images uint8 (n, 3, H, W) or n of (3, H, W), targets see `DetectionSplit.batches`."""
        loss = self.loss(indices, images, targets)
        self.optimizer.zero_grad()
        loss.backward()
        trained = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        nn.utils.clip_grad_norm_(trained, CLIP)
        self.optimizer.step()
        return loss.detach()

    def loss(self, indices: Tensor, images: Any, targets: Any) -> Tensor:
        """The sum of the detector's losses; the regions are classified by the slot's loss."""
        chosen = torch.rand(len(images), generator=self.generator, device=self.generator.device) < 0.5
        flips = chosen.tolist() if self.settings.flip else [False] * len(images)
        images = as_floats(images)
        if isinstance(images, Tensor):
            mirrored = torch.tensor(flips, device=images.device)[:, None, None, None]
            images = torch.where(mirrored, images.flip(-1), images)
        else:
            images = [image.flip(-1) if flip else image for image, flip in zip(images, flips, strict=True)]
        widths = [image.shape[-1] for image in images]
        masked = self.model.heads.has_mask()
        wanted = [for_torchvision(*each, masked=masked) for each in zip(targets, flips, widths, strict=True)]
        with self.autocast:
            losses = self.model(images, wanted)
        return torch.stack([*losses.values()]).sum()


def as_floats(images: Any) -> Any:
    """Images in [0, 1] as a detector takes them: one tensor where they are of one size, else a list."""
    return to_float(images) if isinstance(images, Tensor) else [image.float() / 255 for image in images]


def for_torchvision(target: dict[str, Tensor], flip: bool, width: int, *, masked: bool = True) -> dict[str, Tensor]:
    """A target with labels from 1, mirrored with its image if asked; its masks only for a detector that learns them."""
    boxes, rest = target["boxes"], {"labels": target["labels"] + 1}
    if masked and "masks" in target:
        rest["masks"] = (target["masks"].flip(-1) if flip else target["masks"]).to(torch.uint8)
    if flip:
        x1, y1, x2, y2 = boxes.unbind(1)
        boxes = torch.stack([width - x2, y1, width - x1, y2], 1)
    return {"boxes": boxes} | rest


@dataclass
class DetectionResult:
    """What a run leaves behind.

    model: the detector after the last stage; history: one row per epoch, with the columns epoch, stage, lr, train_loss
    and those of `metrics`; metrics: see `average_precision`; detections: of the test images, see `detect`; recipe: as
    it was run; seconds: of training and evaluation, over all resumptions.
    """

    model: Detector
    history: pd.DataFrame
    metrics: dict[str, float]
    detections: list[dict[str, Tensor]]
    recipe: Plan
    seconds: float


class DetectionRun(Run):
    """The state of a detector's run."""

    step = DetectionStep
    watched = "ap"
    model: Detector
    data: DetectionData  # pyright: ignore[reportIncompatibleVariableOverride]
    found: list[dict[str, Tensor]] | None = None  # in the test images, by the model as it is

    def try_stages(self, seed: int) -> None:
        """Refuse what a detector's step could not use, and take one image through every stage's loss."""
        for number, (stage, slots) in enumerate(zip(self.recipe.stages, self.new_slots(seed), strict=True), start=1):
            for name in ("mix", "foreground"):
                if getattr(stage, name) is not None:
                    raise ValueError(
                        f"stage {number} has a slot {name}=, which is for images with one label: a detector's stage "
                        "takes sampler= and loss="
                    )
            if not stage.epochs:
                continue
            slots.set_epoch(0)
            with calling(f"stage {number}: the sampler", "it is iterated over for indices of images"):
                drawn = slots.batches(self.settings.batch_size)[0]
            if number == 1:
                self.try_model(next(iter(self.data.train.batches([drawn[:2]]))))
            self.try_loss(number, slots)

    def try_model(self, batch: tuple[Tensor, Any, Any]) -> None:
        """Refuse a detector that does not detect a batch."""
        with evaluating(self.model), torch.no_grad():
            found = self.model(as_floats(batch[1]))
        if not isinstance(found, list) or any(not {"boxes", "labels", "scores"} <= set(each) for each in found):
            raise ValueError("model: a detector gives boxes, labels and scores of every image in evaluation mode")
        columns, classes = self.model.heads.logits.shape[1], len(self.data.class_names)
        if columns != classes + 1:
            raise ValueError(
                f"model: its classifier gives {columns} logits, but {classes} classes and the background are "
                f"{classes + 1}: make the detector for {classes} classes"
            )

    def try_loss(self, number: int, slots: Slots) -> None:
        """Refuse a loss that does not fit the classes."""
        labels = torch.arange(len(self.data.class_names) + 1, device=self.device)
        logits = torch.zeros(len(labels), len(labels), device=self.device, requires_grad=True)
        with calling(f"stage {number}", "the background is class 0 of C + 1"):
            loss_of(slots.loss, logits, labels)

    def begin_stage(self) -> Any:
        begun, self.found = super().begin_stage(), None
        self.model.heads.set_loss(self.slots[self.stage].loss)
        return begun

    def next_epoch(self, *arguments: Any, **options: Any) -> dict[str, float]:
        self.found = None
        return super().next_epoch(*arguments, **options)

    def evaluated(self) -> dict[str, float]:
        """AP on the test images, which every process detects in."""
        with self.autocast:
            self.found = detect(self.model, self.data.test.images)
        return judged(self.found, self.data)

    def result(self) -> DetectionResult:
        self.model.heads.set_loss(self.slots[-1].loss)
        metrics = self.evaluated() if self.found is None else judged(self.found, self.data)
        history, found = pd.DataFrame(self.history), self.found or []
        return DetectionResult(self.model, history, metrics, found, self.recipe, self.seconds)


def judged(detections: list[dict[str, Tensor]], data: DetectionData, **options: Any) -> dict[str, float]:
    """`average_precision` of detections of a set's test images, by its rules for crowds and federated annotations."""
    rules = getattr(data.test, "rules", dict)()
    return average_precision(detections, data.test.boxes, data.test.labels, data.groups, **rules | options)


def detect(model: Detector, images: Any, *, batch_size: int = 8) -> list[dict[str, Tensor]]:
    """The detections of images, in order, in evaluation mode, on the CPU.

    Args:
        model: a detector.
        images: (N, 3, H, W) uint8, or N images (3, H, W) uint8 of any size.
        batch_size: images per forward pass.

    Returns:
        For every image boxes (D, 4), scores (D,), best first, and labels (D,) from 0, without the background.

    Raises:
        ValueError: a batch size below 1.
    """
    batch_size, device, found = check_integer("batch_size", batch_size, 1), next(model.parameters()).device, []
    with evaluating(model), torch.inference_mode():
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size]
            batch = batch.to(device) if isinstance(batch, Tensor) else [image.to(device) for image in batch]
            found += model(as_floats(batch))
    return [
        {"boxes": each["boxes"].cpu(), "scores": each["scores"].cpu(), "labels": each["labels"].cpu() - 1}
        for each in found
    ]


def load_model(checkpoint: str | os.PathLike, recipe: Recipe | str, model: Detector | None = None) -> Detector:
    """The detector of a run as its checkpoint holds it, on the CPU.

    Args:
        checkpoint: a file that `fit` has written.
        recipe: what was trained, which says how detections are scored.
        model: another like the run's to load into; None builds a small one.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the checkpoint is damaged, or of another recipe or network.
    """
    path, stages = Path(checkpoint).expanduser(), (get(recipe) if isinstance(recipe, str) else recipe).stages
    state = checkpoints.load(path, torch.device("cpu"), lambda state: None)
    counts = torch.ones(len(state["class names"]))  # of which scores are independent
    loss = stages[-1].loss
    with torch.random.fork_rng(devices=[]):
        model = small_detector(len(counts)) if model is None else model.cpu()
        for stage in stages:
            if stage.classifier is not None:
                model.classifier = stage.classifier(model, None, None, counts)
    model.heads.set_loss(loss if isinstance(loss, nn.Module) else loss(counts))
    try:
        model.load_state_dict(state["model"])
    except RuntimeError as error:
        raise ValueError(f"checkpoint {path} holds another network: {error}") from error
    return model


def fit(
    recipe: Recipe | str, data: DetectionData, model: Detector | None = None, *, seed: int = 0,
    device: str | torch.device = "auto", precision: str = "float32", checkpoint: str | os.PathLike | None = None,
    resume: bool = False, start_from: str | os.PathLike | None = None, progress: bool = True,
    evaluate_every: int = 1, tensorboard: str | os.PathLike | None = None, batch_norm: str = "local",
) -> DetectionResult:  # fmt: skip
    """Train a recipe on a detection set and return the last epoch's AP; as `ltlab.train.fit`, with the same arguments.

    Args:
        recipe: a recipe, a plan, or the name of a recipe. What it leaves open is filled in by `SCENES`.
        data: a set from `ltlab.data.load("scenes-lt")` or `coco_set`.
        model: a `Detector`, trained in place; None builds a small one, with weights drawn from `seed`. Afterwards it
            ranks its detections by the scores of the last stage's loss.

    Raises:
        TypeError: not a recipe, detection data or a detector.
        ValueError: a stage with a slot mix or foreground; what `ltlab.train.fit` refuses.
    """
    if not isinstance(data, DetectionData):
        raise TypeError(f"data={data!r:.80}: a detector is trained on boxes, write ltlab.data.load('scenes-lt')")
    if model is not None and not isinstance(model, Detector):
        raise TypeError(f"model={model!r:.80}: give a Detector, such as detector('fasterrcnn_resnet50_fpn_v2', 80)")
    if not isinstance(recipe, Recipe | str):
        raise TypeError(f"recipe={recipe!r:.80}: fit trains a recipe, write Recipe(Stage(...)), or a name")
    recipe = get(recipe) if isinstance(recipe, str) else recipe
    return run_to_end(
        DetectionRun, recipe.resolve(SCENES), data, model, seed=seed, device=device, checkpoint=checkpoint,
        resume=resume, start_from=start_from, progress=progress, evaluate_every=evaluate_every,
        tensorboard=tensorboard, precision=precision, capture=False, batch_norm=batch_norm,
    )  # fmt: skip
