"""Manifold mixup: the feature maps of two images, mixed inside the network and before it."""

from collections.abc import Sequence
from functools import cache

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from .. import plots
from ..data import LongTailedData, load
from ..mixup import forward_mixed, mix
from .explorer import Explorer, blank_figure, choice
from .pair import (
    A_COLOUR,
    B_COLOUR,
    first_of_each_class,
    framed_picture,
    in_evaluation_mode,
    lambda_slider,
    pair_controls,
    paired,
    path,
    to_pixels,
)
from .pixels import show_pixels

MAPS, MAP_STEPS = 8, 20
# name of a row -> colour of its image's frame; no image has the mixed maps
ROWS = {"A": A_COLOUR, "B": B_COLOUR, "maps mixed\n(manifold)": None, "maps of the\nmixed image": "0.3"}


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
        layers: "input", and names of parts that give out (N, K, h, w) or (N, K).
        a, b: classes where the sliders begin, counted among those with a test image.

    Raises:
        ValueError: a layer that the model does not have, or that gives out something else; no test image.
    """
    data = data or load("shapes-lt", test_count=1)
    images, names = first_of_each_class(data), data.class_names
    controls = {"layer": choice("layer", layers, width=80)} | pair_controls(names, images, ("image A", "image B"), a, b)
    controls["lam"] = lambda_slider(0.5, MAP_STEPS)

    figure = blank_figure(1000, 470)
    figure.text(0.185, 0.985, "image", fontsize=plots.FONT_SIZE, ha="center", va="top")
    title = figure.text(0.25, 0.985, "", fontsize=plots.FONT_SIZE, va="top")
    image = next(iter(images.values()))
    rows = [_Row(figure, 0.73 - r * 0.2375, words, image, colour) for r, (words, colour) in enumerate(ROWS.items())]

    @cache
    def maps(layer: str, a: int, b: int) -> tuple[list[int], Tensor]:
        return _maps_on_path(model, images[a], images[b], layer)

    @cache
    def probabilities(layer: str, a: int, b: int) -> Tensor:
        return _probabilities_mixed_at(model, images[a], images[b], layer)

    def update(layer: str, a: int, b: int, lam: float) -> str:
        step = round(lam * MAP_STEPS)
        channels, x = maps(layer, a, b)
        mixed = mix(x[[-1, 0]], torch.tensor([1, 0]), lam)[0]
        blend = mix(torch.stack([images[a], images[b]]), torch.tensor([1, 0]), lam)[0]
        shown = (x[-1], images[a]), (x[0], images[b]), (mixed, None), (x[step], blend)
        for row, (values, image) in zip(rows, shown, strict=True):
            row.show(values, image)
        title.set_text(f"channels {', '.join(map(str, channels))} of {layer}")
        apart = (mixed - x[step]).square().sum().sqrt() / (x[-1] - x[0]).square().sum().sqrt().clamp(min=1e-12)
        p = probabilities(layer, a, b)[step]
        return (
            f"{layer}, lambda {lam:.2f}: the mixed maps and the maps of the mixed image differ by {apart:.0%} of the "
            f"distance between A and B; mixed at this layer, the model says {names[a]} {p[a]:.0%}"
            + (f", {names[b]} {p[b]:.0%}" if a != b else "")
        )

    moving = [title, *(artist for row in rows for artist in row.artists)]
    label = "Feature maps of two images, mixed inside the network and before it"
    return Explorer(controls, figure, update, moving=moving, label=label)


class _Row:
    """Feature maps of some channels, and the image that has them, if there is one."""

    def __init__(self, figure: Figure, bottom: float, words: str, image: Tensor, colour: str | None) -> None:
        figure.text(0.12, bottom + 45 / 470, words, fontsize=plots.FONT_SIZE, ha="right", va="center")
        frame = (0.14, bottom, 0.09, 90 / 470)
        self.pictures = [] if colour is None else [framed_picture(figure.add_axes(frame), image, colour)]
        self.maps = []
        for c in range(MAPS):
            ax = figure.add_axes((0.25 + c * 0.094, bottom, 0.09, 90 / 470), xticks=[], yticks=[])
            ax.spines[:].set_color("0.7")
            self.maps.append(show_pixels(ax, [[0]], cmap="gray", vmin=0, vmax=1, extent=(0, 1, 0, 1)))
        self.artists = [*self.pictures, *self.maps]

    def show(self, values: Tensor, image: Tensor | None) -> None:
        for picture in self.pictures:
            picture.set_data(to_pixels(image))
        for c, picture in enumerate(self.maps):
            picture.set_visible(c < len(values))
            picture.axes.set_visible(c < len(values))
            if c < len(values):
                picture.set_data(values[c].numpy())


def _maps_on_path(model: nn.Module, a: Tensor, b: Tensor, layer: str) -> tuple[list[int], Tensor]:
    """The channels that are shown, and their maps from image b to a, (MAP_STEPS + 1, n, h, w) in [0, 1] by channel."""
    images = path(a, b, MAP_STEPS).to(next(model.parameters()).device)
    x = in_evaluation_mode(model, _features, model, images, layer).float().cpu()  # (S, K, h, w)
    chosen = (x[-1] - x[0]).square().sum((1, 2)).argsort(descending=True, stable=True)[:MAPS].sort().values
    ends = x[[0, -1]][:, chosen]
    low, high = ends.amin((0, 2, 3), True).clamp(max=0), ends.amax((0, 2, 3), True)
    return chosen.tolist(), (x[:, chosen] - low) / (high - low).clamp(min=1e-12)


def _probabilities_mixed_at(model: nn.Module, a: Tensor, b: Tensor, layer: str) -> Tensor:
    """What a model says where a layer mixes a with b: (MAP_STEPS + 1, C), from lambda = 0, which is b, to 1."""
    ends, partners, lams = (x.to(next(model.parameters()).device) for x in paired(a, b, MAP_STEPS))
    logits = in_evaluation_mode(model, forward_mixed, model, ends, partners, lams, layer)[: MAP_STEPS + 1]
    return logits.float().softmax(1).cpu()


def _features(model: nn.Module, images: Tensor, layer: str) -> Tensor:
    """What a layer gives out, as (N, K, h, w); ValueError if it cannot be mixed, or is no map."""
    if layer == "input":
        return images
    seen = []
    forward_mixed(model, images, torch.arange(len(images), device=images.device), 1.0, layer)
    with model.get_submodule(layer).register_forward_hook(lambda module, inputs, output: seen.append(output)):
        model(images)
    (x,) = seen
    if x.ndim not in (2, 4):
        raise ValueError(f"layer={layer!r} gives out {tuple(x.shape)}; the explorer shows (N, K, h, w) or (N, K)")
    return x if x.ndim == 4 else x[:, :, None, None]
