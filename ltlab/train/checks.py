"""What is refused before anything is trained."""

import torch
from torch import Tensor, nn

from ..cam import ForegroundTransform, evaluating, maps_of
from ..data import LongTailedData, StreamedSplit
from ..models import CLASSIFIERS
from ..recipes import Recipe
from .augmentation import centre_crop
from .processes import OneProcess
from .step import to_float


def check_run(
    recipe: Recipe, data: LongTailedData, model: nn.Module | None, capture: bool, processes: OneProcess
) -> None:
    """Refuse what cannot be trained, before anything is."""
    crop = recipe.protocol.crop
    if recipe.stages[0].foreground:
        raise ValueError("stage 1 has a foreground slot, which needs the model of a stage before it")
    if model is None and (recipe.stages[0].trains != "all" or recipe.stages[0].batch_norm == "eval"):
        raise ValueError(
            "stage 1 trains the classifier alone, or with batch-norm statistics that nothing has measured yet: "
            "give it a trained network, model=..., or a stage before it"
        )
    if model is not None:
        check_parts(recipe, model)
    if crop is not None and crop > data.side:
        raise ValueError(
            f"protocol {recipe.protocol.name!r} crops {crop} x {crop} pixels, the images have "
            f"{tuple(data.test.images.shape[2:])}: load them with size={crop} or more, or take another protocol, "
            "recipe.resolve(PROTOCOLS[NAME]) or --protocol NAME"
        )
    if recipe.protocol.batch_size < processes.size:
        raise ValueError(
            f"a batch of {recipe.protocol.batch_size} images for {processes.size} processes: take fewer devices"
        )
    if capture and (processes.size > 1 or (on_disk(data) and any(s.foreground for s in recipe.stages))):
        raise ValueError(
            "capture=True records what one device does with what it holds: leave it out with several devices, and "
            "with a foreground slot for images on disk"
        )


def check_parts(recipe: Recipe, model: nn.Module) -> None:
    """Refuse a model of your own whose classifier is not what the recipe trains or changes."""
    name, classifier = type(model).__name__, getattr(model, "classifier", None)
    kind = "missing" if classifier is None else f"a {type(classifier).__name__}"
    if recipe.classifier == "cosine" and (classifier is None or isinstance(classifier, nn.Linear)):
        raise ValueError(
            f"recipe {recipe.name!r} needs a normalised classifier, {name}.classifier is {kind}: make it an "
            'ltlab.classifiers.CosineClassifier, as ltlab.models.build(..., classifier="cosine") does'
        )
    for number, stage in enumerate(recipe.stages, start=1):
        if classifier is None and (stage.classifier or stage.trains != "all"):
            raise ValueError(f"stage {number} needs a model with a part called classifier, {name} has none")
        change = getattr(stage.classifier, "func", stage.classifier)  # of a partial, what it calls
        of_ours = getattr(change, "__module__", "") == "ltlab.classifiers"
        if of_ours and not isinstance(classifier, CLASSIFIERS[recipe.classifier]):
            raise ValueError(
                f"stage {number} changes a {recipe.classifier} classifier, {name}.classifier is {kind}: make it a "
                f"{CLASSIFIERS[recipe.classifier].__name__}, and what stands before it a part of its own"
            )


def check_outputs(recipe: Recipe, data: LongTailedData, model: nn.Module, autocast: torch.autocast) -> None:
    """Refuse a model of your own without a logit for every class, or without CAMs where a stage needs them.

    Two training images go through it, in evaluation mode and without gradients: it stays as it was.
    """
    images, labels, crop = data.train.images[:2], data.train.labels[:2], recipe.protocol.crop
    name, expected = type(model).__name__, (len(images), len(data.class_names))
    with evaluating(model), torch.no_grad(), autocast:
        logits = model(to_float(images if crop is None else centre_crop(images, crop)))
    if not isinstance(logits, Tensor) or not logits.is_floating_point() or logits.shape != expected:
        what = f"{logits.dtype} {tuple(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        raise ValueError(
            f"model: {name} gives {what} for {expected[0]} images, it must give logits, floating point {expected}: "
            f"one for each of the {expected[1]} classes"
        )
    for number, stage in enumerate(recipe.stages, start=1):
        if isinstance(stage.foreground, ForegroundTransform) and stage.foreground.masks is None:
            try:
                maps_of(model, images, labels)
            except (AttributeError, ValueError) as error:
                raise ValueError(
                    f"stage {number} has a foreground slot, whose maps need model.features, from images to (N, K, h, "
                    f"w), and model.classifier.weight, (C, K); {name} does not give them: {error}"
                ) from error


def on_disk(data: LongTailedData) -> bool:
    """Whether the training images are read while they are needed."""
    return isinstance(data.train, StreamedSplit)
