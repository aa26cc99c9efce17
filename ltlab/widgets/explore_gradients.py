"""EQL v2: the gradient ratio of every class while a detector trains, and the weights that it turns into."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from .. import plots
from ..losses import equalization_weights
from .explorer import Explorer, blank_figure
from .panels import REFERENCE, TITLE, Bars, plot_at
from .sliders import choice, slider, stops

HIGHEST = 1.4  # ratio that is drawn; higher ones end there
UP, DOWN = "#832db6", "#a96b59"  # weights of positives and negatives; blue, green and vermilion belong to the groups


def gradient_ratio_explorer(
    ratios: pd.DataFrame, groups: Any, *, names: Sequence[str] | None = None, mu: float = 0.8
) -> Explorer:
    """Ratios of positive to negative gradient so far, class by class, over recorded trainings.

        g_j = P_j / N_j,  P_j and N_j the absolute gradients |p - y| of all positives and negatives so far

    Controls: the loss and the initial score of all classes, among what was recorded, and the step. Left the classes at
    this step, right their group means over the whole training; the line is mu of EQL v2.

    Args:
        ratios: columns loss, prior, step, and g0 ... for the classes, the most frequent first: the file
            `data/results/gradient_ratios.csv`. Every recording has the same steps.
        groups: (C,), 0 rare, 1 common, 2 frequent.
        names: (C,) class names; the class indices if None.
        mu: where the weight of negatives is 1/2.

    Raises:
        ValueError: no recording, or groups or names that do not fit the columns.
    """
    columns = [name for name in ratios.columns if name.startswith("g")]
    groups, names = _checked(groups, names, len(columns))
    runs = {
        (str(part["loss"].iloc[0]), float(part["prior"].iloc[0])): part[columns].to_numpy()
        for _, part in ratios.groupby(["loss", "prior"], sort=False)
    }
    if not runs:
        raise ValueError("ratios has no row: give the recorded ratios of at least one training")
    steps = sorted(set(ratios["step"]))
    figure = blank_figure(1000, 410)
    bars = _class_bars(figure, groups, names, mu)
    means = _GroupMeans(figure, groups, steps, mu)

    def update(loss: str, prior: float, step: int) -> str:
        if (loss, prior) not in runs:
            raise ValueError(f"loss={loss}, prior={prior:g} was not recorded")
        run, at = runs[loss, prior], steps.index(step)
        bars.show(run[at].clip(max=HIGHEST))
        means.show(run, at)
        below = [name for name, g in zip(names, run[at], strict=True) if g < mu]
        shown = ", ".join(below) if len(below) <= 6 else f"{', '.join(below[:5])} and {len(below) - 5} more"
        return (
            f"{loss}, initial score {prior:g}, step {step}: g from {run[at].min():.2f} to {run[at].max():.2f}; "
            f"{len(below)} of {len(names)} classes below μ{': ' + shown if below else ''}"
        )

    controls: dict[str, Any] = {
        "loss": choice("loss", dict.fromkeys(loss for loss, _ in runs)),
        "prior": choice("initial score", [(f"{prior:g}", prior) for prior in dict.fromkeys(p for _, p in runs)]),
        "step": stops("step", steps[-1], steps),
    }
    label = "Gradient ratio of every class while a detector trains"
    return Explorer(controls, figure, update, moving=[bars, means], label=label)


def _class_bars(figure: Figure, groups: Sequence[str], names: Sequence[str], mu: float) -> Bars:
    """A bar for each class, in the colour of its group, and a line at mu."""
    ax = plot_at(figure, 75, 38, 480, 250, ylabel="gradient ratio g", ylim=(0, HIGHEST))
    bars = Bars(ax, [0] * len(names), color=[plots.FREQUENCY_COLOURS[group] for group in groups])
    plots.name_ticks(ax, names, angle=40)
    ax.axhline(mu, **REFERENCE, linestyle="--")
    ax.set_title("classes, the most frequent first", **TITLE)
    return bars


class _GroupMeans:
    """The mean ratio of each group over the steps, with a dot where the slider stands."""

    def __init__(self, figure: Figure, groups: Sequence[str], steps: Sequence[int], mu: float) -> None:
        self.steps = steps
        ax = plot_at(figure, 640, 38, 350, 250, xlabel="step", ylabel="mean g of the group")
        ax.set(xlim=(0, 1.03 * steps[-1]), ylim=(0, HIGHEST))
        ax.axhline(mu, **REFERENCE, linestyle="--")
        ax.set_title(f"dashed: μ = {mu:g}", **TITLE)
        self.members = {group: np.array(groups) == group for group in plots.FREQUENCY_COLOURS if group in groups}
        colours = [plots.FREQUENCY_COLOURS[group] for group in self.members]
        self.lines = [ax.plot([], [], color=colour)[0] for colour in colours]
        self.dots = [ax.plot([], [], color=colour, marker="o", markersize=8)[0] for colour in colours]
        self.artists = [*self.lines, *self.dots]

    def show(self, run: np.ndarray, at: int) -> None:
        """A recording, (S, C), and the place of its step."""
        for members, line, dot in zip(self.members.values(), self.lines, self.dots, strict=True):
            mean = run[:, members].mean(1).clip(max=HIGHEST)
            line.set_data(self.steps, mean)
            dot.set_data([self.steps[at]], [mean[at]])


def equalization_explorer(ratio: Any, groups: Any, *, names: Sequence[str] | None = None) -> Explorer:
    """The weights of EQL v2 against the gradient ratio, with the classes as dots.

        f(g) = 1 / (1 + e^{-gamma (g - mu)});   negatives f(g), positives 1 + alpha (1 - f(g))

    Controls: gamma, mu, alpha. Ratios stay where they are; in training they would move.

    Args:
        ratio: (C,) g of every class, the most frequent first.
        groups: (C,), 0 rare, 1 common, 2 frequent.
        names: (C,) class names; the class indices if None.

    Raises:
        ValueError: groups or names that do not fit the ratios.
    """
    g = torch.tensor(np.asarray(ratio), dtype=torch.float64)
    groups, names = _checked(groups, names, len(g))
    curve = torch.linspace(0, HIGHEST, 141, dtype=torch.float64)
    figure = blank_figure(1000, 360)
    colours = [plots.FREQUENCY_COLOURS[group] for group in groups]
    panels = []
    for left, colour, title, top in (
        (62, DOWN, "weight of negatives, f(g)", 1.1),
        (562, UP, "weight of positives", 11),
    ):
        ax = plot_at(figure, left, 38, 428, 262, xlabel="gradient ratio g", xlim=(0, 1.03 * HIGHEST), ylim=(0, top))
        ax.set_title(title, **TITLE)
        (line,) = ax.plot([], [], color=colour)
        dots = ax.scatter([], [], s=70, edgecolors="white")
        panels.append((line, dots))

    def update(gamma: float, mu: float, alpha: float) -> str:
        for (line, dots), drawn, own in zip(
            panels,
            reversed(equalization_weights(curve, gamma, mu, alpha)),
            reversed(equalization_weights(g, gamma, mu, alpha)),
            strict=True,
        ):
            line.set_data(curve.numpy(), drawn.numpy())
            dots.set_offsets(np.stack([g.clamp(max=HIGHEST).numpy(), own.numpy()], 1))
            dots.set_facecolor(colours)
        up, down = equalization_weights(g, gamma, mu, alpha)
        told = "; ".join(
            f"{names[c]} (g {g[c]:.2f}): negatives × {down[c]:.2f}, positives × {up[c]:.2f}" for c in (0, -1)
        )
        return f"gamma {gamma:g}, mu {mu:g}, alpha {alpha:g}. {told}"

    controls = {
        "gamma": slider("gamma", 12.0, 0, 30, 1.0, description="gamma: slope"),
        "mu": slider("mu", 0.8, 0, 1.4, 0.05, description="mu: middle"),
        "alpha": slider("alpha", 4.0, 0, 10, 0.5, description="alpha: lift of positives"),
    }
    label = "Weights of positives and negatives in EQL v2 against the gradient ratio"
    moving = [artist for panel in panels for artist in panel]
    return Explorer(controls, figure, update, moving=moving, label=label)


def _checked(groups: Any, names: Sequence[str] | None, classes: int) -> tuple[list[str], list[str]]:
    """Group and name of every class."""
    groups = plots.frequency_names(groups)
    if len(groups) != classes:
        raise ValueError(f"groups must be {classes}, one for each class, got {len(groups)}")
    return groups, plots.check_names(names, classes)
