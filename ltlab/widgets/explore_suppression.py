"""ACSL: which classes a batch of regions pushes down, and which it spares."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from .. import plots
from ..losses import ACSLLoss
from .explorer import Explorer, blank_figure
from .panels import TITLE, Bars, plot_at
from .pixels import show_pixels
from .sliders import slider, stops

SHARES = (0.0, 0.01, 0.1, 0.3, 1.0)


def suppression_explorer(
    logits: Tensor, labels: Tensor, groups: Any, *, names: Sequence[str] | None = None, seed: int = 0
) -> Explorer:
    """One batch of regions under ACSL: probabilities by colour, a cross where a class is spared.

    Rows are regions, background first and then by label; columns the background and the classes, the most frequent
    first. Controls: xi, and the fractions of background regions that push rare and common classes down. Right, the
    fraction of the negative gradient, the sum of p over the pushed cells, that is left to each group.

    Args:
        logits: (R, C + 1), the background in column 0, at most 100 regions.
        labels: (R,) int64 from 0, the background, to C.
        groups: (C,), 0 rare, 1 common, 2 frequent.
        names: (C,) class names; the class indices if None.
        seed: draws the regions of background.

    Raises:
        ValueError: more than 100 regions, or shapes that do not fit.
    """
    frequency = plots.frequency_names(groups)
    if not 0 < len(logits) <= 100 or logits.shape[1] != len(frequency) + 1 or labels.shape != logits.shape[:1]:
        raise ValueError(
            f"logits must be (R, C + 1) of 1 to 100 regions, C = {len(frequency)} groups, and labels (R,), got "
            f"{tuple(logits.shape)} and {tuple(labels.shape)}"
        )
    names = ["background", *plots.check_names(names, len(frequency))]
    order = labels.argsort(stable=True)
    z, y = logits.detach().float().cpu()[order], labels.cpu()[order]
    p, own = z.sigmoid(), F.one_hot(y, len(names)).bool()
    figure = blank_figure(1000, 470)
    regions = _Regions(figure, p, y, names)
    present = [group for group in reversed(plots.FREQUENCY_COLOURS) if group in frequency]
    side = plot_at(figure, 730, 38, 258, 330, ylabel="negative gradient left (%)", ylim=(0, 108))
    bars = Bars(side, [0] * len(present), color=[plots.FREQUENCY_COLOURS[group] for group in present])
    plots.name_ticks(side, present)
    columns = {group: torch.tensor([False, *(name == group for name in frequency)]) for group in present}

    def update(xi: float, rare: float, common: float) -> str:
        drawn = torch.Generator("cpu").manual_seed(seed)
        loss = ACSLLoss(xi, groups=_numbers(frequency), shares=(rare, common, 1.0), background=0, generator=drawn)
        _, no = loss.weights(z, own.float())
        regions.show((no == 0) & ~own)
        negative = p * ~own
        left = {
            group: 100 * ((negative * no)[:, mask].sum() / negative[:, mask].sum()).item()
            for group, mask in columns.items()
        }
        bars.show([*left.values()])
        told = ", ".join(f"{group} {value:.0f} %" for group, value in left.items())
        return f"xi {xi:.2f}: of the negative gradient is left for classes that are {told}"

    controls: dict[str, Any] = {
        "xi": slider("xi", 0.7, 0, 1, 0.05),
        "rare": stops("rare", 0.01, SHARES, description="background for rare"),
        "common": stops("common", 0.1, SHARES, description="background for common"),
    }
    label = "Regions and classes of one batch under adaptive class suppression"
    return Explorer(controls, figure, update, moving=[regions, bars], label=label)


class _Regions:
    """Probabilities (R, C + 1) as pixels, a ring at each label, and a cross where a class is spared."""

    def __init__(self, figure: Figure, p: Tensor, labels: Tensor, names: Sequence[str]) -> None:
        ax = plot_at(figure, 62, 38, 560, 330, ylabel="regions, background first")
        height = len(names) * 330 / 560  # so that pixels have one scale in both directions
        extent = (-0.5, len(names) - 0.5, 0, height)
        show_pixels(ax, p.numpy(), vmin=0, vmax=1, cmap="cividis", extent=extent)
        ax.set_aspect("auto")
        ax.set(xlim=extent[:2], ylim=(0, height), yticks=[])
        plots.name_ticks(ax, names, angle=40)
        ax.set_title("brighter: more probable; ○ label; × spared", **TITLE)
        self.rows = height * (1 - (torch.arange(len(p)) + 0.5) / len(p))
        ax.plot(labels, self.rows, linestyle="", marker="o", markersize=5, markerfacecolor="none", color="white")
        self.artists = ax.plot([], [], linestyle="", marker="x", markersize=4, color="white", alpha=0.8)

    def show(self, spared: Tensor) -> None:
        """spared: (R, C + 1) bool."""
        row, column = spared.nonzero(as_tuple=True)
        self.artists[0].set_data(column, self.rows[row])


def _numbers(frequency: Sequence[str]) -> list[int]:
    return [[*plots.FREQUENCY_COLOURS].index(name) for name in frequency]
