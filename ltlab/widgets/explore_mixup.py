"""Two images and what lies between them: mixup, and manifold mixup, which mixes inside the network."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from torch import Tensor, nn

from .. import plots
from ..data import LongTailedData, load
from ..images import evaluating
from ..mixup import forward_mixed, mix
from .explorer import Explorer, blank_figure
from .panels import A_COLOUR, B_COLOUR, LEGEND, TITLE, axes_at, plot_at
from .pixels import Pixels, show_pixels
from .sliders import choice, class_slider, slider

PATH_STEPS = 50


def mixup_explorer(
    data: LongTailedData | None = None, model: nn.Module | Mapping[str, nn.Module] | None = None, *,
    a: int = 0, b: int = -1, lam: float = 0.7,
) -> Explorer:  # fmt: skip
    """Two images and everything between them: the mixed picture, its label, and what a model says along the way.

    Controls: image A, image B (the first test image of each class that has one) and lambda, the fraction of A.

    The bar under the mixed picture is its soft target. With a model, its probabilities for the mixtures of all
    lambda: A's class, B's class, and all others in grey; the straight lines are what mixup asks for.

    Args:
        data: the images; shapes-lt if None.
        model: a model, or up to three by name to compare; None shows the images alone.
        a, b: classes where the sliders start, counted among those with a test image.
        lam: where its slider starts, from 0 to 1.

    Raises:
        ValueError: `lam` lies outside [0, 1], there are more than three models, or no test image.
    """
    data = data or load("shapes-lt", test_count=1)
    models = {} if model is None else {"": model} if isinstance(model, nn.Module) else dict(model)
    if len(models) > 3:
        raise ValueError(f"model holds {len(models)} models: the figure has room for 3")
    images, names = _first_of_each_class(data), data.class_names
    figure = blank_figure(1000 if models else 470, 400)
    mixed = _Mixture(figure, images, names)
    paths = {name: _Path(figure, name, row, len(models)) for row, name in enumerate(models)}

    @cache
    def probabilities(name: str, a: int, b: int) -> Tensor:
        """(PATH_STEPS + 1, C), from lambda = 0, which is b, to 1."""
        return _evaluated(models[name], models[name], _path(images[a], images[b], PATH_STEPS)).softmax(1)

    def update(a: int, b: int, lam: float) -> str:
        said = mixed.show(a, b, lam)
        for name, panel in paths.items():
            said += panel.show(probabilities(name, a, b), a, b, round(lam * PATH_STEPS), names)
        return said

    controls = _controls(names, images, a, b, lam, PATH_STEPS)
    label = "Two images, their mixture and its label" + (", and a model's probabilities between them" if models else "")
    return Explorer(controls, figure, update, moving=[mixed, *paths.values()], label=label)


class _Mixture:
    """Image A, image B and their mixture, and its soft target as a bar."""

    def __init__(self, figure: Figure, images: Mapping[int, Tensor], names: Sequence[str]) -> None:
        self.images, self.names = images, names
        places = (10, 45, 130, A_COLOUR), (10, 215, 130, B_COLOUR), (160, 45, 300, "0.3")
        self.pictures = [_framed_picture(figure, *place, next(iter(images.values()))) for place in places]
        self.pictures[2].axes.set_title("mixed", **TITLE)
        style = {"fontsize": plots.FONT_SIZE, "va": "bottom"}
        self.titles = [picture.axes.text(0, -1.5, "", **style) for picture in self.pictures[:2]]
        bar = axes_at(figure, 160, 360, 300, 28, xlim=(0, 1), ylim=(0, 1))
        bar.set_axis_off()
        self.parts = [bar.barh(0.5, 0, height=1, color=colour).patches[0] for colour in (A_COLOUR, B_COLOUR)]
        centred = {"color": "white", "fontsize": plots.FONT_SIZE, "ha": "center", "va": "center"}
        self.percents = [bar.text(0, 0.45, "", **centred) for _ in self.parts]
        self.artists = [*self.pictures, *self.titles, *self.parts, *self.percents]

    def show(self, a: int, b: int, lam: float) -> str:
        pair = self.images[a], self.images[b]
        for picture, image in zip(self.pictures, (*pair, _mixture(*pair, lam)), strict=True):
            picture.set_data(_to_pixels(image))
        for title, letter, c in zip(self.titles, "AB", (a, b), strict=True):
            title.set_text(f"{letter}: {self.names[c]}")
        for part, percent, start, size in zip(self.parts, self.percents, (0, lam), (lam, 1 - lam), strict=True):
            part.set(x=start, width=size)
            percent.set(x=start + size / 2, text=f"{size:.0%}" if size > 0.12 else "")
        if a == b:
            return f"lambda {lam:.2f}: A and B are one image; the label is {self.names[a]}"
        return f"lambda {lam:.2f}: the label is {lam:.0%} {self.names[a]}, {1 - lam:.0%} {self.names[b]}"


class _Path:
    """A model's probabilities against lambda, in one of `rows` rows."""

    def __init__(self, figure: Figure, name: str, row: int, rows: int) -> None:
        self.name, self.lams, pitch = name, np.linspace(0, 1, PATH_STEPS + 1), 340 / rows
        ax = plot_at(figure, 540, 38 + row * pitch, 440, pitch - 34, ylabel="probability")
        ax.set_title(name, **TITLE)
        ax.set(xlim=(-0.01, 1.01), ylim=(-0.02, 1.05))
        if row == rows - 1:
            ax.set_xlabel("lambda, the fraction of A")
        else:
            ax.set_xticklabels([])
        ax.plot([0, 1], [0, 1], [0, 1], [1, 0], color="0.7", linewidth=1, linestyle=":")
        self.others = LineCollection([], colors="0.6", linewidths=1)
        ax.add_collection(self.others)
        (self.b,) = ax.plot([], [], color=B_COLOUR, linewidth=2.5, linestyle=(0, (4, 1.5)), label="B's class")
        (self.a,) = ax.plot([], [], color=A_COLOUR, linewidth=2.5, label="A's class")
        self.mark = ax.axvline(0, color="0.2", linewidth=1)
        (self.dots,) = ax.plot([], [], "o", color="0.1", markersize=7, markerfacecolor="white", markeredgewidth=2)
        if row == 0:
            ax.legend(handles=[self.a, self.b], ncols=2, loc="lower right", bbox_to_anchor=(1.01, 0.97), **LEGEND)
        self.artists = [self.others, self.b, self.a, self.mark, self.dots]

    def show(self, p: Tensor, a: int, b: int, step: int, names: Sequence[str]) -> str:
        others = [c for c in range(len(names)) if c not in (a, b)]
        self.others.set_segments([np.stack([self.lams, p[:, c]], 1) for c in others])
        self.a.set_data(self.lams, p[:, a].numpy())
        self.b.set_data(self.lams, p[:, b].numpy())
        self.mark.set_xdata([self.lams[step]] * 2)
        self.dots.set_data([self.lams[step]] * 2, p[step, [a, b]].numpy())
        said = f"; {self.name or 'the model'} says {_say(names, p[step], a, b)}"
        if others:
            most = max(others, key=lambda c: p[step, c])
            said += f", and of all others most {names[most]} {p[step, most]:.0%}"
        return said


# --- inside the network ----------------------------------------------------------------------------------------------

MAPS, MAP_STEPS = 8, 20
# name of a row -> colour of its image's frame; no image has the mixed maps
MAP_ROWS = {"A": A_COLOUR, "B": B_COLOUR, "maps mixed\n(manifold)": None, "maps of the\nmixed image": "0.3"}


def manifold_explorer(
    data: LongTailedData | None, model: nn.Module, *,
    layers: Sequence[str] = ("input", "stem", "layer1", "layer2", "layer3", "pool"), a: int = 0, b: int = -1,
) -> Explorer:  # fmt: skip
    """Where to mix: the feature maps of two images at a layer, their mixture, and the maps of the mixed images.

    Controls: layer, image A, image B (the first test image of each class that has one) and lambda.

    Columns are channels of the layer, those in which A and B differ most; black is 0 (or the lowest value of A and B,
    if that is negative), white the highest value of A and B in the channel. The rows are A, B, the mixture of the two
    (manifold mixup at this layer) and what the layer makes of the mixed images (input mixup). The last two would be
    equal if everything below the layer were linear.

    Args:
        data: the images; shapes-lt if None.
        model: with these layers; its maps are computed once for each pair, in evaluation mode.
        layers: "input", and names of modules whose output is (N, K, h, w) or (N, K).
        a, b: classes where the sliders start, counted among those with a test image.

    Raises:
        ValueError: the model has no such layer, or its output has another shape; no test image.
    """
    data = data or load("shapes-lt", test_count=1)
    images, names = _first_of_each_class(data), data.class_names
    figure = blank_figure(1000, 470)
    figure.text(0.185, 0.985, "image", fontsize=plots.FONT_SIZE, ha="center", va="top")
    title = figure.text(0.25, 0.985, "", fontsize=plots.FONT_SIZE, va="top")
    rows = [_MapRow(figure, row, *words, next(iter(images.values()))) for row, words in enumerate(MAP_ROWS.items())]

    @cache
    def maps(layer: str, a: int, b: int) -> tuple[list[int], Tensor]:
        return _maps_on_path(model, images[a], images[b], layer)

    @cache
    def probabilities(layer: str, a: int, b: int) -> Tensor:
        """(MAP_STEPS + 1, C), where the layer mixes a with b, from lambda = 0, which is b, to 1."""
        mixed = _evaluated(model, forward_mixed, model, *_paired(images[a], images[b], MAP_STEPS), layer)
        return mixed[: MAP_STEPS + 1].softmax(1)

    def update(layer: str, a: int, b: int, lam: float) -> str:
        step = round(lam * MAP_STEPS)
        channels, x = maps(layer, a, b)
        mixed = _mixture(x[-1], x[0], lam)
        shown = (x[-1], images[a]), (x[0], images[b]), (mixed, None), (x[step], _mixture(images[a], images[b], lam))
        for row, (values, image) in zip(rows, shown, strict=True):
            row.show(values, image)
        title.set_text(f"channels {', '.join(map(str, channels))} of {layer}")
        apart = (mixed - x[step]).square().sum().sqrt() / (x[-1] - x[0]).square().sum().sqrt().clamp(min=1e-12)
        return (
            f"{layer}, lambda {lam:.2f}: the mixed maps and the maps of the mixed image differ by {apart:.0%} of the "
            "distance between A and B; mixed at this layer, the model says "
            f"{_say(names, probabilities(layer, a, b)[step], a, b)}"
        )

    controls = {"layer": choice("layer", layers)} | _controls(names, images, a, b, 0.5, MAP_STEPS)
    label = "Feature maps of two images, mixed inside the network and before it"
    return Explorer(controls, figure, update, moving=[title, *rows], label=label)


class _MapRow:
    """Feature maps of some channels, and the image that has them, if there is one."""

    def __init__(self, figure: Figure, row: int, words: str, colour: str | None, image: Tensor) -> None:
        top = 37 + 111.5 * row
        figure.text(0.12, 1 - (top + 45) / 470, words, fontsize=plots.FONT_SIZE, ha="right", va="center")
        self.pictures = [_framed_picture(figure, 140, top, 90, colour, image)] if colour else []
        self.maps = []
        for c in range(MAPS):
            ax = axes_at(figure, 250 + 94 * c, top, 90, 90, xticks=[], yticks=[])
            ax.spines[:].set_color("0.7")
            self.maps.append(show_pixels(ax, [[0]], cmap="gray", vmin=0, vmax=1, extent=(0, 1, 0, 1)))
        self.artists = [*self.pictures, *self.maps]

    def show(self, values: Tensor, image: Tensor | None) -> None:
        if image is not None:
            self.pictures[0].set_data(_to_pixels(image))
        for c, picture in enumerate(self.maps):
            picture.set_visible(c < len(values))
            picture.axes.set_visible(c < len(values))
            if c < len(values):
                picture.set_data(values[c].numpy())


def _maps_on_path(model: nn.Module, a: Tensor, b: Tensor, layer: str) -> tuple[list[int], Tensor]:
    """The channels that are shown, and their maps from image b to a, (MAP_STEPS + 1, n, h, w) in [0, 1] by channel."""
    x = _evaluated(model, _features, model, _path(a, b, MAP_STEPS), layer)  # (S, K, h, w)
    chosen = (x[-1] - x[0]).square().sum((1, 2)).argsort(descending=True, stable=True)[:MAPS].sort().values
    ends = x[[0, -1]][:, chosen]
    low, high = ends.amin((0, 2, 3), True).clamp(max=0), ends.amax((0, 2, 3), True)
    return chosen.tolist(), (x[:, chosen] - low) / (high - low).clamp(min=1e-12)


def _features(model: nn.Module, images: Tensor, layer: str) -> Tensor:
    """The output of a layer, as (N, K, h, w); ValueError if it cannot be mixed, or has another shape."""
    if layer == "input":
        return images
    seen = []
    forward_mixed(model, images, torch.arange(len(images), device=images.device), 1.0, layer)
    with model.get_submodule(layer).register_forward_hook(lambda module, inputs, output: seen.append(output)):
        model(images)
    (x,) = seen
    if x.ndim not in (2, 4):
        raise ValueError(f"layer={layer!r} has output {tuple(x.shape)}; the explorer shows (N, K, h, w) or (N, K)")
    return x if x.ndim == 4 else x[:, :, None, None]


# --- what both share -------------------------------------------------------------------------------------------------


def _first_of_each_class(data: LongTailedData) -> dict[int, Tensor]:
    """By class, the first test image of every class that has one, float (3, H, W) in [0, 1]."""
    if not len(data.test.labels):
        raise ValueError("data: the test set has no image to mix; load data with a test set")
    images, labels = data.test.images.cpu(), data.test.labels.cpu()
    return {c: images[(labels == c).nonzero()[0, 0]].float() / 255 for c in labels.unique().tolist()}


def _controls(
    names: Sequence[str], images: Mapping[int, Tensor], a: int, b: int, lam: float, steps: int
) -> dict[str, Any]:
    return {
        "a": class_slider("image A", names, images, a),
        "b": class_slider("image B", names, images, b),
        "lam": slider("lam", lam, 0, 1, 1 / steps, description="lambda", readout_format=".2f"),
    }


def _evaluated(model: nn.Module, function: Callable[..., Tensor], *args: Any) -> Tensor:
    """function(*args), float32 on the CPU, in evaluation mode; tensors among the arguments go to the model's device."""
    device = next(model.parameters()).device
    with evaluating(model), torch.inference_mode():
        return function(*(x.to(device) if isinstance(x, Tensor) else x for x in args)).float().cpu()


def _paired(a: Tensor, b: Tensor, steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Images, partners and lambdas for `mix`: a and b, each steps + 1 times, with lam = 0, 1/steps, ... 1 for both."""
    n = steps + 1
    ends = torch.stack([a, b]).repeat_interleave(n, 0)  # each the other's partner
    return ends, torch.arange(2 * n).roll(n), torch.linspace(0, 1, n).repeat(2)


def _path(a: Tensor, b: Tensor, steps: int) -> Tensor:
    """Mixtures lam a + (1 - lam) b for lam = 0, 1/steps, ... 1. -> (steps + 1, *a.shape)"""
    return mix(*_paired(a, b, steps))[: steps + 1]


def _mixture(a: Tensor, b: Tensor, lam: float) -> Tensor:
    return mix(torch.stack([a, b]), torch.tensor([1, 0]), lam)[0]


def _say(names: Sequence[str], p: Tensor, a: int, b: int) -> str:
    """The probabilities (C,) of one class or two, in words."""
    return f"{names[a]} {p[a]:.0%}" + (f", {names[b]} {p[b]:.0%}" if a != b else "")


def _framed_picture(figure: Figure, left: float, top: float, side: float, colour: str, image: Tensor) -> Pixels:
    """A (3, H, W) image in a square frame of its colour, placed in CSS pixels."""
    ax = axes_at(figure, left, top, side, side, xticks=[], yticks=[])
    ax.spines[:].set(color=colour, linewidth=4)
    return show_pixels(ax, _to_pixels(image))


def _to_pixels(image: Tensor) -> np.ndarray:
    """float (3, H, W) in [0, 1] -> uint8 (H, W, 3)"""
    return image.permute(1, 2, 0).mul(255).round().byte().numpy()
