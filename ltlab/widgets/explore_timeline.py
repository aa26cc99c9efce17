"""Two-stage training: which trick is on when."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, groupby
from types import SimpleNamespace
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from .. import plots
from ..losses import CrossEntropyLoss
from ..recipes import CIFAR, Plan, Recipe, Settings, Stage, describe, get
from .explorer import PIXEL_RATIO, Explorer, blank_figure
from .panels import axes_at
from .sliders import choice, slider

INSTRUCTIVE = ("ce", "drw_cs_ce", "drs_class_balanced", "crt", "cam_drs", "input_mixup_finetune")
TIMELINE_ROWS = ("sampler", "foreground", "mix", "loss", "trains")
OFF_COLOUR, ON_COLOUR = "0.92", "#a9cde8"  # of a slot as in plain training, and of one with a trick
SAMPLES = 8  # of the learning rate, per epoch
TITLE_WIDTH = 60  # CSS pixels, of "stage 1"
START_STEP = 0.01  # of the slider, a fraction of the epochs


def timeline_explorer(settings: Settings = CIFAR, recipes: Sequence[Recipe | str] = INSTRUCTIVE) -> Explorer:
    """Which trick is on when: the slots of a recipe over its epochs, and the learning rate below them.

    Controls: recipe, and where its stage 2 starts, as a fraction of its epochs; the number of epochs stays the same,
    and later stages keep their fractions of the rest. Choosing a recipe sets the slider to the recipe's own start.

    Blue: a trick; grey: as in plain training. Dotted lines: a stage begins; a stage of 0 epochs is only a line. A
    learning rate that falls to zero leaves the axis.

    Args:
        settings: fills in epochs and learning rates, as in training.
        recipes: recipes or names of recipes, each name once.

    Raises:
        ValueError: no recipe, an unknown one, or one name twice.
    """
    resolved = [(get(recipe) if isinstance(recipe, str) else recipe).resolve(settings) for recipe in recipes]
    by_name = {recipe.name: recipe for recipe in resolved}
    if not resolved or len(by_name) < len(resolved):
        raise ValueError(f"recipes={list(recipes)}: pass at least one recipe, and each name once")

    figure = blank_figure(1000, 430)
    timeline = Timeline(figure, resolved, (105, 34, 880, 194), (105, 247, 880, 133))
    timeline.axes[1].set_ylabel("learning rate")

    def update(recipe: str, start: float) -> str:
        own = by_name[recipe]
        controls["start"].disabled = not can_move(own)
        shown = own if controls["start"].disabled else with_second_stage_at(own, _epoch(own, start))
        timeline.show(shown, shown.epochs)
        return f"{recipe} on {shown.settings.name}, {shown.epochs} epochs: {_in_words(shown)}"

    controls = {
        "recipe": choice("recipe", by_name),
        "start": slider("start", _own_start(resolved[0]), 0.05, 0.95, START_STEP, description="stage 2 from"),
    }

    def take_own_start(change: dict[str, Any]) -> None:
        controls["start"].value = _own_start(by_name[change["new"]])

    controls["recipe"].observe(take_own_start, names="value")  # before the explorer's own observer draws
    label = "Slots of a recipe and its learning rate by epoch"
    return Explorer(controls, figure, update, moving=[timeline], label=label)


def can_move(recipe: Plan) -> bool:
    """Whether a plan has a later stage that trains, so that its start may be moved."""
    return any(stage.epochs for stage in recipe.stages[1:])


def with_second_stage_at(recipe: Plan, epoch: int) -> Plan:
    """A plan whose stage 2 starts after `epoch` epochs; later stages keep their fractions of the rest.

    The number of epochs and the schedules stay the same. The recipe's own start gives back the recipe.

    Raises:
        ValueError: no epoch is left for stage 1, or fewer than one for each later stage that trains.
    """
    if not 1 <= epoch <= _latest_start(recipe):
        raise ValueError(f"epoch={epoch}: stage 2 of {recipe.name!r} starts after epoch 1 to {_latest_start(recipe)}")
    later = recipe.with_stages(*recipe.stages[1:]).with_epochs(recipe.epochs - epoch)
    lengths = [epoch, *(stage.epochs for stage in later.stages)]
    stages = [replace(stage, epochs=n) for stage, n in zip(recipe.stages, lengths, strict=True)]
    return recipe.with_stages(*stages)


def learning_rates(recipe: Plan) -> tuple[np.ndarray, np.ndarray]:
    """Times in epochs and the learning rate at each, `SAMPLES` per epoch, of a plan."""
    rates = []
    for stage, (offset, span) in zip(recipe.stages, recipe.spans(), strict=True):
        rates += [stage.schedule(offset + t / SAMPLES, span) for t in range(SAMPLES * stage.epochs)]
    return np.arange(len(rates)) / SAMPLES, np.array(rates)


def _own_start(recipe: Plan) -> float:
    """The start of stage 2 as the slider's nearest fraction; its middle where there is none to move."""
    return round(recipe.stages[0].epochs / recipe.epochs, 2) if can_move(recipe) else 0.5


def _epoch(recipe: Plan, fraction: float) -> int:
    """The epoch at a fraction of a recipe; its own start where the slider can come no nearer to it."""
    own = recipe.stages[0].epochs
    if abs(fraction - own / recipe.epochs) <= START_STEP / 2:
        return own
    return min(max(1, round(fraction * recipe.epochs)), _latest_start(recipe))


def _latest_start(recipe: Plan) -> int:
    """The last epoch after which stage 2 may start: each later stage that trains has one left."""
    return recipe.epochs - sum(stage.epochs > 0 for stage in recipe.stages[1:])


class Timeline:
    """The slots of a recipe over its epochs, a row each, and its learning rate below them.

    A text is at the start of its bar, and once where neighbouring stages have the same: in the first of them that holds
    it. A trick's text that is too long for the bar is next to it, on the side with more room, with an arrow towards it.
    A stage that is too short for its title has only its number, or nothing.

    Args:
        recipes: every plan that will be shown; they set the range of the learning rate.
        above, below: left, top, width and height of the axes for the slots and for the learning rate, in CSS pixels.
        rows: which of `TIMELINE_ROWS`.
    """

    def __init__(
        self, figure: Figure, recipes: Sequence[Plan], above: Sequence[float], below: Sequence[float],
        rows: Sequence[str] = TIMELINE_ROWS,
    ) -> None:  # fmt: skip
        self.rows, self.axes = rows, (axes_at(figure, *above), plots.dress(axes_at(figure, *below), xlabel="epoch"))
        slots, rate = self.axes
        slots.set(ylim=(len(rows) - 0.5, -0.5), yticks=range(len(rows)), yticklabels=rows)
        slots.tick_params(labelsize=plots.FONT_SIZE, length=0, labelbottom=False)
        slots.spines[:].set_visible(False)
        rates = np.concatenate([learning_rates(recipe)[1][::SAMPLES] for recipe in recipes])
        rate.set(yscale="log", ylim=(0.5 * rates.min(), 2 * rates.max()))
        (self.rate,) = rate.plot([], [], color=plots.GROUP_COLOURS["many"], linewidth=2)
        style = {"fontsize": plots.FONT_SIZE, "va": "center_baseline"}
        self.stages = [
            SimpleNamespace(
                bars=[slots.add_patch(Rectangle((0, y - 0.4), 0, 0.8, edgecolor="white")) for y in range(len(rows))],
                lines=[slots.axvline(0, color="0.3"), rate.axvline(0, color="0.3", linestyle=":")],
                texts=[slots.text(0, y, "", **style) for y in range(len(rows))],
                title=slots.text(0, -0.85, "", color="0.3", **style),
            )
            for _ in range(max(len(recipe.stages) for recipe in recipes))
        ]
        self.artists = [self.rate, *(line for drawn in self.stages for line in drawn.lines)]
        self.artists += [bar for drawn in self.stages for bar in drawn.bars]
        self.artists += [text for drawn in self.stages for text in (*drawn.texts, drawn.title)]  # over all bars

    def show(self, recipe: Plan, total: int) -> None:
        """Draw a plan on an axis of `total` epochs: the recipe's own, or more."""
        for ax in self.axes if self.axes[0].get_xlim() != (0, total) else ():
            ax.set_xlim(0, total)
        self.rate.set_data(*learning_rates(recipe))
        for artist in self.artists[1:]:
            artist.set_visible(False)
        ends = list(accumulate((stage.epochs for stage in recipe.stages), initial=0))
        for number, drawn in enumerate(self.stages[: len(recipe.stages)]):
            for line in drawn.lines:
                line.set(xdata=[ends[number]] * 2, visible=number > 0)
            width = recipe.stages[number].epochs / total * self.axes[0].bbox.width / PIXEL_RATIO
            title = f"stage {number + 1}" if width > TITLE_WIDTH else f"{number + 1}"
            drawn.title.set(text=title, x=ends[number], visible=width > TITLE_WIDTH / 5)
        for row, name in enumerate(self.rows):
            slots = [_in_row(stage, name) for stage in recipe.stages]
            for (text, is_trick), run in groupby(range(len(slots)), key=slots.__getitem__):
                self._show_run(row, [*run], text, is_trick, ends, total)

    def _show_run(
        self, row: int, run: Sequence[int], text: str, is_trick: bool, ends: Sequence[int], total: float
    ) -> None:
        """The bars of neighbouring stages with the same in a row, and their text."""
        for n in run:
            epochs, colour = ends[n + 1] - ends[n], ON_COLOUR if is_trick else OFF_COLOUR
            self.stages[n].bars[row].set(x=ends[n], width=epochs, facecolor=colour, visible=epochs > 0)
        begin, end, gap = ends[run[0]], ends[run[-1] + 1], 0.005 * total
        drawn = self.stages[run[0]].texts[row]
        drawn.set(text=text, visible=True)
        needed = total * drawn.get_window_extent().width / self.axes[0].bbox.width + 2 * gap  # in epochs
        begin = next((ends[n] for n in run if needed < ends[n + 1] - ends[n]), begin)
        if needed < end - begin:
            drawn.set(x=begin + gap, ha="left")
        elif begin <= total - end:
            drawn.set(text=f"← {text}", x=end + gap, ha="left", visible=is_trick)
        else:
            drawn.set(text=f"{text} →", x=begin - gap, ha="right", visible=is_trick)


def _in_row(stage: Stage, row: str) -> tuple[str, bool]:
    """The text of a row of the timeline, and whether it differs from plain training."""
    if row == "trains":
        trains = "" if stage.epochs == 0 else "all layers" if stage.trains == "all" else "classifier only"
        change = describe(stage.classifier) if stage.classifier else ""
        batch_norm = "" if stage.batch_norm == "train" else f"batch norm {stage.batch_norm}"
        is_trick = stage.trains != "all" or bool(change or batch_norm)
        return ", ".join(filter(None, (trains, change, batch_norm))), is_trick
    slot = getattr(stage, row)
    return ("" if slot is None else describe(slot)), not (slot is None or isinstance(slot, CrossEntropyLoss))


def _in_words(recipe: Plan) -> str:
    """The stages of a plan in one line."""
    stages, begin = [], 0
    for number, stage in enumerate(recipe.stages):
        words = ((row, _in_row(stage, row)[0]) for row in (TIMELINE_ROWS if stage.epochs else ["trains"]))
        parts = [f"{row} {text}" for row, text in words if text]
        when = "0 epochs"
        if stage.epochs:
            when = f"epochs {begin + 1} to {begin + stage.epochs}"
            parts.append("the schedule continues" if recipe.continues(number) else "its own schedule")
        stages.append(f"stage {number + 1}, {when}: {', '.join(parts)}")
        begin += stage.epochs
    return "; ".join(stages)
