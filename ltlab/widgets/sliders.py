"""The controls of explorers. Every option is a (label, value) pair: a label may be translated, its value is a key."""

from collections.abc import Iterable, Sequence
from typing import Any

import ipywidgets


def slider(
    name: str, value: float, low: float, high: float, step: float, *, description: str = "", **settings: Any
) -> ipywidgets.FloatSlider | ipywidgets.IntSlider:
    """A slider over integers if `step` is an int, else over floats; its text is the argument's name by default.

    Raises:
        ValueError: `value` lies outside [low, high].
    """
    if not low <= value <= high:
        raise ValueError(f"{name}={value} is not on the slider: choose a value from {low:g} to {high:g}")
    kind = ipywidgets.IntSlider if isinstance(step, int) else ipywidgets.FloatSlider
    return kind(value=value, min=low, max=high, step=step, description=description or name, **settings)


def stops(name: str, value: Any, options: Iterable[Any], *, description: str = "") -> ipywidgets.SelectionSlider:
    """A slider over options, each a number or a (label, value) pair; ValueError where `value` is not one of them."""
    pairs = [option if isinstance(option, tuple) else (f"{option}", option) for option in options]
    if value not in (known := [key for _, key in pairs]):
        raise ValueError(f"{name}={value} is not on the slider: choose one of {', '.join(map(str, known))}")
    made = ipywidgets.SelectionSlider(options=pairs, value=value, description=description or name)
    return made.add_class("ltlab-stops")


def class_slider(
    description: str, names: Sequence[str], classes: Iterable[int], position: int
) -> ipywidgets.SelectionSlider:
    """A slider over some classes by name; it starts at a position among these, counted modulo their number."""
    options = [(names[c], c) for c in classes]
    return stops(description, options[position % len(options)][1], options)


def choice(description: str, options: Iterable[str | tuple[str, Any]]) -> ipywidgets.Dropdown:
    """A menu of options, each a (label, value) pair or a string that is both; the first is chosen."""
    pairs = [(option, option) if isinstance(option, str) else option for option in options]
    return ipywidgets.Dropdown(options=pairs, description=description)


def switch(description: str, value: bool = False) -> ipywidgets.Checkbox:
    """A checkbox, without the indentation that lines it up with sliders."""
    return ipywidgets.Checkbox(value=value, description=description, indent=False)
