"""The exercises of notebook 07."""

from collections.abc import Callable
from typing import Any

import pandas as pd

from .. import results
from ..cam import ForegroundTransform
from ..losses import BalancedSoftmaxLoss
from ..mixup import ManifoldMixup
from ..recipes import CIFAR, OTHERS, RECIPES, SHAPES, Recipe, Settings, Stage, describe
from .answers import Matches, Mistakes, NotYet, check_callable, check_given, check_kind, raise_hint

_MIX = ManifoldMixup(alpha=1.0, layer="layer3")
_BEYOND = Recipe(
    Stage(share=1.6, schedule="first", mix=_MIX),
    Stage(share=0.4, schedule="second", mix=_MIX, foreground=ForegroundTransform(), loss=BalancedSoftmaxLoss),
    Stage(share=0.1, schedule="finetune", loss=BalancedSoftmaxLoss),
)
SLOT_HINTS = {  # of a stage: what must fill it
    "mix": "While images are mixed, it is what layer3 gives out, with alpha 1; the fine-tuning mixes nothing",
    "sampler": "No balanced draws together with balanced softmax: that would correct for the counts twice",
    "loss": "Deferred: plain at first, then losses.BalancedSoftmaxLoss, the class itself, where draws were balanced",
    "foreground": "Foregrounds move in stage 2 and nowhere else, as in the paper's recipe",
    "epochs": "The shares stay those of the paper's recipe: 1.6, 0.4 and 0.1",
    "schedule": "The schedules stay those of the paper's recipe: first, second and finetune",
    **dict.fromkeys(OTHERS, "Only mix, loss and sampler differ from the paper's recipe"),
}


def beyond_the_explorer(answer: Any) -> str:
    """The paper's recipe with manifold mixup at layer3, and deferred balanced softmax for its balanced draws."""
    check_kind(answer, Recipe, "a Recipe")
    if len(answer.stages) != len(_BEYOND.stages):
        raise NotYet("stages", f"the paper's recipe has {len(_BEYOND.stages)} stages, this one {len(answer.stages)}")
    for settings in (CIFAR, SHAPES):
        _compare_slots(answer, settings)
    if answer.name in RECIPES:
        raise NotYet("name", f"right, but {answer.name!r} is another recipe's name, and runs are stored by name")
    return "no menu of the explorer makes it: what can be written down as stages can be trained and compared"


def _compare_slots(answer: Recipe, settings: Settings) -> None:
    """`NotYet` with the first slot that is wrong under these settings."""
    stages = zip(answer.resolve(settings).stages, _BEYOND.resolve(settings).stages, strict=True)
    for number, (given, wanted) in enumerate(stages, start=1):
        for slot, hint in SLOT_HINTS.items():
            if (found := describe(getattr(given, slot))) != describe(getattr(wanted, slot)):
                raise NotYet(slot, f"stage {number} on {settings.name}, {slot}: {found}. {hint}")


# --- gains -----------------------------------------------------------------------------------------------------------

Gain = tuple[Any, Any]  # two numbers


def _paired(control: pd.Series, recipe: pd.Series) -> Gain:
    return (control - recipe).mean(), (control - recipe).std()


def _with(
    gain: Callable[[Any, Any], Gain] = _paired,
    control: Callable[[int, dict[str, int]], str | None] = results.control_of,
    *, only_complete: bool = False, controls_too: bool = False,
) -> Callable:  # fmt: skip
    """`results.gains` of a table of errors; every argument makes one thing wrong."""

    def gains(errors: pd.DataFrame, epochs: dict[str, int], controls: list[str]) -> dict[str, Gain]:
        errors = errors.dropna() if only_complete else errors
        lengths = {name: epochs[name] for name in controls}
        names = [name for name in errors if controls_too or name not in controls]
        return {name: gain(errors[control(epochs[name], lengths)], errors[name]) for name in names}

    return gains


my_gains = Matches(
    oracle=_with(),
    cases={
        "one recipe, three seeds": (
            pd.DataFrame({"ce": [40.0, 44, 48], "mixed": [37.0, 42, 47]}), {"ce": 30, "mixed": 36}, ["ce"]),
        "three controls, of 30, 60 and 63 epochs": (
            pd.DataFrame({
                "ce": [40.0, 44, 48], "ce_long": [20.0, 27, 25], "ce_long_finetune": [19.0, 24, 26],
                "of 55": [30.0, 33, 31], "of 60": [16.0, 18, 23], "of 90": [15.0, 21, 21],
            }),
            {"ce": 30, "ce_long": 60, "ce_long_finetune": 63, "of 55": 55, "of 60": 60, "of 90": 90},
            ["ce_long", "ce", "ce_long_finetune"],
        ),
        "missing seeds": (
            pd.DataFrame({
                "ce": [40.0, 44, 48, 57], "without seed 3": [37.0, 42, 47, float("nan")],
                "without seed 0": [float("nan"), 41, 44, 55],
            }),
            {"ce": 30, "without seed 3": 36, "without seed 0": 36},
            ["ce"],
        ),
    },
    mistakes={
        "sign": ("The sign is wrong: a gain is the control's error minus the recipe's",
                 _with(lambda control, recipe: _paired(recipe, control))),
        "unpaired_std": ("The std is not paired: subtract seed by seed, then take the std of the differences",
                         _with(lambda control, recipe: (
                             control.mean() - recipe.mean(), (control.var() + recipe.var()) ** 0.5))),
        "population": ("That is the population's std; a sample's divides by S - 1",
                       _with(lambda control, recipe: ((control - recipe).mean(), (control - recipe).std(ddof=0)))),
        "controls": ("Recipes are compared with the controls: leave these out", _with(controls_too=True)),
        "shortest": ("That is always the shortest control: compare a recipe of 60 epochs with 60 plain ones",
                     _with(control=lambda recipe, controls: min(controls, key=controls.__getitem__))),
        "longest": ("That is always the longest control: it may train longer than the recipe itself",
                    _with(control=lambda recipe, controls: max(controls, key=controls.__getitem__))),
        "nearest": ("That is the nearest control: it may train longer than the recipe itself",
                    _with(control=lambda recipe, controls: min(
                        controls, key=lambda name: abs(controls[name] - recipe)))),
        "equal": ("A control of just as many epochs is the fairest of all: not longer includes equal",
                  _with(control=lambda recipe, controls: results.control_of(recipe - 1, controls))),
        "seeds": ("The two means are of different seeds: subtract seed by seed, then take the mean",
                  _with(lambda control, recipe: (control.mean() - recipe.mean(), (control - recipe).std()))),
        "nan": ("One missing seed makes everything NaN: take the seeds that both have",
                _with(lambda control, recipe: (
                    (control - recipe).mean(skipna=False), (control - recipe).std(skipna=False)))),
        "complete": ("Seeds are lost that only another recipe lacks: this one and its control have them",
                     _with(only_complete=True)),
    },
    right="paired by seed, against the longest plain training that is not longer: as in results.gains",
)  # fmt: skip

# --- choosing --------------------------------------------------------------------------------------------------------


def _runs(**recipes: list[tuple[float, float]]) -> pd.DataFrame:
    """A row per recipe and seed, from the pairs (held_out_error, test_error) of each recipe's first seeds."""
    return pd.DataFrame(
        [(name, seed, *errors) for name, pairs in recipes.items() for seed, errors in enumerate(pairs)],
        columns=["recipe", "seed", "held_out_error", "test_error"],
    )


def _by_seed(runs: pd.DataFrame, values: str = "held_out_error") -> pd.DataFrame:
    return runs.pivot(index="seed", columns="recipe", values=values)


def choose(runs: pd.DataFrame) -> str:
    """The recipe with the least mean held-out error over the seeds that all recipes have."""
    return str(_by_seed(runs).dropna().mean().idxmin())


SEARCHES = {
    "four recipes, two seeds each": _runs(
        ce=[(40, 41), (44, 43)],
        mixed=[(31, 28), (33, 24)],
        weighted=[(27, 29), (29, 29)],
        deferred=[(24, 33), (38, 27)],
    ),
    "recipe 'mixed' without seed 2, which is a hard one for all": _runs(
        ce=[(36, 35), (38, 39), (50, 52)],
        mixed=[(30, 32), (32, 35)],
        weighted=[(27, 28), (29, 29), (43, 41)],
        deferred=[(29, 30), (31, 32), (42, 43)],
    ),
    "recipe 'mixed' without seed 2 once more, and it is the best": _runs(
        ce=[(36, 35), (38, 39), (50, 52)],
        mixed=[(25, 29), (26, 33)],
        weighted=[(27, 28), (29, 29), (43, 44)],
    ),
}
CHOICE_MISTAKES: Mistakes = {
    "test_error": ("It has the least test error. What was chosen by the test set cannot be judged by it: what else is "
                   "in a row?", lambda runs: _by_seed(runs, "test_error").mean().idxmin()),
    "luckiest": ("It has the luckiest single run: take the mean over seeds",
                 lambda runs: _by_seed(runs).min().idxmin()),
    "largest": ("That is the one with the largest error", lambda runs: _by_seed(runs).mean().idxmax()),
    "seeds": ("Are these means over the same seeds? mean() skips a missing run silently",
              lambda runs: _by_seed(runs).mean().idxmin()),
    "recipe_left_out": ("A recipe with a missing run is still in the race: leave out the seed, not the recipe",
                        lambda runs: _by_seed(runs).dropna(axis=1).mean().idxmin()),
}  # fmt: skip


def chosen_fairly(answer: Any) -> str:
    """A choice by held-out images, over the seeds that all recipes have."""
    check_callable(answer)
    for search, runs in SEARCHES.items():
        given = check_given(answer(runs.copy()))
        check_kind(given, str, "the name of a recipe back")
        if given != (best := choose(runs)):
            text = f"{search}: expected {best}, got {given}"
            raise_hint(text, CHOICE_MISTAKES, lambda wrong: wrong(runs) == given)  # noqa: B023
    return "by held-out images and on common seeds; the test set is still unseen, and may now judge the choice once"


EXERCISES = {"tweak": beyond_the_explorer, "implement": my_gains, "bug": chosen_fairly}
