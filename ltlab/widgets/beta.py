"""How strongly mixup mixes: the Beta distribution that lambda is drawn from."""

from functools import cache

import ipywidgets
import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from .. import plots
from ..mixup import draw_lambda
from ..plots.style import dress
from .bars import Bars
from .explorer import Explorer, blank_figure
from .pair import A_COLOUR, B_COLOUR, TITLE

ALPHAS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 20.0, 30.0, 50.0)
BINS, DRAWS, BATCHES, HIGHEST = 40, 4000, 16, 9  # alpha 50 reaches 8


def beta_explorer(*, alpha: float = 1.0, seed: int = 0) -> Explorer:
    """How strongly mixup mixes: the distribution of lambda for every alpha.

    Control: alpha, from 0.05 to 50.

    Left, the density of Beta(alpha, alpha) over a histogram of 4,000 draws; a bar that reaches beyond the top has its
    height written on it. The two grey edges are the lambdas within 0.1 of 0 or 1, where a picture is nearly unmixed.
    Right, the soft targets of 16 batches.

    Args:
        alpha: where the slider begins, one of `ALPHAS`.
        seed: of the draws.

    Raises:
        ValueError: `alpha` is not on the slider.
    """
    if alpha not in ALPHAS:
        raise ValueError(f"alpha={alpha} is not on the slider: choose one of {ALPHAS}")
    figure = blank_figure(1000, 360)
    density = _Density(figure.add_axes((0.06, 0.16, 0.6, 0.74), xlim=(0, 1), ylim=(0, HIGHEST)))
    right = figure.add_axes((0.72, 0.16, 0.26, 0.74), xlim=(0, 1), ylim=(BATCHES - 0.5, -0.5), yticks=[])
    dress(right, xlabel="share of the label")
    right.set_title(f"{BATCHES} batches", fontsize=plots.FONT_SIZE)
    right.set_title("A", **TITLE, color=A_COLOUR, weight="bold")
    right.set_title("B", fontsize=plots.FONT_SIZE, loc="right", color=B_COLOUR, weight="bold")
    of_a = right.barh(range(BATCHES), 0, height=0.8, color=A_COLOUR).patches
    of_b = right.barh(range(BATCHES), 0, height=0.8, color=B_COLOUR).patches

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

    controls = {"alpha": ipywidgets.SelectionSlider(options=ALPHAS, value=alpha, description="alpha")}
    label = "Density of lambda, a histogram of draws, and the labels of some batches"
    return Explorer(controls, figure, update, moving=[*density.artists, *of_a, *of_b], label=label)


class _Density:
    """The density of Beta(alpha, alpha) over a histogram of draws."""

    def __init__(self, ax: Axes) -> None:
        dress(ax, xlabel="lambda", ylabel="density")
        for edge in (0, 0.9):
            ax.axvspan(edge, edge + 0.1, color="0.92", zorder=0)
        edges, look = np.linspace(0, 1, BINS + 1), {"color": "0.75", "edgecolor": "white", "linewidth": 0.5}
        self.bars = Bars(ax, edges[:-1], np.zeros(BINS), width=1 / BINS, align="edge", **look)
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
        known = torch.distributions.Beta(*torch.tensor([alpha, alpha], dtype=torch.float64))
        self.curve.set_ydata(known.log_prob(self.lams).exp().numpy())
