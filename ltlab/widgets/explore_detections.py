"""What a detector finds: scenes with the boxes of two detectors, and AP under a cap of detections per image."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from .. import plots
from .explorer import Explorer, blank_figure
from .panels import TITLE, Bars, plot_at
from .pixels import show_pixels
from .sliders import slider, stops

SIDE = 400  # CSS pixels of a scene
RIGHT_FROM = 0.5  # IoU
LOOK = {"right": "#2ca25f", "wrong": "#d55e00", "missed": "white"}
TEXTS = 10  # names that are drawn in a panel
Found = Sequence[Mapping[str, Tensor]]


def scene_explorer(
    images: Tensor, boxes: Sequence[Tensor], labels: Sequence[Tensor], found: Mapping[str, Found],
    names: Sequence[str], *, at: int = 0,
) -> Explorer:  # fmt: skip
    """Scenes with what one or two detectors find in them, from a score threshold on.

    A detection is right if its class is, and its box has an IoU of at least 1/2 with a box of that class that no surer
    detection has taken. Green: right; vermilion: wrong; white dashes: missed. Controls: the scene, the threshold.

    Args:
        images: (N, 3, H, W) uint8, square.
        boxes, labels: of the objects of each scene, (n_i, 4) and (n_i,).
        found: name of a detector -> for every scene boxes (D, 4), scores (D,), best first, and labels (D,); one or two.
        names: (C,) class names.
        at: the scene that is shown first.

    Raises:
        ValueError: no detector or more than two, or lists of other lengths.
    """
    if not 1 <= len(found) <= 2 or any(len(each) != len(images) for each in (boxes, labels, *found.values())):
        raise ValueError(
            f"found must be of one or two detectors, and of the {len(images)} scenes like boxes and labels"
        )
    figure = blank_figure(1000, SIDE + 50)
    panels = [_Scene(figure, 20 + 490 * k, name, images, names) for k, name in enumerate(found)]

    def update(scene: int, threshold: float) -> str:
        told = []
        for panel, (name, each) in zip(panels, found.items(), strict=True):
            right, wrong, missed = panel.show(scene, each[scene], boxes[scene], labels[scene], threshold)
            told.append(f"{name}: {right} right, {wrong} wrong, {missed} missed")
        shown = ", ".join(str(names[c]) for c in labels[scene].tolist())
        return f"scene {scene} ({shown or 'empty'}), scores from {threshold:.2f} on. {'; '.join(told)}"

    controls = {
        "scene": slider("scene", at, 0, len(images) - 1, 1),
        "threshold": slider("threshold", 0.5, 0.05, 0.95, 0.05, description="score threshold"),
    }
    label = "Scenes with true boxes and detections"
    return Explorer(controls, figure, update, moving=panels, label=label)


class _Scene:
    """One scene as large squares, the boxes of a detector over it, and their names."""

    def __init__(self, figure: Figure, left: float, title: str, images: Tensor, names: Sequence[str]) -> None:
        self.images, self.names = images.cpu().permute(0, 2, 3, 1).numpy(), names
        ax = plot_at(figure, left, 38, SIDE, SIDE)
        ax.set_axis_off()
        ax.set_title(title, **TITLE)
        height, width = self.images.shape[1:3]
        self.pixels = show_pixels(ax, self.images[0], extent=(0, width, height, 0))
        ax.set(xlim=(0, width), ylim=(height, 0))
        self.lines = {
            kind: ax.plot([], [], color=colour, linewidth=2, linestyle="--" if kind == "missed" else "-")[0]
            for kind, colour in LOOK.items()
        }
        style: dict[str, Any] = {"fontsize": plots.FONT_SIZE - 2, "va": "bottom", "clip_on": True}
        self.texts = [ax.text(0, 0, "", **style) for _ in range(TEXTS)]
        self.artists: list[Any] = [self.pixels, *self.lines.values(), *self.texts]

    def show(
        self, scene: int, found: Mapping[str, Tensor], boxes: Tensor, labels: Tensor, threshold: float
    ) -> tuple[int, ...]:
        """Draw a scene; the numbers of right and wrong detections and of missed objects."""
        sure = found["scores"] >= threshold
        here, kinds, scores = found["boxes"][sure], found["labels"][sure], found["scores"][sure]
        taken = matched(here, kinds, boxes, labels)
        drawn = {
            "right": here[taken >= 0], "wrong": here[taken < 0],
            "missed": boxes[~torch.isin(torch.arange(len(boxes)), taken)],
        }  # fmt: skip
        self.pixels.set_data(self.images[scene])
        for kind, line in self.lines.items():
            line.set_data(*_outlines(drawn[kind]))
        for i, text in enumerate(self.texts):
            shown = i < len(here)
            text.set_text(f"{self.names[int(kinds[i])]} {scores[i]:.2f}" if shown else "")
            if shown:
                x, y = here[i, :2].tolist()
                text.set(position=(x, max(y - 0.5, 4)), color=LOOK["right" if taken[i] >= 0 else "wrong"])
                text.set_bbox({"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1})
        return tuple(len(drawn[kind]) for kind in LOOK)


def matched(found: Tensor, kinds: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
    """The object that each detection takes, best first, -1 for none: (D,) int64."""
    taken = torch.full((len(found),), -1)
    overlap = iou(found, boxes)  # (D, n)
    free = torch.ones(len(boxes), dtype=torch.bool)
    for i in range(len(found)):
        fits = torch.where(free & (labels == kinds[i]), overlap[i], -1.0)
        if len(boxes) and fits.max() >= RIGHT_FROM:
            taken[i] = fits.argmax()
            free[taken[i]] = False
    return taken


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of boxes as (x1, y1, x2, y2): (D, 4) and (n, 4) -> (D, n)."""
    size = (torch.minimum(a[:, None, 2:], b[:, 2:]) - torch.maximum(a[:, None, :2], b[:, :2])).clamp(min=0)
    both, areas = size.prod(2), [(box[:, 2:] - box[:, :2]).prod(1) for box in (a, b)]
    return both / (areas[0][:, None] + areas[1] - both)


def _outlines(boxes: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The corners of all boxes as one line with gaps."""
    x1, y1, x2, y2 = boxes.double().numpy().T
    gap = np.full_like(x1, np.nan)
    xs, ys = np.stack([x1, x2, x2, x1, x1, gap], 1), np.stack([y1, y1, y2, y2, y1, gap], 1)
    return xs.ravel(), ys.ravel()


def detection_cap_explorer(metrics: Mapping[int, Mapping[str, float]]) -> Explorer:
    """AP of each group of classes when only the surest detections of an image count.

    Control: the cap, over all classes together, as LVIS has it with 300. Outlines: the largest cap.

    Args:
        metrics: cap -> ap, ap_rare, ap_common and ap_frequent as fractions, see `detection.average_precision`.

    Raises:
        ValueError: no cap.
    """
    if not metrics:
        raise ValueError("metrics is empty: give AP for at least one cap")
    caps, keys = sorted(metrics), ("ap", "ap_frequent", "ap_common", "ap_rare")
    groups = ["all", "frequent", "common", "rare"]
    table = {cap: [100 * metrics[cap][key] for key in keys] for cap in caps}
    figure = blank_figure(1000, 360)
    ax = plot_at(figure, 75, 38, 390, 280, ylabel="AP (%)", ylim=(0, 108))
    colours = ["0.45", *(plots.FREQUENCY_COLOURS[group] for group in groups[1:])]
    bars = Bars(ax, table[caps[-1]], outlined=True, color=colours)
    numbers = [ax.text(x, 0, "", ha="center", va="bottom", fontsize=plots.FONT_SIZE) for x in range(len(keys))]
    plots.name_ticks(ax, groups)
    ax.set_title(f"outlines: {caps[-1]} detections per image", **TITLE)
    curve = plot_at(figure, 560, 38, 425, 262, xlabel="detections per image", ylabel="AP (%)")
    curve.set(xscale="log", xlim=(0.9 * caps[0], 1.1 * caps[-1]), ylim=(0, 108))
    for k, colour in enumerate(colours):
        curve.plot(caps, [table[cap][k] for cap in caps], color=colour)
    curve.set_xticks(caps, [str(cap) for cap in caps])
    curve.minorticks_off()
    dots = [curve.plot([], [], color=colour, marker="o", markersize=8)[0] for colour in colours]

    def update(cap: int) -> str:
        bars.show(table[cap])
        for x, (number, dot) in enumerate(zip(numbers, dots, strict=True)):
            value = table[cap][x]
            number.set(text="" if np.isnan(value) else f"{value:.1f}", y=np.nan_to_num(value) + 1)
            dot.set_data([cap], [value])
        told = ", ".join(f"{group} {value:.1f}" for group, value in zip(groups, table[cap], strict=True))
        return f"the surest {cap} detections of every image: AP of {told} %"

    controls = {"cap": stops("cap", caps[-1], caps, description="detections per image")}
    return Explorer(
        controls, figure, update, moving=[bars, *numbers, *dots], label="AP by group under a cap of detections"
    )
