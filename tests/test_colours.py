"""Colours side by side stay apart for readers with red-green colour blindness.

Protanopia and deuteranopia are simulated with the matrices of Machado, Oliveira and Fernandes, "A Physiologically-based
Model for Simulation of Color Vision Deficiency", IEEE TVCG 2009 (severity 1.0, linear RGB). Distances are those of
CIELAB, delta E*ab, in which 2.3 is a just noticeable difference between large patches (Mahy et al., 1994).
"""

from itertools import combinations

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from ltlab import plots
from ltlab.plots import calibration_figures as gaps
from ltlab.plots import recipe_figures
from ltlab.widgets import explore_bag, explore_foreground, explore_timeline, panels

VISION = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
}
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
WHITE = TO_XYZ.sum(1)

# What colour alone tells apart, bars and lines, has to differ by eight to nine just noticeable differences. Half of it
# is enough next to another sign: families of recipes differ by their markers as well (all but the baseline, whose black
# is far from all), and a slot that is on has the name of its trick.
BY_COLOUR_ALONE, WITH_A_SIGN = 20, 10

SETS = {
    "groups": (plots.GROUP_COLOURS.values(), BY_COLOUR_ALONE),
    "families": (plots.FAMILY_COLOURS.values(), WITH_A_SIGN),
    "images A and B": ((panels.A_COLOUR, panels.B_COLOUR, "0.9"), BY_COLOUR_ALONE),
    "slots that are on": ((explore_timeline.ON_COLOUR, explore_timeline.OFF_COLOUR), WITH_A_SIGN),
    "recipes near and far": ((explore_bag.FULL, explore_bag.PALE, explore_bag.PALER), BY_COLOUR_ALONE),
    "better and worse than a control": ((recipe_figures.BETTER, recipe_figures.WORSE), BY_COLOUR_ALONE),
    "gaps of confidence": ((gaps.OVER_COLOUR, gaps.UNDER_COLOUR, gaps.ACCURACY_COLOUR, "black"), BY_COLOUR_ALONE),
    "outlines": ((explore_foreground.TRUE_COLOUR, "white", "black"), BY_COLOUR_ALONE),
}


def lab(colour: str, vision: str = "normal") -> np.ndarray:
    """A colour in CIELAB (D65) as it is seen."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    x = TO_XYZ @ (VISION[vision] @ linear).clip(0, 1) / WHITE
    f = np.where(x > (6 / 29) ** 3, np.cbrt(x), x / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def distance(one: str, other: str, vision: str = "normal") -> float:
    return float(np.linalg.norm(lab(one, vision) - lab(other, vision)))


def test_the_measure_is_cielab_and_finds_what_red_green_blindness_confuses():
    np.testing.assert_allclose(lab("#ff0000"), [53.24, 80.09, 67.20], atol=0.02)
    np.testing.assert_allclose(lab("white"), [100, 0, 0], atol=0.01)
    for vision in ("protanopia", "deuteranopia"):
        assert distance("0.2", "0.8", vision) == pytest.approx(distance("0.2", "0.8"), abs=0.5)  # grey stays grey
    assert distance("#a06a00", "#5a8a00") > BY_COLOUR_ALONE > distance("#a06a00", "#5a8a00", "deuteranopia")


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("name", SETS)
def test_colours_used_together_stay_apart(name: str, vision: str):
    colours, least = SETS[name]
    apart = {pair: distance(*pair, vision) for pair in combinations(colours, 2)}
    worst = min(apart, key=apart.get)
    assert apart[worst] >= least, f"{worst[0]} and {worst[1]} are {apart[worst]:.1f} apart with {vision}"


def test_every_family_but_the_baseline_has_a_marker_of_its_own():
    assert set(plots.FAMILY_MARKERS) == set(plots.FAMILY_COLOURS) - {"baseline"}
    assert len(set(plots.FAMILY_MARKERS.values())) == len(plots.FAMILY_MARKERS)
