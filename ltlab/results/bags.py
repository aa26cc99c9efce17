"""A bag of tricks by an option for every slot: the recipe that choices make, and which recipes have choices."""

from collections.abc import Iterable
from dataclasses import fields
from itertools import product

from ..recipes import Recipe, Settings, Stage, describe, get
from .shown import shown_in

START, DEFERRED = "from the start", "deferred (last fifth)"
NOTHING, FINETUNING = "nothing", "fine-tuning without mixup"
RECIPE_OF = {  # slot: option: a recipe that has it; the first option is plain training
    slot: {plain: "ce"} | {line.option: line.recipe for line in shown_in("bag") if line.slot == slot}
    for slot, plain in {"loss": "CE", "sampler": "none", "foreground": "none", "mix": "none"}.items()
}
OPTIONS = {
    **{slot: tuple(options) for slot, options in RECIPE_OF.items()},
    "when": (START, DEFERRED), "afterwards": (NOTHING, FINETUNING),
}  # fmt: skip


def bag_recipe(
    loss: str = "CE", sampler: str = "none", foreground: str = "none", mix: str = "none", when: str = START,
    afterwards: str = NOTHING,
) -> Recipe:  # fmt: skip
    """The recipe of these choices, each one of `OPTIONS`.

    `when` applies to loss, sampler and foreground; a mix is on from the first epoch, for twice the epochs. Deferred
    LDAM is LDAM-DRW: its margins from the start, its weights in the last fifth. With a foreground or fine-tuning the
    last fifth has a separate schedule, as in the code of the paper's authors. Fine-tuning keeps loss and sampler.

    Limit cases: the defaults are the recipe ce; sampler "class-balanced", foreground "CAM", mix "input", `DEFERRED`
    and `FINETUNING` are bag_of_tricks.

    Raises:
        ValueError: an unknown option, or choices that do not go together, with the reason.
    """
    chosen = {"loss": loss, "sampler": sampler, "foreground": foreground, "mix": mix}
    for name, option in (chosen | {"when": when, "afterwards": afterwards}).items():
        if option not in OPTIONS[name]:
            raise ValueError(f"{name}={option!r}: choose one of {', '.join(OPTIONS[name])}")
    if foreground != "none" and when == START:
        raise ValueError(f"a foreground needs the model of a stage before its own; choose {DEFERRED!r}")
    if mix == "none" and afterwards == FINETUNING:
        raise ValueError(f"{FINETUNING} follows mixup; choose a mix, or its control 'none, 2x epochs'")

    slots = {slot: getattr(get(RECIPE_OF[slot][option]).stages[-1], slot) for slot, option in chosen.items()}
    length = get(RECIPE_OF["mix"][mix]).stages[0].share
    if when == START or (loss, sampler, foreground) == ("CE", "none", "none"):
        stages = [Stage(share=length, **slots)]
    else:
        early = Stage().loss
        if loss == "LDAM":
            early, slots["loss"] = (stage.loss for stage in get("drw_ldam").stages)
        own_schedule = foreground != "none" or afterwards == FINETUNING
        first, second = ("first", "second") if own_schedule else ("base", "base")
        stages = [
            Stage(share=0.8 * length, schedule=first, mix=slots["mix"], loss=early),
            Stage(share=0.2 * length, schedule=second, **slots),
        ]
    if afterwards == FINETUNING:
        stages.append(Stage(share=0.1, schedule="finetune", sampler=slots["sampler"], loss=slots["loss"]))
    return Recipe(*stages, name="my_bag", classifier=get(RECIPE_OF["loss"][loss]).classifier)


def parts(loss: str, sampler: str, foreground: str, mix: str, when: str, afterwards: str) -> dict[str, str]:
    """What choices put into each slot, and when; how long they train, and whether they fine-tune.

    Choices that `bag_recipe` takes have equal parts exactly if they make the same recipe.
    """
    slots = {"loss": loss, "sampler": sampler, "foreground": foreground}
    if when == DEFERRED:
        slots |= {slot: f"{option}, deferred" for slot, option in slots.items() if option != OPTIONS[slot][0]}
    epochs = f"{get(RECIPE_OF['mix'][mix]).stages[0].share:g}x"
    mix = mix.removesuffix(", 2x epochs")
    return slots | {"mix": mix, "epochs": epochs, "finetune": "no" if afterwards == NOTHING else "yes"}


def all_bags(settings: Settings, recipes: Iterable[Recipe]) -> dict[str, tuple[Recipe, dict[str, str]]]:
    """Name of each recipe that choices can make: the recipe and its `parts`."""
    made = {}
    for options in product(*OPTIONS.values()):
        choices = dict(zip(OPTIONS, options, strict=True))
        try:
            recipe = bag_recipe(**choices)
        except ValueError:
            continue  # these choices do not go together
        made[_key(recipe.resolve(settings))] = parts(**choices)
    keys = {recipe: _key(recipe.resolve(settings)) for recipe in recipes if recipe.settings in (None, settings)}
    return {recipe.name: (recipe, made[key]) for recipe, key in keys.items() if key in made}


def _key(recipe: Recipe) -> tuple[str, ...]:
    """What makes recipes with the same settings train alike: as `Recipe.identity`, in a fiftieth of its time."""
    return recipe.classifier, *(describe(getattr(stage, f.name)) for stage in recipe.stages for f in fields(stage))
