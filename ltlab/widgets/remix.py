"""Remix: whose label a mixed picture gets."""

from collections.abc import Sequence
from typing import Any

import ipywidgets
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch
from torch import Tensor

from .. import plots
from ..counts import as_tensor
from ..mixup import remix_lambda
from ..plots.style import check_names, dress
from .explorer import GREY, LEGEND, Explorer, blank_figure
from .pair import A_COLOUR, B_COLOUR, pair_controls
from .pixels import show_pixels

LAMS = torch.linspace(0, 1, 201, dtype=torch.float64)
OUTCOMES = {  # whether class i and class j can lose their label
    (True, False): "i can lose its label", (False, True): "j can lose its label",
    (True, True): "both can lose their label, i first", (False, False): "the label is mixup's",
}  # fmt: skip


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
    counts = as_tensor(class_counts)
    if counts.ndim != 1 or not 2 <= len(counts) <= plots.BARS_UP_TO or not (counts > 0).all():
        raise ValueError(f"class_counts={counts.tolist()}: give 2 to {plots.BARS_UP_TO} counts above zero")
    names = check_names([f"class {c}" for c in range(len(counts))] if names is None else names, len(counts))
    if not 1 <= kappa <= 20 or not 0 <= tau <= 1:
        raise ValueError(f"kappa={kappa}, tau={tau} are not on the sliders: kappa in [1, 20], tau in [0, 1]")
    order = counts.argsort(descending=True, stable=True)
    counts, names = counts[order], [names[c] for c in order]
    prior, same = counts.double() / counts.sum(), torch.eye(len(counts), dtype=torch.bool)

    figure = blank_figure(1000, 420)
    ax = figure.add_axes((0.075, 0.14, 0.46, 0.78), xlim=(-0.01, 1.01), ylim=(-0.03, 1.03))
    dress(ax, xlabel="lambda, the share of i in the picture", ylabel="share of i in the label")
    ax.plot([0, 1], [0, 1], **GREY, linestyle="--", label="mixup")
    (rule,) = ax.plot([], [], ".", color="black", markersize=6, label="Remix")
    ax.legend(loc="upper left", **LEGEND)
    style = {"fontsize": plots.FONT_SIZE, "va": "center"}
    to_j = ax.axvspan(0, 0, color=B_COLOUR, alpha=0.15), ax.text(0.13, 0.06, "", color=B_COLOUR, **style)
    to_i = ax.axvspan(0, 0, color=A_COLOUR, alpha=0.15), ax.text(0.87, 0.94, "", color=A_COLOUR, ha="right", **style)
    pairs = _Pairs(figure.add_axes((0.68, 0.245, 0.285, 285 / 420)), names)

    def update(a: int, b: int, kappa: float, tau: float) -> str:
        commoner = (counts[:, None] >= kappa * counts) & ~same  # i than j by a factor of kappa, (C, C)
        i_loses, j_loses = commoner[a, b].item(), commoner[b, a].item()  # its label, for some lambdas
        share = LAMS if a == b else remix_lambda(LAMS, counts[a], counts[b], kappa, tau)
        rule.set_data(LAMS.numpy(), share.numpy())
        regions = (to_j, i_loses, 0, f"all to j, {names[b]}"), (to_i, j_loses, 1 - tau, f"all to i, {names[a]}")
        for (span, text), there, start, words in regions:
            span.set(x=start, width=tau, visible=there and tau > 0)
            text.set(text=words, visible=there and tau > 0)
        pairs.show(a, b, commoner)
        mass = _label_mass(counts, kappa, tau)
        what = "one class: the label stays" if a == b else OUTCOMES[i_loses, j_loses]
        return (
            f"{names[a]} has {counts[a] / counts[b]:.3g} times as many images as {names[b]}; kappa {kappa:g}, tau "
            f"{tau:.2f}: {what}. Over all pairs (alpha = 1) the rarest class, {names[-1]}, gets {mass[-1]:.2%} of the "
            f"labels, {prior[-1]:.2%} with mixup; the most frequent, {names[0]}, {mass[0]:.1%} and {prior[0]:.1%}"
        )

    controls = pair_controls(names, range(len(names)), ("class i", "class j"), 0, -1)
    controls["kappa"] = ipywidgets.FloatSlider(value=kappa, min=1, max=20, step=0.5, description="kappa")
    controls["tau"] = ipywidgets.FloatSlider(value=tau, max=1, step=0.05, description="tau")
    moving = [to_j[0], to_i[0], rule, to_j[1], to_i[1], *pairs.artists]
    return Explorer(controls, figure, update, moving=moving, label="The label rule of Remix, and the pairs it changes")


def _label_mass(counts: Tensor, kappa: float, tau: float) -> Tensor:
    """Every class's share of all labels, (C,), where any two images may be paired and lam is uniform (alpha = 1)."""
    prior, middles = counts.double() / counts.sum(), (LAMS[1:] + LAMS[:-1]) / 2
    share = remix_lambda(middles[:, None, None], counts[:, None], counts, kappa, tau).mean(0)  # of i, (C, C)
    return prior * (share @ prior) + ((1 - share).T @ prior) * prior


class _Pairs:
    """Whose label is at stake in every pair of classes, and the chosen pair."""

    def __init__(self, ax: Axes, names: Sequence[str]) -> None:
        n, colours = len(names), {"i may lose": B_COLOUR, "mixup": "0.9", "j may lose": A_COLOUR}
        cmap = ListedColormap([*colours.values()])
        self.map = show_pixels(ax, np.zeros((n, n)), cmap=cmap, vmin=-1, vmax=1, alpha=0.8)
        handles = [Patch(color=colours[key], label=key, alpha=0.8) for key in ("i may lose", "j may lose", "mixup")]
        spread = LEGEND | {"columnspacing": 1, "handlelength": 1}
        ax.legend(handles=handles, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0), **spread)
        (self.square,) = ax.plot([], [], "s", color="black", markersize=max(5, 150 / n), fillstyle="none", mew=2.5)
        dress(ax, xlabel="class j, its partner", ylabel="class i")
        if n <= plots.NUMBERS_UP_TO:
            ax.set_xticks(range(n), names, rotation=60, ha="right", rotation_mode="anchor", fontsize=9)
            ax.set_yticks(range(n), names, fontsize=9)
        self.artists = [self.map, self.square]

    def show(self, a: int, b: int, commoner: Tensor) -> None:
        self.map.set_data(torch.where(commoner, -1, commoner.T.int()).numpy())  # i first, where both may
        self.square.set_data([b], [a])
