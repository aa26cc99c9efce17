"""What may still be corrected when training is over."""

from collections.abc import Callable, Sequence
from typing import Any

import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from .. import plots
from ..classifiers import tau_normalised_weight
from ..losses import adjust_logits
from ..metrics import class_groups, per_class_accuracy, top1_error
from .explorer import Explorer, blank_figure
from .panels import TITLE, Bars, ByFrequency, GroupBars, check_bars, plot_at
from .sliders import slider, switch


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
            counts, a number of names that is not that of classes, shapes that do not fit, or more than 200 classes.
    """
    classes = ByFrequency(class_counts, names)
    check_bars(len(classes))
    groups = {name: mask for name, mask in class_groups(classes.counts).items() if mask.any()}
    errors = _errors(logits, labels.cpu(), classes, features, weight, bias)
    per_class, in_all = errors()

    def in_groups(per_class: Tensor, in_all: float) -> dict[str, float]:
        return {"all": in_all} | {name: per_class[mask].nanmean().item() for name, mask in groups.items()}

    before = in_groups(per_class, in_all)
    figure = blank_figure(1000, 380)
    left = GroupBars(figure, 65, 270, before, "top-1 error (%)")
    right = _bars(figure, per_class.tolist(), classes.colours)
    right.ax.set_title("outlines: as trained", **TITLE)
    plots.name_ticks(right.ax, classes.names, angle=35)
    if len(classes) > plots.NAMES_UP_TO:
        right.ax.set_xlabel("class, most frequent first")

    def update(tau: float, weight_tau: float = 0.0, keep: bool = True) -> str:
        per_class, in_all = errors(tau, weight_tau, keep)
        now = in_groups(per_class, in_all)
        left.show(now.values())
        right.show(per_class)
        shown = ", ".join(f"{name} {error:.1f} % ({error - before[name]:+.1f})" for name, error in now.items())
        normalised = "" if features is None else f", tau of weight normalisation {weight_tau:.2f}"
        return f"tau of logit adjustment {tau:.2f}{normalised}{'' if keep else ', bias dropped'}: error of {shown}"

    controls: dict[str, Any] = {"tau": slider("tau", 0, 0, 2, 0.05, description="tau of logit adjustment")}
    if features is not None:
        controls["weight_tau"] = slider("weight_tau", 0, 0, 1, 0.05, description="tau of weight normalisation")
        controls |= {} if bias is None else {"keep": switch("bias", True)}
    label = "Error by group and by class after a correction"
    return Explorer(controls, figure, update, moving=[left, right], label=label)


def _bars(figure: Figure, heights: list[float], colours: list[str]) -> Bars:
    ax = plot_at(figure, 405, 38, 590, 266, ylabel="error of a class (%)")
    ax.set(ylim=(0, 108), yticks=range(0, 101, 20), xlim=(-0.6, len(heights) - 0.4))
    return Bars(ax, heights, outlined=True, color=colours)


def _errors(
    logits: Tensor, labels: Tensor, classes: ByFrequency, features: Tensor | None, weight: Tensor | None,
    bias: Tensor | None,
) -> Callable[..., tuple[Tensor, float]]:  # fmt: skip
    """The function of tau, tau_w and keep that gives errors in percent: of every class by frequency, (C,), and of all.

    Checks that the classifier's parts belong to the logits; 2 % of the largest are allowed for bfloat16.
    """
    if (features is None) != (weight is None):
        raise ValueError("features and weight: pass both for weight normalisation, or neither for logit adjustment")
    logits = logits.detach().cpu().float()
    features, weight, bias = (x if x is None else x.detach().cpu().float() for x in (features, weight, bias))
    if features is not None and weight is not None:
        if len(features) != len(logits) or features.shape[1:] != weight.shape[1:] or len(weight) != logits.shape[1]:
            raise ValueError(
                f"features {tuple(features.shape)} and weight {tuple(weight.shape)} do not give logits "
                f"{tuple(logits.shape)}: they are (N, K), (C, K) and (N, C)"
            )
        gap = (F.linear(features, weight, bias) - logits).abs().max().item()
        if gap > 0.02 * logits.abs().max().item():
            raise ValueError(f"features, weight and bias give other logits, by up to {gap:.3g}: take all of one model")
    counts = classes.counts[classes.rank]

    def errors(tau: float = 0.0, weight_tau: float = 0.0, keep: bool = True) -> tuple[Tensor, float]:
        z = logits
        if features is not None and weight is not None and (weight_tau or not keep):
            z = F.linear(features, tau_normalised_weight(weight, weight_tau), bias if keep else None)
        z = adjust_logits(z, counts, tau)
        return 100 * (1 - per_class_accuracy(z, labels))[classes.order], 100 * top1_error(z, labels)

    return errors
