"""Build your own bag: an option for every slot, the recipe that they make, and what was measured nearest to it."""

import math
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.textpath import TextPath
from matplotlib.transforms import Affine2D

from .. import plots
from ..recipes import RECIPES, SHAPES, Recipe, Settings, get
from ..results import CONTROLS, control_of, mean_std
from ..results.bags import OPTIONS, all_bags, bag_recipe, parts
from .explore_timeline import OFF_COLOUR, ON_COLOUR, Timeline
from .explorer import Explorer, blank_figure
from .panels import axes_at
from .sliders import choice

NEIGHBOURS = 6
FULL, PALE, PALER = plots.GROUP_COLOURS["many"], "#7db4d6", "0.6"  # no part differs, one does, several do
TEXT_SIZE, BASELINE = 11, 0.18  # points, of the table's texts, and how far they start below a line's middle, in lines
NEEDED = {
    "measured": {"error", "error_std", "seeds"},
    "published": {"recipe", "top1_error_percent", "source", "dataset", "imbalance"},
}
MEASURED_PANEL, PUBLISHED_PANEL = (472, 225), (810, 135)  # CSS pixels: where the two axes start, how wide they are
TEXT_COLUMNS = (12, 312, 706, 952)  # and where the texts start: name, difference, measured, published


class BagExplorer(Explorer):
    """An explorer whose controls make a recipe, see `bag_explorer`."""

    bags: Mapping[str, tuple[Recipe, dict[str, str]]] = {}

    @property
    def recipe(self) -> Recipe:
        """The chosen recipe, under its own name where it has one, else "my_bag".

        Raises:
            ValueError: the choices make no sense together, with the reason.
        """
        return _chosen(self.values, self.bags)


def bag_explorer(
    measured: pd.DataFrame, published: pd.DataFrame, settings: Settings = SHAPES,
    recipes: Iterable[Recipe] | None = None,
) -> BagExplorer:  # fmt: skip
    """Choose what fills every slot, and when: the recipe's timeline, and the errors of the recipes nearest to it.

        distance = number of parts that differ; 0: the chosen recipe itself
        parts: loss, sampler, foreground, each with its time; mix; epochs; finetune

    Controls: an option for each slot; whether loss, sampler and foreground are used from the start or deferred; what
    comes afterwards, see `bag_recipe`. Choices that make no sense together leave the figure unchanged, and the summary
    gives the reason.

    Below the timeline: the chosen recipe, then the nearest others, of equally near ones those with the lowest measured
    error. Full circles: measured, mean ± std over seeds. Open ones: published, on another data set and therefore on a
    separate axis. The black line in each row: its control, the longest plain training in the tables that is not longer
    than the row's recipe.

    Args:
        measured: indexed by recipe, with the columns error and error_std, in percent, and seeds, as `results.table`
            returns it; measured on the settings' data.
        published: a row per error with the columns recipe, top1_error_percent, source, dataset and imbalance, as
            `results.published` returns it. Errors of different sources are not comparable, so only the source with most
            of these recipes is shown; to see another, pass its rows alone. No rows: nothing is published.
        settings: fills in epochs and learning rates, as in training.
        recipes: those that the tables' names refer to; all of ltlab if None. Rows of other names, and of recipes that
            no choices make, are left out.

    Returns:
        An explorer whose attribute `recipe` is the chosen one, ready to train.

    Raises:
        ValueError: a column is missing, a recipe is measured twice, `published` mixes data sets or imbalances, or
            none of the recipes is measured.
    """
    _check(measured, published)
    bags = all_bags(settings, RECIPES.values() if recipes is None else recipes)
    epochs = {name: recipe.resolve(settings).epochs for name, (recipe, _) in bags.items()}
    figures, where, source = _figures(measured, published, epochs)

    figure = blank_figure(1000, 480)
    longest = get("bag_of_tricks").resolve(settings)  # and of most stages; with ce it has all schedules
    timeline = Timeline(figure, [get("ce").resolve(settings), longest], (125, 31, 865, 101), (125, 139, 865, 48),
                        rows=("sampler", "foreground", "mix", "loss"))  # fmt: skip
    rate = timeline.axes[1]
    rate.set_ylabel("learning\nrate", rotation=0, ha="right", va="center")
    rate.xaxis.set_label_coords(-0.045, -0.15)  # next to the numbers: no room below them
    table = _Table(figure, figures, f"measured on {settings.name}", where, source)
    drawn = ""

    def update(**choices: str) -> str:
        nonlocal drawn
        try:
            recipe = _chosen(choices, bags)
        except ValueError as reason:
            return f"no recipe: {reason}. The figure still shows {drawn}."
        recipe = recipe.resolve(settings)
        chosen, drawn = parts(**choices), recipe.name
        near = nearest(chosen, {name: bags[name][1] for name in figures if name != drawn}, figures)
        timeline.show(recipe, longest.epochs)
        table.show(drawn, recipe.epochs, near)
        lengths = " + ".join(str(stage.epochs) for stage in recipe.stages)
        words = "; ".join(f"{part} {option}" for part, option in chosen.items() if part != "epochs")
        known = _in_words(drawn, recipe.epochs, near, figures, f"{where} ({source})")
        return f"{drawn} on {settings.name}, {lengths} epochs: {words}. {known}"

    controls = {name: choice(name, options) for name, options in OPTIONS.items()}
    label = "Timeline of the chosen recipe, and the errors of the recipes nearest to it"
    explorer = BagExplorer(controls, figure, update, moving=[*timeline.moving, *table.moving], label=label)
    explorer.bags = bags
    return explorer


class Errors(NamedTuple):
    """Of a recipe, in percent, NaN where there is none: measured, over so many seeds, and published."""

    error: float
    error_std: float
    seeds: float
    published: float
    epochs: float


MISSING = Errors(*[math.nan] * 5)


def controls_in(figures: Mapping[str, Errors], column: str) -> dict[str, float]:
    """The epochs of the controls that have an error in this column, "error" or "published", see `control_of`."""
    return {name: figures[name].epochs for name in CONTROLS
            if not math.isnan(getattr(figures.get(name, MISSING), column))}  # fmt: skip


def nearest(
    chosen: Mapping[str, str], others: Mapping[str, Mapping[str, str]], figures: Mapping[str, Errors]
) -> list[tuple[str, list[str]]]:
    """The other recipes, the nearest first: of each its name and the parts that differ.

    Of equally near ones the lower measured error comes first, then the lower published one; without one last.
    """

    def rank(found: tuple[str, list[str]]) -> tuple:
        name, different = found
        errors = (figures[name].error, figures[name].published)
        return len(different), *(math.inf if math.isnan(error) else error for error in errors), name

    found = [(name, [part for part in chosen if chosen[part] != theirs[part]]) for name, theirs in others.items()]
    return sorted(found, key=rank)


def _chosen(choices: Mapping[str, str], bags: Mapping[str, tuple[Recipe, dict[str, str]]]) -> Recipe:
    """The recipe of these choices, and under its name if it has one."""
    made, chosen = bag_recipe(**choices), parts(**choices)
    return next((recipe for recipe, theirs in bags.values() if theirs == chosen), made)


def _check(measured: pd.DataFrame, published: pd.DataFrame) -> None:
    for name, table in (("measured", measured), ("published", published)):
        if missing := NEEDED[name] - set(table.columns):
            raise ValueError(f"{name} lacks the columns {', '.join(sorted(missing))}: pass what ltlab.results returns")
    if measured.index.has_duplicates:
        twice = measured.index[measured.index.duplicated()][0]
        raise ValueError(f"measured has {twice!r} twice: pass one line per recipe, as results.table returns")
    if len(published[["dataset", "imbalance"]].drop_duplicates()) > 1:
        raise ValueError("published mixes data sets or imbalances: pass the rows of one, as results.published returns")


def _figures(
    measured: pd.DataFrame, published: pd.DataFrame, epochs: Mapping[str, int]
) -> tuple[dict[str, Errors], str, str]:
    """The errors of the recipes in `epochs`; and of the published ones, in words, on what they are, and whose."""
    measured, where, source = measured.loc[measured.index.isin(list(epochs))], "nothing published", ""
    if np.isnan(measured["error"].to_numpy(float)).all():
        raise ValueError(f"measured has none of {', '.join(epochs)}: pass the rows of recipes that choices can make")
    published = published.loc[published["recipe"].isin(list(epochs))]
    if len(published):
        source = str(published.groupby("source", sort=False).size().idxmax())
        published = published.loc[published["source"] == source].drop_duplicates(subset=["recipe"])
        where = f"published, {published['dataset'].iloc[0]}, imbalance {published['imbalance'].iloc[0]:g}"
    errors = published.set_index("recipe")[["top1_error_percent"]]
    figures = measured[["error", "error_std", "seeds"]].join(errors, how="outer").astype(float)
    rows = zip(figures.index, figures.to_numpy().tolist(), strict=True)
    return {name: Errors(*row, epochs=epochs[name]) for name, row in rows}, where, source


def _in_words(
    name: str, epochs: int, near: list[tuple[str, list[str]]], figures: Mapping[str, Errors], where: str
) -> str:
    """What is known of a recipe, of its nearest measured neighbour if it was not measured, and of its controls."""

    def of(name: str) -> str:
        error, std, seeds, *_ = figures[name]
        return f"{mean_std(error, std, 1)} % ({seeds:.0f} seed{'s' if seeds > 1 else ''})"

    measured = [other for other in figures if not math.isnan(figures[other].error)]
    if name in measured:
        words = f"Measured: {of(name)}"
    else:
        other, different = next(found for found in near if found[0] in measured)
        words = (
            f"Not measured; the nearest that is, {other}, differs in {' and '.join(different) or 'name'}: {of(other)}"
        )
    if not math.isnan(figures.get(name, MISSING).published):
        words += f"; {where}: {figures[name].published:.2f} %"
        if (control := control_of(epochs, controls_in(figures, "published"))) not in (None, name):
            words += f", {control} {figures[control].published:.2f} %"
    if (control := control_of(epochs, controls_in(figures, "error"))) not in (None, name):
        length = "equal length" if figures[control].epochs == epochs else f"{figures[control].epochs} epochs"
        words += f"; plain training of {length} ({control}): {mean_std(*figures[control][:2], 1)} %"
    return words + "."


class _Table:
    """A line for the chosen recipe and for each neighbour: name, difference, and errors on two axes."""

    def __init__(self, figure: Figure, figures: Mapping[str, Errors], here: str, there: str, source: str) -> None:
        self.figures = figures
        lines = axes_at(figure, 0, 238, 1000, 192, xlim=(0, 1000), ylim=(NEIGHBOURS + 0.5, -0.5))
        lines.axis("off")
        starts = *TEXT_COLUMNS[:2], MEASURED_PANEL[0], 992
        for x, title in zip(starts, ("nearest recipes", "differs in", here, there), strict=True):
            lines.text(x, -0.8, title, color="0.3", fontsize=TEXT_SIZE, ha="right" if title == there else "left")
        self.lit = lines.add_patch(Rectangle((6, -0.5), 988, 1, linewidth=0))
        to_pixels = Affine2D().scale(figure.dpi / 72)  # of points
        self.words = PathCollection([], offsets=[], offset_transform=lines.transData, linewidth=0)
        lines.add_collection(self.words, autolim=False).set_transform(to_pixels)

        left, right = (
            axes_at(figure, x, 238, width, 192, sharey=lines, facecolor="none")
            for x, width in (MEASURED_PANEL, PUBLISHED_PANEL)
        )
        error, std, _, published, _ = np.array(list(figures.values())).T
        line = ", line: control" if controls_in(figures, "error") else ""
        _dress(left, [error - np.nan_to_num(std), error + np.nan_to_num(std)], f"top-1 error (%){line}", "left")
        _dress(right, published, f"top-1 error (%), {source}", "right")
        look = {"color": "black", "linewidth": 1.5, "capstyle": "butt"}
        self.control_lines = {column: LineCollection([], **look) for column in ("error", "published")}
        self.known = {column: controls_in(figures, column) for column in self.control_lines}
        self.spreads = LineCollection([], linewidth=2)
        for ax, moving in zip((left, right, left), (*self.control_lines.values(), self.spreads), strict=True):
            ax.add_collection(moving, autolim=False)
        self.dots = left.scatter([], [], s=30)
        self.rings = right.scatter([], [], s=40, facecolor="white", linewidth=2)
        self.moving = [self.lit, *self.control_lines.values(), self.spreads, self.dots, self.rings, self.words]

    def show(self, chosen: str, epochs: int, near: list[tuple[str, list[str]]]) -> None:
        """Draw the chosen recipe, of so many epochs, and its nearest neighbours, see `nearest`."""
        names = [chosen, *(name for name, _ in near[:NEIGHBOURS])]
        differences = ["this bag", *(_briefly(different) for _, different in near[:NEIGHBOURS])]
        colours = [FULL, *(PALE if len(d) < 2 else PALER for _, d in near[:NEIGHBOURS])]
        errors = [self.figures.get(name, MISSING) for name in names]
        measured = [mean_std(e.error, e.error_std, 1) for e in errors]
        published = [mean_std(e.published, digits=1) for e in errors]
        self.lit.set_facecolor(ON_COLOUR if chosen in self.figures else OFF_COLOUR)
        self.words.set(
            paths=[_outline(text) for column in (names, differences, measured, published) for text in column],
            offsets=[(x, y + BASELINE) for x in TEXT_COLUMNS for y in range(len(names))],
            facecolor=["0.4" if colour == PALER else "black" for colour in colours] * len(TEXT_COLUMNS),
        )
        self.dots.set(offsets=[(e.error, y) for y, e in enumerate(errors)], color=colours)
        self.rings.set(offsets=[(e.published, y) for y, e in enumerate(errors)], edgecolor=colours)
        spreads = [[(e.error - e.error_std, y), (e.error + e.error_std, y)] for y, e in enumerate(errors)]
        self.spreads.set(segments=spreads, color=colours)
        lengths = [epochs, *(e.epochs for e in errors[1:])]
        for column, lines in self.control_lines.items():
            controls = [self.figures.get(control_of(n, self.known[column]) or "", MISSING) for n in lengths]
            ends = [(getattr(control, column), y) for y, control in enumerate(controls)]
            lines.set_segments([[(x, y - 0.5), (x, y + 0.5)] for x, y in ends if not math.isnan(x)])


def _briefly(different: list[str]) -> str:
    return (", ".join(different) or "name") if len(different) < 3 else f"{len(different)} parts"


@cache
def _outline(text: str) -> TextPath:
    """A text as a shape, in points: it draws in a twentieth of a `Text`'s time, and every frame has 28 of them."""
    return TextPath((0, 0), text, size=TEXT_SIZE)


def _dress(ax: Axes, errors: Any, label: str, loc: Literal["left", "right"]) -> None:
    """An axis that holds all errors, with a little room on both sides; hidden where there is no error."""
    ax.set_visible(not np.isnan(errors).all())
    if ax.get_visible():
        low, high = np.nanmin(errors), np.nanmax(errors)
        room = 1 + 0.04 * (high - low)
        ax.set_xlim(low - room, high + room)
    ax.set_xlabel(label, fontsize=TEXT_SIZE, loc=loc)
    ax.tick_params(labelsize=TEXT_SIZE)
    ax.tick_params(axis="y", left=False, labelleft=False)
    ax.spines[["left", "right", "top"]].set_visible(False)
