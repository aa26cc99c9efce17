"""What the long tail costs: plain training's accuracy per class at every imbalance."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.collections import LineCollection

from .. import plots
from ..data.places import tables_folder
from ..results import mean_std
from .explorer import Explorer, blank_figure
from .panels import TITLE, Bars, check_bars, plot_at
from .sliders import stops


def imbalance_explorer(rows: pd.DataFrame | None = None, *, imbalance: float | None = None) -> Explorer:
    """What the long tail costs: training images and accuracy of every class, of runs at several imbalances.

    Control: imbalance. Above, the training images of each class, most frequent first; below, its test accuracy, mean
    and standard deviation over the seeds.

    Args:
        rows: one row per run and class, with the columns imbalance, seed, class, images (of training) and accuracy (a
            fraction); None: plain training on shapes-lt, as measured by `benchmarks/imbalance.py`.
        imbalance: where the slider starts; the smallest if None.

    Raises:
        ValueError: a column is missing, there are more than 200 classes, or `imbalance` is not in the rows.
    """
    rows = pd.read_csv(tables_folder("results") / "imbalance.csv") if rows is None else rows
    if missing := {"imbalance", "seed", "class", "images", "accuracy"} - set(rows.columns):
        raise ValueError(f"rows lacks the columns {', '.join(sorted(missing))}: pass one row per run and class")
    if rows.empty:
        raise ValueError("rows is empty: pass one row per run and class")
    by_class: Any = rows.groupby(["imbalance", "class"], sort=False)
    images = by_class["images"].first().unstack("class").sort_index()  # a line per imbalance
    order = images.iloc[-1].sort_values(ascending=False, kind="stable").index
    images = images[order].astype(int)
    means, spreads = ((100 * by_class["accuracy"].agg(how).unstack("class"))[order] for how in ("mean", "std"))
    of_seeds: Any = rows.groupby(["imbalance", "seed"])["accuracy"].mean()
    check_bars(len(order))

    figure = blank_figure(1000, 415)
    above = plot_at(figure, 75, 30, 910, 120, ylabel="images", xticks=[], xlim=(-0.6, len(order) - 0.4))
    below = plot_at(figure, 75, 185, 910, 200, ylabel="accuracy (%)", xlim=above.get_xlim(), ylim=(0, 105))
    above.set_title("training images of each class", **TITLE)
    below.set_title("test accuracy of each class, plain training", **TITLE)
    plots.count_axis(above, 1.1 * images.to_numpy().max(), log=False)
    plots.name_ticks(below, [*map(str, order)], angle=0 if len(order) <= plots.NUMBERS_UP_TO else 35)
    counts, accuracies = (Bars(ax, np.zeros(len(order))) for ax in (above, below))
    numbers = _numbers(above, len(order))
    whiskers = LineCollection([], color="black", linewidth=2)
    below.add_collection(whiskers, autolim=False)

    def update(imbalance: float) -> str:
        n, mean, spread = (table.loc[imbalance].to_numpy() for table in (images, means, spreads))
        for bars, heights in ((counts, n), (accuracies, mean)):
            bars.show(heights, plots.group_colours(n))
        for number, count in zip(numbers, n, strict=False):
            number.set(text=f"{count}", y=count)
        whiskers.set_segments([[(x, m - s), (x, m + s)] for x, (m, s) in enumerate(zip(mean, spread, strict=True))])
        runs = 100 * of_seeds.loc[imbalance]
        ends = (f"{order[c]} (training images: {n[c]:,}) {mean[c]:.0f} %" for c in (0, -1))
        return (
            f"imbalance {imbalance:g}, {n.sum():,} training images: accuracy {mean_std(runs.mean(), runs.std(), 1)} % "
            f"(seeds: {len(runs)}); {', '.join(ends)}"
        )

    start = images.index[0] if imbalance is None else imbalance
    controls = {"imbalance": stops("imbalance", start, [(f"{i:g}", i) for i in images.index])}
    label = "Training images and test accuracy of every class"
    return Explorer(controls, figure, update, moving=[counts, *numbers, accuracies, whiskers], label=label)


def _numbers(ax: Any, classes: int) -> list[Any]:
    """Texts above the bars, to be moved; none where there are too many."""
    style = {"ha": "center", "va": "bottom", "fontsize": plots.FONT_SIZE}
    return [ax.text(x, 0, "", **style) for x in range(classes if classes <= plots.NUMBERS_UP_TO else 0)]
