"""What is refused before anything is trained."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..cam import ForegroundTransform, maps_of
from ..classifiers import CLASSIFIERS, declared
from ..data import LongTailedData, StreamedSplit
from ..images import as_evaluated, evaluating
from ..recipes import Plan, Recipe, Stage
from .processes import OneProcess


def check_types(recipe: object, data: object, model: object) -> None:
    """TypeError, with what to write instead, for what is not a recipe, data or a network."""
    if not isinstance(recipe, Recipe | str):
        way = "Recipe(Stage(...))" if isinstance(recipe, Stage) else 'Recipe(Stage(...)), or a name such as "ce"'
        raise TypeError(f"recipe={recipe!r:.80}: fit trains a recipe, write {way}")
    if not isinstance(data, LongTailedData):
        name = repr(data) if isinstance(data, str) else "..."
        raise TypeError(f"data={data!r:.80}: fit takes data that are loaded, write ltlab.data.load({name})")
    if isinstance(model, type):
        raise TypeError(f"model={model.__name__} is a class: make the network, {model.__name__}(...)")
    if model is not None and not isinstance(model, nn.Module):
        name = repr(model) if isinstance(model, str) else "..."
        raise TypeError(
            f"model={model!r:.80}: fit trains a network that is made, an nn.Module; for another one of ltlab write "
            f"models.build({name}, {len(data.class_names)}, data.train.images), or put it into settings, "
            f"recipe.resolve(replace(recipes.settings_for(data.name), model={name}))"
        )


def check_run(
    recipe: Plan, data: LongTailedData, model: nn.Module | None, capture: bool, processes: OneProcess
) -> None:
    """Refuse what cannot be trained, before anything is; `model` is a custom one, None the settings'."""
    crop, first = recipe.settings.crop, recipe.stages[0].foreground
    if makes_maps(first):
        raise ValueError(
            "stage 1 has a foreground slot, which needs the model of a stage before it: give it masks, "
            "ForegroundTransform(masks=...), or put a stage before it"
        )
    if model is None and (recipe.stages[0].trains != "all" or recipe.stages[0].batch_norm == "eval"):
        raise ValueError(
            "stage 1 trains the classifier alone, or with batch-norm statistics that nothing has measured yet: "
            "give it a trained network, model=..., or a stage before it"
        )
    if model is not None:
        check_parts(recipe, model)
    if crop is not None and crop > data.side:
        raise ValueError(
            f"settings {recipe.settings.name!r} crops {crop} x {crop} pixels, the images have "
            f"{tuple(data.test.images.shape[2:])}: load them with size {crop} or more, or choose "
            "other settings"
        )
    if recipe.settings.batch_size < processes.size:
        raise ValueError(f"a batch of {recipe.settings.batch_size} images for {processes.size} processes: start fewer")
    if capture and (processes.size > 1 or (on_disk(data) and any(s.foreground for s in recipe.stages))):
        raise ValueError(
            "capture records what one device does with what it holds: leave it out with several processes, and with a "
            "foreground slot for images on disk"
        )
    if capture and recipe.settings.optimizer is not None:
        raise ValueError(
            "capture records SGD, whose learning rate is a tensor that every replay reads: leave it out with a custom "
            "optimizer"
        )


def check_parts(recipe: Plan, model: nn.Module) -> None:
    """Refuse a custom model whose classifier is not what the recipe trains or changes."""
    name, classifier = type(model).__name__, getattr(model, "classifier", None)
    kind = "missing" if classifier is None else f"a {type(classifier).__name__}"
    if recipe.classifier == "cosine" and (classifier is None or ends_linear(classifier)):
        kind += "" if classifier is None or isinstance(classifier, nn.Linear) else " that ends in a Linear"
        raise ValueError(
            f"recipe {recipe.name!r} needs a normalised classifier, {name}.classifier is {kind}: make it an "
            'ltlab.classifiers.CosineClassifier, as ltlab.models.build(..., classifier="cosine") does'
        )
    for number, stage in enumerate(recipe.stages, start=1):
        if classifier is None and (stage.classifier or stage.trains != "all"):
            raise ValueError(f"stage {number} needs a model with a part called classifier, {name} has none")
        change, expected = declared(stage.classifier), CLASSIFIERS[recipe.classifier].type
        if change and change.needs and not isinstance(classifier, expected):
            raise ValueError(
                f"stage {number} changes a {recipe.classifier} classifier, {name}.classifier is {kind}: make it a "
                f"{expected.__name__}, and what comes before it another part"
            )


def check_outputs(recipe: Plan, data: LongTailedData, model: nn.Module, autocast: torch.autocast) -> None:
    """Refuse a custom model without a logit for every class, whose `classifier` does not give them where a stage
    trains or changes it, or without CAMs where a stage needs them.

    Two training images go through it, in evaluation mode and without gradients: it stays as it was.
    """
    images, labels = data.train.images[:2], data.train.labels[:2]
    name, expected = type(model).__name__, (len(images), len(data.class_names))
    shown = as_evaluated(images, recipe.settings.crop, labels.device)
    changes = any(stage.classifier for stage in recipe.stages)
    with watched_classifier(model, changes) as given, evaluating(model), torch.no_grad(), autocast:
        logits = model(shown)
    if not isinstance(logits, Tensor) or not logits.is_floating_point() or logits.shape != expected:
        what = f"{logits.dtype} {tuple(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        raise ValueError(
            f"model: {name} gives {what} for {expected[0]} images, it must give logits, floating point {expected}: "
            f"one for each of the {expected[1]} classes"
        )
    if needs_classifier(recipe) and not (len(given) == 1 and same_logits(given[0], logits)):
        raise ValueError(
            f"recipe {recipe.name!r} trains or changes the classifier, and {name}.classifier is not what forward ends "
            "in: make forward return self.classifier(...), by this name and once"
        )
    for number, stage in enumerate(recipe.stages, start=1):
        if makes_maps(stage.foreground):
            try:
                maps_of(model, images, labels)
            except (AttributeError, ValueError) as error:
                raise ValueError(
                    f"stage {number} has a foreground slot, whose maps need model.features, from images to (N, K, h, "
                    f"w), and model.classifier.weight, (C, K); {name} does not give them: {error}"
                ) from error


@contextmanager
def watched_classifier(model: nn.Module, changes: bool) -> Iterator[list[object]]:
    """What `model.classifier` gives; where a stage `changes` it, what another in its place would give."""
    classifier, given = getattr(model, "classifier", None), []
    if not isinstance(classifier, nn.Module):
        yield given
        return
    watched = copy.copy(classifier) if changes else classifier
    place = model._modules.get("classifier")  # None: a property, in whose place nothing can be put

    def note(module: nn.Module, inputs: object, output: object) -> None:
        if module is watched:  # a copy shares its hooks
            given.append(output)

    with watched.register_forward_hook(note):
        if place is not None:
            model.classifier = watched
        try:
            yield given
        finally:
            if place is not None:
                model.classifier = place


def ends_linear(classifier: nn.Module) -> bool:
    """Whether the last part of a classifier is a linear one, so that its logits are not cosines."""
    *_, last = classifier.modules()
    return type(last).forward is nn.Linear.forward


def same_logits(given: object, logits: Tensor) -> bool:
    """Whether a part of a model gave its logits, also where they were NaN, or were copied to another dtype."""
    return given is logits or (isinstance(given, Tensor) and torch.equal(given.float(), logits.float()))


def needs_classifier(recipe: Plan) -> bool:
    """Whether a recipe does anything to the classifier, so that the logits have to be its."""
    return recipe.classifier == "cosine" or any(s.classifier or s.trains == "classifier" for s in recipe.stages)


def makes_maps(foreground: object) -> bool:
    """Whether a foreground slot asks the model where the object is."""
    return isinstance(foreground, ForegroundTransform) and foreground.masks is None


def on_disk(data: LongTailedData) -> bool:
    """Whether the training images are read while they are needed."""
    return isinstance(data.train, StreamedSplit)
