"""Which recipe is best depends on the test set: errors of measured runs as its prior bends from head to tail."""

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from torch import Tensor

from .. import plots
from ..results.priors import PRIORS, errors_by_prior, prior_path
from ..results.shown import LABELS
from .explorer import Explorer, blank_figure
from .panels import REFERENCE, TITLE, Bars, ByFrequency, check_bars, plot_at
from .sliders import slider

STEPS = 20
TS = tuple(k / STEPS for k in range(STEPS + 1))
COLOURS = ("black", *(sns.color_palette("colorblind").as_hex()[k] for k in (0, 1, 2, 3, 4, 5, 6, 8, 9)))
MARKERS = {
    "o": "●",
    "s": "■",
    "^": "▲",
    "v": "▼",
    "D": "◆",
    "P": "✚",
    "X": "✖",
    "<": "◀",
    ">": "▶",
    "*": "★",
}  # as text too


def prior_explorer(
    rows: pd.DataFrame, class_counts: Any, *, names: Any = None,
    adapted: Mapping[str, Callable[[Tensor], float]] | None = None,
) -> Explorer:  # fmt: skip
    """Errors of measured recipes on test images of any prior, between the training set's and its reverse.

        error = sum_c prior_c (1 - accuracy_c),   prior_c ~ n_c^(1 - 2t)

    Control: t, from 0, the training prior, over 0.5, uniform, to 1, reversed. Left the prior, middle the errors over t,
    means over seeds, right the recipes by their error at this t.

    Args:
        rows: of at most ten recipes, with their accuracy of every class, see `results.errors_under`.
        class_counts: (C,) training images per class, above zero.
        names: (C,) class names; the class indices if None.
        adapted: what is corrected for each prior: name -> from a prior (C,) to its error, a fraction; computed once.

    Raises:
        ValueError: no recipe, more than ten, rows without accuracies, bad counts, or more than 200 classes.
    """
    classes = ByFrequency(class_counts, names)
    check_bars(len(classes))
    counts = classes.counts[classes.rank]
    priors = [prior_path(counts, t) for t in TS]
    errors = error_table(rows, counts, adapted or {})  # recipe -> (T,) percent
    figure = blank_figure(1000, 380)
    largest = max(prior.max().item() for prior in priors)
    bars_ax = plot_at(figure, 65, 38, 250, 250, ylabel="fraction of test images (%)")
    bars_ax.set(ylim=(0, 108 * largest), xlim=(-0.6, len(classes) - 0.4))
    bars = Bars(bars_ax, [0] * len(classes), color=classes.colours)
    plots.name_ticks(bars_ax, classes.names, angle=35)
    lines = _Lines(figure, errors)

    def update(t: float) -> str:
        at = round(t * STEPS)
        bars.show(100 * priors[at][classes.order])
        ranked = lines.show(at)
        near = next((f", {name} prior" for name, end in PRIORS.items() if abs(t - end) < 1e-9), "")
        best, *_, worst = ranked if len(ranked) > 1 else ranked * 2
        plain = f", ce {errors['ce'][at]:.1f} %" if "ce" in errors and "ce" not in (best, worst) else ""
        return (
            f"t = {t:.2f}{near}: least error {best} {errors[best][at]:.1f} %{plain}, most {worst} "
            f"{errors[worst][at]:.1f} %; class {classes.names[0]} is {100 * priors[at][classes.order[0]]:.1f} % of "
            f"the test images, {classes.names[-1]} {100 * priors[at][classes.order[-1]]:.1f} %"
        )

    controls = {"t": slider("t", 0.5, 0, 1, 1 / STEPS, description="test prior: 0 training, 0.5 uniform, 1 reversed")}
    label = "Error of recipes under test priors from the training set's to its reverse"
    return Explorer(controls, figure, update, moving=[bars, lines], label=label)


def error_table(
    rows: pd.DataFrame, counts: Tensor, adapted: Mapping[str, Callable[[Tensor], float]]
) -> dict[str, list[float]]:
    """Errors in percent under each prior: of every recipe its mean over seeds, then of what is adapted."""
    number = len(set(rows["recipe"])) + len(adapted)
    if not 1 <= number <= len(COLOURS):
        raise ValueError(f"rows must be of 1 to {len(COLOURS)} recipes, adapted ones included, got {number}")
    table = errors_by_prior(rows, counts, TS)
    priors = [prior_path(counts, t) for t in TS]
    return {str(name): line.tolist() for name, line in table.iterrows()} | {
        name: [100 * error(prior) for prior in priors] for name, error in adapted.items()
    }


class _Lines:
    """A line per recipe, a dot on each where the slider stands, and the recipes by their error there."""

    def __init__(self, figure: Figure, errors: Mapping[str, list[float]]) -> None:
        self.errors = errors
        top = max(max(values) for values in errors.values())
        ax = plot_at(figure, 380, 38, 310, 250, xlabel="t", ylabel="error (%)", xlim=(0, 1), ylim=(0, 1.05 * top))
        ax.set_xticks([*PRIORS.values()], [f"{end:g}\n{name}" for name, end in PRIORS.items()])
        for name, colour in zip(errors, COLOURS, strict=False):
            ax.plot(TS, errors[name], color=colour)
        (self.here,) = ax.plot([], [], **REFERENCE, linestyle="--")
        self.looks = dict(zip(errors, zip(COLOURS, MARKERS, strict=True), strict=False))  # colour and marker
        self.dots = [ax.plot([], [], color=c, marker=m, markersize=7)[0] for c, m in self.looks.values()]
        side = plot_at(figure, 708, 38, 290, 250)
        side.set_axis_off()
        side.set(xlim=(0, 1), ylim=(len(COLOURS) - 0.5, -0.5))
        side.set_title("by error at this prior (%)", **TITLE)
        self.texts = [side.text(0, k, "", fontsize=plots.FONT_SIZE, va="center") for k in range(len(errors))]
        self.top, self.artists = 1.05 * top, [self.here, *self.dots, *self.texts]

    def show(self, at: int) -> list[str]:
        """Move to a prior; the recipes by their error there."""
        t, now = at / STEPS, {name: values[at] for name, values in self.errors.items()}
        self.here.set_data([t, t], [0, self.top])
        for dot, error in zip(self.dots, now.values(), strict=True):
            dot.set_data([t], [error])
        ranked = sorted(now, key=lambda name: now[name])
        for text, name in zip(self.texts, ranked, strict=True):
            colour, marker = self.looks[name]
            text.set(text=f"{MARKERS[marker]} {now[name]:4.1f}  {LABELS.get(name, name)}", color=colour)
        return ranked
