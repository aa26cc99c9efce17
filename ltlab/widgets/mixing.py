"""Mixup: a path between two images, the Beta distribution, mixing inside the network, and the labels of Remix."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import ipywidgets
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap
from matplotlib.image import AxesImage
from matplotlib.patches import Patch
from torch import Tensor, nn

from .. import plots
from ..cam import evaluating
from ..data import LongTailedData, load
from ..mixup import draw_lambda, forward_mixed, mix, remix_lambda
from .explorer import Explorer, blank_figure, choice

A_COLOUR, B_COLOUR = "#832db6", "#a96b59"  # of the two images; the blue, green and vermilion belong to the groups
GREY = {"color": "0.45", "linewidth": 1.5}
LEGEND = {"frameon": False, "fontsize": plots.FONT_SIZE, "handlelength": 1.8, "borderaxespad": 0.2}
TITLE = {"fontsize": plots.FONT_SIZE, "loc": "left"}

# --- what the explorers share ----------------------------------------------------------------------------------------


def _first_of_each_class(data: LongTailedData) -> Tensor:
    """The first test image of every class, float (C, 3, H, W) in [0, 1]."""
    labels = data.test.labels.cpu()
    first = [(labels == c).nonzero()[:1].flatten() for c in range(len(data.class_names))]
    return data.test.images.cpu()[torch.cat(first)].float() / 255


def _pair_controls(names: Sequence[str], descriptions: tuple[str, str], a: int, b: int) -> dict[str, Any]:
    """Two sliders over the class names."""
    options = [(name, c) for c, name in enumerate(names)]
    return {
        key: ipywidgets.SelectionSlider(options=options, value=value % len(names), description=description)
        for key, value, description in zip("ab", (a, b), descriptions, strict=True)
    }


def _lambda_slider(lam: float, steps: int) -> ipywidgets.FloatSlider:
    if not 0 <= lam <= 1:
        raise ValueError(f"lam={lam} is not on the slider: choose one from 0 to 1")
    return ipywidgets.FloatSlider(value=lam, max=1, step=1 / steps, description="lambda", readout_format=".2f")


def _in_evaluation_mode(model: nn.Module, function: Callable[..., Any], *args: Any) -> Any:
    """function(*args) without gradients and with the model's running statistics; the model stays as it was."""
    with evaluating(model), torch.inference_mode():
        return function(*args)


def _path(a: Tensor, b: Tensor, steps: int) -> Tensor:
    """Mixtures lam a + (1 - lam) b for lam = 0, 1/steps, ... 1. -> (steps + 1, *a.shape)"""
    n = steps + 1
    ends = torch.stack([a, b]).repeat_interleave(n, 0)  # n times a, n times b, each the other's partner
    return mix(ends, torch.arange(2 * n).roll(n), torch.linspace(0, 1, n).repeat(2))[:n]


def _picture(ax: Axes, image: Tensor, colour: str) -> AxesImage:
    """A (3, H, W) image in a frame of its colour."""
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set(color=colour, linewidth=4)
    return ax.imshow(_to_pixels(image), interpolation="nearest")


def _to_pixels(image: Tensor) -> np.ndarray:
    return image.permute(1, 2, 0).mul(255).round().byte().numpy()


def _dress(ax: Axes, x: str, y: str) -> None:
    ax.set_xlabel(x, fontsize=plots.FONT_SIZE)
    ax.set_ylabel(y, fontsize=plots.FONT_SIZE)
    ax.tick_params(labelsize=plots.FONT_SIZE)
    ax.spines[["top", "right"]].set_visible(False)


# --- between two images ----------------------------------------------------------------------------------------------

PATH_STEPS = 50


def mixup_explorer(
    data: LongTailedData | None = None, model: nn.Module | Mapping[str, nn.Module] | None = None, *,
    a: int = 0, b: int = -1, lam: float = 0.7,
) -> Explorer:  # fmt: skip
    """Two images and everything between them: the mixed picture, its label, and what a model says along the way.

    Controls: image A, image B (the first test image of each class) and lambda, A's share.

    The bar under the mixed picture is its soft target. With a model, its probabilities for the mixtures of all
    lambda: A's class, B's class, and all others in grey; the straight lines are what mixup asks for.

    Args:
        data: the images; shapes-lt if None.
        model: a model, or up to three by name to compare; None shows the images alone.
        a, b: classes where the sliders begin.
        lam: where its slider begins, from 0 to 1.

    Raises:
        ValueError: `lam` lies outside [0, 1], or there are more than three models.
    """
    data = data or load("shapes-lt", test_count=1)
    models = {} if model is None else {"": model} if isinstance(model, nn.Module) else dict(model)
    if len(models) > 3:
        raise ValueError(f"{len(models)} models: the figure has room for 3")
    images, names = _first_of_each_class(data), data.class_names
    controls = _pair_controls(names, ("image A", "image B"), a, b) | {"lam": _lambda_slider(lam, PATH_STEPS)}

    width = 1000 if models else 470
    figure = blank_figure(width, 400)

    def axes(left: float, bottom: float, w: float, h: float, **settings: Any) -> Axes:  # in CSS pixels
        return figure.add_axes((left / width, bottom / 400, w / width, h / 400), **settings)

    one = _picture(axes(10, 225, 130, 130), images[0], A_COLOUR)
    other = _picture(axes(10, 55, 130, 130), images[0], B_COLOUR)
    middle = _picture(axes(160, 55, 300, 300), images[0], "0.3")
    middle.axes.set_title("mixed", **TITLE)
    titles = [picture.axes.text(0, -1.5, "", fontsize=plots.FONT_SIZE, va="bottom") for picture in (one, other)]
    bar = axes(160, 12, 300, 28, xlim=(0, 1), ylim=(0, 1))
    bar.set_axis_off()
    shares = [bar.barh(0.5, 0, height=1, color=colour).patches[0] for colour in (A_COLOUR, B_COLOUR)]
    percents = [bar.text(0, 0.45, "", color="white", fontsize=plots.FONT_SIZE, ha="center", va="center") for _ in "ab"]
    panels = []
    for row, name in enumerate(models):
        height = (400 - 60 - 34 * len(models)) / len(models)
        bottom = 56 + (len(models) - 1 - row) * (height + 34)
        ends = {"first": row == 0, "last": row == len(models) - 1}
        panels.append(_Path(axes(540, bottom, 440, height), name, **ends))

    @cache
    def probabilities(name: str, a: int, b: int) -> Tensor:
        steps = _path(images[a], images[b], PATH_STEPS)
        device = next(models[name].parameters()).device
        return _in_evaluation_mode(models[name], models[name], steps.to(device)).float().softmax(1).cpu()

    def update(a: int, b: int, lam: float) -> str:
        mixed = mix(images[[a, b]], torch.tensor([1, 0]), lam)[0]
        for picture, image in zip((one, other, middle), (images[a], images[b], mixed), strict=True):
            picture.set_data(_to_pixels(image))
        for title, letter, c in zip(titles, "AB", (a, b), strict=True):
            title.set_text(f"{letter}: {names[c]}")
        for share, percent, start, size in zip(shares, percents, (0, lam), (lam, 1 - lam), strict=True):
            share.set(x=start, width=size)
            percent.set(x=start + size / 2, text=f"{size:.0%}" if size > 0.12 else "")
        said = f"lambda {lam:.2f}: the label is {lam:.0%} {names[a]}, {1 - lam:.0%} {names[b]}"
        if a == b:
            said = f"lambda {lam:.2f}: A and B are one image; the label is {names[a]}"
        for panel, name in zip(panels, models, strict=True):
            said += panel.show(probabilities(name, a, b), a, b, round(lam * PATH_STEPS), names)
        return said

    moving = [one, other, middle, *titles, *shares, *percents]
    moving += [artist for panel in panels for artist in panel.artists]
    label = "Two images, their mixture and its label" + (", and a model's probabilities between them" if models else "")
    return Explorer(controls, figure, update, moving=moving, label=label)


class _Path:
    """A model's probabilities against lambda."""

    def __init__(self, ax: Axes, name: str, *, first: bool, last: bool) -> None:
        self.name, self.lams = name, np.linspace(0, 1, PATH_STEPS + 1)
        ax.set(xlim=(-0.01, 1.01), ylim=(-0.02, 1.05))
        _dress(ax, "lambda, the share of A" if last else "", "probability")
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


# --- the Beta distribution -------------------------------------------------------------------------------------------

ALPHAS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 20.0, 30.0, 50.0)
BINS, DRAWS, BATCHES, HIGHEST = 40, 4000, 16, 7


def beta_explorer(*, alpha: float = 1.0, seed: int = 0) -> Explorer:
    """How strongly mixup mixes: the distribution of lambda for every alpha.

    Control: alpha, from 0.05 to 50.

    Left, the density of Beta(alpha, alpha) over a histogram of 4,000 draws; a bar that reaches beyond the top has its
    height written on it. The two grey edges are the lambdas within 0.1 of 0 or 1, where a picture is nearly unmixed.
    Right, the soft targets of 16 batches.

    Args:
        alpha: where the slider begins, one of `ALPHAS`.
        seed: of the draws.

    Raises:
        ValueError: `alpha` is not on the slider.
    """
    if alpha not in ALPHAS:
        raise ValueError(f"alpha={alpha} is not on the slider: choose one of {ALPHAS}")
    figure = blank_figure(1000, 360)
    left = figure.add_axes((0.06, 0.16, 0.6, 0.74), xlim=(0, 1), ylim=(0, HIGHEST))
    right = figure.add_axes((0.72, 0.16, 0.26, 0.74), xlim=(0, 1), ylim=(BATCHES - 0.5, -0.5))
    _dress(left, "lambda", "density")
    _dress(right, "share of the label", "")
    right.set_title(f"{BATCHES} batches", fontsize=plots.FONT_SIZE)
    right.set_title("A", **TITLE, color=A_COLOUR, weight="bold")
    right.set_title("B", fontsize=plots.FONT_SIZE, loc="right", color=B_COLOUR, weight="bold")
    right.set_yticks([])
    for edge in (0, 0.9):
        left.axvspan(edge, edge + 0.1, color="0.92", zorder=0)
    edges = np.linspace(0, 1, BINS + 1)
    bars = left.bar(edges[:-1], 0, 1 / BINS, align="edge", color="0.75", edgecolor="white", linewidth=0.5).patches
    centres = torch.linspace(0, 1, 401, dtype=torch.float64)[1:-1]
    (density,) = left.plot(centres.numpy(), centres.numpy(), color="black", linewidth=2.5)
    beyond = [left.text(x, HIGHEST - 0.1, "", fontsize=plots.FONT_SIZE, ha=ha, va="top", zorder=5)
              for x, ha in ((0.03, "left"), (0.97, "right"))]  # fmt: skip
    of_a = right.barh(range(BATCHES), 0, height=0.8, color=A_COLOUR).patches
    of_b = right.barh(range(BATCHES), 0, height=0.8, color=B_COLOUR).patches

    @cache
    def draws(alpha: float) -> Tensor:
        return draw_lambda(alpha, torch.Generator().manual_seed(seed), (DRAWS,))

    def update(alpha: float) -> str:
        lams = draws(alpha)
        heights = torch.histc(lams, BINS, 0, 1) * BINS / DRAWS
        for bar, height in zip(bars, heights.tolist(), strict=True):
            bar.set_height(height)
        for text, height in zip(beyond, heights[[0, -1]].tolist(), strict=True):
            text.set_text(f"↑ {height:.0f}" if height > HIGHEST else "")
        known = torch.distributions.Beta(*torch.tensor([alpha, alpha], dtype=torch.float64))
        density.set_ydata(known.log_prob(centres).exp().numpy())
        for a, b, lam in zip(of_a, of_b, lams.tolist(), strict=False):
            a.set_width(lam)
            b.set(x=lam, width=1 - lam)
        near = ((lams < 0.1) | (lams > 0.9)).float().mean()
        return (
            f"alpha {alpha:g}: {near:.0%} of {DRAWS:,} lambdas lie within 0.1 of 0 or 1 (nearly unmixed), the mean is "
            f"{lams.mean():.2f}, the standard deviation {lams.std():.2f}; by the formula "
            f"{(8 * alpha + 4) ** -0.5:.2f}"
        )

    controls = {"alpha": ipywidgets.SelectionSlider(options=ALPHAS, value=alpha, description="alpha")}
    moving = [*bars, density, *beyond, *of_a, *of_b]
    label = "Density of lambda, a histogram of draws, and the labels of some batches"
    return Explorer(controls, figure, update, moving=moving, label=label)


# --- inside the network ----------------------------------------------------------------------------------------------

MAPS, MAP_STEPS = 8, 20


def manifold_explorer(
    data: LongTailedData | None, model: nn.Module, *,
    layers: Sequence[str] = ("input", "stem", "layer1", "layer2", "layer3", "pool"), a: int = 0, b: int = -1,
) -> Explorer:  # fmt: skip
    """Where to mix: the feature maps of two images at a layer, their mixture, and the maps of the mixed images.

    Controls: layer, image A, image B (the first test image of each class) and lambda.

    Columns are channels of the layer, those in which A and B differ most; black is 0 (or the lowest value of A and B,
    if that is negative), white the highest value of A and B in the channel. The rows are A, B, the mixture of the two
    (manifold mixup at this layer) and what the layer makes of the mixed images (input mixup). The last two would be
    equal if everything below the layer were linear.

    Args:
        data: the images; shapes-lt if None.
        model: with these layers; its maps are computed once for each pair, in evaluation mode.
        layers: "input", and names of parts that give out (N, K, h, w) or (N, K).
        a, b: classes where the sliders begin.

    Raises:
        ValueError: a layer that the model does not have, or that gives out something else.
    """
    data = data or load("shapes-lt", test_count=1)
    images, names = _first_of_each_class(data), data.class_names
    device = next(model.parameters()).device
    lams = torch.linspace(0, 1, MAP_STEPS + 1)
    controls = {"layer": choice("layer", layers, width=80), **_pair_controls(names, ("image A", "image B"), a, b)}
    controls["lam"] = _lambda_slider(0.5, MAP_STEPS)

    figure = blank_figure(1000, 470)
    rows = ("A", "B", "maps mixed\n(manifold)", "maps of the\nmixed image")
    figure.text(0.185, 0.985, "image", fontsize=plots.FONT_SIZE, ha="center", va="top")
    channel = figure.text(0.25, 0.985, "", fontsize=plots.FONT_SIZE, va="top")
    pictures, maps = [], []
    for r, row in enumerate(rows):
        bottom = 0.73 - r * 0.2375
        figure.text(0.12, bottom + 45 / 470, row, fontsize=plots.FONT_SIZE, ha="right", va="center")
        if r != 2:  # no image has the mixed maps
            ax = figure.add_axes((0.14, bottom, 0.09, 90 / 470))
            pictures.append(_picture(ax, images[0], (A_COLOUR, B_COLOUR, "", "0.3")[r]))
        maps.append([_map(figure.add_axes((0.25 + c * 0.094, bottom, 0.09, 90 / 470))) for c in range(MAPS)])

    @cache
    def features(layer: str, a: int, b: int) -> tuple[list[int], Tensor]:
        """The channels that are shown, and their maps along the path, (MAP_STEPS + 1, n, h, w) in [0, 1] by channel."""
        x = _path(images[a], images[b], MAP_STEPS).to(device)
        x = _in_evaluation_mode(model, _features, model, x, layer).float().cpu()  # (S, K, h, w)
        chosen = (x[-1] - x[0]).square().sum((1, 2)).argsort(descending=True, stable=True)[:MAPS].sort().values
        x = x[:, chosen]
        ends = x[[0, -1]]
        low, high = ends.amin((0, 2, 3), True).clamp(max=0), ends.amax((0, 2, 3), True)
        return chosen.tolist(), (x - low) / (high - low).clamp(min=1e-12)

    @cache
    def probabilities(layer: str, a: int, b: int) -> Tensor:
        n = len(lams)
        ends = images[[a, b]].repeat_interleave(n, 0).to(device)
        args = model, ends, torch.arange(2 * n).roll(n).to(device), lams.repeat(2).to(device), layer
        return _in_evaluation_mode(model, forward_mixed, *args)[:n].float().softmax(1).cpu()

    def update(layer: str, a: int, b: int, lam: float) -> str:
        step = round(lam * MAP_STEPS)
        chosen, x = features(layer, a, b)
        mixed = mix(x[[-1, 0]], torch.tensor([1, 0]), lam)[0]
        for row, values in zip(maps, (x[-1], x[0], mixed, x[step]), strict=True):
            for c, picture in enumerate(row):
                for artist in (picture, picture.axes):
                    artist.set_visible(c < len(chosen))
                if c < len(chosen):
                    picture.set_data(values[c].numpy())
        blend = mix(images[[a, b]], torch.tensor([1, 0]), lam)[0]
        for picture, image in zip(pictures, (images[a], images[b], blend), strict=True):
            picture.set_data(_to_pixels(image))
        channel.set_text(f"channels {', '.join(map(str, chosen))} of {layer}")
        apart = (mixed - x[step]).square().sum().sqrt() / (x[-1] - x[0]).square().sum().sqrt().clamp(min=1e-12)
        p = probabilities(layer, a, b)[step]
        return (
            f"{layer}, lambda {lam:.2f}: the mixed maps and the maps of the mixed image differ by {apart:.0%} of the "
            f"distance between A and B; mixed at this layer, the model says {names[a]} {p[a]:.0%}"
            + (f", {names[b]} {p[b]:.0%}" if a != b else "")
        )

    moving = [*pictures, channel, *(picture for row in maps for picture in row)]
    label = "Feature maps of two images, mixed inside the network and before it"
    return Explorer(controls, figure, update, moving=moving, label=label)


def _map(ax: Axes) -> AxesImage:
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_color("0.7")
    return ax.imshow([[0]], cmap="gray", vmin=0, vmax=1, interpolation="nearest", extent=(0, 1, 0, 1))


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


# --- Remix -----------------------------------------------------------------------------------------------------------


def remix_explorer(
    class_counts: Any, *, names: Sequence[str] | None = None, kappa: float = 3.0, tau: float = 0.5
) -> Explorer:
    """Whose label a mixed picture gets in Remix.

    Controls: class i and class j of a pair, kappa and tau.

    Left, the share of class i in the label against its share in the picture; dashed is mixup. Right, all pairs of
    classes, the most frequent first: those where i is at least kappa times as common as j and can lose its label,
    those where j is, and those that stay with mixup. The black square is the chosen pair.

    Args:
        class_counts: (C,) training images per class.
        names: (C,) class names; "class 0" and so on if None.
        kappa, tau: where the sliders begin, kappa in [1, 20], tau in [0, 1].

    Raises:
        ValueError: `class_counts` are not above zero, fewer than 2 or more than 200; other names than classes; a
            setting that is not on its slider.
    """
    counts = torch.as_tensor(class_counts)
    if counts.ndim != 1 or not 2 <= len(counts) <= plots.BARS_UP_TO or not (counts > 0).all():
        raise ValueError(f"class_counts={counts.tolist()}: give 2 to {plots.BARS_UP_TO} counts above zero")
    names = [f"class {c}" for c in range(len(counts))] if names is None else list(names)
    if len(names) != len(counts):
        raise ValueError(f"{len(names)} names for {len(counts)} classes: give one each")
    if not 1 <= kappa <= 20 or not 0 <= tau <= 1:
        raise ValueError(f"kappa={kappa}, tau={tau} are not on the sliders: kappa in [1, 20], tau in [0, 1]")
    order = counts.argsort(descending=True, stable=True)
    counts, names = counts[order], [names[c] for c in order]
    prior = counts.double() / counts.sum()
    lams = torch.linspace(0, 1, 201, dtype=torch.float64)
    middles = (lams[1:] + lams[:-1])[:, None, None] / 2  # lam is uniform at alpha = 1

    figure = blank_figure(1000, 420)
    left = figure.add_axes((0.075, 0.14, 0.46, 0.78), xlim=(-0.01, 1.01), ylim=(-0.03, 1.03))
    right = figure.add_axes((0.68, 0.245, 0.285, 285 / 420))
    _dress(left, "lambda, the share of i in the picture", "share of i in the label")
    left.plot([0, 1], [0, 1], **GREY, linestyle="--", label="mixup")
    (rule,) = left.plot([], [], ".", color="black", markersize=6, label="Remix")
    left.legend(loc="upper left", **LEGEND)
    all_to = [
        left.text(x, y, "", fontsize=plots.FONT_SIZE, color=colour, ha=ha, va="center")
        for x, y, colour, ha in ((0.13, 0.06, B_COLOUR, "left"), (0.87, 0.94, A_COLOUR, "right"))
    ]
    spans = [left.axvspan(0, 0, color=colour, alpha=0.15) for colour in (B_COLOUR, A_COLOUR)]
    colours = ListedColormap([B_COLOUR, "0.9", A_COLOUR])
    pairs = right.imshow(
        np.zeros((len(counts),) * 2), cmap=colours, vmin=-1, vmax=1, interpolation="nearest", alpha=0.8
    )
    keys = {"i may lose": B_COLOUR, "j may lose": A_COLOUR, "mixup": "0.9"}
    right.legend(
        handles=[Patch(color=colour, label=text, alpha=0.8) for text, colour in keys.items()], ncols=3,
        loc="lower center", bbox_to_anchor=(0.5, 1.0), **LEGEND | {"columnspacing": 1, "handlelength": 1},
    )  # fmt: skip
    (square,) = right.plot([], [], "s", color="black", markersize=max(5, 150 / len(counts)), fillstyle="none", mew=2.5)
    _dress(right, "class j, its partner", "class i")
    if len(counts) <= plots.NUMBERS_UP_TO:
        right.set_xticks(range(len(counts)), names, rotation=60, ha="right", rotation_mode="anchor", fontsize=9)
        right.set_yticks(range(len(counts)), names, fontsize=9)

    def update(a: int, b: int, kappa: float, tau: float) -> str:
        rule.set_data(lams.numpy(), remix_lambda(lams, counts[a], counts[b], kappa, tau).numpy())
        to_j, to_i = (counts[a] >= kappa * counts[b]).item(), (counts[b] >= kappa * counts[a]).item()
        regions = (to_j, 0, f"all to j, {names[b]}"), (to_i, 1 - tau, f"all to i, {names[a]}")
        for span, text, (there, start, words) in zip(spans, all_to, regions, strict=True):
            span.set(x=start, width=tau, visible=there and tau > 0)
            text.set(text=words, visible=there and tau > 0)
        commoner = (counts[:, None] >= kappa * counts).int()
        pairs.set_data((commoner.T - commoner).numpy())
        square.set_data([b], [a])
        share = remix_lambda(middles, counts[:, None], counts, kappa, tau).mean(0)  # of i in the label, (C, C)
        mass = prior * (share @ prior) + ((1 - share).T @ prior) * prior  # of every class in all labels, (C,)
        what = "i can lose its label" if to_j else "j can lose its label" if to_i else "the label is mixup's"
        if to_i and to_j:
            what = "both can lose their label, i first"
        return (
            f"{names[a]} has {counts[a] / counts[b]:.3g} times as many images as {names[b]}; kappa {kappa:g}, tau "
            f"{tau:.2f}: {what}. Over all pairs (alpha = 1) the rarest class, {names[-1]}, gets {mass[-1]:.2%} of the "
            f"labels, {prior[-1]:.2%} with mixup; the most frequent, {names[0]}, {mass[0]:.1%} and {prior[0]:.1%}"
        )

    controls = _pair_controls(names, ("class i", "class j"), 0, -1)
    controls["kappa"] = ipywidgets.FloatSlider(value=kappa, min=1, max=20, step=0.5, description="kappa")
    controls["tau"] = ipywidgets.FloatSlider(value=tau, max=1, step=0.05, description="tau")
    moving = [*spans, rule, *all_to, pairs, square]
    return Explorer(controls, figure, update, moving=moving, label="The label rule of Remix, and the pairs it changes")
