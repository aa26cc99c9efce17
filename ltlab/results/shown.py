"""Which recipes are shown where, and under which label: the table shown.csv."""

import csv
from pathlib import Path
from typing import NamedTuple


class Shown(NamedTuple):
    """A line of the table; "" where a column does not apply."""

    recipe: str
    slot: str  # the explorers call it so: slot and option
    option: str
    bag: str  # "yes" where the bag explorer has it
    gradients: str  # "yes" where the gradient explorer has it
    readme: str  # "yes" where README's table and figures have it
    published_family: str  # the published tables call it so: family, and method in two sources
    cao: str
    cui: str
    only_on: str  # the only data set on which they have the recipe's setting
    label: str  # what people call it


with Path(__file__).with_name("shown.csv").open(encoding="utf-8", newline="") as _file:
    _, *_lines = csv.reader(_file)
SHOWN = {line[0]: Shown(*line) for line in _lines}  # in the order of the course
LABELS = {line.recipe: line.label for line in SHOWN.values() if line.label}


def shown_in(place: str) -> list[Shown]:
    """The lines of a place: "bag", "gradients" or "readme"."""
    return [line for line in SHOWN.values() if getattr(line, place) == "yes"]
