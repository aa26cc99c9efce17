"""Runs of seconds, for the tests of training: their settings, a custom network, and how to interrupt them."""

from dataclasses import replace
from functools import partial

import pandas as pd
import pytest
import torch
from torch import nn

from ltlab.data import LongTailedData, load
from ltlab.recipes import SHAPES, Recipe, Stage
from ltlab.samplers import PowerSampler
from ltlab.train import checkpoint as checkpoints
from ltlab.train import fit

TINY = replace(SHAPES, epochs=4, batch_size=32)
RECIPE = Recipe(Stage(epochs=2), Stage(epochs=2, sampler=partial(PowerSampler, q=0.0)), name="tiny", settings=TINY)


def tiny_data(**options) -> LongTailedData:
    return load("shapes-lt", **{"imbalance": 10, "max_count": 20, "test_count": 5} | options)


def run(recipe, data, model=None, **options):
    """`fit` without a progress bar; a stage stands for the recipe of it alone."""
    recipe = Recipe(recipe, settings=TINY) if isinstance(recipe, Stage) else recipe
    return fit(recipe, data, model, **{"progress": False} | options)


def same_run(a, b) -> None:
    """Bit for bit the same model and history."""
    for (name, x), y in zip(a.model.state_dict().items(), b.model.state_dict().values(), strict=True):
        assert torch.equal(x, y), name
    pd.testing.assert_frame_equal(a.history, b.history, check_exact=True)
    assert torch.equal(a.logits, b.logits)


class Stop(Exception):
    pass


def interrupted(data, path, after: int, recipe=RECIPE, model=None, **options) -> None:
    """Run until `after` epochs are on the disk."""
    saved, save = [], checkpoints.save

    def stopping(path, state):
        save(path, state)
        saved.append(1)
        if len(saved) == after:
            raise Stop

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stop):
        patch.setattr(checkpoints, "save", stopping)
        run(recipe, data, model, checkpoint=path, **options)


class Own(nn.Module):
    """Convolution, pooling and a head, by the names that are asked for."""

    def __init__(
        self, classes: int = 10, features: str = "body", head: str = "fc", classifier: nn.Module | None = None
    ):
        super().__init__()
        self.names = features, head
        self.add_module(features, nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU()))
        self.add_module(head, nn.Linear(8, classes) if classifier is None else classifier)

    def forward(self, images):
        features, head = (self.get_submodule(name) for name in self.names)
        return head(features(images).mean((2, 3)))


class Doubled(Own):
    def forward(self, images):
        return 2 * super().forward(images)


def head_of(*layers: nn.Module) -> Own:
    return Own(head="classifier", classifier=layers[0] if len(layers) == 1 else nn.Sequential(*layers))
