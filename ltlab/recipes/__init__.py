"""Recipes: which trick is on when.

A `Stage` fixes the four slots of the training step for some epochs; a `Recipe` is a list of stages. Recipes are data:
the command line, the notebooks, the comparison tables and the tests all say what they train by a recipe.

    sampler     which image next        a function of the labels, or None: every image once per epoch, shuffled
    foreground  moving the object       an object with prepare(model, images, labels) and (images, masks), or None
    mix         between images          an object called with (model, images, targets, class_counts), or None
    loss        what a mistake costs    a loss module, or a function of the class counts that returns one

Two-stage training also says, per stage, what happens to the classifier at its start, which parameters train and what
the batch-norm statistics do.

What a recipe leaves open (how many epochs, which network, which learning rate) the data's `Settings` fill in: the
paper's 200 epochs of ResNet-32 on CIFAR, 30 epochs of a small net on shapes-lt. So one recipe serves every data set,
and `recipe.resolve(CIFAR)` is the `Plan` of what exactly will run, in which nothing is left open. `SETTINGS` has all
by name, also the paper's on large images.
"""

from .contents import describe
from .families import FAMILIES, RECIPES, family, get
from .files import load
from .recipe import OTHERS, Plan, PlannedStage, Recipe, Stage
from .schedules import (
    CIFAR,
    FEATURES,
    IMAGENET,
    IMAGENET_90,
    INAT,
    INAT_90,
    PLACES,
    SETTINGS,
    SHAPES,
    SMALL,
    OneCycle,
    Schedule,
    Settings,
    Steps,
    settings_for,
)

__all__ = [
    "CIFAR", "FAMILIES", "FEATURES", "IMAGENET", "IMAGENET_90", "INAT", "INAT_90", "OTHERS", "PLACES", "RECIPES",
    "SETTINGS", "SHAPES", "SMALL", "OneCycle", "Plan", "PlannedStage", "Recipe", "Schedule", "Settings", "Stage",
    "Steps", "describe", "family", "get", "load", "settings_for",
]  # fmt: skip
