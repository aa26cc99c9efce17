"""What may still be corrected when training is over."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import ipywidgets
import torch.nn.functional as F
from matplotlib.axes import Axes
from torch import Tensor

from .. import plots
from ..classifiers import tau_normalised_weight
from ..counts import as_tensor
from ..losses import adjust_logits
from ..metrics import class_groups, per_class_accuracy, top1_error
from ..plots.style import check_names, dress
from .bars import Bars
from .explorer import Explorer, blank_figure
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
            counts, other names than classes, shapes that do not fit, or more than 200 classes.
    """
    counts = as_tensor(class_counts).cpu()
    if len(counts) > plots.BARS_UP_TO:
        raise ValueError(
            f"class_counts holds {len(counts)} classes; the explorer draws a bar each, at most {plots.BARS_UP_TO}"
        )
    names = check_names(names, len(counts))
    parts = [x if x is None else x.detach().cpu().float() for x in (logits, features, weight, bias)]
    _check_gives(*parts)
    trained = _Trained(labels.cpu(), counts, *parts)
    before, of_classes = trained.errors()
    order = counts.argsort(descending=True, stable=True).tolist()

    figure = blank_figure(1000, 380)
    left, right = figure.add_axes((0.065, 0.2, 0.27, 0.7)), figure.add_axes((0.405, 0.2, 0.59, 0.7))
    colours = {"all": "0.45"} | plots.GROUP_COLOURS
    groups = _ErrorBars(left, [*before.values()], [colours[name] for name in before], "top-1 error (%)", numbered=True)
    classes = _ErrorBars(right, of_classes[order].tolist(), group_colours(counts[order]), "error of a class (%)")
    right.set_title("outlines: as trained", fontsize=plots.FONT_SIZE, loc="left")
    left.set_xticks(range(len(before)), before)
    if len(counts) <= plots.NAMES_UP_TO:
        right.set_xticks(range(len(counts)), [names[c] for c in order], rotation=35, ha="right", rotation_mode="anchor")
    else:
        right.set_xlabel("class, most frequent first", fontsize=plots.FONT_SIZE)

    def update(tau: float, weight_tau: float = 0.0, keep: bool = True) -> str:
        errors, of_classes = trained.errors(tau, weight_tau, keep)
        groups.show([*errors.values()])
        classes.show(of_classes[order].tolist())
        shown = ", ".join(f"{name} {error:.1f} % ({error - before[name]:+.1f})" for name, error in errors.items())
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
    moving = groups.artists + classes.artists
    return Explorer(controls, figure, update, moving=moving, label="Error by group and by class after a correction")


@dataclass(frozen=True)
class _Trained:
    """A trained model's logits of test images and, unless None, the parts of its classifier that give them."""

    labels: Tensor  # (N,)
    counts: Tensor  # (C,), of training images
    logits: Tensor  # (N, C)
    features: Tensor | None  # (N, K)
    weight: Tensor | None  # (C, K)
    bias: Tensor | None  # (C,)

    @cached_property
    def groups(self) -> dict[str, Tensor]:
        """The groups that have classes, each as a mask of them."""
        return {name: mask for name, mask in class_groups(self.counts).items() if mask.any()}

    def errors(self, tau: float = 0.0, weight_tau: float = 0.0, keep: bool = True) -> tuple[dict[str, float], Tensor]:
        """In percent, after both corrections: of "all" and of each group that has classes; of each class, (C,)."""
        z = self.logits
        if weight_tau or not keep:
            z = F.linear(self.features, tau_normalised_weight(self.weight, weight_tau), self.bias if keep else None)
        z = adjust_logits(z, self.counts, tau)
        per_class = 100 * (1 - per_class_accuracy(z, self.labels))
        of_groups = {name: per_class[mask].nanmean().item() for name, mask in self.groups.items()}
        return {"all": 100 * top1_error(z, self.labels)} | of_groups, per_class


def _check_gives(logits: Tensor, features: Tensor | None, weight: Tensor | None, bias: Tensor | None) -> None:
    """That the classifier's parts belong to the logits; 2 % of the largest are allowed for bfloat16."""
    if (features is None) != (weight is None):
        raise ValueError("features and weight: give both for weight normalisation, or none for logit adjustment alone")
    if features is None:
        return
    if len(features) != len(logits) or features.shape[1:] != weight.shape[1:] or len(weight) != logits.shape[1]:
        raise ValueError(
            f"features {tuple(features.shape)} and weight {tuple(weight.shape)} do not give logits "
            f"{tuple(logits.shape)}: they are (N, K), (C, K) and (N, C)"
        )
    gap = (F.linear(features, weight, bias) - logits).abs().max().item()
    if gap > 0.02 * logits.abs().max().item():
        raise ValueError(f"features, weight and bias give other logits, by up to {gap:.3g}: take all from one model")


class _ErrorBars(Bars):
    """Errors in percent, and their numbers, under the outlines of the model as trained."""

    def __init__(
        self, ax: Axes, trained: list[float], colours: list[str], ylabel: str, *, numbered: bool = False
    ) -> None:
        super().__init__(ax, range(len(trained)), trained, outlined=True, color=colours)
        ax.set(ylim=(0, 108), yticks=range(0, 101, 20), xlim=(-0.6, len(trained) - 0.4))
        dress(ax, ylabel=ylabel)
        style = {"ha": "center", "fontsize": plots.FONT_SIZE}
        style["bbox"] = {"facecolor": "white", "edgecolor": "none", "pad": 1}  # no outline strikes a number through
        self.numbers = [ax.text(x, 0, "", **style) for x in range(len(trained))] if numbered else []
        self.artists += self.numbers

    def show(self, errors: list[float]) -> None:
        super().show(errors)
        for number, error in zip(self.numbers, errors, strict=False):
            number.set(text=f"{error:.1f}", y=error + 2)
