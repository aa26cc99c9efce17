"""Re-weighting: effective numbers, the focal loss, and where each loss pulls the classifier."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor, nn

from .. import losses, plots
from ..counts import in_class_order
from ..data import load, long_tail_counts
from ..recipes import get
from ..results.shown import shown_in
from .explorer import Explorer, blank_figure
from .panels import LEGEND, REFERENCE, TITLE, Bars, ByFrequency, data_sets, plot_at
from .sliders import choice, slider, stops

CURVE, SECOND_CURVE = plots.GROUP_COLOURS["many"], plots.GROUP_COLOURS["few"]

# --- effective numbers -----------------------------------------------------------------------------------------------

BETAS = tuple((f"{beta:.6g}", beta) for beta in (1 - np.logspace(0, -6, 61)).round(9).tolist())


def effective_number_explorer(counts_by_name: Mapping[str, Any] | None = None, *, beta: float = 0.9999) -> Explorer:
    """Class-balanced weights between uniform (beta = 0) and inverse frequency (beta -> 1), by effective numbers.

    Controls: data set, and beta, with 1 - beta on a log scale from 1 to 1e-6.

    Left, one weight per class, all scaled to sum to the number of classes. Right, why: what n images of a class count
    as, E_n = (1 - beta^n) / (1 - beta), which never exceeds 1 / (1 - beta).

    Args:
        counts_by_name: data set's name -> (C,) training images per class; if None, CIFAR-10-LT and CIFAR-100-LT
            (imbalance 100) and shapes-lt.
        beta: where the slider starts, 1 - 10^-x with x = 0, 0.1, ... 6, to 9 digits.

    Raises:
        ValueError: `counts_by_name` is empty, or `beta` is not on the slider.
    """
    given = data_sets(counts_by_name, lambda: {
        "CIFAR-10-LT": long_tail_counts(10, 5000, 100),
        "CIFAR-100-LT": long_tail_counts(100, 500, 100),
        "shapes-lt": load("shapes-lt", test_count=1).class_counts,
    })  # fmt: skip
    sorted_counts = {name: ByFrequency(counts).counts for name, counts in given.items()}
    figure = blank_figure(1000, 400)
    curves = _Curves(figure)

    def update(data_set: str, beta: float) -> str:
        counts = sorted_counts[data_set]
        weights, numbers = losses.class_balanced_weights(counts, beta), losses.effective_numbers(counts, beta)
        curves.show(counts, weights, numbers, beta)
        return (
            f"{data_set}, beta = {beta:.6g}: largest/smallest weight {weights.max() / weights.min():.3g} "
            f"(uniform 1, inverse frequency {counts[0] / counts[-1]:.3g}); the largest class's {counts[0]:,} "
            f"images count as {numbers[0]:,.4g}, the smallest's {counts[-1]:,} as {numbers[-1]:,.3g}"
        )

    controls = {"data_set": choice("data set", sorted_counts), "beta": stops("beta", beta, BETAS)}
    label = "Class-balanced weights per class, and the effective number of images"
    return Explorer(controls, figure, update, moving=[curves], label=label)


class _Curves:
    """Left, weights between uniform ones and the inverse frequencies, all with mean 1; right, effective numbers."""

    def __init__(self, figure: Figure) -> None:
        left = plot_at(figure, 75, 20, 500, 320, xlabel="class, most frequent first", ylabel="weight (mean 1)")
        right = plot_at(figure, 665, 20, 325, 320, xlabel="training images n of a class",
                        ylabel="effective number of n images")  # fmt: skip
        left.axhline(1, **REFERENCE, linestyle=":", label="uniform: beta = 0")
        right.axhline(1, **REFERENCE, linestyle=":")
        (self.inverse,) = left.plot([], [], **REFERENCE, linestyle="--", label="inverse frequency: beta → 1")
        (self.identity,) = right.plot([], [], **REFERENCE, linestyle="--")
        (self.balanced,) = left.plot([], [], color=CURVE, marker="o", markersize=4, label="class-balanced")
        (self.numbers,) = right.plot([], [], color=CURVE)
        (self.dots,) = right.plot([], [], color=CURVE, linestyle="", marker="o", markersize=5)
        left.set_yscale("log")
        right.set(xscale="log", yscale="log")
        for axis in (left.yaxis, right.xaxis, right.yaxis):
            axis.set_major_formatter("{x:,g}")
        left.legend(loc="upper left", **LEGEND)
        self.axes, self.counts, self.artists = (left, right), None, [self.balanced, self.numbers, self.dots]

    def show(self, counts: Tensor, weights: Tensor, numbers: Tensor, beta: float) -> None:
        if counts is not self.counts:  # only then, as a changed axis takes a full draw
            self._show_data_set(counts)
        self.balanced.set_data(range(len(counts)), weights.numpy())
        grid = torch.logspace(0, math.log10(counts[0].item()), 100, dtype=torch.float64)
        self.numbers.set_data(grid.numpy(), losses.effective_numbers(grid, beta).numpy())
        self.dots.set_data(counts.numpy(), numbers.numpy())

    def _show_data_set(self, counts: Tensor) -> None:
        """What only the data set decides."""
        inverse, n, most = losses.cost_sensitive_weights(counts), len(counts), counts[0].item()
        inverse = (inverse / inverse.mean()).tolist()
        self.inverse.set_data(range(n), inverse)
        self.identity.set_data([1, most], [1, most])
        self.axes[0].set(xlim=(-0.03 * n, 1.02 * n - 0.9), ylim=(0.6 * min(inverse), 7 * max(inverse)))
        self.axes[1].set(xlim=(0.8, 1.3 * most), ylim=(0.8, 1.3 * most))
        self.counts = counts


# --- focal loss ------------------------------------------------------------------------------------------------------

FOCAL_ALPHAS = ("none", 0.1, 0.25, 0.5, 0.75, 0.9)
FOCAL_FORMS = {"sigmoid": losses.sigmoid_focal, "softmax": losses.softmax_focal}
LOG_ODDS = torch.linspace(-7, 7, 281, dtype=torch.float64)


def focal_explorer(*, gamma: float = 2.0) -> Explorer:
    """The focal loss and its gradient against p_t, the probability of the right answer, compared with cross-entropy.

    Controls: gamma (0 to 5), alpha ("none" leaves the factor out) and form.

    form="softmax": p_t is the softmax probability of the label, and there is one answer. form="sigmoid": every class
    asks its own yes/no question, p_t is the probability of the right answer; alpha weights the label's "yes",
    1 - alpha the other classes' "no".

    Args:
        gamma: where the slider starts.

    Raises:
        ValueError: `gamma` lies outside [0, 5].
    """
    figure = blank_figure(1000, 400)
    x = "p_t, probability of the right answer"
    axes = [plot_at(figure, 65, 20, 420, 320, xlabel=x, ylabel="loss", xlim=(0, 1), ylim=(0, 5)),
            plot_at(figure, 565, 20, 420, 320, xlabel=x, ylabel="size of the gradient at the logit", xlim=(0, 1),
                    ylim=(0, 1.4))]  # fmt: skip
    plain = _answer(losses.softmax_focal, 0.0, None)
    lines = [_focal_lines(ax, values) for ax, values in zip(axes, plain, strict=True)]
    legend = axes[0].legend(loc="upper right", **LEGEND)
    entry_of_the_others = legend.get_lines()[2], legend.get_texts()[2]  # the last, so that no other moves

    def update(gamma: float, alpha: str | float, form: str) -> str:
        factor = None if isinstance(alpha, str) else alpha
        yes, no = (_answer(focal, gamma, factor) for focal in (FOCAL_FORMS[form], _other_class))
        two = form == "sigmoid" and factor is not None
        for (yes_line, no_line), right, wrong in zip(lines, yes, no, strict=True):
            yes_line.set_ydata(right)
            no_line.set(ydata=wrong, visible=two)
        for entry in entry_of_the_others:
            entry.set_visible(two)
        easy, hard = (_fraction_of_cross_entropy(yes[0], at) for at in (0.9, 0.1))
        answer = "an answer to the label's question" if two else "an answer"
        return (
            f"gamma {gamma:.1f}, alpha {alpha}, {form}: of its cross-entropy {answer} costs {_plain(easy)} at "
            f"p_t = 0.9 and {_plain(hard)} at p_t = 0.1 ({_plain(hard / easy)} times the fraction)"
        )

    controls = {
        "gamma": slider("gamma", gamma, 0, 5, 0.1, readout_format=".1f"),
        "alpha": stops("alpha", "none", FOCAL_ALPHAS),
        "form": choice("form", FOCAL_FORMS),
    }
    moving = [*entry_of_the_others, *lines[0], *lines[1]]
    label = "Focal loss and its gradient against the probability of the right answer"
    return Explorer(controls, figure, update, moving=moving, label=label)


def _plain(number: float) -> str:
    """A number above zero to two digits and without a power of ten: 0.000012, 0.59, 1, 59,000."""
    digits = 1 - math.floor(math.log10(number))
    text = f"{round(number, digits):,.{max(0, digits)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _focal_lines(ax: Axes, cross_entropy: np.ndarray) -> tuple[Line2D, Line2D]:
    p = LOG_ODDS.sigmoid().numpy()
    ax.plot(p, cross_entropy, **REFERENCE, linestyle="--", label="cross-entropy: gamma = 0")
    (yes,) = ax.plot(p, cross_entropy, color=CURVE, linewidth=2.5, label="focal")
    look = {"color": SECOND_CURVE, "linewidth": 2.5, "linestyle": "-."}
    (no,) = ax.plot(p, cross_entropy, **look, label="focal, other classes (with alpha)")
    return yes, no


def _answer(focal: Callable, gamma: float, alpha: float | None) -> tuple[np.ndarray, np.ndarray]:
    """Loss and size of its gradient where one answer is right with `LOG_ODDS`, all other answers being certain."""
    u = LOG_ODDS.clone().requires_grad_()
    logits = torch.stack([u, torch.zeros_like(u)], 1)  # (N, 2): the softmax has the log-odds u
    if focal is not losses.softmax_focal:
        logits = logits - torch.tensor([0.0, 60.0])  # the other class's question has its right answer, at no cost
    loss = focal(logits, torch.zeros(len(u), dtype=torch.int64), gamma, alpha)
    (gradient,) = torch.autograd.grad(loss.sum(), u)
    return loss.detach().numpy(), gradient.abs().numpy()


def _other_class(logits: Tensor, targets: Tensor, gamma: float, alpha: float | None) -> Tensor:
    """The sigmoid form where the question in doubt is that of a class which is not the label."""
    return losses.sigmoid_focal(-logits, targets + 1, gamma, alpha)


def _fraction_of_cross_entropy(loss: np.ndarray, p: float) -> float:
    """The loss at probability p, as a fraction of -log p."""
    known = LOG_ODDS.sigmoid().numpy()
    return np.interp(p, known, loss / -np.log(known)).item()


# --- gradients -------------------------------------------------------------------------------------------------------


def _loss_of(recipe: str, class_counts: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """The recipe's loss. LDAM reads cosines and multiplies them by its scale: it gets the logits divided by that."""
    slot = get(recipe).stages[0].loss
    loss = slot if isinstance(slot, nn.Module) else slot(class_counts)
    return (lambda logits, targets: loss(logits / loss.scale, targets)) if isinstance(loss, losses.LDAMLoss) else loss


PULLING: dict[str, tuple[str, Callable]] = {  # key -> label, and a function of the class counts that returns a loss
    line.recipe: (line.option, partial(_loss_of, line.recipe)) for line in shown_in("gradients")
}
REACHES = (1.1, 1.5, 3.0, 4.5)  # of the axis: only a few, as a change takes a full draw; cross-entropy needs the first


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
    """Where each loss pulls the classifier: its gradient at the logits of a small batch.

    Control: loss. One row per sample; bars above zero push a class's logit up, bars below push it down, and the
    outlines are cross-entropy's. A weighted loss divides by the batch's sum of weights, as in training.
    LDAM reads the logits as its scale times a cosine. All rows have one scale, which fits the loss.

    Args:
        logits: (N, C) of N = 1 to 4 samples, such as a head, a medium and a tail class's.
        targets: (N,) int64, their labels.
        class_counts: (C,) training images per class.
        names: (C,) class names; the class indices if None.

    Raises:
        ValueError: other than 1 to 4 samples, shapes that do not fit, or a number of names that is not that of classes.
    """
    classes, counts, n = ByFrequency(class_counts, names), in_class_order(class_counts), len(logits)
    if logits.ndim != 2 or not 1 <= n <= 4 or logits.shape[1] != len(classes) or len(targets) != n:
        raise ValueError(
            f"logits of shape {tuple(logits.shape)} and {len(targets)} targets: pass 1 to 4 samples of "
            f"{len(classes)} classes"
        )
    all_pulls = {key: pulls(make(counts), logits, targets)[:, classes.order] for key, (_, make) in PULLING.items()}
    plain, own = all_pulls["ce"], classes.rank[targets].tolist()  # the place of each sample's class
    figure = blank_figure(1000, 170 * n + 60)
    height = (170 * n - 13) / (n + 0.35 * (n - 1))  # of a row; a third of it lies between two
    samples = []
    for row, (rank, p) in enumerate(zip(own, logits.softmax(1)[range(n), targets], strict=True)):
        ax = plot_at(figure, 80, 25 + 1.35 * height * row, 910, height, ylabel="pull")
        samples.append(Bars(ax, plain[row], outlined=True, color=classes.colours))
        ax.axhline(0, color="0.2", linewidth=1)
        ax.set_title(
            f"an image of class {classes.names[rank]} ({classes.counts[rank]:,} training images), p = {p:.2f}", **TITLE
        )
        ax.tick_params(labelbottom=row == n - 1)
        plots.name_ticks(ax, classes.names)

    def update(loss: str) -> str:
        highest = 1.02 * torch.cat([all_pulls[loss], plain]).abs().max().item()  # of bars and outlines
        reach = next((reach for reach in REACHES if reach >= highest), highest)
        for sample, pull in zip(samples, all_pulls[loss], strict=True):
            sample.show(pull)
            if sample.ax.get_ylim()[1] != reach:
                sample.ax.set_ylim(-reach, reach)
        said = ", ".join(
            f"{classes.names[rank]} {pull[rank]:+.2f} (CE {before[rank]:+.2f})"
            for rank, pull, before in zip(own, all_pulls[loss], plain, strict=True)
        )
        return f"{PULLING[loss][0]}: pull of each image on its own class's logit: {said}"

    controls = {"loss": stops("loss", "ce", [(label, key) for key, (label, _) in PULLING.items()])}
    return Explorer(controls, figure, update, moving=samples, label="Pull of each image on every class's logit")
