"""Two-stage training: which trick is on when."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, groupby
from types import SimpleNamespace
from typing import Any

import ipywidgets
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from .. import plots
from ..losses import CrossEntropyLoss
from ..plots.style import dress
from ..recipes import CIFAR, Protocol, Recipe, Stage, describe, get
from .explorer import Explorer, blank_figure, choice

TELLING = ("ce", "drw_cs_ce", "drs_class_balanced", "crt", "cam_drs", "input_mixup_finetune")
ROWS = ("sampler", "foreground", "mix", "loss", "trains")
PLAIN, ON = "0.92", "#a9cde8"  # a slot as in plain training, and one with a trick
SAMPLES = 8  # of the learning rate, per epoch
STEP = 0.01  # of the slider, a share of the epochs


def timeline_explorer(protocol: Protocol = CIFAR, recipes: Sequence[Recipe | str] = TELLING) -> Explorer:
    """Which trick is on when: the slots of a recipe over its epochs, and the learning rate below them.

    Controls: recipe, and where its stage 2 starts, as a share of its epochs; the number of epochs stays, and later
    stages keep their shares of the rest. Choosing a recipe sets the slider to the recipe's own start.

    Blue: a trick; grey: as in plain training. Dotted lines: a stage begins; a stage of 0 epochs is a line alone. A
    learning rate that falls to zero leaves the axis.

    Args:
        protocol: fills in epochs and learning rates, as in training.
        recipes: recipes or names of recipes, each name once.

    Raises:
        ValueError: no recipe, an unknown one, or one name twice.
    """
    resolved = [(get(recipe) if isinstance(recipe, str) else recipe).resolve(protocol) for recipe in recipes]
    by_name = {recipe.name: recipe for recipe in resolved}
    if not resolved or len(by_name) < len(resolved):
        raise ValueError(f"recipes={list(recipes)}: give at least one recipe, and each a name of its own")

    figure = blank_figure(1000, 430)
    above, below = figure.add_axes((0.105, 0.47, 0.88, 0.45)), figure.add_axes((0.105, 0.115, 0.88, 0.31))
    below.set_ylabel("learning rate", fontsize=plots.FONT_SIZE)
    timeline = Timeline(above, below, resolved)

    def update(recipe: str, start: float) -> str:
        own = by_name[recipe]
        controls["start"].disabled = not can_move(own)
        shown = own if controls["start"].disabled else with_second_stage_at(own, _epoch(own, start))
        timeline.show(shown, shown.epochs)
        return f"{recipe} on {shown.protocol.name}, {shown.epochs} epochs: {_in_words(shown)}"

    controls = {
        "recipe": choice("recipe", by_name, width=165),
        "start": ipywidgets.FloatSlider(
            value=_own_start(resolved[0]), min=0.05, max=0.95, step=STEP, description="stage 2 from",
            style={"description_width": "100px"}, layout={"width": "400px"},
        ),
    }  # fmt: skip

    def take_own_start(change: dict[str, Any]) -> None:
        controls["start"].value = _own_start(by_name[change["new"]])

    controls["recipe"].observe(take_own_start, names="value")  # before the explorer's own observer draws
    label = "Slots of a recipe and its learning rate by epoch"
    return Explorer(controls, figure, update, moving=timeline.moving, label=label)


def can_move(recipe: Recipe) -> bool:
    """Whether a resolved recipe has a later stage that trains, so that its start may be moved."""
    return any(stage.epochs for stage in recipe.stages[1:])


def with_second_stage_at(recipe: Recipe, epoch: int) -> Recipe:
    """A resolved recipe whose stage 2 starts after `epoch` epochs; later stages keep their shares of the rest.

    The number of epochs and the schedules stay. The recipe's own start gives the recipe back.

    Raises:
        ValueError: no epoch is left for stage 1, or fewer than one for each later stage that trains.
    """
    if not 1 <= epoch <= _latest_start(recipe):
        raise ValueError(f"epoch={epoch}: stage 2 of {recipe.name!r} starts after epoch 1 to {_latest_start(recipe)}")
    later = recipe.with_stages(*recipe.stages[1:]).with_epochs(recipe.epochs - epoch)
    lengths = [epoch, *(stage.epochs for stage in later.stages)]
    stages = [replace(stage, epochs=n) for stage, n in zip(recipe.stages, lengths, strict=True)]
    return recipe.with_stages(*stages)


def learning_rates(recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """Times in epochs and the learning rate at each, `SAMPLES` per epoch, of a resolved recipe."""
    rates = []
    for stage, (offset, span) in zip(recipe.stages, recipe.spans(), strict=True):
        rates += [stage.schedule(offset + t / SAMPLES, span) for t in range(SAMPLES * stage.epochs)]
    return np.arange(len(rates)) / SAMPLES, np.array(rates)


def _own_start(recipe: Recipe) -> float:
    """The start of stage 2 as the slider's nearest share; its middle where there is none to move."""
    return round(recipe.stages[0].epochs / recipe.epochs, 2) if can_move(recipe) else 0.5


def _epoch(recipe: Recipe, share: float) -> int:
    """The epoch at a share of a recipe; its own start where the slider can come no nearer to it."""
    own = recipe.stages[0].epochs
    if abs(share - own / recipe.epochs) <= STEP / 2:
        return own
    return min(max(1, round(share * recipe.epochs)), _latest_start(recipe))


def _latest_start(recipe: Recipe) -> int:
    """The last epoch after which stage 2 may start: one is left for each later stage that trains."""
    return recipe.epochs - sum(stage.epochs > 0 for stage in recipe.stages[1:])


class Timeline:
    """The slots of a recipe over its epochs, a row each, and its learning rate below them.

    Text stands at the beginning of its bar, and once where neighbouring stages have the same: in the first of them that
    holds it. A trick's text that is too long for the bar stands beside it, on the side with more room, with an arrow
    towards it. A stage that is too short for its name has its number alone, or nothing.

    Args:
        above, below: axes for the slots and for the learning rate.
        recipes: every resolved recipe that will be shown; they set the range of the learning rate.
        rows: which of `ROWS`.
    """

    def __init__(self, above: Axes, below: Axes, recipes: Sequence[Recipe], rows: Sequence[str] = ROWS) -> None:
        self.axes, self.rows = (above, below), rows
        above.set(ylim=(len(rows) - 0.5, -0.5), yticks=range(len(rows)), yticklabels=rows)
        above.tick_params(labelsize=plots.FONT_SIZE, length=0, labelbottom=False)
        above.spines[:].set_visible(False)
        rates = np.concatenate([learning_rates(recipe)[1][::SAMPLES] for recipe in recipes])
        below.set(yscale="log", ylim=(0.5 * rates.min(), 2 * rates.max()))
        dress(below, xlabel="epoch")
        (self.rate,) = below.plot([], [], color=plots.GROUP_COLOURS["many"], linewidth=2)
        style = {"fontsize": plots.FONT_SIZE, "va": "center_baseline"}
        self.stages = [
            SimpleNamespace(
                bars=[above.add_patch(Rectangle((0, y - 0.4), 0, 0.8, edgecolor="white")) for y in range(len(rows))],
                lines=[above.axvline(0, color="0.3"), below.axvline(0, color="0.3", linestyle=":")],
                texts=[above.text(0, y, "", **style) for y in range(len(rows))],
                title=above.text(0, -0.85, "", color="0.3", **style),
            )
            for _ in range(max(len(recipe.stages) for recipe in recipes))
        ]
        self.moving = [self.rate, *(line for drawn in self.stages for line in drawn.lines)]
        self.moving += [bar for drawn in self.stages for bar in drawn.bars]
        self.moving += [text for drawn in self.stages for text in (*drawn.texts, drawn.title)]  # over all bars

    def show(self, recipe: Recipe, total: int) -> None:
        """Draw a resolved recipe on an axis of `total` epochs: the recipe's own, or more."""
        if self.axes[0].get_xlim() != (0, total):
            for ax in self.axes:
                ax.set_xlim(0, total)
        self.rate.set_data(*learning_rates(recipe))
        for artist in self.moving[1:]:
            artist.set_visible(False)
        ends = list(accumulate((stage.epochs for stage in recipe.stages), initial=0))
        for number, drawn in enumerate(self.stages[: len(recipe.stages)]):
            for line in drawn.lines:
                line.set(xdata=[ends[number]] * 2, visible=number > 0)
        self._show_titles(recipe.stages, ends, total)
        for row, name in enumerate(self.rows):
            slots = [_in_row(stage, name) for stage in recipe.stages]
            for (text, is_trick), run in groupby(range(len(slots)), key=slots.__getitem__):
                self._show_run(row, [*run], text, is_trick, ends, total)

    def _show_titles(self, stages: Sequence[Stage], ends: Sequence[int], total: int) -> None:
        """The stages' names, from the last, which may stand on its left, to the first; none runs into the next."""
        limit = total
        for number, stage in reversed([*enumerate(stages, 1)]):
            title, begin = self.stages[number - 1].title, ends[number - 1]
            change = f": {describe(stage.classifier)}" if stage.classifier else ""
            for text in (f"stage {number}{change}", f"stage {number}", f"{number}"):
                title.set(text=text, x=begin, ha="left", visible=True)  # else it has no width
                if begin + self._width(title, total) < limit:
                    break
                if number == len(stages):
                    title.set(text=f"{text} →", ha="right")
                    begin -= self._width(title, total)
                    break
            else:
                title.set_visible(False)
            limit = begin - 0.005 * total

    def _show_run(
        self, row: int, run: Sequence[int], text: str, is_trick: bool, ends: Sequence[int], total: int
    ) -> None:
        """The bars of neighbouring stages with the same in a row, and their text."""
        for n in run:
            epochs, colour = ends[n + 1] - ends[n], ON if is_trick else PLAIN
            self.stages[n].bars[row].set(x=ends[n], width=epochs, facecolor=colour, visible=epochs > 0)
        begin, end = ends[run[0]], ends[run[-1] + 1]
        if begin == end:
            return
        drawn = self.stages[run[0]].texts[row]
        drawn.set(text=text, visible=True)  # else it has no width
        needed = self._width(drawn, total) + 0.01 * total
        begin = next((ends[n] for n in run if needed < ends[n + 1] - ends[n]), begin)
        self._place(drawn, begin, end, total, is_trick)

    def _place(self, text: Text, begin: int, end: int, total: int, is_trick: bool) -> None:
        gap = 0.005 * total
        fits = self._width(text, total) + 2 * gap < end - begin
        if fits:
            text.set(x=begin + gap, ha="left")
        elif begin <= total - end:
            text.set(text=f"← {text.get_text()}", x=end + gap, ha="left")
        else:
            text.set(text=f"{text.get_text()} →", x=begin - gap, ha="right")
        text.set_visible(fits or is_trick)

    def _width(self, text: Text, total: int) -> float:
        """Of a text, in epochs."""
        above = self.axes[0]
        return total * text.get_window_extent(above.figure.canvas.get_renderer()).width / above.bbox.width


def _in_row(stage: Stage, row: str) -> tuple[str, bool]:
    """What stands in a row of the timeline, and whether it differs from plain training."""
    if row == "trains":
        batch_norm = "" if stage.batch_norm == "train" else f", batch norm {stage.batch_norm}"
        part = "all layers" if stage.trains == "all" else "classifier alone"
        return part + batch_norm, bool(stage.trains != "all" or batch_norm)
    slot = getattr(stage, row)
    return ("" if slot is None else describe(slot)), not (slot is None or isinstance(slot, CrossEntropyLoss))


def _in_words(recipe: Recipe) -> str:
    """The stages of a resolved recipe in one line."""
    stages, begin = [], 0
    for number, stage in enumerate(recipe.stages):
        parts = [f"classifier {describe(stage.classifier)}"] if stage.classifier else []
        if stage.epochs:
            parts += [f"{row} {_in_row(stage, row)[0]}" for row in ROWS if _in_row(stage, row)[0]]
            when = f"epochs {begin + 1} to {begin + stage.epochs}"
            parts.append("the schedule goes on" if recipe.continues(number) else "a schedule of its own")
        else:
            when = "0 epochs"
        stages.append(f"stage {number + 1}, {when}: {', '.join(parts)}")
        begin += stage.epochs
    return "; ".join(stages)
