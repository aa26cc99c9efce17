"""Figures of results: many recipes, with their spread over seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from .style import FAMILY_MARKERS, FONT_SIZE, GROUP_COLOURS, LEGEND_ABOVE, dress, family_colours, new_axes

BETTER, WORSE = "#9ccbe6", "#f2b48a"  # than the control: a pale blue and a pale vermilion, under black errors
SCREEN = 15  # rows: a figure of more is higher than a screen, and has its axis above it as well


def comparison(
    table: pd.DataFrame, *, baseline: str | None = None, by_error: bool = False, ax: Axes | None = None
) -> Axes:
    """Top-1 error of every recipe, mean ± standard deviation over seeds, with its groups' and the published error.

    Args:
        table: indexed by recipe, with the columns error, error_std, many_error, medium_error, few_error and published,
            all in percent; NaN where there is none: no bar with one seed, no marker for a group without classes.
        baseline: the recipe whose error is drawn as a dashed line through all others.
        by_error: whether the smallest error is on top; otherwise the table's first line is.

    Raises:
        ValueError: a column is missing, `table` has no rows, or `baseline` is not one of its recipes.
    """
    columns = {"error", "error_std", "published", *(f"{group}_error" for group in GROUP_COLOURS)}
    _check_table(table, columns, "pass results.table(rows)", baseline=baseline)
    if by_error:
        table = table.sort_values("error", kind="stable")
    ax = ax or new_axes(10, 1.7 + 0.45 * len(table))
    y = np.arange(len(table))
    spread = None if np.isnan(table["error_std"].to_numpy(float)).all() else table["error_std"]
    label = "all classes" if spread is None else "all classes, mean ± std"
    ax.errorbar(
        table["error"], y, xerr=spread, fmt="o", color="black", markersize=7, elinewidth=2.5, capsize=6, capthick=2,
        zorder=4, label=label,
    )  # fmt: skip
    rings = {"marker": "D", "s": 130, "facecolor": "none", "edgecolor": "0.25", "linewidth": 1.5, "zorder": 3}
    markers: dict[str, tuple[Any, dict[str, Any]]] = {"published": (y, rings | {"label": "published"})}
    for (group, colour), shape, aside in zip(GROUP_COLOURS.items(), "^sv", (-0.2, 0, 0.2), strict=True):
        look = {"marker": shape, "s": 45, "color": colour, "label": f"{group}-shot classes"}
        markers[f"{group}_error"] = y + aside, look  # equal errors do not hide each other
    for column, (places, look) in markers.items():
        if not np.isnan(table[column].to_numpy(float)).all():
            ax.scatter(table[column], places, **look)
    if baseline is not None:
        error = table.loc[baseline, "error"]
        ax.axvline(error, color="black", linewidth=1.2, linestyle="--", zorder=1, label=f"{baseline}, {error:.1f} %")
    handles, labels = ax.get_legend_handles_labels()
    first = labels.index(label)
    look = LEGEND_ABOVE | {"ncols": 3} | _recipes_from_the_top(ax, table)
    ax.legend([handles.pop(first), *handles], [labels.pop(first), *labels], **look)
    return dress(ax, xlabel="top-1 error (%)")


def gains(table: pd.DataFrame, *, by_gain: bool = True, ax: Axes | None = None) -> Axes:
    """What every recipe gains over its control, mean ± standard deviation over seeds; right of zero is better.

    Args:
        table: indexed by recipe, with the columns gain and gain_std, in percentage points, and family, which gives the
            colour; NaN standard deviation: no bar.
        by_gain: whether the largest gain is on top; otherwise the table's first line is.

    Raises:
        ValueError: a column is missing, or `table` has no rows.
    """
    _check_table(table, {"gain", "gain_std", "family"}, "pass results.gains(rows)")
    if by_gain:
        table = table.sort_values("gain", ascending=False, kind="stable")
    ax = ax or new_axes(10, 1.4 + 0.3 * len(table))
    y = np.arange(len(table))
    for family, colour in family_colours(table["family"]).items():
        of_family = (table["family"] == family).to_numpy()
        spread = table["gain_std"].where(table["gain_std"].notna(), 0)
        ax.errorbar(
            table["gain"][of_family], y[of_family], xerr=spread[of_family], fmt=FAMILY_MARKERS.get(family, "o"),
            color=colour, markersize=7, elinewidth=2, capsize=3, label=family, zorder=3,
        )  # fmt: skip
    ax.axvline(0, color="black", linewidth=1.2, zorder=1)
    ax.legend(**LEGEND_ABOVE | {"ncols": 3} | _recipes_from_the_top(ax, table))
    return dress(ax, xlabel="gain over plain training of equal length (percentage points of error)")


def trade_off(
    table: pd.DataFrame, x: str, y: str, *, xlabel: str, ylabel: str, named: Sequence[str] = (), ax: Axes | None = None
) -> Axes:
    """Two columns of a table against each other, a point per recipe in its family's colour.

    Args:
        table: indexed by recipe, with the columns x, y and family.
        xlabel, ylabel: what the columns are, with units.
        named: recipes whose points have a ring and their names, where these cover the fewest other points.

    Both axes begin at 0, or below it where the table does.

    Raises:
        ValueError: a column is missing, `table` has no rows, or a name in `named` is not one of its recipes.
    """
    _check_table(table, {x, y, "family"}, "pass results.table(rows)", named=named)
    ax = ax or new_axes(8, 5.5)
    for family, colour in family_colours(table["family"]).items():
        points = table[table["family"] == family]
        ax.scatter(
            points[x], points[y], color=colour, marker=FAMILY_MARKERS.get(family, "o"), s=55, label=family,
            edgecolor="white", linewidth=0.7, zorder=4 if family == "baseline" else 3,  # never hidden
            clip_on=False,
        )  # fmt: skip
    for column, set_limits in ((x, ax.set_xlim), (y, ax.set_ylim)):
        values = table[column].to_numpy(float)
        set_limits(min(0, 1.04 * np.nanmin(values)), 1.04 * np.nanmax(values))
    ax.grid(color="0.92")
    ax.set_axisbelow(True)
    ax.legend(**LEGEND_ABOVE | {"ncols": 4})
    dress(ax, xlabel=xlabel, ylabel=ylabel)
    figure: Any = ax.figure
    figure.draw_without_rendering()  # lays the figure out: from here on points have places in pixels
    taken = ax.transData.transform(table[[x, y]].to_numpy(float))
    for name in named:
        place, family = table.loc[name, [x, y]].to_numpy(float), table.loc[name, "family"]
        look = {"color": family_colours([family])[family], "markersize": 8, "markeredgecolor": "white", "zorder": 5}
        ax.plot(*place, FAMILY_MARKERS.get(family, "o"), **look, clip_on=False)
        ax.plot(*place, "o", markersize=13, fillstyle="none", color="black", mew=1.5, zorder=5, clip_on=False)
        taken = np.concatenate([taken, _write_beside(ax, name, place, taken)])
    return ax


def _write_beside(ax: Axes, name: str, place: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """A point's name where it covers the fewest taken places, (N, 2) pixels. -> (M, 2), the places that it takes"""
    text = ax.text(0, 0, name, fontsize=FONT_SIZE - 1)  # for its size
    width, height = text.get_window_extent().size
    text.remove()
    point, scale = ax.transData.transform(place), ax.figure.dpi / 72
    others = taken[np.hypot(*(taken - point).T) > 7 * scale]

    def covered(offset: np.ndarray) -> np.ndarray:
        """The line to the name at this offset, and the name."""
        start = point + scale * offset
        end = start[0] + np.copysign(width, offset[0]), start[1]
        return np.concatenate([np.linspace(point, start, 9), np.linspace(start, end, 20)])

    def crowd(offset: np.ndarray) -> tuple[int, float]:
        near = np.linalg.norm(others[:, None] - covered(offset), axis=2).min(1) < height
        inside = all(ax.bbox.padded(-height / 2).contains(*end) for end in covered(offset)[[9, -1]])
        return near.sum() if inside else len(taken), np.hypot(*offset)

    best = min(_OFFSETS, key=crowd)
    side = "left" if best[0] >= 0 else "right"
    line = {"arrowstyle": "-", "color": "0.3", "linewidth": 0.9, "shrinkA": 1, "shrinkB": 7}
    ax.annotate(
        name, tuple(place), xytext=tuple(best), textcoords="offset points", ha=side, va="center",
        fontsize=FONT_SIZE - 1, zorder=6, arrowprops=line | {"relpos": (0 if side == "left" else 1, 0.5)},
    )  # fmt: skip
    return covered(best)


_OFFSETS = [  # points right and up, from a point of the figure to the near end of its name
    distance * np.array([np.cos(angle), np.sin(angle)])
    for distance in (14, 25, 40, 60, 85, 115)
    for angle in np.radians(np.arange(-82.5, 270, 15))  # never straight up or down
]


def beside(tables: Mapping[str, pd.DataFrame], *, baseline: str = "ce", longer: str | None = "ce_long") -> np.ndarray:
    """The same recipes measured in several places, in a panel each, with a line per recipe and a bar to its control.

    Args:
        tables: title, which says what was measured where: table, indexed by recipe, with error and error_std in percent
            (NaN: a single run, drawn as a ring). The first one's recipes are the figure's lines, in its order; a recipe
            that another lacks has no point there. A bar leads to control_error, where a table has this column and
            it is not NaN, see `results.with_controls`.
        baseline: the recipe whose error is a dashed line in every panel.
        longer: the one whose error is a dotted line in every panel whose table has it; None for no such line.

    Every panel has its own range, which its label says.

    Returns:
        The axes, one for each table.

    Raises:
        ValueError: no table, a column is missing, or a table has no rows or no line of `baseline`.
    """
    if not tables:
        raise ValueError("tables is empty: give at least one, {title: results.table(rows)}")
    for table in tables.values():
        _check_table(table, {"error", "error_std"}, "pass results.table(rows)", baseline=baseline)
    first = next(iter(tables.values()))
    size = 10, 1.7 + 0.3 * len(first)
    figure, axes = plt.subplots(1, len(tables), figsize=size, layout="constrained", sharey=True, squeeze=False)
    axes = axes[0]
    for ax, (title, measured) in zip(axes, tables.items(), strict=True):
        _panel(ax, measured.reindex(first.index))
        for name, style in ((baseline, "--"), (longer, ":")):
            if name in measured.index:
                error = measured.loc[name, "error"]
                ax.axvline(error, color="black", linewidth=1.2, linestyle=style, zorder=1, label=name)
        ax.set_title(title, fontsize=FONT_SIZE, loc="left")
        _recipes_from_the_top(ax, first)
    entries = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(entries.values(), entries, loc="outside upper left", ncols=3, frameon=False, fontsize=FONT_SIZE)
    return axes


def _panel(ax: Axes, table: pd.DataFrame) -> None:
    """The errors of a table, a line each, and a bar from each to its control's."""
    y, error, single = np.arange(len(table)), table["error"].to_numpy(), table["error_std"].isna().to_numpy()
    known = table["control_error"] if "control_error" in table else pd.Series(np.nan, table.index)
    controls = known.to_numpy()
    for colour, here, label in (
        (BETTER, error <= controls, "better than its control"), (WORSE, error > controls, "worse than its control"),
    ):  # fmt: skip
        if here.any():
            ax.hlines(y[here], error[here], controls[here], color=colour, linewidth=7, zorder=2, label=label)
    ax.errorbar(
        error[~single], y[~single], xerr=table["error_std"][~single], fmt="o", color="black", capsize=3,
        elinewidth=2, zorder=3, label="mean ± std",
    )  # fmt: skip
    look: dict[str, Any] = {"facecolor": "white", "edgecolor": "black", "linewidth": 1.6, "zorder": 3}
    ax.scatter(error[single], y[single], s=55, **look, label="single run" if single.any() else None)
    spread = table["error_std"].fillna(0).to_numpy()
    low, high = 5 * np.floor(np.nanmin(error - spread) / 5 - 0.1), 5 * np.ceil(np.nanmax(error + spread) / 5 + 0.1)
    ax.set_xlim(low, high)
    dress(ax, xlabel=f"top-1 error (%), {low:.0f} to {high:.0f}")


def _recipes_from_the_top(ax: Axes, table: pd.DataFrame) -> dict[str, Any]:
    """A line for each recipe; where those below are out of sight, numbers above as well. -> settings of the legend"""
    ax.set_yticks(range(len(table)), table.index)
    ax.set_ylim(len(table) - 0.4, -0.6)
    ax.grid(color="0.92")
    ax.set_axisbelow(True)
    if len(table) < SCREEN:
        return {}
    ax.tick_params(axis="x", top=True, labeltop=True)
    return {"borderaxespad": 2.2}  # of its font's size


def _check_table(table: pd.DataFrame, columns: set[str], way_out: str, **named: str | Sequence[str] | None) -> None:
    if (missing := columns - set(table.columns)) or table.empty:
        raise ValueError(f"table has {len(table)} rows and lacks {sorted(missing)}: {way_out}")
    for argument, names in named.items():
        if unknown := sorted(set([names] if isinstance(names, str) else names or ()) - set(table.index)):
            shown = repr(names) if isinstance(names, str) else unknown
            raise ValueError(f"{argument}={shown} is not in the table: choose from {', '.join(table.index)}")
