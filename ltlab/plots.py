"""Arrays to matplotlib axes.

Every function takes what `np.asarray` takes, draws on `ax` (or on a new figure of a fitting size) and returns the axes;
none calls `plt.show`. Classes stand in the order of their training images, the most frequent first, and the groups
many, medium and few have the same colours in every figure.
"""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.patches import FancyBboxPatch, Patch
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

_BLUE, _ORANGE, _GREEN, _VERMILION, _PURPLE, _BROWN, *_ = sns.color_palette("colorblind").as_hex()
GROUP_COLOURS = {"many": _BLUE, "medium": _GREEN, "few": _VERMILION}
FAMILY_COLOURS = {
    "baseline": "black", "re-weighting": _VERMILION, "re-sampling": _BLUE, "mixup": _ORANGE, "two-stage": _GREEN,
    "cam": _PURPLE, "combinations": _BROWN,
}  # fmt: skip
FAMILY_MARKERS = {
    "re-weighting": "s",
    "re-sampling": "o",
    "mixup": "D",
    "two-stage": "^",
    "cam": "v",
    "combinations": "P",
}
FONT_SIZE = 12  # points
BARS_UP_TO = 200  # classes; more bars would be narrower than a pixel, so a filled step line replaces them
NAMES_UP_TO = 25  # classes whose names fit under an axis
NUMBERS_UP_TO = 12  # classes whose numbers fit on bars and cells


def class_counts(
    counts: Any,
    *,
    names: Sequence[str] | None = None,
    log: bool = False,
    many: int = 100,
    few: int = 20,
    ax: Axes | None = None,
) -> Axes:
    """Training images per class, the most frequent class first, coloured by many, medium and few.

    Args:
        counts: (C,) training images per class.
        names: (C,) class names; written while there are at most 25 classes.
        log: whether the count axis is logarithmic; a class without images is then invisible.
        many, few: a class with more than `many` images is many-shot, with fewer than `few` few-shot.

    Up to 12 classes carry their count as a number; beyond 200 classes the bars become a filled step line.

    Raises:
        ValueError: `counts` is not a vector of numbers of at least 0, or `names` has another length.
    """
    counts = _vector("counts", counts)
    ax = ax or _new_axes(8, 4)
    order = _class_bars(ax, counts, counts, names, many, few)
    count_axis(ax, counts.max(), log=log)
    if len(counts) <= NUMBERS_UP_TO:
        _number_bars(ax, counts[order], "{:.0f}")
    ax.legend(handles=_group_patches(many, few), title="training images of a class", **_ABOVE)
    return _dress(ax, ylabel="training images")


def count_axis(ax: Axes, largest: float, *, log: bool) -> None:
    """Scale the y axis for counts up to `largest`, with room for a number on the largest bar."""
    if log:
        ax.set_yscale("log")
        ax.set_ylim(0.5, 2 * largest)  # from a half, so that a class with one image still shows
    else:
        ax.set_yscale("linear")
        ax.set_ylim(0, 1.1 * largest)
    ax.yaxis.set_major_formatter(StrMethodFormatter("{x:.0f}"))


def per_class_error(
    error: Any,
    counts: Any,
    *,
    names: Sequence[str] | None = None,
    many: int = 100,
    few: int = 20,
    ax: Axes | None = None,
) -> Axes:
    """Top-1 error of every class, the most frequent class first, with the mean over classes as a line.

    Args:
        error: (C,) fractions in [0, 1]; NaN where a class has no test image: it gets no bar and no part in the mean.
        counts: (C,) training images per class; they give order and colour.
        names, many, few: as for `class_counts`.

    On a balanced test set the mean over classes is the top-1 error. Beyond 200 classes single errors are noise to the
    eye: they turn pale, and a black line shows their mean over the nearest hundredth of the classes.

    Raises:
        ValueError: an error outside [0, 1], vectors of different lengths, or nothing but NaN.
    """
    counts, error = _vector("counts", counts), np.asarray(error, dtype=float)
    if error.shape != counts.shape:
        raise ValueError(f"error has shape {error.shape} but counts has {counts.shape}: give one error per class")
    if np.isnan(error).all() or ((error < 0) | (error > 1)).any():
        raise ValueError(f"error={error} must hold fractions in [0, 1], not percent, and not only NaN")
    ax = ax or _new_axes(8, 4)
    order = _class_bars(ax, 100 * error, counts, names, many, few)
    mean = 100 * np.nanmean(error)
    line = ax.axhline(mean, color="black", linewidth=1.5, linestyle="--", label=f"mean {mean:.1f} %")
    if len(counts) <= NUMBERS_UP_TO:
        _number_bars(ax, 100 * error[order], "{:.0f}")
    elif len(counts) > BARS_UP_TO:
        plt.setp(ax.patches, alpha=0.4)
        local = pd.Series(100 * error[order]).rolling(len(counts) // 100, center=True, min_periods=1).mean()
        ax.plot(local, color="black", linewidth=1.5)
    ax.legend(handles=[*_group_patches(many, few), line], title="training images of a class", **_ABOVE)
    ax.set_ylim(0, 108 if len(counts) <= NUMBERS_UP_TO else 100)  # room for a number on a bar of 100 %
    ax.set_yticks(range(0, 101, 20))
    return _dress(ax, ylabel="top-1 error (%)")


def confusion_matrix(
    matrix: Any, names: Sequence[str] | None = None, *, normalise: bool = True, ax: Axes | None = None
) -> Axes:
    """Heat map of how often test images of a true class (row) are predicted as each class (column).

    Args:
        matrix: (C, C) counts, rows are true classes.
        names: (C,) class names in the matrix's order; written while there are at most 25 classes.
        normalise: each row in percent of its sum; a class without test images stays blank. Otherwise the counts.

    Cells carry their number while there are at most 12 classes.

    Raises:
        ValueError: `matrix` is not square or holds a negative count, or `names` has another length.
    """
    matrix = np.asarray(matrix, dtype=float)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not (matrix >= 0).all():
        raise ValueError(f"matrix of shape {matrix.shape} must be square and hold counts of at least 0")
    classes = len(matrix)
    names = _names(names, classes)
    if normalise:
        total = matrix.sum(axis=1, keepdims=True)
        matrix = 100 * np.divide(matrix, total, out=np.full_like(matrix, np.nan), where=total > 0)
    side = min(max(0.65 * classes, 5), 9)
    ax = ax or _new_axes(side + 1.5, side)
    ticks = names if classes <= NAMES_UP_TO else False
    sns.heatmap(
        matrix, ax=ax, cmap="cividis", vmin=0, vmax=100 if normalise else None, square=True, rasterized=True,
        annot=classes <= NUMBERS_UP_TO, fmt=".0f", annot_kws={"fontsize": FONT_SIZE},
        xticklabels=ticks, yticklabels=ticks,
        cbar_kws={"label": "share of the true class (%)" if normalise else "test images"},
    )  # fmt: skip
    bar = ax.collections[0].colorbar.ax
    bar.tick_params(labelsize=FONT_SIZE)
    bar.yaxis.label.set_size(FONT_SIZE)
    _dress(ax, xlabel="predicted class", ylabel="true class")
    plt.setp(ax.get_xticklabels(), rotation=45, ha="right", rotation_mode="anchor")
    plt.setp(ax.get_yticklabels(), rotation=0)
    return ax


def training_curves(history: pd.DataFrame, *, axes: Sequence[Axes] | None = None) -> np.ndarray:
    """Training loss and test error by epoch, side by side, with a line where a stage begins.

    Args:
        history: one row per epoch with the columns epoch, stage, train_loss and test_error (a fraction; NaN where
            the test set was not evaluated).
        axes: two axes to draw on, for the loss and for the error.

    Returns:
        (2,) array of axes.

    Raises:
        ValueError: a column is missing, or `history` has no rows.
    """
    missing = {"epoch", "stage", "train_loss", "test_error"} - set(history.columns)
    if missing or history.empty:
        raise ValueError(f"history has {len(history)} rows and lacks the columns {sorted(missing)}: pass fit's history")
    if axes is None:
        _, axes = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    error = history[["epoch", "test_error"]].dropna()
    line = {"color": _BLUE, "linewidth": 2}
    marker = "o" if len(error) <= 40 else None
    axes[0].plot(history["epoch"], history["train_loss"], **line)
    axes[1].plot(error["epoch"], 100 * error["test_error"], marker=marker, markersize=5, **line)

    begins = history[history["stage"] != history["stage"].shift()]
    for ax in axes:
        for epoch, stage in zip(begins["epoch"], begins["stage"], strict=True):
            ax.axvline(epoch - 0.5, color="0.4", linewidth=1, linestyle=":")
            label = stage if isinstance(stage, str) else f"stage {stage}"
            ax.annotate(
                label, (epoch - 0.5, 1), xycoords=("data", "axes fraction"), xytext=(3, 3),
                textcoords="offset points", fontsize=FONT_SIZE, color="0.3",
            )  # fmt: skip
        ax.set_xlim(history["epoch"].min() - 0.5, history["epoch"].max() + 0.5)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set_ylim(bottom=0)
    _dress(axes[0], xlabel="epoch", ylabel="training loss")
    _dress(axes[1], xlabel="epoch", ylabel="top-1 test error (%)")
    return np.asarray(axes)


def image_grid(
    images: Any,
    titles: Sequence[str] | None = None,
    *,
    columns: int = 10,
    masks: Any | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Images side by side, row by row, every pixel a crisp square; masks are outlined.

    All images are one mosaic in one `imshow`, so hundreds cost as much as one. The axes' unit is one cell: image k has
    its left upper corner at (k % columns, k // columns).

    Args:
        images: uint8 (N, 3, H, W) or (N, H, W, 3); what fits both is read as the first.
        titles: (N,) one short line above each image.
        columns: images per row.
        masks: bool (N, H, W), the foreground of each image.

    Raises:
        ValueError: not uint8 RGB images, no image at all, or masks or titles that do not fit them.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or 3 not in (images.shape[1], images.shape[3]) or not len(images):
        raise ValueError(
            f"images of shape {images.shape} and type {images.dtype} must be uint8, (N, 3, H, W) or (N, H, W, 3)"
        )
    if images.shape[1] == 3:
        images = images.transpose(0, 2, 3, 1)  # (N, H, W, 3)
    n, height, width, _ = images.shape
    if columns < 1:
        raise ValueError(f"columns={columns} must be at least 1")
    columns = min(columns, n)
    rows = -(-n // columns)
    gap = -(-width // 16)
    head = gap if titles is None else -(-height // 3)  # room above an image, in image pixels
    if ax is None:
        cell = max([1.0, *(0.09 * len(title) for title in titles or ())])  # inches, wide enough for the longest title
        ax = _new_axes(cell * columns, cell * rows * (height + head) / (width + gap))

    mosaic = _mosaic(images, rows, columns, head, gap, fill=255)  # (R, S, 3)
    extent = (0, columns, rows, 0)
    ax.imshow(mosaic, extent=extent, interpolation="nearest", aspect=(height + head) / (width + gap))
    if masks is not None:
        masks = np.asarray(masks, dtype=bool)
        if masks.shape != (n, height, width):
            raise ValueError(f"masks of shape {masks.shape} must be {(n, height, width)}, one per image")
        edges = mask_outline(_mosaic(masks[..., None], rows, columns, head, gap, fill=False)[..., 0])
        edges /= mosaic.shape[1] / columns, mosaic.shape[0] / rows  # pixels to cells
        for colour, line_width in (("black", 2.5), ("white", 1)):  # seen on dark and on light images
            ax.add_collection(LineCollection(edges, colors=colour, linewidths=line_width, capstyle="projecting"))
    for k, title in enumerate(_names(titles, n) if titles is not None else ()):
        centre, above = k % columns + 0.5 * width / (width + gap), k // columns + 0.8 * head / (height + head)
        ax.text(centre, above, title, ha="center", va="baseline", fontsize=FONT_SIZE - 1)
    ax.set_axis_off()
    return ax


SLOTS = {  # what stands between the labels and a step of training, in order
    "sampler": "which image next",
    "foreground": "where the object is",
    "mix": "between images",
    "loss": "what a mistake costs",
}


def training_step(lit: str | None = None, *, ax: Axes | None = None) -> Axes:
    """The picture of the course: one training step with its four slots.

    Args:
        lit: the slot at hand, which is filled with colour; None lights all four.

    Raises:
        ValueError: `lit` is not a slot.
    """
    if lit is not None and lit not in SLOTS:
        raise ValueError(f"lit={lit!r} is not a slot: choose one of {', '.join(SLOTS)}")
    ax = ax or _new_axes(12, 2)
    parts = ["labels", "sampler", "images", "foreground", "augment", "mix", "model", "loss", "step"]
    left = 0.0
    for part in parts:
        width = 1.75 if part in SLOTS else 1.05
        on = part in SLOTS and lit in (None, part)
        face = GROUP_COLOURS["many"] if on else "white"
        edge = GROUP_COLOURS["many"] if part in SLOTS else "0.75"
        box = FancyBboxPatch(
            (left, -0.35), width, 0.7, boxstyle="round,pad=0,rounding_size=0.12", fc=face, ec=edge, lw=2
        )
        ax.add_patch(box)
        text = {"ha": "center", "va": "center", "fontsize": FONT_SIZE}
        ax.text(left + width / 2, 0, part.upper() if part in SLOTS else part, color="white" if on else "0.15",
                weight="bold" if part in SLOTS else "normal", **text)  # fmt: skip
        if part in SLOTS:
            ax.text(left + width / 2, -0.62, SLOTS[part], color="0.3", **text)
        if part != parts[-1]:
            ax.annotate(
                "", (left + width + 0.3, 0), (left + width + 0.02, 0), arrowprops={"arrowstyle": "->", "lw": 1.5}
            )
        left += width + 0.32
    ax.set(xlim=(-0.1, left - 0.2), ylim=(-0.85, 0.45))
    ax.axis("off")
    return ax


def comparison(
    table: pd.DataFrame, *, baseline: str | None = None, by_error: bool = False, ax: Axes | None = None
) -> Axes:
    """Top-1 error of every recipe, mean ± standard deviation over seeds, with its groups' and the published error.

    Args:
        table: indexed by recipe, with the columns error, error_std, many_error, medium_error, few_error and published,
            all in percent; NaN where there is none: no bar with one seed, no marker for a group without classes.
        baseline: the recipe whose error is drawn as a dashed line through all others.
        by_error: whether the smallest error stands on top; otherwise the table's first line does.

    Raises:
        ValueError: a column is missing, `table` has no rows, or `baseline` is none of its recipes.
    """
    columns = {"error", "error_std", "published", *(f"{group}_error" for group in GROUP_COLOURS)}
    _check_table(table, columns, "pass results.table(rows)")
    if baseline is not None and baseline not in table.index:
        raise ValueError(f"baseline={baseline!r} is not in the table: choose one of {', '.join(table.index)}")
    if by_error:
        table = table.sort_values("error", kind="stable")
    ax = ax or _new_axes(10, 1.7 + 0.45 * len(table))
    y = np.arange(len(table))
    spread = table["error_std"] if table["error_std"].notna().any() else None
    label = "all classes" if spread is None else "all classes, mean ± std"
    ax.errorbar(
        table["error"], y, xerr=spread, fmt="o", color="black", markersize=7, elinewidth=2.5, capsize=6, capthick=2,
        zorder=4, label=label,
    )  # fmt: skip
    rings = {"marker": "D", "s": 130, "facecolor": "none", "edgecolor": "0.25", "linewidth": 1.5, "zorder": 3}
    markers = {"published": rings | {"label": "published"}}
    for (group, colour), shape in zip(GROUP_COLOURS.items(), "^sv", strict=True):
        markers[f"{group}_error"] = {"marker": shape, "s": 45, "color": colour, "label": f"{group}-shot classes"}
    for column, marker in markers.items():
        if table[column].notna().any():
            ax.scatter(table[column], y, **marker)
    if baseline is not None:
        error = table.loc[baseline, "error"]
        ax.axvline(error, color="black", linewidth=1.2, linestyle="--", zorder=1, label=f"{baseline}, {error:.1f} %")
    handles, labels = ax.get_legend_handles_labels()
    first = labels.index(label)
    ax.legend([handles.pop(first), *handles], [labels.pop(first), *labels], **_ABOVE | {"ncols": 3})
    ax.set_yticks(y, table.index)
    ax.set_ylim(len(table) - 0.5, -0.5)
    ax.grid(axis="y", color="0.9")
    ax.set_axisbelow(True)
    return _dress(ax, xlabel="top-1 error (%)")


def gains(table: pd.DataFrame, *, by_gain: bool = True, ax: Axes | None = None) -> Axes:
    """What every recipe gains over its control, mean ± standard deviation over seeds; right of zero is better.

    Args:
        table: indexed by recipe, with the columns gain and gain_std, in percentage points, and family, which gives the
            colour; NaN standard deviation: no bar.
        by_gain: whether the largest gain stands on top; otherwise the table's first line does.

    Raises:
        ValueError: a column is missing, or `table` has no rows.
    """
    _check_table(table, {"gain", "gain_std", "family"}, "pass results.gains(rows) with a column family")
    if by_gain:
        table = table.sort_values("gain", ascending=False, kind="stable")
    ax = ax or _new_axes(10, 1.4 + 0.3 * len(table))
    y = np.arange(len(table))
    for family, colour in family_colours(table["family"]).items():
        of_family = (table["family"] == family).to_numpy()
        spread = table["gain_std"].where(table["gain_std"].notna(), 0)
        ax.errorbar(
            table["gain"][of_family], y[of_family], xerr=spread[of_family], fmt=FAMILY_MARKERS.get(family, "o"),
            color=colour, markersize=7, elinewidth=2, capsize=3, label=family, zorder=3,
        )  # fmt: skip
    ax.axvline(0, color="black", linewidth=1.2, zorder=1)
    ax.set_yticks(y, table.index)
    ax.set_ylim(len(table) - 0.4, -0.6)
    ax.grid(axis="both", color="0.92")
    ax.set_axisbelow(True)
    ax.legend(**_ABOVE | {"ncols": 3})
    return _dress(ax, xlabel="gain over plain training of equal length (percentage points of error)")


def trade_off(
    table: pd.DataFrame, x: str, y: str, *, xlabel: str, ylabel: str, named: Sequence[str] = (), ax: Axes | None = None
) -> Axes:
    """Two columns of a table against each other, a point per recipe in its family's colour.

    Args:
        table: indexed by recipe, with the columns x, y and family.
        xlabel, ylabel: what the columns are, with units.
        named: recipes whose names stand beside their points.

    Raises:
        ValueError: a column is missing, `table` has no rows, or a name in `named` is none of its recipes.
    """
    _check_table(table, {x, y, "family"}, "pass results.table(rows) with a column family")
    if unknown := sorted(set(named) - set(table.index)):
        raise ValueError(f"named={unknown} are not in the table: choose from {', '.join(table.index)}")
    ax = ax or _new_axes(8, 5.5)
    for family, colour in family_colours(table["family"]).items():
        points = table[table["family"] == family]
        ax.scatter(
            points[x], points[y], color=colour, marker=FAMILY_MARKERS.get(family, "o"), s=55, label=family, zorder=3,
            edgecolor="white", linewidth=0.7,
        )  # fmt: skip
    middle = (table[x].min() + table[x].max()) / 2
    for name in named:
        left = table.loc[name, x] <= middle  # of the axes, and its name to the right of the point
        ax.annotate(
            name, (table.loc[name, x], table.loc[name, y]), xytext=(6 if left else -6, 5), textcoords="offset points",
            ha="left" if left else "right", fontsize=FONT_SIZE - 2, zorder=4,
        )  # fmt: skip
    ax.grid(color="0.92")
    ax.set_axisbelow(True)
    ax.legend(**_ABOVE | {"ncols": 4})
    return _dress(ax, xlabel=xlabel, ylabel=ylabel)


def beside(ours: pd.DataFrame, theirs: pd.DataFrame, *, titles: tuple[str, str], baseline: str = "ce") -> np.ndarray:
    """The same recipes measured in two places, in two panels with a line per recipe.

    Args:
        ours: indexed by recipe, with error and error_std in percent; its order is the figure's.
        theirs: indexed by recipe, with error and error_std in percent (NaN: a single run, drawn as a ring); a recipe
            that it lacks has no point there.
        titles: what and where each of them was measured.
        baseline: the recipe whose error is a dashed line in either panel.

    Returns:
        The two axes.

    Raises:
        ValueError: a column is missing, or a table has no rows or no line of `baseline`.
    """
    for table in (ours, theirs):
        _check_table(table, {"error", "error_std"}, "pass results.table(rows)")
        if baseline not in table.index:
            raise ValueError(f"baseline={baseline!r} is not in the table: choose one of {', '.join(table.index)}")
    y = np.arange(len(ours))
    axes = plt.subplots(
        1, 2, figsize=(10, 1.3 + 0.3 * len(ours)), layout="constrained", sharey=True, width_ratios=(1, 1)
    )[1]
    for ax, table, title in zip(axes, (ours, theirs.reindex(ours.index)), titles, strict=True):
        single = table["error_std"].isna()
        ax.errorbar(
            table["error"][~single], y[~single], xerr=table["error_std"][~single], fmt="o", color="black", capsize=3,
            elinewidth=2, zorder=3,
        )  # fmt: skip
        ax.scatter(
            table["error"][single], y[single], s=55, facecolor="white", edgecolor="black", zorder=3, linewidth=1.6
        )
        ax.axvline(table.loc[baseline, "error"], color="black", linewidth=1.2, linestyle="--", zorder=1)
        ax.set_title(title, fontsize=FONT_SIZE, loc="left")
        ax.grid(color="0.92")
        ax.set_axisbelow(True)
        _dress(ax, xlabel="top-1 error (%)")
    axes[0].set_yticks(y, ours.index)
    axes[0].set_ylim(len(ours) - 0.4, -0.6)
    return axes


def family_colours(families: Sequence[str]) -> dict[str, str]:
    """A colour for every family of recipes that occurs, in the order of `FAMILY_COLOURS`."""
    there = set(families)
    return {family: colour for family, colour in FAMILY_COLOURS.items() if family in there} | {
        family: "0.4" for family in sorted(there - set(FAMILY_COLOURS))
    }


def _check_table(table: pd.DataFrame, columns: set[str], way_out: str) -> None:
    if (missing := columns - set(table.columns)) or table.empty:
        raise ValueError(f"table has {len(table)} rows and lacks {sorted(missing)}: {way_out}")


# --- what the figures share ------------------------------------------------------------------------------------------

_ABOVE = {  # a legend above the axes, where no bar can reach it
    "loc": "lower left", "bbox_to_anchor": (0, 1.0), "ncols": 4, "frameon": False, "alignment": "left",
    "fontsize": FONT_SIZE, "title_fontsize": FONT_SIZE, "handlelength": 1.2, "columnspacing": 1.2,
    "borderaxespad": 0.2, "borderpad": 0, "handletextpad": 0.6,
}  # fmt: skip


def _new_axes(width: float, height: float) -> Axes:
    return plt.subplots(figsize=(width, height), layout="constrained")[1]


def _dress(ax: Axes, *, xlabel: str | None = None, ylabel: str | None = None) -> Axes:
    """Labels large enough for the back row, and no frame on the right and above."""
    if xlabel:
        ax.set_xlabel(xlabel)
    if ylabel:
        ax.set_ylabel(ylabel)
    for label in (ax.xaxis.label, ax.yaxis.label):
        label.set_size(FONT_SIZE)
    ax.tick_params(labelsize=FONT_SIZE)
    sns.despine(ax=ax)
    return ax


def _vector(name: str, values: Any) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or not values.size or not (np.isfinite(values) & (values >= 0)).all():
        raise ValueError(f"{name} of shape {values.shape} must be a vector of one number of at least 0 per class")
    return values


def _names(names: Sequence[str] | None, n: int) -> list[str]:
    """One name per class; without names, the class indices."""
    names = [str(name) for name in (range(n) if names is None else names)]
    if len(names) != n:
        raise ValueError(f"{len(names)} names for {n}: give one each")
    return names


def _group_patches(many: int, few: int) -> list[Patch]:
    labels = (f"many (> {many})", f"medium ({few} to {many})", f"few (< {few})")
    return [Patch(color=c, label=label) for c, label in zip(GROUP_COLOURS.values(), labels, strict=True)]


def _class_bars(
    ax: Axes, heights: np.ndarray, counts: np.ndarray, names: Sequence[str] | None, many: int, few: int
) -> np.ndarray:
    """Bars of `heights` by descending `counts` in the groups' colours. Returns the order, (C,) class indices."""
    classes = len(counts)
    names = _names(names, classes)
    order = np.argsort(-counts, kind="stable")
    heights, counts = heights[order], counts[order]
    group = (counts <= many).astype(int) + (counts < few)  # 0 many, 1 medium, 2 few
    colours = np.array(list(GROUP_COLOURS.values()))
    if classes <= BARS_UP_TO:
        ax.bar(range(classes), heights, width=0.85 if classes <= 50 else 1.0, color=colours[group])
    else:
        for g, colour in enumerate(colours):
            start, stop = np.searchsorted(group, [g, g + 1])
            ax.stairs(heights[start:stop], np.arange(start, stop + 1) - 0.5, fill=True, color=colour)
    ax.set_xlim(-0.6, classes - 0.4)
    if classes <= NAMES_UP_TO:
        ax.set_xticks(range(classes), [names[c] for c in order])
        if max(map(len, names)) * classes > 60:  # about the characters that fit in one line
            plt.setp(ax.get_xticklabels(), rotation=35, ha="right", rotation_mode="anchor")
    ax.set_xlabel("class, most frequent first")
    return order


def _number_bars(ax: Axes, heights: np.ndarray, form: str) -> None:
    for x, height in enumerate(heights):
        if np.isfinite(height):
            ax.annotate(
                form.format(height), (x, height), xytext=(0, 2), textcoords="offset points",
                ha="center", fontsize=FONT_SIZE - 1,
            )  # fmt: skip


def _mosaic(cells: np.ndarray, rows: int, columns: int, head: int, gap: int, fill: Any) -> np.ndarray:
    """(N, H, W, K) cells in rows of `columns`, each with `head` pixels above and `gap` on its right -> (R, S, K)"""
    n, height, width, channels = cells.shape
    sheet = np.full((rows * columns, height + head, width + gap, channels), fill, dtype=cells.dtype)
    sheet[:n, head:, :width] = cells
    sheet = sheet.reshape(rows, columns, height + head, width + gap, channels).swapaxes(1, 2)
    return sheet.reshape(rows * (height + head), columns * (width + gap), channels)


def mask_outline(mask: np.ndarray) -> np.ndarray:
    """The pixel edges between true and false of a bool (H, W) mask -> (E, 2, 2) segments of (x, y) in pixels"""
    padded = np.pad(mask, 1)
    y, x = np.nonzero(padded[1:-1, 1:] != padded[1:-1, :-1])  # upright edges, at the left of pixel x
    upright = np.stack([np.stack([x, y], 1), np.stack([x, y + 1], 1)], 1)
    y, x = np.nonzero(padded[1:, 1:-1] != padded[:-1, 1:-1])  # level edges, at the top of pixel y
    level = np.stack([np.stack([x, y], 1), np.stack([x + 1, y], 1)], 1)
    return np.concatenate([upright, level]).astype(float)
