"""The tricks that a search chooses from, and how several of them make one recipe."""

from collections import Counter
from dataclasses import replace
from typing import Any

from ..recipes import FAMILIES, Recipe, Stage, get
from ..recipes.families import MIXES
from .code import changed


def trick_families() -> dict[str, list[Recipe]]:
    """The tricks that a search chooses from, a recipe each: re-weighting, re-sampling, mixup, second stage.

    Mixup has the paper's alpha. Second stages are every deferred loss, deferred sampler and CAM-based sampling: every
    recipe of two stages with 80 and 20 % of the epochs, but for the control that moves objects by others' maps.
    """
    second = [r for r in (*FAMILIES["two-stage"], *FAMILIES["cam"]) if r.name != "cam_drs_shuffled"]
    return {
        "re-weighting": list(FAMILIES["re-weighting"]),
        "re-sampling": list(FAMILIES["re-sampling"]),
        "mixup": [get(name) for name in MIXES],
        "second stage": [r for r in second if [s.share for s in r.stages] == [0.8, 0.2]],
    }


def combined(*tricks: Recipe) -> Recipe:
    """One recipe that holds the slots of several, at the epochs of plain training.

    What a recipe of one stage sets holds in every stage. A recipe of several stages gives the stages and their
    lengths, and what its later stages set takes precedence: balanced softmax, then a deferred loss. A trick's number
    of epochs is left out, so mixup gets no more than the others. The name is the names joined by +.

    Limit cases: no trick is plain training, "ce".

    Raises:
        ValueError: two tricks that set the same thing in stage 1, or have several stages; one that has settings; and
            what `Recipe` refuses.
    """
    name = "+".join(trick.name for trick in tricks) or "ce"
    longer = [trick for trick in tricks if len(trick.stages) > 1]
    if len(longer) > 1:
        raise ValueError(f"{longer[0].name} and {longer[1].name} both bring stages: choose one of them")
    if own := [trick.name for trick in tricks if trick.settings is not None]:
        raise ValueError(f"{own[0]} brings settings: leave them out, all are trained by the same one")
    at_first = Counter(key for trick in tricks for key in _held(trick.stages[0]))
    if twice := [key for key, times in at_first.items() if times > 1]:
        raise ValueError(f"{name}: two of them set the {' and the '.join(twice)} of stage 1")
    throughout: dict[str, Any] = {}
    for trick in tricks:
        if trick not in longer:
            throughout |= _held(trick.stages[0])
    stages = longer[0].stages if longer else (Stage(),)
    classifier = next((trick.classifier for trick in tricks if trick.classifier != "linear"), "linear")
    return Recipe(*(replace(stage, **throughout | _held(stage)) for stage in stages), name=name,
                  classifier=classifier)  # fmt: skip


def _held(stage: Stage) -> dict[str, Any]:
    """What a stage sets otherwise than `Stage()`, but for its length."""
    return {name: value for name, value in changed(stage).items() if name not in ("epochs", "share")}
