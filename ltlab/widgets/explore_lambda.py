"""Lambda: how strongly mixup mixes, and whose label a mixed picture gets in Remix."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from .. import plots
from ..counts import as_counts
from ..mixup import draw_lambda, remix_lambda
from .explorer import Explorer, blank_figure
from .panels import A_COLOUR, B_COLOUR, LEGEND, REFERENCE, TITLE, Bars, ByFrequency, check_bars, plot_at
from .pixels import show_pixels
from .sliders import class_slider, slider, stops

BETA_ALPHAS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 20.0, 30.0, 50.0)
BINS, DRAWS, BATCHES, HIGHEST = 40, 4000, 16, 9  # alpha 50 reaches 8


def beta_explorer(*, alpha: float = 1.0, seed: int = 0) -> Explorer:
    """How strongly mixup mixes: the distribution of lambda for every alpha.

    Control: alpha, from 0.05 to 50.

    Left, the density of Beta(alpha, alpha) over a histogram of 4,000 draws; a bar that extends beyond the top has its
    height written on it. The two grey edges are the lambdas within 0.1 of 0 or 1, where a picture is nearly unmixed.
    Right, the soft targets of 16 batches.

    Args:
        alpha: where the slider starts, one of `BETA_ALPHAS`.
        seed: of the draws.

    Raises:
        ValueError: `alpha` is not on the slider.
    """
    figure = blank_figure(1000, 360)
    density = _Density(plot_at(figure, 60, 36, 600, 266, xlabel="lambda", ylabel="density"))
    right = plot_at(figure, 720, 36, 260, 266, xlabel="fraction of the label", yticks=[])
    right.set(xlim=(0, 1), ylim=(BATCHES - 0.5, -0.5))
    right.set_title(f"{BATCHES} batches", fontsize=plots.FONT_SIZE)
    right.set_title("A", **TITLE, color=A_COLOUR, weight="bold")
    right.set_title("B", fontsize=plots.FONT_SIZE, loc="right", color=B_COLOUR, weight="bold")
    of_a, of_b = (right.barh(range(BATCHES), 0, height=0.8, color=c).patches for c in (A_COLOUR, B_COLOUR))

    @cache
    def draws(alpha: float) -> Tensor:
        return draw_lambda(alpha, torch.Generator().manual_seed(seed), (DRAWS,))

    def update(alpha: float) -> str:
        lams = draws(alpha)
        density.show(alpha, lams)
        for a, b, lam in zip(of_a, of_b, lams.tolist(), strict=False):
            a.set_width(lam)
            b.set(x=lam, width=1 - lam)
        near = ((lams < 0.1) | (lams > 0.9)).float().mean()
        return (
            f"alpha {alpha:g}: {near:.0%} of {DRAWS:,} lambdas lie within 0.1 of 0 or 1 (nearly unmixed), the mean is "
            f"{lams.mean():.2f}, the standard deviation {lams.std():.2f}; by the formula {(8 * alpha + 4) ** -0.5:.2f}"
        )

    label = "Density of lambda, a histogram of draws, and the labels of some batches"
    controls = {"alpha": stops("alpha", alpha, BETA_ALPHAS)}
    return Explorer(controls, figure, update, moving=[density, *of_a, *of_b], label=label)


class _Density:
    """The density of Beta(alpha, alpha) over a histogram of draws."""

    def __init__(self, ax: Axes) -> None:
        ax.set(xlim=(0, 1), ylim=(0, HIGHEST))
        for edge in (0, 0.9):
            ax.axvspan(edge, edge + 0.1, color="0.92", zorder=0)
        edges, look = np.linspace(0, 1, BINS + 1), {"color": "0.75", "edgecolor": "white", "linewidth": 0.5}
        self.bars = Bars(ax, np.zeros(BINS), x=edges[:-1], width=1 / BINS, align="edge", **look)
        self.lams = torch.linspace(0, 1, 401, dtype=torch.float64)[1:-1]
        (self.curve,) = ax.plot(self.lams.numpy(), self.lams.numpy(), color="black", linewidth=2.5)
        self.beyond = [ax.text(x, HIGHEST - 0.1, "", fontsize=plots.FONT_SIZE, ha=ha, va="top", zorder=5)
                       for x, ha in ((0.03, "left"), (0.97, "right"))]  # fmt: skip
        self.artists = [*self.bars.artists, self.curve, *self.beyond]

    def show(self, alpha: float, draws: Tensor) -> None:
        heights = torch.histc(draws, BINS, 0, 1) * BINS / DRAWS
        self.bars.show(heights)
        for text, height in zip(self.beyond, heights[[0, -1]].tolist(), strict=True):
            text.set_text(f"↑ {height:.0f}" if height > HIGHEST else "")
        concentration = torch.tensor(alpha, dtype=torch.float64)
        known = torch.distributions.Beta(concentration, concentration)
        self.curve.set_ydata(known.log_prob(self.lams).exp().numpy())


# --- Remix ------------------------------------------------------------------------------------------------------------

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

    Left, the fraction of class i in the label against its fraction in the picture; dashed is mixup. Right, all pairs of
    classes, the most frequent first: those where i is at least kappa times as frequent as j and can lose its label,
    those where j is, and those where the label is mixup's. The black square is the chosen pair.

    Args:
        class_counts: (C,) training images per class.
        names: (C,) class names; "class 0" and so on if None.
        kappa, tau: where the sliders start, kappa in [1, 20], tau in [0, 1].

    Raises:
        ValueError: `class_counts` are not above zero, fewer than 2 or more than 200; the number of names is not that of
            classes; a setting is not on its slider.
    """
    n = len(as_counts(class_counts))
    check_bars(n)
    if n < 2:
        raise ValueError(f"class_counts has {n} class: a pair takes 2 or more")
    classes = ByFrequency(class_counts, [f"class {c}" for c in range(n)] if names is None else names)
    counts, names = classes.counts, classes.names
    prior, same = counts.double() / counts.sum(), torch.eye(n, dtype=torch.bool)

    figure = blank_figure(1000, 420)
    panels = _RulePanels(figure, names)

    def update(a: int, b: int, kappa: float, tau: float) -> str:
        more = (counts[:, None] >= kappa * counts) & ~same  # i than j by a factor of kappa, (C, C)
        label = LAMS if a == b else remix_lambda(LAMS, counts[a], counts[b], kappa, tau)
        panels.show(a, b, label, tau, more, names)
        mass = _label_mass(counts, kappa, tau)
        what = "one class: the label stays" if a == b else OUTCOMES[bool(more[a, b]), bool(more[b, a])]
        return (
            f"{names[a]} has {counts[a] / counts[b]:.3g} times as many images as {names[b]}; kappa {kappa:g}, tau "
            f"{tau:.2f}: {what}. Over all pairs (alpha = 1) {names[-1]}, the least frequent class, gets {mass[-1]:.2%} "
            f"of the labels, {prior[-1]:.2%} with mixup; {names[0]}, the most frequent, {mass[0]:.1%}, {prior[0]:.1%}"
        )

    controls = {
        "a": class_slider("class i", names, range(n), 0),
        "b": class_slider("class j", names, range(n), -1),
        "kappa": slider("kappa", kappa, 1, 20, 0.5),
        "tau": slider("tau", tau, 0, 1, 0.05),
    }
    label = "The label rule of Remix, and the pairs it changes"
    return Explorer(controls, figure, update, moving=[panels], label=label)


def _label_mass(counts: Tensor, kappa: float, tau: float) -> Tensor:
    """Every class's fraction of all labels, (C,), where any two images may be paired and lam is uniform (alpha = 1)."""
    prior, middles = counts.double() / counts.sum(), (LAMS[1:] + LAMS[:-1]) / 2
    of_i = remix_lambda(middles[:, None, None], counts[:, None], counts, kappa, tau).mean(0)  # (C, C)
    return prior * (of_i @ prior) + ((1 - of_i).T @ prior) * prior


class _RulePanels:
    """Left, the fraction of class i in the label; right, whose label is at stake in every pair, and the chosen pair."""

    def __init__(self, figure: Figure, names: Sequence[str]) -> None:
        left = plot_at(figure, 75, 34, 460, 327, xlabel="lambda, the fraction of i in the picture",
                       ylabel="fraction of i in the label", xlim=(-0.01, 1.01), ylim=(-0.03, 1.03))  # fmt: skip
        left.plot([0, 1], [0, 1], **REFERENCE, linestyle="--", label="mixup")
        (self.rule,) = left.plot([], [], ".", color="black", markersize=6, label="Remix")
        left.legend(loc="upper left", **LEGEND)
        self.regions = [
            (left.axvspan(0, 0, color=colour, alpha=0.15),
             left.text(x, y, "", color=colour, ha=ha, fontsize=plots.FONT_SIZE, va="center"))
            for x, y, ha, colour in ((0.13, 0.06, "left", B_COLOUR), (0.87, 0.94, "right", A_COLOUR))
        ]  # fmt: skip

        right, n = plot_at(figure, 680, 32, 285, 285, xlabel="class j, its partner", ylabel="class i"), len(names)
        colours = ListedColormap([B_COLOUR, "0.9", A_COLOUR])
        self.map = show_pixels(right, np.zeros((n, n)), cmap=colours, vmin=-1, vmax=1, alpha=0.8)
        entries = {"i may lose": B_COLOUR, "j may lose": A_COLOUR, "mixup": "0.9"}
        handles = [Patch(color=colour, label=label, alpha=0.8) for label, colour in entries.items()]
        spread = LEGEND | {"columnspacing": 1, "handlelength": 1}
        right.legend(handles=handles, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0), **spread)
        (self.square,) = right.plot([], [], "s", color="black", markersize=max(5, 150 / n), fillstyle="none", mew=2.5)
        if n <= plots.NUMBERS_UP_TO:
            plots.name_ticks(right, names, angle=60, fontsize=9)
            right.set_yticks(range(n), names, fontsize=9)
        spans, texts = zip(*self.regions, strict=True)
        self.artists = [*spans, self.rule, *texts, self.map, self.square]

    def show(self, a: int, b: int, label: Tensor, tau: float, more: Tensor, names: Sequence[str]) -> None:
        self.rule.set_data(LAMS.numpy(), label.numpy())
        told = (0, more[a, b], f"all to j, {names[b]}"), (1 - tau, more[b, a], f"all to i, {names[a]}")
        for (span, text), (start, loses, words) in zip(self.regions, told, strict=True):
            span.set(x=start, width=tau, visible=bool(loses) and tau > 0)
            text.set(text=words, visible=bool(loses) and tau > 0)
        self.map.set_data(torch.where(more, -1, more.T.int()).numpy())  # i first, where both may
        self.square.set_data([b], [a])
