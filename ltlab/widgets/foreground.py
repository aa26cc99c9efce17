"""CAM-based sampling: what a model takes for the object, and the object moved."""

from collections.abc import Mapping

import ipywidgets
import numpy as np
import torch
from torch import Tensor, nn

from .. import plots
from ..cam import class_activation_maps, evaluating, foreground_masks, intersection_over_union, transform_foreground
from ..data import LongTailedData, load
from .explorer import Explorer, blank_figure, choice
from .pixels import show_pixels

IMAGES_PER_CLASS = 20
GREY = 225  # behind a foreground that stands alone
TRUE_COLOUR = "#c44e52"  # of a true mask's outline
OWN_CLASS = -1
PANELS = ("image", "map", "foreground", "moved", "result")


def foreground_explorer(
    data: LongTailedData | None, models: nn.Module | Mapping[str, nn.Module], *,
    label: int = 0, number: int = 0, threshold: float = 1.0,
) -> Explorer:  # fmt: skip
    """From a training image to the image that CAM-based sampling shows the network, step by step.

    Controls: class and number of the image, the class whose map is shown, the model if there are several, threshold,
    angle, scale, shift right and down, flip and fill.

    The pictures are the image, the class activation map, the foreground (where the map reaches threshold times its
    mean, outlined in white; the true mask, where the data has one, in red), the foreground alone after its
    transform, and the result. The shift is cut where the foreground would leave the frame.

    The models run once, when the explorer is made, over the first 20 training images of every class: no control runs
    them again.

    Args:
        data: the training images; shapes-lt if None.
        models: one with `features` and `classifier`, or some by name to choose from, such as early and late in
            training.
        label, number: the image that is shown first.
        threshold: where its slider begins, from 0 to 2.

    Raises:
        ValueError: no model; a label, number or threshold that is not on its slider.
    """
    data = data or load("shapes-lt", test_count=1)
    models = {"model": models} if isinstance(models, nn.Module) else dict(models)
    names = data.class_names
    if not models:
        raise ValueError("models is empty: the explorer needs one to look through")
    if not 0 <= label < len(names) or not 0 <= number < IMAGES_PER_CLASS or not 0 <= threshold <= 2:
        raise ValueError(
            f"label={label}, number={number}, threshold={threshold} are not on the sliders: "
            f"label from 0 to {len(names) - 1}, number from 0 to {IMAGES_PER_CLASS - 1}, threshold from 0 to 2"
        )
    labels = data.train.labels.cpu()
    chosen = [(labels == c).nonzero()[:IMAGES_PER_CLASS, 0] for c in range(len(names))]  # image numbers by class
    starts = [sum(len(one) for one in chosen[:c]) for c in range(len(names))]
    shown = data.train.take(torch.cat(chosen).to(data.train.labels.device)).to("cpu")
    evidence = {name: _features(model, shown.images) for name, model in models.items()}
    h, w = shown.images.shape[2:]

    figure = blank_figure(1000, 250)
    pictures, titles = {}, {}
    for k, panel in enumerate(PANELS):
        ax = figure.add_axes((0.005 + 0.2 * k, 0.02, 0.19, 0.85))
        ax.set_axis_off()
        pictures[panel] = show_pixels(ax, [[0]], cmap="cividis", vmin=0, vmax=1, extent=(0, w, h, 0))
        titles[panel] = ax.text(0, -0.03 * h, panel, fontsize=plots.FONT_SIZE, va="bottom")
    outlines = [
        pictures["foreground"].axes.plot([], [], color=colour, linewidth=width, solid_capstyle="projecting")[0]
        for colour, width in (("black", 3), ("white", 1.5), (TRUE_COLOUR, 2))
    ]

    def update(
        label: int, number: int, of: int, model: str, threshold: float,
        angle: float, scale: float, right: int, down: int, flip: bool, fill: bool,
    ) -> str:  # fmt: skip
        count = len(chosen[label])
        row = slice(starts[label] + number % count, starts[label] + number % count + 1)
        image, true = shown.images[row], None if shown.masks is None else shown.masks[row]
        map_class = label if of == OWN_CLASS else of
        features, weight = evidence[model]
        cam = class_activation_maps(features[row], weight, torch.tensor([map_class]), (h, w))
        mask = foreground_masks(cam, threshold)
        transform = {
            "flip": torch.tensor([flip]), "translate": torch.tensor([[right, down]]),
            "rotate": torch.tensor([angle]), "scale": torch.tensor([scale]),
        }  # fmt: skip
        result = transform_foreground(image, mask, **transform, fill=fill)
        alone = transform_foreground(image.where(mask[:, None], GREY), mask, **transform, fill=True)
        where = transform_foreground(mask[:, None].byte(), mask, **transform, fill=True)[:, 0] == 1

        pictures["map"].set_data(cam[0].numpy())
        for panel, pixels in (("image", image), ("foreground", image), ("moved", alone), ("result", result)):
            pictures[panel].set_data(pixels[0].permute(1, 2, 0).numpy())
        for outline, outlined in zip(outlines, (mask, mask, true), strict=True):
            if outlined is not None:
                outline.set_data(*_one_line(plots.mask_outline(outlined[0].numpy())))
        titles["image"].set_text(names[label])
        titles["map"].set_text(f"map of {names[map_class]}")
        left_behind = (mask & ~where).float().mean()
        fit = "" if true is None else f", IoU {intersection_over_union(mask, true).item():.2f} with the true mask"
        return (
            f"{names[label]}, training image {number % count + 1} of {count}; the map of {names[map_class]}"
            f"{f' ({model})' if len(models) > 1 else ''} at {threshold:g} times its mean: foreground "
            f"{mask.float().mean():.0%} of the image{fit}; moved: {_words(flip, angle, scale, right, down)}; "
            f"{left_behind:.0%} of the image {'is hole, filled' if fill else 'shows the ghost of the old foreground'}"
        )

    controls = {
        "label": ipywidgets.SelectionSlider(
            options=[(name, c) for c, name in enumerate(names)], value=label, description="class"
        ),
        "number": ipywidgets.IntSlider(value=number, max=IMAGES_PER_CLASS - 1, description="number"),
        "of": ipywidgets.SelectionSlider(
            options=[("own class", OWN_CLASS), *((name, c) for c, name in enumerate(names))], description="map of"
        ),
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
    moving = [*pictures.values(), *outlines, titles["image"], titles["map"]]
    label_text = "A training image, a class activation map, the foreground, and the foreground moved"
    return Explorer(controls, figure, update, moving=moving, label=label_text)


def _features(model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """The last feature maps (N, K, h, w) of uint8 images and the classifier's weight (C, K), float32 on the CPU."""
    weight = model.classifier.weight
    with evaluating(model), torch.inference_mode():
        parts = [model.features(batch.to(weight.device).float() / 255).float().cpu() for batch in images.split(128)]
    return torch.cat(parts), weight.detach().float().cpu().clone()


def _one_line(segments: np.ndarray) -> np.ndarray:
    """Segments (E, 2, 2) as the x and y of one line with gaps, (2, 3E), which draws faster than E lines."""
    return np.concatenate([segments, np.full_like(segments[:, :1], np.nan)], 1).reshape(-1, 2).T


def _words(flip: bool, angle: float, scale: float, right: int, down: int) -> str:
    """What is done to the foreground, in the order in which it is done."""
    done = {
        "flipped": flip, f"scaled by {scale:.2f}": scale != 1, f"turned by {angle:g} degrees": angle,
        f"shifted by {right} right, {down} down as far as there is room": right or down,
    }  # fmt: skip
    return ", ".join(words for words, is_done in done.items() if is_done) or "not at all"
