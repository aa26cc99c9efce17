"""What may still be corrected when training is over."""

from collections.abc import Sequence
from typing import Any

import ipywidgets
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor

from .. import plots
from ..classifiers import tau_normalised_weight
from ..losses import adjust_logits
from ..metrics import class_groups, per_class_accuracy, top1_error
from .explorer import Explorer, blank_figure, dress
from .long_tail import group_colours


def post_hoc_explorer(
    logits: Tensor, labels: Tensor, class_counts: Any, features: Tensor | None = None, weight: Tensor | None = None,
    bias: Tensor | None = None, *, names: Sequence[str] | None = None,
) -> Explorer:  # fmt: skip
    """What may still be corrected when training is over: error by group and by class of a trained model.

        z_c = <x, w_c / |w_c|^tau_w> + b_c - tau log pi_c

    Controls: tau of logit adjustment, from 0 to 2; with features and weight also tau_w of weight normalisation, from 0
    to 1; and with a bias, whether it is kept (`classifiers.tau_normalised` drops it). Outlines: the model as trained,
    where both are 0.

    Args:
        logits: of test images, (N, C).
        labels: (N,) int64.
        class_counts: (C,) training images per class, above zero.
        features: what the classifier receives for the same images, (N, K), see `classifiers.classifier_inputs`.
        weight, bias: of the linear classifier, (C, K) and (C,); a classifier without a bias has None.
        names: (C,) class names; the class indices if None.

    Raises:
        ValueError: features without weight or the reverse, features, weight and bias that do not give the logits, bad
            counts, shapes that do not fit, or more than 200 classes.
    """
    logits, labels, counts = logits.detach().cpu().float(), labels.cpu(), torch.as_tensor(class_counts).cpu()
    if len(counts) > plots.BARS_UP_TO:
        raise ValueError(
            f"class_counts holds {len(counts)} classes; the explorer draws a bar each, at most {plots.BARS_UP_TO}"
        )
    if (features is None) != (weight is None):
        raise ValueError("features and weight: give both for weight normalisation, or none for logit adjustment alone")
    if features is not None:
        features, weight = features.detach().cpu().float(), weight.detach().cpu().float()
        bias = None if bias is None else bias.detach().cpu().float()
        _check_gives(logits, features, weight, bias)
    names = [str(c) for c in (range(len(counts)) if names is None else names)]
    order = counts.argsort(descending=True, stable=True)
    groups = {name: mask for name, mask in class_groups(counts).items() if mask.any()}

    def errors(tau: float, weight_tau: float, keep: bool) -> tuple[list[float], list[float]]:
        """In percent: of all and of each group; of each class, most frequent first."""
        z = logits
        if weight_tau or not keep:
            z = F.linear(features, tau_normalised_weight(weight, weight_tau), bias if keep else None)
        z = adjust_logits(z, counts, tau)
        per_class = 100 * (1 - per_class_accuracy(z, labels))
        of_groups = [100 * top1_error(z, labels), *(per_class[mask].nanmean().item() for mask in groups.values())]
        return of_groups, per_class[order].tolist()

    trained = errors(0, 0, True)
    figure = blank_figure(1000, 380)
    left, right = figure.add_axes((0.065, 0.2, 0.27, 0.7)), figure.add_axes((0.405, 0.2, 0.59, 0.7))
    colours = ["0.45", *(plots.GROUP_COLOURS[name] for name in groups)]
    of_class = [group_colours(counts)[c] for c in order]
    bars, outlines = zip(
        _error_bars(left, trained[0], colours, "top-1 error (%)"),
        _error_bars(right, trained[1], of_class, "error of a class (%)"),
        strict=True,
    )
    bars, outlines = [*bars[0], *bars[1]], [*outlines[0], *outlines[1]]
    right.set_title("outlines: as trained", fontsize=plots.FONT_SIZE, loc="left")
    left.set_xticks(range(len(colours)), ["all", *groups])
    if len(counts) <= plots.NAMES_UP_TO:
        right.set_xticks(range(len(counts)), [names[c] for c in order], rotation=35, ha="right", rotation_mode="anchor")
    else:
        right.set_xlabel("class, most frequent first", fontsize=plots.FONT_SIZE)
    style = {"ha": "center", "fontsize": plots.FONT_SIZE}
    style["bbox"] = {"facecolor": "white", "edgecolor": "none", "pad": 1}  # no outline strikes a number through
    numbers = [left.text(x, 0, "", **style) for x in range(len(colours))]

    def update(tau: float, weight_tau: float = 0.0, keep: bool = True) -> str:
        of_groups, per_class = errors(tau, weight_tau, keep)
        for bar, height in zip(bars, of_groups + per_class, strict=True):
            bar.set_height(0 if np.isnan(height) else height)
        for number, height in zip(numbers, of_groups, strict=True):
            number.set(text=f"{height:.1f}", y=height + 2)
        shown = ", ".join(
            f"{name} {error:.1f} % ({error - before:+.1f})"
            for name, error, before in zip(["all", *groups], of_groups, trained[0], strict=True)
        )
        normalised = "" if features is None else f", tau of weight normalisation {weight_tau:.2f}"
        return f"tau of logit adjustment {tau:.2f}{normalised}{'' if keep else ', bias dropped'}: error of {shown}"

    wide = {"style": {"description_width": "200px"}, "layout": {"width": "430px"}}
    controls = {"tau": ipywidgets.FloatSlider(max=2, step=0.05, description="tau of logit adjustment", **wide)}
    if features is not None:
        controls["weight_tau"] = ipywidgets.FloatSlider(
            max=1, step=0.05, description="tau of weight normalisation", **wide
        )
    if features is not None and bias is not None:
        controls["keep"] = ipywidgets.Checkbox(value=True, description="bias", indent=False)
    moving = [*bars, *outlines, *numbers]  # the outlines over all bars
    return Explorer(controls, figure, update, moving=moving, label="Error by group and by class after a correction")


def _check_gives(logits: Tensor, features: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """That the classifier's parts belong to the logits; 2 % of the largest are allowed for bfloat16."""
    if len(features) != len(logits) or features.shape[1:] != weight.shape[1:] or len(weight) != logits.shape[1]:
        raise ValueError(
            f"features {tuple(features.shape)} and weight {tuple(weight.shape)} do not give logits "
            f"{tuple(logits.shape)}: they are (N, K), (C, K) and (N, C)"
        )
    gap = (F.linear(features, weight, bias) - logits).abs().max().item()
    if gap > 0.02 * logits.abs().max().item():
        raise ValueError(f"features, weight and bias give other logits, by up to {gap:.3g}: take all from one model")


def _error_bars(
    ax: Axes, trained: list[float], colours: list[str], ylabel: str
) -> tuple[list[Rectangle], list[Rectangle]]:
    """Coloured bars that move, and the outlines of the model as trained."""
    bars = ax.bar(range(len(trained)), trained, color=colours).patches
    outlines = ax.bar(range(len(trained)), trained, fill=False, edgecolor="black", linewidth=1.5).patches
    ax.set(ylim=(0, 108), yticks=range(0, 101, 20), xlim=(-0.6, len(trained) - 0.4))
    dress(ax, "", ylabel)
    return bars, outlines
