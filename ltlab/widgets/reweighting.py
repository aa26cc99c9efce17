"""Re-weighting: effective numbers, the focal loss, and who pulls the classifier where."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import ipywidgets
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from torch import Tensor, nn

from .. import plots
from ..counts import as_tensor
from ..data import load, long_tail_counts
from ..losses import (
    LDAMLoss,
    class_balanced_weights,
    cost_sensitive_weights,
    effective_numbers,
    sigmoid_focal,
    softmax_focal,
)
from ..plots.style import check_names, dress
from ..recipes import get
from ..results.shown import shown_in
from .bars import Bars
from .explorer import GREY, LEGEND, Explorer, blank_figure, choice
from .long_tail import group_colours

BLUE, _, VERMILION = plots.GROUP_COLOURS.values()

# --- effective numbers -----------------------------------------------------------------------------------------------

BETAS = tuple((f"{1 - 10**-x:.6g}", 1 - 10**-x) for x in np.linspace(0, 6, 61).round(1).tolist())


def effective_number_explorer(counts_by_name: Mapping[str, Any] | None = None, *, beta: float = 0.9999) -> Explorer:
    """Class-balanced weights between uniform (beta = 0) and inverse frequency (beta -> 1), by effective numbers.

    Controls: data set, and beta, with 1 - beta on a log scale from 1 to 1e-6.

    Left, one weight per class, all scaled to sum to the number of classes. Right, why: what n images of a class count
    as, E_n = (1 - beta^n) / (1 - beta), which never exceeds 1 / (1 - beta).

    Args:
        counts_by_name: data set's name -> (C,) training images per class; if None, CIFAR-10-LT and CIFAR-100-LT
            (imbalance 100) and shapes-lt.
        beta: where the slider begins, 1 - 10^-x with x = 0, 0.1, ... 6.

    Raises:
        ValueError: `counts_by_name` is empty, or `beta` is not on the slider.
    """
    if counts_by_name is None:
        counts_by_name = {
            "CIFAR-10-LT": long_tail_counts(10, 5000, 100),
            "CIFAR-100-LT": long_tail_counts(100, 500, 100),
            "shapes-lt": load("shapes-lt", test_count=1).class_counts,
        }
    if not counts_by_name:
        raise ValueError("counts_by_name is empty: give at least one data set's class counts")
    sorted_counts = {name: _most_frequent_first(counts) for name, counts in counts_by_name.items()}
    start = _nearest(beta)

    figure = blank_figure(1000, 400)
    left = _Weights(figure.add_axes((0.075, 0.15, 0.5, 0.8), yscale="log"))
    right = _EffectiveNumbers(figure.add_axes((0.665, 0.15, 0.325, 0.8), xscale="log", yscale="log"))

    def update(data_set: str, beta: float) -> str:
        counts = sorted_counts[data_set]
        weights, numbers = class_balanced_weights(counts, beta), effective_numbers(counts, beta)
        left.show(counts, weights)
        right.show(counts, numbers, beta)
        ratio = weights.max() / weights.min()
        return (
            f"{data_set}, beta = {beta:.6g}: largest/smallest weight {ratio:.3g} "
            f"(uniform 1, inverse frequency {counts.max() / counts.min():.3g}); the largest class's {counts.max():,} "
            f"images count as {numbers[0]:,.4g}, the smallest's {counts.min():,} as {numbers[-1]:,.3g}"
        )

    controls = {
        "data_set": choice("data set", sorted_counts, width=120),
        "beta": ipywidgets.SelectionSlider(options=BETAS, value=start, description="beta"),
    }
    label = "Class-balanced weights per class, and the effective number of images"
    return Explorer(controls, figure, update, moving=left.artists + right.artists, label=label)


class _Weights:
    """Class-balanced weights between uniform ones and the inverse frequencies, all with mean 1."""

    def __init__(self, ax: Axes) -> None:
        self.ax, self.counts = ax, None
        ax.axhline(1, **GREY, linestyle=":", label="uniform: beta = 0")
        (self.inverse,) = ax.plot([], [], **GREY, linestyle="--", label="inverse frequency: beta → 1")
        (self.balanced,) = ax.plot([], [], color=BLUE, marker="o", markersize=4, label="class-balanced")
        dress(ax, xlabel="class, most frequent first", ylabel="weight (mean 1)")
        ax.yaxis.set_major_formatter("{x:,g}")
        ax.legend(loc="upper left", **LEGEND)
        self.artists = [self.balanced]

    def show(self, counts: Tensor, weights: Tensor) -> None:
        if counts is not self.counts:  # what only the data set decides, which takes a full draw
            inverse, n = _mean_one(cost_sensitive_weights(counts)), len(counts)
            self.inverse.set_data(range(n), inverse)
            self.ax.set(xlim=(-0.03 * n, 1.02 * n - 0.9), ylim=(0.6 * min(inverse), 7 * max(inverse)))
            self.counts = counts
        self.balanced.set_data(range(len(counts)), weights.numpy())


class _EffectiveNumbers:
    """What n images of a class count as, between 1 and n."""

    def __init__(self, ax: Axes) -> None:
        self.ax, self.counts = ax, None
        ax.axhline(1, **GREY, linestyle=":")
        (self.identity,) = ax.plot([], [], **GREY, linestyle="--")
        (self.curve,) = ax.plot([], [], color=BLUE)
        (self.dots,) = ax.plot([], [], color=BLUE, linestyle="", marker="o", markersize=5)
        dress(ax, xlabel="training images n of a class", ylabel="effective number of n images")
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_formatter("{x:,g}")
        self.artists = [self.curve, self.dots]

    def show(self, counts: Tensor, numbers: Tensor, beta: float) -> None:
        largest = counts.max().item()
        if counts is not self.counts:  # as for the weights
            self.identity.set_data([1, largest], [1, largest])
            self.ax.set(xlim=(0.8, 1.3 * largest), ylim=(0.8, 1.3 * largest))
            self.counts = counts
        grid = torch.logspace(0, math.log10(largest), 100, dtype=torch.float64)
        self.curve.set_data(grid.numpy(), effective_numbers(grid, beta).numpy())
        self.dots.set_data(counts.numpy(), numbers.numpy())


def _nearest(beta: float) -> float:
    value = min((value for _, value in BETAS), key=lambda value: abs(value - beta))
    if not math.isclose(value, beta, rel_tol=0, abs_tol=1e-9):
        raise ValueError(f"beta={beta} is not on the slider: take 1 - 10^-x, x = 0, 0.1, ... 6, such as {value:.6g}")
    return value


def _most_frequent_first(counts: Any) -> Tensor:
    return as_tensor(counts).sort(descending=True).values


def _mean_one(weights: Tensor) -> list[float]:
    return (weights / weights.mean()).tolist()


# --- focal loss ------------------------------------------------------------------------------------------------------

ALPHAS = ("none", 0.1, 0.25, 0.5, 0.75, 0.9)
LOG_ODDS = torch.linspace(-7, 7, 281, dtype=torch.float64)


def focal_explorer(*, gamma: float = 2.0) -> Explorer:
    """The focal loss and its gradient against p_t, the probability of the right answer, beside cross-entropy.

    Controls: gamma (0 to 5), alpha ("none" leaves the factor out) and form.

    form="softmax": p_t is the softmax probability of the label, and there is one answer. form="sigmoid": every class
    asks its own yes/no question, p_t is the probability of the right answer; alpha weights the label's "yes",
    1 - alpha the other classes' "no".

    Args:
        gamma: where the slider begins.

    Raises:
        ValueError: `gamma` lies outside [0, 5].
    """
    if not 0 <= gamma <= 5:
        raise ValueError(f"gamma={gamma} is not on the slider: choose one from 0 to 5")
    figure = blank_figure(1000, 400)
    axes = figure.add_axes((0.065, 0.15, 0.42, 0.8)), figure.add_axes((0.565, 0.15, 0.42, 0.8))
    p = LOG_ODDS.sigmoid().numpy()
    lines = [_focal_lines(ax, p, values) for ax, values in zip(axes, _answer(softmax_focal, 0.0, None), strict=True)]
    dress(axes[0], xlabel="p_t, probability of the right answer", ylabel="loss")
    dress(axes[1], xlabel="p_t, probability of the right answer", ylabel="size of the gradient at the logit")
    axes[0].set(xlim=(0, 1), ylim=(0, 5))
    axes[1].set(xlim=(0, 1), ylim=(0, 1.4))
    legend = axes[0].legend(loc="upper right", **LEGEND)
    entry_of_the_others = legend.legend_handles[2], legend.get_texts()[2]  # the last, so that no other moves

    def update(gamma: float, alpha: str | float, form: str) -> str:
        factor = None if alpha == "none" else alpha
        yes = _answer(softmax_focal if form == "softmax" else sigmoid_focal, gamma, factor)
        no = _answer(_other_class, gamma, factor)
        two = form == "sigmoid" and factor is not None
        for (yes_line, no_line), right, wrong in zip(lines, yes, no, strict=True):
            yes_line.set_ydata(right)
            no_line.set_ydata(wrong)
            no_line.set_visible(two)
        for entry in entry_of_the_others:
            entry.set_visible(two)
        easy, hard = (_share_of_cross_entropy(yes[0], at) for at in (0.9, 0.1))
        answer = "an answer to the label's question" if two else "an answer"
        return (
            f"gamma {gamma:.1f}, alpha {alpha}, {form}: of its cross-entropy {answer} costs {_plain(easy)} at "
            f"p_t = 0.9 and {_plain(hard)} at p_t = 0.1 ({_plain(hard / easy)} times the share)"
        )

    controls = {
        "gamma": ipywidgets.FloatSlider(value=gamma, max=5, step=0.1, description="gamma", readout_format=".1f"),
        "alpha": ipywidgets.SelectionSlider(options=ALPHAS, description="alpha"),
        "form": choice("form", ("sigmoid", "softmax"), width=80),
    }
    moving = [*entry_of_the_others, *(line for pair in lines for line in pair)]
    label = "Focal loss and its gradient against the probability of the right answer"
    return Explorer(controls, figure, update, moving=moving, label=label)


def _plain(number: float) -> str:
    """A number above zero to two figures and without a power of ten: 0.000012, 0.59, 1, 59,000."""
    digits = 1 - math.floor(math.log10(number))
    text = f"{round(number, digits):,.{max(0, digits)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _focal_lines(ax: Axes, p: np.ndarray, cross_entropy: np.ndarray) -> tuple[Line2D, Line2D]:
    ax.plot(p, cross_entropy, **GREY, linestyle="--", label="cross-entropy: gamma = 0")
    (yes,) = ax.plot(p, cross_entropy, color=BLUE, linewidth=2.5, label="focal")
    (no,) = ax.plot(p, cross_entropy, color=VERMILION, linewidth=2.5, label="focal, other classes (with alpha)")
    no.set_linestyle("-.")
    return yes, no


def _answer(focal: Callable, gamma: float, alpha: float | None) -> tuple[np.ndarray, np.ndarray]:
    """Loss and size of its gradient where one answer is right with `LOG_ODDS`, all other answers being certain."""
    u = LOG_ODDS.clone().requires_grad_()
    logits = torch.stack([u, torch.zeros_like(u)], 1)  # (N, 2): the softmax has the log-odds u
    if focal is not softmax_focal:
        logits = logits - torch.tensor([0.0, 60.0])  # the other class's question has its right answer, at no cost
    losses = focal(logits, torch.zeros(len(u), dtype=torch.int64), gamma, alpha)
    (gradient,) = torch.autograd.grad(losses.sum(), u)
    return losses.detach().numpy(), gradient.abs().numpy()


def _other_class(logits: Tensor, targets: Tensor, gamma: float, alpha: float | None) -> Tensor:
    """The sigmoid form where the question in doubt is that of a class which is not the label."""
    return sigmoid_focal(-logits, targets + 1, gamma, alpha)


def _share_of_cross_entropy(losses: np.ndarray, p: float) -> float:
    """The loss at probability p, as a share of -log p."""
    known = LOG_ODDS.sigmoid().numpy()
    return np.interp(p, known, losses / -np.log(known)).item()


# --- gradients -------------------------------------------------------------------------------------------------------


def _loss_of(recipe: str, class_counts: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """The recipe's loss; LDAM reads cosines and multiplies them by its scale: the logits as they are, divided by it."""
    slot = get(recipe).stages[0].loss
    loss = slot if isinstance(slot, nn.Module) else slot(class_counts)
    return (lambda logits, targets: loss(logits / loss.scale, targets)) if isinstance(loss, LDAMLoss) else loss


# name -> function of the class counts that returns a loss
LOSSES = {line.option: partial(_loss_of, line.recipe) for line in shown_in("gradients")}
# up to where the axes of pulls may reach: few, as another reach takes a full draw; cross-entropy needs the first
REACHES = (1.1, 1.5, 3.0, 4.5)


def pulls(loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, targets: Tensor) -> Tensor:
    """Where a step of gradient descent pulls every logit, -N dL/dz; for cross-entropy it is [k = y] - p_k.

    Args:
        loss: of the batch; its own reduction decides how its samples share the step.
        logits: z, (N, C).
        targets: (N,) int64.

    Returns:
        (N, C) float64, above zero where the logit is pushed up.
    """
    z = logits.detach().double().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(z, targets), z)
    return -len(z) * gradient


def gradient_explorer(
    logits: Tensor, targets: Tensor, class_counts: Any, *, names: Sequence[str] | None = None
) -> Explorer:
    """Who pulls the classifier where: the gradient of each loss at the logits of a small batch.

    Control: loss. One row per sample; bars above zero push a class's logit up, bars below push it down, and the
    outlines are cross-entropy's. A weighted loss divides by the batch's sum of weights, as in training.
    LDAM reads the logits as its scale times a cosine. All rows have one scale, which fits the loss.

    Args:
        logits: (N, C) of N = 1 to 4 samples, such as a head, a medium and a tail class's.
        targets: (N,) int64, their labels.
        class_counts: (C,) training images per class.
        names: (C,) class names; the class indices if None.

    Raises:
        ValueError: other than 1 to 4 samples, shapes that do not fit, or other names than classes.
    """
    counts = as_tensor(class_counts)
    if logits.ndim != 2 or not 1 <= len(logits) <= 4 or logits.shape[1] != len(counts) or len(targets) != len(logits):
        raise ValueError(
            f"logits of shape {tuple(logits.shape)} and {len(targets)} targets: "
            f"give 1 to 4 samples of {len(counts)} classes"
        )
    order = counts.argsort(descending=True, stable=True).tolist()
    names = check_names(names, len(counts))
    all_pulls = {name: pulls(make(counts), logits, targets) for name, make in LOSSES.items()}
    reaches = {name: _reach(pull, all_pulls["CE"]) for name, pull in all_pulls.items()}
    p = logits.softmax(1)

    figure = blank_figure(1000, 170 * len(logits) + 60)
    axes = figure.subplots(len(logits), sharex=True, squeeze=False)[:, 0]
    figure.subplots_adjust(0.08, 48 / figure.bbox.height * 2, 0.99, 1 - 50 / figure.bbox.height, hspace=0.35)
    samples = []
    for ax, target, probability, pull in zip(axes, targets.tolist(), p, all_pulls["CE"], strict=True):
        samples.append(Bars(ax, range(len(counts)), pull[order], outlined=True, color=group_colours(counts[order])))
        ax.axhline(0, color="0.2", linewidth=1)
        dress(ax, ylabel="pull")
        ax.set_title(
            f"an image of class {names[target]} ({counts[target]:,} training images), p = {probability[target]:.2f}",
            fontsize=plots.FONT_SIZE, loc="left",
        )  # fmt: skip
    if len(counts) <= plots.NAMES_UP_TO:
        axes[-1].set_xticks(range(len(counts)), [names[c] for c in order])

    def update(loss: str) -> str:
        for ax, sample, pull in zip(axes, samples, all_pulls[loss], strict=True):
            sample.show(pull[order])
            if ax.get_ylim()[1] != reaches[loss]:
                ax.set_ylim(-reaches[loss], reaches[loss])
        own = ", ".join(
            f"{names[target]} {pull[target]:+.2f} (CE {before[target]:+.2f})"
            for target, pull, before in zip(targets.tolist(), all_pulls[loss], all_pulls["CE"], strict=True)
        )
        return f"{loss}: pull of each image on its own class's logit: {own}"

    controls = {"loss": choice("loss", LOSSES, width=140)}
    moving = [artist for sample in samples for artist in sample.artists]
    return Explorer(controls, figure, update, moving=moving, label="Pull of each image on every class's logit")


def _reach(pull: Tensor, outline: Tensor) -> float:
    """The first of `REACHES` that holds the bars and their outlines."""
    highest = 1.02 * max(pull.abs().max().item(), outline.abs().max().item())
    return next((reach for reach in REACHES if reach >= highest), highest)
