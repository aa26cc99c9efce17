"""CAM-based sampling: what a model takes for the object, and the object moved."""

from collections.abc import Mapping, Sequence
from typing import Any

import ipywidgets
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn

from .. import plots
from ..cam import (
    bounding_boxes,
    class_activation_maps,
    foreground_masks,
    intersection_over_union,
    transform_foreground,
)
from ..data import LongTailedData, load
from ..images import evaluated
from .explorer import Explorer, blank_figure, choice
from .pixels import show_pixels

IMAGES_PER_CLASS = 20
GREY = 225  # behind a foreground that stands alone
TRUE_COLOUR = "#ff6a5c"  # of a true mask's outline
OWN_CLASS = -1
PANELS = ("image", "map", "foreground", "moved", "result")


def foreground_explorer(
    data: LongTailedData | None, models: nn.Module | Mapping[str, nn.Module], *,
    label: int = 0, number: int = 1, threshold: float = 1.0,
) -> Explorer:  # fmt: skip
    """From a training image to the image that CAM-based sampling shows the network, step by step.

    Controls: class and number of the image, the class whose map is shown, the model if there are several, threshold,
    angle, scale, shift right and down, flip and fill.

    The pictures are the image, the class activation map, the foreground (where the map reaches threshold times its
    mean, outlined in white; the true mask, where the data has one, in red; both on black, so that they show on
    every colour), the foreground alone after its transform, and the result. The shift is cut where the foreground
    would leave the frame.

    The models run once, when the explorer is made, over the first 20 training images of every class: no control runs
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
    models = {"model": models} if isinstance(models, nn.Module) else dict(models)
    names = data.class_names
    if not models:
        raise ValueError("models is empty: the explorer needs one to look through")
    there = [min(n, IMAGES_PER_CLASS) for n in data.class_counts.tolist()]  # images on the slider, of each class
    _check(there, label, number, threshold)
    chosen = torch.cat([(data.train.labels == c).nonzero()[:IMAGES_PER_CLASS, 0] for c in range(len(names))])
    shown = data.train.take(chosen).to("cpu")
    evidence = {name: _features(model, shown.images) for name, model in models.items()}
    h, w = shown.images.shape[2:]
    figure = blank_figure(1000, 250)
    panels = _Panels(figure, h, w)

    def update(label: int, number: int, of: int, model: str, threshold: float, fill: bool, **move: float) -> str:
        own = (shown.labels == label).nonzero()  # (n, 1)
        row = own[number - 1]
        map_class = label if of == OWN_CLASS else of
        image, true = shown.images[row], None if shown.masks is None else shown.masks[row]
        features, weight = evidence[model]
        cam = class_activation_maps(features[row], weight, torch.tensor([map_class]), (h, w))
        mask = foreground_masks(cam, threshold)
        transform = _transform(**move)  # move: angle, scale, right, down, flip
        result = transform_foreground(image, mask, **transform, fill=fill)
        moved, covered = _moved_alone(image, mask, transform)
        shift = _shift(mask, covered, transform)
        panels.show(image, cam, mask, true, moved, result)
        panels.titles["image"].set_text(names[label])
        panels.titles["map"].set_text(f"map of {names[map_class]}")
        fit = "" if true is None else f", IoU {intersection_over_union(mask, true).item():.2f} with the true mask"
        return (
            f"{names[label]}, training image {number} of {len(own)}; the map of {names[map_class]}"
            f"{f' ({model})' if len(models) > 1 else ''} at {threshold:g} times its mean: foreground "
            f"{mask.float().mean():.0%} of the image{fit}; moved: {_words(**move, shift=shift)}; "
            f"{(mask & ~covered).float().mean():.0%} of the image "
            f"{'is hole, filled' if fill else 'shows the ghost of the old foreground'}"
        )

    controls = _controls(names, models, there, h, w, label, number, threshold)
    about = "A training image, a class activation map, the foreground, and the foreground moved"
    return Explorer(controls, figure, update, moving=panels.artists, label=about)


def _check(there: Sequence[int], label: int, number: int, threshold: float) -> None:
    known = 0 <= label < len(there)
    if not known or not 1 <= number <= there[label] or not 0 <= threshold <= 2:
        raise ValueError(
            f"label={label}, number={number}, threshold={threshold} are not on the sliders: label from 0 to "
            f"{len(there) - 1}, number from 1 to {there[label] if known else max(there)}, threshold from 0 to 2"
        )


def _controls(
    names: Sequence[str], models: Mapping[str, nn.Module], there: Sequence[int], h: int, w: int,
    label: int, number: int, threshold: float,
) -> dict[str, ipywidgets.ValueWidget]:  # fmt: skip
    classes = [(name, c) for c, name in enumerate(names)]
    controls = {
        "label": ipywidgets.SelectionSlider(options=classes, value=label, description="class"),
        "number": ipywidgets.IntSlider(value=number, min=1, max=there[label], description="number"),
        "of": ipywidgets.SelectionSlider(options=[("own class", OWN_CLASS), *classes], description="map of"),
        "model": choice("model", models, width=90),
        "threshold": ipywidgets.FloatSlider(value=threshold, max=2, step=0.05, description="threshold"),
        "angle": ipywidgets.FloatSlider(value=0, min=-180, max=180, step=5, description="angle", readout_format=".0f"),
        "scale": ipywidgets.FloatSlider(value=1, min=0.5, max=1.5, step=0.05, description="scale"),
        "right": ipywidgets.IntSlider(value=0, min=-w // 2, max=w // 2, description="shift right"),
        "down": ipywidgets.IntSlider(value=0, min=-h // 2, max=h // 2, description="shift down"),
        "flip": ipywidgets.Checkbox(description="flip", indent=False, layout={"width": "80px"}),
        "fill": ipywidgets.Checkbox(description="fill", indent=False, layout={"width": "80px"}),
    }
    if len(models) == 1:
        controls["model"].layout.display = "none"

    def take_the_class_s_images(change: dict[str, Any]) -> None:
        controls["number"].max = there[change["new"]]

    controls["label"].observe(take_the_class_s_images, names="value")  # before the explorer's own observer draws
    return controls


class _Panels:
    """The pictures side by side, their titles, and the outlines of the foreground and the true mask."""

    def __init__(self, figure: Figure, h: int, w: int) -> None:
        self.pictures, self.titles = {}, {}
        for k, name in enumerate(PANELS):
            ax = figure.add_axes((0.005 + 0.2 * k, 0.02, 0.19, 0.85))
            ax.set_axis_off()
            self.pictures[name] = show_pixels(ax, [[0]], cmap="cividis", vmin=0, vmax=1, extent=(0, w, h, 0))
            self.titles[name] = ax.text(0, -0.03 * h, name, fontsize=plots.FONT_SIZE, va="bottom")
        self.outlines = [
            self.pictures["foreground"].axes.plot([], [], color=colour, linewidth=width, solid_capstyle="projecting")[0]
            for colour, width in (("black", 3), ("white", 1.5), ("black", 4), (TRUE_COLOUR, 1.8))
        ]
        self.artists = [*self.pictures.values(), *self.outlines, self.titles["image"], self.titles["map"]]

    def show(self, image: Tensor, cam: Tensor, mask: Tensor, true: Tensor | None, moved: Tensor, final: Tensor) -> None:
        self.pictures["map"].set_data(cam[0].numpy())
        for panel, pixels in (("image", image), ("foreground", image), ("moved", moved), ("result", final)):
            self.pictures[panel].set_data(pixels[0].permute(1, 2, 0).numpy())
        for outline, outlined in zip(self.outlines, (mask, mask, true, true), strict=True):
            if outlined is not None:
                outline.set_data(*_one_line(plots.mask_outline(outlined[0].numpy())))


def _transform(angle: float, scale: float, right: int, down: int, flip: bool) -> dict[str, Tensor]:
    """What `transform_foreground` takes, of one image."""
    one = {"flip": flip, "translate": (right, down), "rotate": angle, "scale": scale}
    return {name: torch.tensor([value]) for name, value in one.items()}


def _moved_alone(image: Tensor, mask: Tensor, transform: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The transformed foreground on grey, and where it lies, (1, H, W) bool."""
    moved = transform_foreground(image.where(mask[:, None], GREY), mask, **transform, fill=True)
    covered = transform_foreground(mask[:, None].byte(), mask, **transform, fill=True)[:, 0] == 1
    return moved, covered


def _shift(mask: Tensor, covered: Tensor, transform: Mapping[str, Tensor]) -> list[int]:
    """How many pixels the foreground has moved right and down, by its place in a frame with room on all sides."""
    h, w = mask.shape[1:]
    wide = F.pad(mask, (w, w, h, h))
    still = transform | {"translate": torch.zeros(1, 2)}
    wide = transform_foreground(wide[:, None].byte(), wide, **still, fill=True)[:, 0] == 1
    (now,), (before,) = bounding_boxes(covered), bounding_boxes(wide)
    doubled = now[:2] + now[2:] - before[:2] - before[2:] + 2 * torch.tensor([w, h])
    return (doubled / 2).round().int().tolist()


def _features(model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """The last feature maps (N, K, h, w) of uint8 images and the classifier's weight (C, K), float32 on the CPU."""
    features = evaluated(model, images, lambda batch: model.features(batch).float().cpu(), batch_size=128)
    return features, model.classifier.weight.detach().float().cpu().clone()


def _one_line(segments: np.ndarray) -> np.ndarray:
    """Segments (E, 2, 2) as the x and y of one line with gaps, (2, 3E), which draws faster than E lines."""
    return np.concatenate([segments, np.full_like(segments[:, :1], np.nan)], 1).reshape(-1, 2).T


def _words(angle: float, scale: float, right: int, down: int, flip: bool, shift: Sequence[int]) -> str:
    """What is done to the foreground, in the order in which it is done; `shift`: what the frame makes of the shift."""
    shifts = []
    for possible, asked, ways in zip(shift, (right, down), (("left", "right"), ("up", "down")), strict=True):
        moved, wanted = (f"{abs(pixels)} {ways[pixels >= 0]}" for pixels in (possible, asked))
        if possible or asked:
            shifts.append(moved if possible == asked else f"{moved} ({wanted if asked else 'none'} asked)")
    if [*shift] != [right, down]:
        shifts.append("as the frame allows")
    done = {
        "flipped": flip, f"scaled by {scale:.2f}": scale != 1, f"turned by {angle:g} degrees": angle,
        f"shifted by {', '.join(shifts)}": right or down or any(shift),
    }  # fmt: skip
    return ", ".join(words for words, is_done in done.items() if is_done) or "not at all"
