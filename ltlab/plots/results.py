"""Figures of results: many recipes, with their spread over seeds."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from .style import FAMILY_MARKERS, FONT_SIZE, GROUP_COLOURS, LEGEND_ABOVE, dress, family_colours, new_axes


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
    ax = ax or new_axes(10, 1.7 + 0.45 * len(table))
    y = np.arange(len(table))
    spread = table["error_std"] if table["error_std"].notna().any() else None
    label = "all classes" if spread is None else "all classes, mean ± std"
    ax.errorbar(
        table["error"], y, xerr=spread, fmt="o", color="black", markersize=7, elinewidth=2.5, capsize=6, capthick=2,
        zorder=4, label=label,
    )  # fmt: skip
    rings = {"marker": "D", "s": 130, "facecolor": "none", "edgecolor": "0.25", "linewidth": 1.5, "zorder": 3}
    markers = {"published": rings | {"label": "published"}}
    places = {"published": y}
    for (group, colour), shape, aside in zip(GROUP_COLOURS.items(), "^sv", (-0.2, 0, 0.2), strict=True):
        markers[f"{group}_error"] = {"marker": shape, "s": 45, "color": colour, "label": f"{group}-shot classes"}
        places[f"{group}_error"] = y + aside  # equal errors do not hide each other
    for column, marker in markers.items():
        if table[column].notna().any():
            ax.scatter(table[column], places[column], **marker)
    if baseline is not None:
        error = table.loc[baseline, "error"]
        ax.axvline(error, color="black", linewidth=1.2, linestyle="--", zorder=1, label=f"{baseline}, {error:.1f} %")
    handles, labels = ax.get_legend_handles_labels()
    first = labels.index(label)
    ax.legend([handles.pop(first), *handles], [labels.pop(first), *labels], **LEGEND_ABOVE | {"ncols": 3})
    ax.set_yticks(y, table.index)
    ax.set_ylim(len(table) - 0.5, -0.5)
    ax.grid(axis="y", color="0.9")
    ax.set_axisbelow(True)
    return dress(ax, xlabel="top-1 error (%)")


def gains(table: pd.DataFrame, *, by_gain: bool = True, ax: Axes | None = None) -> Axes:
    """What every recipe gains over its control, mean ± standard deviation over seeds; right of zero is better.

    Args:
        table: indexed by recipe, with the columns gain and gain_std, in percentage points, and family, which gives the
            colour; NaN standard deviation: no bar.
        by_gain: whether the largest gain stands on top; otherwise the table's first line does.

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
    ax.set_yticks(y, table.index)
    ax.set_ylim(len(table) - 0.4, -0.6)
    ax.grid(axis="both", color="0.92")
    ax.set_axisbelow(True)
    ax.legend(**LEGEND_ABOVE | {"ncols": 3})
    return dress(ax, xlabel="gain over plain training of equal length (percentage points of error)")


def trade_off(
    table: pd.DataFrame, x: str, y: str, *, xlabel: str, ylabel: str, named: Sequence[str] = (), ax: Axes | None = None
) -> Axes:
    """Two columns of a table against each other, a point per recipe in its family's colour.

    Args:
        table: indexed by recipe, with the columns x, y and family.
        xlabel, ylabel: what the columns are, with units.
        named: recipes whose names stand beside their points, at the end of a line that leads out of the crowd.

    Raises:
        ValueError: a column is missing, `table` has no rows, or a name in `named` is none of its recipes.
    """
    _check_table(table, {x, y, "family"}, "pass results.table(rows)")
    if unknown := sorted(set(named) - set(table.index)):
        raise ValueError(f"named={unknown} are not in the table: choose from {', '.join(table.index)}")
    ax = ax or new_axes(8, 5.5)
    for family, colour in family_colours(table["family"]).items():
        points = table[table["family"] == family]
        ax.scatter(
            points[x], points[y], color=colour, marker=FAMILY_MARKERS.get(family, "o"), s=55, label=family,
            edgecolor="white", linewidth=0.7, zorder=4 if family == "baseline" else 3,  # never hidden
        )  # fmt: skip
    middle = (table[x].min() + table[x].max()) / 2
    for name in named:
        left = table.loc[name, x] <= middle  # of the axes, and its name to the right of the point
        ax.annotate(
            name, (table.loc[name, x], table.loc[name, y]), xytext=(80 if left else -80, 0), textcoords="offset points",
            ha="left" if left else "right", va="center", fontsize=FONT_SIZE - 1, zorder=4,
            arrowprops={"arrowstyle": "-", "color": "0.3", "linewidth": 0.9, "shrinkA": 1, "shrinkB": 4},
        )  # fmt: skip
    ax.grid(color="0.92")
    ax.set_axisbelow(True)
    ax.legend(**LEGEND_ABOVE | {"ncols": 4})
    return dress(ax, xlabel=xlabel, ylabel=ylabel)


def beside(tables: Mapping[str, pd.DataFrame], *, baseline: str = "ce", longer: str | None = "ce_long") -> np.ndarray:
    """The same recipes measured in several places, in a panel each, with a line per recipe.

    Args:
        tables: title, which says what was measured where: table, indexed by recipe, with error and error_std in percent
            (NaN: a single run, drawn as a ring). The first one's recipes are the figure's lines, in its order; a recipe
            that another lacks has no point there.
        baseline: the recipe whose error is a dashed line in every panel.
        longer: the one whose error is a dotted line, the control of those that train longer, in every panel whose
            table has it; None for no such line.

    Returns:
        The axes, one for each table.

    Raises:
        ValueError: no table, a column is missing, or a table has no rows or no line of `baseline`.
    """
    if not tables:
        raise ValueError("tables is empty: give at least one, {title: results.table(rows)}")
    for table in tables.values():
        _check_table(table, {"error", "error_std"}, "pass results.table(rows)")
        if baseline not in table.index:
            raise ValueError(f"baseline={baseline!r} is not in the table: choose one of {', '.join(table.index)}")
    recipes = next(iter(tables.values())).index
    y = np.arange(len(recipes))
    size = 10, 1.3 + 0.3 * len(recipes)
    axes = plt.subplots(1, len(tables), figsize=size, layout="constrained", sharey=True, squeeze=False)[1][0]
    for ax, (title, measured) in zip(axes, tables.items(), strict=True):
        table = measured.reindex(recipes)
        single = table["error_std"].isna()
        ax.errorbar(
            table["error"][~single], y[~single], xerr=table["error_std"][~single], fmt="o", color="black", capsize=3,
            elinewidth=2, zorder=3,
        )  # fmt: skip
        ax.scatter(
            table["error"][single], y[single], s=55, facecolor="white", edgecolor="black", zorder=3, linewidth=1.6
        )
        for name, style in ((baseline, "--"), (longer, ":")):
            if name in measured.index:
                ax.axvline(measured.loc[name, "error"], color="black", linewidth=1.2, linestyle=style, zorder=1)
        ax.set_title(title, fontsize=FONT_SIZE, loc="left")
        ax.grid(color="0.92")
        ax.set_axisbelow(True)
        dress(ax, xlabel="top-1 error (%)")
    axes[0].set_yticks(y, recipes)
    axes[0].set_ylim(len(recipes) - 0.4, -0.6)
    return axes


def _check_table(table: pd.DataFrame, columns: set[str], way_out: str) -> None:
    if (missing := columns - set(table.columns)) or table.empty:
        raise ValueError(f"table has {len(table)} rows and lacks {sorted(missing)}: {way_out}")
