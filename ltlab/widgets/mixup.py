"""Mixup: a path between two images, and what a network says along it."""

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from torch import Tensor, nn

from .. import plots
from ..data import LongTailedData, load
from ..mixup import mix
from ..plots.style import dress
from .explorer import LEGEND, Explorer, blank_figure
from .pair import (
    A_COLOUR,
    B_COLOUR,
    TITLE,
    first_of_each_class,
    framed_picture,
    in_evaluation_mode,
    lambda_slider,
    pair_controls,
    path,
    to_pixels,
)

PATH_STEPS = 50


def mixup_explorer(
    data: LongTailedData | None = None, model: nn.Module | Mapping[str, nn.Module] | None = None, *,
    a: int = 0, b: int = -1, lam: float = 0.7,
) -> Explorer:  # fmt: skip
    """Two images and everything between them: the mixed picture, its label, and what a model says along the way.

    Controls: image A, image B (the first test image of each class that has one) and lambda, A's share.

    The bar under the mixed picture is its soft target. With a model, its probabilities for the mixtures of all
    lambda: A's class, B's class, and all others in grey; the straight lines are what mixup asks for.

    Args:
        data: the images; shapes-lt if None.
        model: a model, or up to three by name to compare; None shows the images alone.
        a, b: classes where the sliders begin, counted among those with a test image.
        lam: where its slider begins, from 0 to 1.

    Raises:
        ValueError: `lam` lies outside [0, 1], there are more than three models, or no test image.
    """
    data = data or load("shapes-lt", test_count=1)
    models = {} if model is None else {"": model} if isinstance(model, nn.Module) else dict(model)
    if len(models) > 3:
        raise ValueError(f"{len(models)} models: the figure has room for 3")
    images, names = first_of_each_class(data), data.class_names
    controls = pair_controls(names, images, ("image A", "image B"), a, b) | {"lam": lambda_slider(lam, PATH_STEPS)}

    width = 1000 if models else 470
    figure = blank_figure(width, 400)

    def axes(left: float, bottom: float, w: float, h: float) -> Axes:  # in CSS pixels
        return figure.add_axes((left / width, bottom / 400, w / width, h / 400))

    squares = axes(10, 225, 130, 130), axes(10, 55, 130, 130), axes(160, 55, 300, 300)
    mixture = _Mixture(squares, axes(160, 12, 300, 28), images, names)
    paths = {}
    for row, name in enumerate(models):
        height = (400 - 60 - 34 * len(models)) / len(models)
        bottom = 56 + (len(models) - 1 - row) * (height + 34)
        paths[name] = _Path(axes(540, bottom, 440, height), name, first=row == 0, last=row == len(models) - 1)

    @cache
    def probabilities(name: str, a: int, b: int) -> Tensor:
        return _probabilities_on_path(models[name], images[a], images[b])

    def update(a: int, b: int, lam: float) -> str:
        said = mixture.show(a, b, lam)
        for name, panel in paths.items():
            said += panel.show(probabilities(name, a, b), a, b, round(lam * PATH_STEPS), names)
        return said

    moving = [artist for panel in (mixture, *paths.values()) for artist in panel.artists]
    label = "Two images, their mixture and its label" + (", and a model's probabilities between them" if models else "")
    return Explorer(controls, figure, update, moving=moving, label=label)


def _probabilities_on_path(model: nn.Module, a: Tensor, b: Tensor) -> Tensor:
    """What a model says between two images: (PATH_STEPS + 1, C), from lambda = 0, which is b, to 1."""
    steps = path(a, b, PATH_STEPS).to(next(model.parameters()).device)
    return in_evaluation_mode(model, model, steps).float().softmax(1).cpu()


class _Mixture:
    """Image A, image B and their mixture, and its soft target as a bar."""

    def __init__(self, squares: Sequence[Axes], bar: Axes, images: Mapping[int, Tensor], names: Sequence[str]) -> None:
        self.images, self.names = images, names
        frames = (A_COLOUR, B_COLOUR, "0.3")
        image = next(iter(images.values()))
        self.pictures = [framed_picture(ax, image, colour) for ax, colour in zip(squares, frames, strict=True)]
        self.titles = [ax.text(0, -1.5, "", fontsize=plots.FONT_SIZE, va="bottom") for ax in squares[:2]]
        squares[2].set_title("mixed", **TITLE)
        bar.set(xlim=(0, 1), ylim=(0, 1))
        bar.set_axis_off()
        self.shares = [bar.barh(0.5, 0, height=1, color=colour).patches[0] for colour in (A_COLOUR, B_COLOUR)]
        centred = {"color": "white", "fontsize": plots.FONT_SIZE, "ha": "center", "va": "center"}
        self.percents = [bar.text(0, 0.45, "", **centred) for _ in self.shares]
        self.artists = [*self.pictures, *self.titles, *self.shares, *self.percents]

    def show(self, a: int, b: int, lam: float) -> str:
        mixed = mix(torch.stack([self.images[a], self.images[b]]), torch.tensor([1, 0]), lam)[0]
        for picture, image in zip(self.pictures, (self.images[a], self.images[b], mixed), strict=True):
            picture.set_data(to_pixels(image))
        for title, letter, c in zip(self.titles, "AB", (a, b), strict=True):
            title.set_text(f"{letter}: {self.names[c]}")
        for share, percent, start, size in zip(self.shares, self.percents, (0, lam), (lam, 1 - lam), strict=True):
            share.set(x=start, width=size)
            percent.set(x=start + size / 2, text=f"{size:.0%}" if size > 0.12 else "")
        if a == b:
            return f"lambda {lam:.2f}: A and B are one image; the label is {self.names[a]}"
        return f"lambda {lam:.2f}: the label is {lam:.0%} {self.names[a]}, {1 - lam:.0%} {self.names[b]}"


class _Path:
    """A model's probabilities against lambda."""

    def __init__(self, ax: Axes, name: str, *, first: bool, last: bool) -> None:
        self.name, self.lams = name, np.linspace(0, 1, PATH_STEPS + 1)
        ax.set(xlim=(-0.01, 1.01), ylim=(-0.02, 1.05))
        dress(ax, xlabel="lambda, the share of A" if last else None, ylabel="probability")
        if not last:
            ax.set_xticklabels([])
        if name:
            ax.set_title(name, **TITLE)
        ax.plot([0, 1], [0, 1], [0, 1], [1, 0], color="0.7", linewidth=1, linestyle=":")
        self.others = ax.add_collection(LineCollection([], colors="0.6", linewidths=1))
        (self.b,) = ax.plot([], [], color=B_COLOUR, linewidth=2.5, linestyle=(0, (4, 1.5)), label="B's class")
        (self.a,) = ax.plot([], [], color=A_COLOUR, linewidth=2.5, label="A's class")
        self.mark = ax.axvline(0, color="0.2", linewidth=1)
        (self.dots,) = ax.plot([], [], "o", color="0.1", markersize=7, markerfacecolor="white", markeredgewidth=2)
        if first:
            ax.legend(handles=[self.a, self.b], ncols=2, loc="lower right", bbox_to_anchor=(1.01, 0.97), **LEGEND)
        self.artists = [self.others, self.b, self.a, self.mark, self.dots]

    def show(self, p: Tensor, a: int, b: int, step: int, names: Sequence[str]) -> str:
        others = [c for c in range(len(names)) if c not in (a, b)]
        self.others.set_segments([np.stack([self.lams, p[:, c]], 1) for c in others])
        self.a.set_data(self.lams, p[:, a].numpy())
        self.b.set_data(self.lams, p[:, b].numpy())
        self.mark.set_xdata([self.lams[step]] * 2)
        self.dots.set_data([self.lams[step]] * 2, p[step, [a, b]].numpy())
        who = f"{self.name or 'the model'} says"
        said = f"; {who} {names[a]} {p[step, a]:.0%}" + (f", {names[b]} {p[step, b]:.0%}" if a != b else "")
        if others:
            most = max(others, key=lambda c: p[step, c])
            said += f", and of all others most {names[most]} {p[step, most]:.0%}"
        return said
