"""CAM-based sampling: what a model takes for the object, and the object moved."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from .. import cam, plots
from ..data import LongTailedData, load
from ..images import evaluated
from .explorer import Explorer, blank_figure
from .panels import axes_at
from .pixels import show_pixels
from .sliders import choice, slider, stops, switch

IMAGES_PER_CLASS = 20
EMPTY = 225  # the grey value behind a foreground without its image
TRUE_COLOUR = "#ff6a5c"  # of a true mask's outline
OWN_CLASS = -1


def foreground_explorer(
    data: LongTailedData | None, models: nn.Module | Mapping[str, nn.Module], *,
    label: int = 0, number: int = 1, threshold: float = 1.0,
) -> Explorer:  # fmt: skip
    """From a training image to the image that CAM-based sampling shows the network, step by step.

    Controls: class and number of the image, the class whose map is shown, the model if there are several, threshold,
    angle, scale, shift right and down, flip and fill.

    The pictures are the image, the class activation map, the foreground (where the map reaches threshold times its
    mean, outlined in white; the true mask, where the data has one, in red; both on black, so that they are visible on
    every colour), the foreground alone after its transform, and the result. The shift stops where the foreground would
    leave the frame.

    The models run once, when the explorer is made, over the first 20 training images of every class; no control runs
    them again.

    Args:
        data: the training images; shapes-lt if None.
        models: one with `features` and `classifier`, or some by name to choose from, such as early and late in
            training.
        label, number: the image that is shown first; those of a class are counted from 1.
        threshold: where its slider begins, from 0 to 2.

    Raises:
        ValueError: no model; a label, number or threshold that is not on its slider.
    """
    data = data or load("shapes-lt", test_count=1)
    models, names = {"model": models} if isinstance(models, nn.Module) else dict(models), data.class_names
    if not models:
        raise ValueError("models is empty: pass at least one")
    available = [min(n, IMAGES_PER_CLASS) for n in data.class_counts.tolist()]  # images on the slider, of each class
    chosen = torch.cat([(data.train.labels == c).nonzero()[:IMAGES_PER_CLASS, 0] for c in range(len(names))])
    shown = data.train.take(chosen).to("cpu")
    h, w = shown.images.shape[2:]
    controls = _controls(names, models, available, h, w, label, number, threshold)
    evidence, figure = {name: _features(model, shown.images) for name, model in models.items()}, blank_figure(1000, 250)
    panels = _Panels(figure, h, w)

    def update(label: int, number: int, of: int, model: str, threshold: float, fill: bool, **move: Any) -> str:
        own, map_class = (shown.labels == label).nonzero(), label if of == OWN_CLASS else of
        row = own[number - 1]  # (1,)
        image, true = shown.images[row], None if shown.masks is None else shown.masks[row]
        features, weight = evidence[model]
        maps = cam.class_activation_maps(features[row], weight, torch.tensor([map_class]), (h, w))
        mask = cam.foreground_masks(maps, threshold)
        transform = _transform(**move)  # move: angle, scale, right, down, flip
        result = cam.transform_foreground(image, mask, **transform, fill=fill)
        moved = cam.transform_foreground(image.where(mask[:, None], EMPTY), mask, **transform, fill=True)
        covered = cam.transform_foreground(mask[:, None].byte(), mask, **transform, fill=True)[:, 0] == 1
        panels.show([image, maps, image, moved, result], mask, true, names[label], f"map of {names[map_class]}")
        done = _words(**move)
        ghost = "is hole, filled" if fill else "shows the ghost of the old foreground"
        fit = "" if true is None else f", IoU {cam.intersection_over_union(mask, true).item():.2f} with the true mask"
        return (
            f"{names[label]}, training image {number} of {len(own)}; the map of {names[map_class]}"
            f"{f' ({model})' if len(models) > 1 else ''} at {threshold:g} times its mean: foreground "
            f"{mask.float().mean():.0%} of the image{fit}; moved: {done}; "
            f"{(mask & ~covered).float().mean():.0%} of the image {ghost}"
        )

    about = "A training image, a class activation map, the foreground, and the foreground moved"
    return Explorer(controls, figure, update, moving=[panels], label=about)


def _controls(
    names: Sequence[str], models: Mapping[str, nn.Module], available: Sequence[int], h: int, w: int,
    label: int, number: int, threshold: float,
) -> dict[str, Any]:  # fmt: skip
    classes = [(name, c) for c, name in enumerate(names)]
    controls: dict[str, Any] = {
        "label": stops("label", label, classes, description="class"),
        "number": slider("number", number, 1, available[label], 1),
        "of": stops("of", OWN_CLASS, [("own", OWN_CLASS), *classes], description="map of"),
        "model": choice("model", models),
        "threshold": slider("threshold", threshold, 0, 2, 0.05),
        "angle": slider("angle", 0, -180, 180, 5.0, readout_format=".0f"),
        "scale": slider("scale", 1, 0.5, 1.5, 0.05),
        "right": slider("right", 0, -w // 2, w // 2, 1, description="shift right"),
        "down": slider("down", 0, -h // 2, h // 2, 1, description="shift down"),
        "flip": switch("flip"),
        "fill": switch("fill"),
    }
    if len(models) == 1:
        controls["model"].layout.display = "none"

    def limit_number(change: dict[str, Any]) -> None:
        controls["number"].max = available[change["new"]]

    controls["label"].observe(limit_number, names="value")  # before the explorer's own observer draws
    return controls


class _Panels:
    """The five pictures, and the outlines of the foreground and of the true mask."""

    def __init__(self, figure: Figure, h: int, w: int) -> None:
        self.pictures, self.titles = [], []
        for k, title in enumerate(("", "", "foreground", "moved", "result")):
            ax = axes_at(figure, 5 + 200 * k, 32, 190, 213)
            ax.set_axis_off()
            self.pictures.append(show_pixels(ax, [[0]], cmap="cividis", vmin=0, vmax=1, extent=(0, w, h, 0)))
            self.titles.append(ax.text(0, -0.03 * h, title, fontsize=plots.FONT_SIZE, va="bottom"))
        self.outlines = [
            self.pictures[2].axes.plot([], [], color=colour, linewidth=width, solid_capstyle="projecting")[0]
            for colour, width in (("black", 3), ("white", 1.5), ("black", 4), (TRUE_COLOUR, 1.8))
        ]
        self.artists = [*self.pictures, *self.outlines, *self.titles[:2]]

    def show(self, shown: Sequence[Tensor], mask: Tensor, true: Tensor | None, *titles: str) -> None:
        for picture, (pixels,) in zip(self.pictures, shown, strict=True):
            picture.set_data((pixels if pixels.ndim == 2 else pixels.permute(1, 2, 0)).numpy())
        for outline, outlined in zip(self.outlines, (mask, mask, true, true), strict=True):
            if outlined is not None:  # one line with gaps, which draws faster than its segments
                edges = plots.mask_outline(outlined[0].numpy())  # (E, 2, 2)
                outline.set_data(*np.pad(edges, ((0, 0), (0, 1), (0, 0)), constant_values=np.nan).reshape(-1, 2).T)
        for text, title in zip(self.titles, titles, strict=False):
            text.set_text(title)


def _transform(angle: float, scale: float, right: int, down: int, flip: bool) -> dict[str, Tensor]:
    """What `transform_foreground` takes, of one image."""
    one = {"flip": flip, "translate": (right, down), "rotate": angle, "scale": scale}
    return {name: torch.tensor([value]) for name, value in one.items()}


def _features(model: Any, images: Any) -> tuple[Tensor, Tensor]:
    """The last feature maps (N, K, h, w) of uint8 images and the classifier's weight (C, K), float32 on the CPU."""
    features = evaluated(model, images, lambda batch: model.features(batch).float().cpu(), batch_size=128)
    return features, model.classifier.weight.detach().float().cpu().clone()


def _words(angle: float, scale: float, right: int, down: int, flip: bool) -> str:
    """What is done to the foreground, in the order in which it is done."""
    shifts = [f"{abs(n)} {ways[n > 0]}" for n, ways in ((right, ("left", "right")), (down, ("up", "down"))) if n]
    done = {
        "flipped": flip, f"scaled by {scale:.2f}": scale != 1, f"turned by {angle:g} degrees": angle,
        f"shifted by {' and '.join(shifts)}, as far as the frame allows": shifts,
    }  # fmt: skip
    return ", ".join(words for words, is_done in done.items() if is_done) or "not at all"
