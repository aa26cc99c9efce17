"""Remix: whose label a mixed picture gets."""

from collections.abc import Sequence
from typing import Any

import ipywidgets
import numpy as np
import torch
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch

from .. import plots
from ..mixup import remix_lambda
from .explorer import GREY, LEGEND, Explorer, blank_figure, dress
from .pair import A_COLOUR, B_COLOUR, pair_controls
from .pixels import show_pixels


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
    dress(left, "lambda, the share of i in the picture", "share of i in the label")
    left.plot([0, 1], [0, 1], **GREY, linestyle="--", label="mixup")
    (rule,) = left.plot([], [], ".", color="black", markersize=6, label="Remix")
    left.legend(loc="upper left", **LEGEND)
    all_to = [
        left.text(x, y, "", fontsize=plots.FONT_SIZE, color=colour, ha=ha, va="center")
        for x, y, colour, ha in ((0.13, 0.06, B_COLOUR, "left"), (0.87, 0.94, A_COLOUR, "right"))
    ]
    spans = [left.axvspan(0, 0, color=colour, alpha=0.15) for colour in (B_COLOUR, A_COLOUR)]
    colours = ListedColormap([B_COLOUR, "0.9", A_COLOUR])
    pairs = show_pixels(right, np.zeros((len(counts),) * 2), cmap=colours, vmin=-1, vmax=1, alpha=0.8)
    keys = {"i may lose": B_COLOUR, "j may lose": A_COLOUR, "mixup": "0.9"}
    right.legend(
        handles=[Patch(color=colour, label=text, alpha=0.8) for text, colour in keys.items()], ncols=3,
        loc="lower center", bbox_to_anchor=(0.5, 1.0), **LEGEND | {"columnspacing": 1, "handlelength": 1},
    )  # fmt: skip
    (square,) = right.plot([], [], "s", color="black", markersize=max(5, 150 / len(counts)), fillstyle="none", mew=2.5)
    dress(right, "class j, its partner", "class i")
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

    controls = pair_controls(names, ("class i", "class j"), 0, -1)
    controls["kappa"] = ipywidgets.FloatSlider(value=kappa, min=1, max=20, step=0.5, description="kappa")
    controls["tau"] = ipywidgets.FloatSlider(value=tau, max=1, step=0.05, description="tau")
    moving = [*spans, rule, *all_to, pairs, square]
    return Explorer(controls, figure, update, moving=moving, label="The label rule of Remix, and the pairs it changes")
