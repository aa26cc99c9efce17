"""Build your own bag: an option for every slot, the recipe that they make, and what was measured nearest to it."""

import math
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.figure import Figure
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
NEEDED = {
    "measured": {"error", "error_std", "seeds"},
    "published": {"recipe", "top1_error_percent", "source", "dataset", "imbalance"},
}
COLUMNS = (8, 330, 700, 950)  # CSS pixels, where texts start: name, difference, measured, published
BASELINE = 0.18  # how far they start below a line's middle, in lines
MEASURED_PANEL, PUBLISHED_PANEL = (495, 195), (825, 115)  # and where the axes start, and how wide they are

Errors = Mapping[str, Mapping[str, float]]  # what is known, by recipe and then by column
MISSING: Mapping[str, float] = {column: math.nan for column in ("error", "error_std", "seeds", "published", "epochs")}


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
    errors, where, source = _errors(measured, published, epochs)

    figure = blank_figure(1000, 508)
    longest = get("bag_of_tricks").resolve(settings)  # and of most stages; with ce it has all schedules
    timeline = Timeline(figure, [get("ce").resolve(settings), longest], (125, 31, 865, 116), (125, 154, 865, 45),
                        rows=("sampler", "foreground", "mix", "loss"))  # fmt: skip
    rate = timeline.axes[1]
    rate.set_ylabel("learning\nrate", rotation=0, ha="right", va="center")
    rate.xaxis.set_label_coords(-0.045, -0.15)  # next to the numbers: no room below them
    table = _Table(figure, errors, f"measured on {settings.name}", where, source)
    drawn = ""

    def update(**choices: str) -> str:
        nonlocal drawn
        try:
            recipe = _chosen(choices, bags)
        except ValueError as reason:
            return f"no recipe: {reason}. The figure still shows {drawn}."
        recipe = recipe.resolve(settings)
        chosen, drawn = parts(**choices), recipe.name
        near = nearest(chosen, {name: bags[name][1] for name in errors if name != drawn})
        timeline.show(recipe, longest.epochs)
        table.show(drawn, recipe.epochs, near)
        lengths = " + ".join(str(stage.epochs) for stage in recipe.stages)
        words = "; ".join(f"{part} {option}" for part, option in chosen.items() if part != "epochs")
        known = _in_words(drawn, recipe.epochs, near, errors, table.known, f"{where} ({source})")
        return f"{drawn} on {settings.name}, {lengths} epochs: {words}. {known}"

    controls = {name: choice(name, options) for name, options in OPTIONS.items()}
    label = "Timeline of the chosen recipe, and the errors of the recipes nearest to it"
    explorer = BagExplorer(controls, figure, update, moving=[timeline, table], label=label)
    explorer.bags = bags
    return explorer


def nearest(chosen: Mapping[str, str], others: Mapping[str, Mapping[str, str]]) -> list[tuple[str, list[str]]]:
    """The other recipes, the nearest first, equally near ones in their order: name, and the parts that differ."""
    found = [(name, [part for part in chosen if chosen[part] != theirs[part]]) for name, theirs in others.items()]
    return sorted(found, key=lambda one: len(one[1]))


def _controls(errors: Errors, column: str) -> dict[str, float]:
    """The epochs of the controls that have an error in this column, see `control_of`."""
    return {name: errors[name]["epochs"] for name in CONTROLS if not math.isnan(errors.get(name, MISSING)[column])}


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


def _errors(measured: pd.DataFrame, published: pd.DataFrame, epochs: Mapping[str, int]) -> tuple[Errors, str, str]:
    """What is known of the recipes in `epochs`, the lowest error first; of what is published: on which data, by whom.

    Per recipe: error, error_std and published in percent, seeds and epochs, NaN where there is none.
    """
    measured, where, source = measured.loc[measured.index.isin(list(epochs))], "nothing published", ""
    if np.isnan(measured["error"].to_numpy(float)).all():
        raise ValueError(f"measured has none of {', '.join(epochs)}: pass the rows of recipes that choices can make")
    published = published.loc[published["recipe"].isin(list(epochs))]
    if len(published):
        source = str(published.groupby("source", sort=False).size().idxmax())
        published = published.loc[published["source"] == source].drop_duplicates(subset=["recipe"])
        where = f"published, {published['dataset'].iloc[0]}, imbalance {published['imbalance'].iloc[0]:g}"
    theirs = pd.Series(published["top1_error_percent"].to_numpy(float), published["recipe"], name="published")
    errors = measured[["error", "error_std", "seeds"]].join(theirs, how="outer").astype(float)
    errors["epochs"] = errors.index.map(dict(epochs))
    errors = errors.sort_index().sort_values(["error", "published"], kind="stable")
    rows: Any = errors.to_dict("index")  # a frame looks up dozens of its numbers, which takes a table milliseconds
    return rows, where, source


def _in_words(
    name: str, epochs: int, near: list[tuple[str, list[str]]], errors: Errors,
    known: Mapping[str, Mapping[str, float]], where: str,
) -> str:  # fmt: skip
    """What is known of a recipe, of its nearest measured neighbour if it was not measured, and of its controls."""

    def of(name: str) -> str:
        row = errors[name]
        return f"{mean_std(row['error'], row['error_std'], 1)} % ({row['seeds']:.0f} seed{'s' * (row['seeds'] > 1)})"

    if not math.isnan(errors.get(name, MISSING)["error"]):
        words = f"Measured: {of(name)}"
    else:
        other, different = next(found for found in near if not math.isnan(errors[found[0]]["error"]))
        words = f"Not measured; the nearest recipe measured, {other}, differs in "
        words += f"{' and '.join(different) or 'name'}: {of(other)}"
    if not math.isnan(published := errors.get(name, MISSING)["published"]):
        words += f"; {where}: {published:.2f} %"
        if (control := control_of(epochs, known["published"])) not in (None, name):
            words += f", {control} {errors[control]['published']:.2f} %"
    if (control := control_of(epochs, known["error"])) not in (None, name):
        row = errors[control]
        length = "equal length" if row["epochs"] == epochs else f"{row['epochs']:.0f} epochs"
        words += f"; plain training of {length} ({control}): {mean_std(row['error'], row['error_std'], 1)} %"
    return words + "."


class _Table:
    """A line for the chosen recipe and for each neighbour: name, difference, and errors on two axes."""

    def __init__(self, figure: Figure, errors: Errors, here: str, there: str, source: str) -> None:
        self.errors, place = errors, (258, 203)  # top and height
        lines = axes_at(figure, 0, place[0], 1000, place[1], xlim=(0, 1000), ylim=(NEIGHBOURS + 0.5, -0.5))
        lines.axis("off")
        heads = {COLUMNS[0]: "nearest recipes", COLUMNS[1]: "differs in", MEASURED_PANEL[0]: here}
        for x, title in heads.items():
            lines.text(x, -0.8, title, fontsize=plots.FONT_SIZE)
        lines.text(994, -0.8, there, fontsize=plots.FONT_SIZE, ha="right")
        self.lit = lines.axhspan(-0.5, 0.5)
        self.words = PathCollection([], offsets=[], offset_transform=lines.transData, linewidth=0, facecolor="black")
        lines.add_collection(self.words, autolim=False).set_transform(Affine2D().scale(figure.dpi / 72))  # of points

        self.axes = {}
        self.known = {column: _controls(errors, column) for column in ("error", "published")}
        control = ", line: control" if self.known["error"] else ""
        error, std, published = _columns(errors.values())
        std = np.nan_to_num(std)
        panels: Any = (
            ("error", MEASURED_PANEL, [*(error - std), *(error + std)], f"top-1 error (%){control}", "left"),
            ("published", PUBLISHED_PANEL, published, source, "right"),
        )
        for column, panel, values, label, loc in panels:
            ax = self.axes[column] = axes_at(figure, panel[0], place[0], panel[1], place[1], sharey=lines)
            ax.set(facecolor="none", visible=not np.isnan(values).all())
            if ax.get_visible():
                low, high = np.nanmin(values), np.nanmax(values)
                room = 1 + 0.04 * (high - low)
                ax.set_xlim(low - room, high + room)
            ax.set_xlabel(label, fontsize=plots.FONT_SIZE, loc=loc)
            ax.tick_params(labelsize=plots.FONT_SIZE)
            ax.tick_params(axis="y", left=False, labelleft=False)
            ax.spines[["left", "right", "top"]].set_visible(False)
        self.control_lines = {column: LineCollection([], color="black", linewidth=1.5) for column in self.axes}
        self.spreads = LineCollection([], linewidth=2)
        for ax, moving in zip(self.axes.values(), self.control_lines.values(), strict=True):
            ax.add_collection(moving, autolim=False)
        self.axes["error"].add_collection(self.spreads, autolim=False)
        self.dots = self.axes["error"].scatter([], [], s=40)
        self.rings = self.axes["published"].scatter([], [], s=45, facecolor="white", linewidth=2)
        self.artists = [self.lit, *self.control_lines.values(), self.spreads, self.dots, self.rings, self.words]

    def show(self, chosen: str, epochs: int, near: list[tuple[str, list[str]]]) -> None:
        """Draw the chosen recipe, of so many epochs, and its nearest neighbours, see `nearest`."""
        near = near[:NEIGHBOURS]
        names = [chosen, *(name for name, _ in near)]
        error, std, published = _columns(self.errors.get(name, MISSING) for name in names)
        colours = [FULL, *(PALE if len(different) < 2 else PALER for _, different in near)]
        self.lit.set_facecolor(ON_COLOUR if chosen in self.errors else OFF_COLOUR)
        texts = (
            [name.replace("_", " ") for name in names],
            ["this bag", *(_briefly(different) for _, different in near)],
            [mean_std(e, spread, 1) for e, spread in zip(error, std, strict=True)],
            [mean_std(e, digits=1) for e in published],
        )
        self.words.set(
            paths=[_outline(text) for column in texts for text in column],
            offsets=[(x, k + BASELINE) for x in COLUMNS for k in range(len(names))],
        )
        y = np.arange(len(names))
        self.dots.set(offsets=np.column_stack([error, y]), color=colours)
        self.rings.set(offsets=np.column_stack([published, y]), edgecolor=colours)
        ends = [error - std, error + std]
        self.spreads.set(segments=np.stack([np.column_stack([x, y]) for x in ends], 1), color=colours)
        lengths = [epochs, *(self.errors[name]["epochs"] for name in names[1:])]
        for column, lines in self.control_lines.items():
            controls = [(k, control_of(length, self.known[column])) for k, length in enumerate(lengths)]
            places = [(k, self.errors[name][column]) for k, name in controls if name]
            lines.set_segments([[(x, k - 0.5), (x, k + 0.5)] for k, x in places])


def _columns(rows: Iterable[Mapping[str, float]]) -> np.ndarray:
    """Error, its standard deviation and the published error of the rows, (3, N)."""
    return np.array([[row[column] for column in ("error", "error_std", "published")] for row in rows]).T


@cache
def _outline(text: str) -> TextPath:
    """A text as a shape, in points: it draws in a twentieth of a `Text`'s time, and every frame has 28 of them."""
    return TextPath((0, 0), text, size=plots.FONT_SIZE)


def _briefly(different: list[str]) -> str:
    return (", ".join(different) or "name") if len(different) < 3 else f"{len(different)} parts"
