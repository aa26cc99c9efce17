"""What is refused before hours are spent on it: by its kind, by its parts, and by a trial of every stage's step."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile

import torch
from torch import Tensor, nn

from ..cam import ForegroundTransform, maps_of
from ..classifiers import CLASSIFIERS, declared
from ..data import DetectionData, ImageSplit, LongTailedData, StreamedSplit
from ..images import evaluating
from ..recipes import Plan, Recipe, Stage
from ..testing import calling, logits_of, loss_of, mixture_of
from .processes import OneProcess
from .step import Slots, augmented, factors_of

TRIED = 8  # images that a trial takes


def check_types(recipe: object, data: object, model: object) -> None:
    """Refuse, with what to write instead, what is not a recipe, data or a network that can be trained."""
    if torch.is_inference_mode_enabled():
        raise ValueError("fit trains, which torch.inference_mode() forbids: call it outside of that block")
    if not isinstance(recipe, Recipe | str):
        way = "Recipe(Stage(...))" if isinstance(recipe, Stage) else 'Recipe(Stage(...)), or a name such as "ce"'
        raise TypeError(f"recipe={recipe!r:.80}: fit trains a recipe, write {way}")
    if isinstance(data, DetectionData):
        raise TypeError(f"data={data!r:.80}: a set of boxes is trained on by ltlab.detection.fit")
    if not isinstance(data, LongTailedData):
        way = f"ltlab.data.load({data!r})" if isinstance(data, str) else "ltlab.data.load(...)"
        raise TypeError(
            f"data={data!r:.80}: fit takes data that are loaded, write {way}; ltlab.data.array_set makes them from "
            "arrays and tensors"
        )
    if isinstance(model, type):
        raise TypeError(f"model={model.__name__} is a class: make the network, {model.__name__}(...)")
    if model is not None and not isinstance(model, nn.Module):
        name = repr(model) if isinstance(model, str) else "..."
        raise TypeError(
            f"model={model!r:.80}: fit trains a network that is made, an nn.Module; for another one of ltlab write "
            f"models.build({name}, {len(data.class_names)}, data.train.images), or put it into settings, "
            f"recipe.resolve(replace(recipes.settings_for(data.name), model={name}))"
        )


def check_plan(plan: Plan, data: LongTailedData, model: nn.Module | None, capture: bool, processes: OneProcess) -> None:
    """Refuse what cannot be trained, before anything is; `model` is a custom one, None the settings'."""
    settings, crop = plan.settings, plan.settings.crop
    if data.holds_features and any(stage.foreground for stage in plan.stages):
        raise ValueError(
            f"recipe {plan.name!r} has a foreground slot, which moves pixels, and {data.name!r} holds features: "
            "train it on the images"
        )
    if makes_maps(plan.stages[0].foreground):
        raise ValueError(
            "stage 1 has a foreground slot, which needs the model of a stage before it: give it masks, "
            "ForegroundTransform(masks=...), or put a stage before it"
        )
    if model is not None:
        check_parts(plan, model)
    elif plan.stages[0].trains != "all" or plan.stages[0].batch_norm == "eval":
        raise ValueError(
            "stage 1 trains the classifier alone, or with batch-norm statistics that nothing has measured yet: "
            "give it a trained network, model=..., or a stage before it"
        )
    if crop is not None and crop > data.side:
        raise ValueError(
            f"settings {settings.name!r} crops {crop} x {crop} pixels, the images have "
            f"{tuple(data.test.images.shape[2:])}: load them with size {crop} or more, or choose other settings"
        )
    if settings.batch_size < processes.size:
        raise ValueError(f"a batch of {settings.batch_size} images for {processes.size} processes: start fewer")
    if capture and (processes.size > 1 or (on_disk(data) and any(stage.foreground for stage in plan.stages))):
        raise ValueError(
            "capture records what one device does with what it holds: leave it out with several processes, and with a "
            "foreground slot for images on disk"
        )
    if capture and settings.optimizer is not None:
        raise ValueError(
            "capture records SGD, whose learning rate is a tensor that every replay reads: leave it out with a custom "
            "optimizer"
        )


def check_parts(plan: Plan, model: nn.Module) -> None:
    """Refuse a custom model whose weights, or whose classifier, are not what the plan trains or changes."""
    name, classifier = type(model).__name__, getattr(model, "classifier", None)
    for key, parameter in model.named_parameters():
        if parameter.is_inference():
            raise ValueError(f"model: {name} was made under torch.inference_mode(), which no gradient gets into: make "
                             "it outside of that block")  # fmt: skip
        if parameter.requires_grad and parameter.dtype != torch.float32:
            raise ValueError(
                f"model: {key} of {name} is {parameter.dtype}, weights are trained in torch.float32: pass "
                "model.float(); fit(..., precision='bfloat16') computes with them in half precision"
            )
    kind = "missing" if classifier is None else f"a {type(classifier).__name__}"
    if plan.classifier != "linear" and (classifier is None or ends_linear(classifier)):
        kind += "" if classifier is None or isinstance(classifier, nn.Linear) else " that ends in a Linear"
        raise ValueError(
            f"recipe {plan.name!r} needs a normalised classifier, {name}.classifier is {kind}: make it an "
            'ltlab.classifiers.CosineClassifier, as ltlab.models.build(..., classifier="cosine") does'
        )
    own = {key for key, _ in classifier.named_parameters(recurse=False)} if classifier is not None else set()
    for number, stage in enumerate(plan.stages, start=1):
        if classifier is None and (stage.classifier or stage.trains != "all"):
            raise ValueError(f"stage {number} needs a model with a part called classifier, {name} has none")
        change, expected = declared(stage.classifier), CLASSIFIERS[plan.classifier].type
        if change and change.needs and not (isinstance(classifier, expected) and "weight" in own):
            raise ValueError(
                f"stage {number} changes a {plan.classifier} classifier, {name}.classifier is {kind}: make it a "
                f"{expected.__name__}, without weight normalisation or another parametrization, and what comes before "
                "it another part"
            )


def try_stages(
    plan: Plan, split: ImageSplit, model: nn.Module, slots: Sequence[Slots], autocast: torch.autocast
) -> None:
    """Take a few images through every stage's sampler, mix and loss, and refuse what a step could not train on.

    They are the first ones that stage 1 draws. The model is in training mode and gradients are computed, as in a step;
    afterwards both, its buffers included, are as they were.

    Args:
        slots: of every stage, made for the trial, as their draws and memories are used up.
    """
    trained = [each for each in zip(range(1, len(slots) + 1), plan.stages, slots, strict=True) if each[1].epochs]
    for stage in takewhile(lambda stage: stage.classifier is None, plan.stages):
        factors_of(dict(model.named_parameters()), stage.rates or {})
    drawn = []
    for number, _, own in trained:
        own.set_epoch(0)
        with calling(f"stage {number}: the sampler", "it is iterated over for indices of images"):
            drawn.append(own.batches(plan.settings.batch_size)[0][:TRIED])
    [(_, images, labels)] = split.batches(drawn[:1])
    generator = torch.Generator(labels.device).manual_seed(0)
    shown, class_counts = augmented(images, plan.settings, generator), slots[0].class_counts
    with as_it_was(model):
        slots[0].set_mode(model)
        with autocast:
            logits = classified(plan, model, shown, len(class_counts))
        for number, stage, own in trained:
            if makes_maps(stage.foreground):
                check_maps(number, model, images[:2], labels[:2])
            own.set_mode(model)
            mixed = logits, labels
            with calling(f"stage {number}"):
                if own.mix:
                    getattr(own.mix, "check", lambda model: None)(model)
                    with autocast:
                        mixed = mixture_of(own.mix, model, shown, labels, class_counts, generator)
                loss_of(own.loss, mixed[0].float(), mixed[1])


@contextmanager
def as_it_was(model: nn.Module) -> Iterator[None]:
    """Afterwards every part of a model is in the mode, and every buffer has the values, that it had before."""
    buffers = [
        (part, name, buffer, buffer.clone())
        for part in model.modules()
        for name, buffer in part.named_buffers(recurse=False)
    ]
    with evaluating(model):
        try:
            yield
        finally:
            with torch.no_grad():
                for part, name, buffer, kept in buffers:
                    setattr(part, name, buffer.copy_(kept))


def classified(plan: Plan, model: nn.Module, images: Tensor, classes: int) -> Tensor:
    """The model's logits, if they come from its classifier where a stage trains or changes that."""
    classifier, given = getattr(model, "classifier", None), []
    watched = classifier if isinstance(classifier, nn.Module) else nn.Identity()
    with watched.register_forward_hook(lambda module, inputs, output: given.append(output)):
        logits = logits_of(model, images, classes)
    names = {key for key, part in model.named_modules(remove_duplicate=False) if part is classifier}
    changes = any(stage.classifier for stage in plan.stages)
    needed = plan.classifier != "linear" or changes or any(stage.trains == "classifier" for stage in plan.stages)
    ends = len(given) == 1 and isinstance(given[0], Tensor) and torch.equal(given[0].float(), logits.float())
    if needed and not (ends and (names == {"classifier"} or not changes)):
        raise ValueError(
            f"recipe {plan.name!r} trains or changes the classifier, and {type(model).__name__}.classifier is not what "
            "forward ends in: make forward return self.classifier(...), by this name and once; compile a network in "
            "place, model.compile()"
        )
    return logits


def check_maps(number: int, model: nn.Module, images: Tensor, labels: Tensor) -> None:
    """Refuse a model without class activation maps for a stage that asks for them."""
    try:
        maps_of(model, images, labels)
    except (AttributeError, ValueError) as error:
        raise ValueError(
            f"stage {number} has a foreground slot, whose maps need model.features, from images to (N, K, h, w), and "
            f"model.classifier.weight, (C, K); {type(model).__name__} does not give them: {error}"
        ) from error


def ends_linear(classifier: nn.Module) -> bool:
    """Whether the last part of a classifier is a linear one, so that its logits are not cosines."""
    *_, last = classifier.modules()
    return type(last).forward is nn.Linear.forward


def makes_maps(foreground: object) -> bool:
    """Whether a foreground slot asks the model where the object is."""
    return isinstance(foreground, ForegroundTransform) and foreground.masks is None


def on_disk(data: LongTailedData) -> bool:
    """Whether the training images are read while they are needed."""
    return isinstance(data.train, StreamedSplit)
