"""A pair of images, A and B: sliders that choose them, their colours, and the path from one to the other."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import ipywidgets
import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor, nn

from .. import plots
from ..data import LongTailedData
from ..images import evaluating
from ..mixup import mix
from .pixels import Pixels, show_pixels

A_COLOUR, B_COLOUR = "#832db6", "#a96b59"  # of the two images; the blue, green and vermilion belong to the groups
TITLE = {"fontsize": plots.FONT_SIZE, "loc": "left"}


def first_of_each_class(data: LongTailedData) -> dict[int, Tensor]:
    """By class, the first test image of every class that has one, float (3, H, W) in [0, 1].

    Raises:
        ValueError: there is no test image.
    """
    if not len(data.test.labels):
        raise ValueError("data: the test set has no image to mix; load data with a test set")
    images, labels = data.test.images.cpu(), data.test.labels.cpu()
    return {c: images[(labels == c).nonzero()[0, 0]].float() / 255 for c in labels.unique().tolist()}


def pair_controls(
    names: Sequence[str], classes: Iterable[int], descriptions: tuple[str, str], a: int, b: int
) -> dict[str, Any]:
    """Two sliders over the names of some classes; a and b count among those."""
    options = [(names[c], c) for c in classes]
    return {
        key: ipywidgets.SelectionSlider(options=options, index=value % len(options), description=description)
        for key, value, description in zip("ab", (a, b), descriptions, strict=True)
    }


def lambda_slider(lam: float, steps: int) -> ipywidgets.FloatSlider:
    """From 0 to 1 in so many steps."""
    if not 0 <= lam <= 1:
        raise ValueError(f"lam={lam} is not on the slider: choose one from 0 to 1")
    return ipywidgets.FloatSlider(value=lam, max=1, step=1 / steps, description="lambda", readout_format=".2f")


def in_evaluation_mode(model: nn.Module, function: Callable[..., Any], *args: Any) -> Any:
    """function(*args) without gradients and with the model's running statistics; the model stays as it was."""
    with evaluating(model), torch.inference_mode():
        return function(*args)


def paired(a: Tensor, b: Tensor, steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Images, partners and lambdas for `mix`: a and b, each steps + 1 times, with lam = 0, 1/steps, ... 1 for both."""
    n = steps + 1
    ends = torch.stack([a, b]).repeat_interleave(n, 0)  # each the other's partner
    return ends, torch.arange(2 * n).roll(n), torch.linspace(0, 1, n).repeat(2)


def path(a: Tensor, b: Tensor, steps: int) -> Tensor:
    """Mixtures lam a + (1 - lam) b for lam = 0, 1/steps, ... 1. -> (steps + 1, *a.shape)"""
    return mix(*paired(a, b, steps))[: steps + 1]


def framed_picture(ax: Axes, image: Tensor, colour: str) -> Pixels:
    """A (3, H, W) image in a frame of its colour."""
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set(color=colour, linewidth=4)
    return show_pixels(ax, to_pixels(image))


def to_pixels(image: Tensor) -> np.ndarray:
    """float (3, H, W) in [0, 1] -> uint8 (H, W, 3)"""
    return image.permute(1, 2, 0).mul(255).round().byte().numpy()
