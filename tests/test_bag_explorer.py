"""Build your own bag: choices make the recipes they name, or a reason; the nearest rows are the nearest."""

import random
from functools import cache
from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from matplotlib.path import Path

from ltlab.recipes import CIFAR, RECIPES, SHAPES, Recipe, Settings, Stage
from ltlab.results.bags import DEFERRED, FINETUNING, OPTIONS, all_bags, bag_recipe, parts
from ltlab.widgets import bag_explorer
from ltlab.widgets.explore_bag import NEIGHBOURS, BagExplorer

ALL = [dict(zip(OPTIONS, options, strict=True)) for options in product(*OPTIONS.values())]
PLAIN = ALL[0]
SAMPLE = [PLAIN, *random.Random(0).sample(ALL, 120)]  # of some thousand: every option occurs
WITH_MIX = {"input_mixup": "input", "manifold_mixup": "manifold", "remix": "Remix"}
NAMED = {  # recipe: the choices that differ from the defaults
    "ce": {},
    "cs_ce": {"loss": "CS_CE"},
    "cb_ce": {"loss": "CB_CE"},
    "focal": {"loss": "focal"},
    "ldam": {"loss": "LDAM"},
    "balanced_softmax": {"loss": "balanced softmax"},
    "square_root": {"sampler": "square-root"},
    "class_balanced": {"sampler": "class-balanced"},
    "progressive": {"sampler": "progressive"},
    "bilateral": {"sampler": "bilateral"},
    "ce_long": {"mix": "none, 2x epochs"},
    "ce_long_finetune": {"mix": "none, 2x epochs", "afterwards": FINETUNING},
    "balanced_softmax_long": {"mix": "none, 2x epochs", "loss": "balanced softmax"},
    "drw_cs_ce": {"loss": "CS_CE", "when": DEFERRED},
    "drw_cb_ce": {"loss": "CB_CE", "when": DEFERRED},
    "drw_focal": {"loss": "focal", "when": DEFERRED},
    "drw_balanced_softmax": {"loss": "balanced softmax", "when": DEFERRED},
    "drw_ldam": {"loss": "LDAM", "when": DEFERRED},
    "drs_square_root": {"sampler": "square-root", "when": DEFERRED},
    "drs_class_balanced": {"sampler": "class-balanced", "when": DEFERRED},
    "drs_progressive": {"sampler": "progressive", "when": DEFERRED},
    "drs_bilateral": {"sampler": "bilateral", "when": DEFERRED},
    "cam_drs": {"sampler": "class-balanced", "foreground": "CAM", "when": DEFERRED},
    "cam_drs_square_root": {"sampler": "square-root", "foreground": "CAM", "when": DEFERRED},
    "cam_drs_progressive": {"sampler": "progressive", "foreground": "CAM", "when": DEFERRED},
    "cam_drs_fill": {"sampler": "class-balanced", "foreground": "CAM, hole filled", "when": DEFERRED},
    "transform_drs": {"sampler": "class-balanced", "foreground": "whole image", "when": DEFERRED},
    "input_mixup_cam_drs": {"mix": "input", "sampler": "class-balanced", "foreground": "CAM", "when": DEFERRED},
    "bag_of_tricks": {
        "mix": "input", "sampler": "class-balanced", "foreground": "CAM", "when": DEFERRED, "afterwards": FINETUNING,
    },
    "bag_of_tricks_without_cam": {
        "mix": "input", "sampler": "class-balanced", "when": DEFERRED, "afterwards": FINETUNING,
    },
    "bag_of_tricks_without_mixup": {
        "mix": "none, 2x epochs", "sampler": "class-balanced", "foreground": "CAM", "when": DEFERRED,
        "afterwards": FINETUNING,
    },
    **{name: {"mix": mix} for name, mix in WITH_MIX.items()},
    **{f"{name}_finetune": {"mix": mix, "afterwards": FINETUNING} for name, mix in WITH_MIX.items()},
    **{
        f"{name}_{trick}": {"mix": mix, **choices}
        for name, mix in WITH_MIX.items()
        for trick, choices in {
            "cs_ce": {"loss": "CS_CE"},
            "balanced_softmax": {"loss": "balanced softmax"},
            "class_balanced": {"sampler": "class-balanced"},
            "progressive": {"sampler": "progressive"},
            "bilateral": {"sampler": "bilateral"},
            "drw_cs_ce": {"loss": "CS_CE", "when": DEFERRED},
            "drw_balanced_softmax": {"loss": "balanced softmax", "when": DEFERRED},
            "drs_class_balanced": {"sampler": "class-balanced", "when": DEFERRED},
        }.items()
    },
}  # fmt: skip


def makes_sense(choices: dict) -> bool:
    no_model = choices["foreground"] != "none" and choices["when"] != DEFERRED
    nothing_to_leave_out = choices["mix"] == "none" and choices["afterwards"] == FINETUNING
    return not no_model and not nothing_to_leave_out


def measured_table(names: list[str]) -> pd.DataFrame:
    """Errors that fall with the name's place, so that none are equal; the second recipe has one seed."""
    place = np.arange(len(names), dtype=float)
    std = np.where(place == 1, np.nan, 0.5)
    return pd.DataFrame({"error": 40 - place / 4, "error_std": std, "seeds": np.where(place == 1, 1, 3)}, index=names)


def published_table(errors: dict[str, float], source: str = "them") -> pd.DataFrame:
    rows = [{"recipe": name, "top1_error_percent": error, "source": source} for name, error in errors.items()]
    columns = ["recipe", "top1_error_percent", "source", "dataset", "imbalance"]
    return pd.DataFrame(rows, columns=columns).assign(dataset="cifar10", imbalance=100)


PUBLISHED = {"ce": 30.0, "bag_of_tricks": 20.24, "cam_drs": 23.5, "remix": 29.5, "crt": 26.0}
MEASURED = ["ce", *(name for name in NAMED if name not in ("ce", "remix", "cs_ce")), "crt"]


@pytest.fixture(scope="module")
def explorer() -> BagExplorer:
    return bag_explorer(measured_table(MEASURED), published_table(PUBLISHED))


def choose(explorer: BagExplorer, choices: dict) -> None:
    for name, option in (PLAIN | choices).items():
        explorer.controls[name].value = option


# --- from choices to a recipe ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [SHAPES, CIFAR], ids=lambda settings: settings.name)
def test_choices_make_the_recipe_they_name(settings: Settings) -> None:
    for name, choices in NAMED.items():
        made = bag_recipe(**choices).resolve(settings)
        assert made.identity() == RECIPES[name].resolve(settings).identity(), name


@pytest.mark.parametrize("settings", [SHAPES, CIFAR], ids=lambda settings: settings.name)
def test_all_recipes_with_these_choices_are_found(settings: Settings) -> None:
    bags = all_bags(settings, RECIPES.values())
    assert set(bags) == set(NAMED)
    for name, (recipe, its_parts) in bags.items():
        assert recipe is RECIPES[name]
        assert its_parts == parts(**PLAIN | NAMED[name])


def test_combinations_make_a_recipe_or_give_a_reason() -> None:
    for choices in SAMPLE:
        if makes_sense(choices):
            assert bag_recipe(**choices).resolve(SHAPES).epochs in (30, 60, 63)
        else:
            with pytest.raises(ValueError, match="choose"):
                bag_recipe(**choices)


@settings(max_examples=15, deadline=None)
@given(st.sampled_from([c for c in ALL if makes_sense(c)]), st.sampled_from([c for c in ALL if makes_sense(c)]))
def test_equal_parts_are_equal_recipes(one: dict, other: dict) -> None:
    for pair in ((one, other), (one, one | {"when": other["when"]})):
        if all(makes_sense(choices) for choices in pair):
            first, second = (bag_recipe(**choices).resolve(CIFAR).identity() for choices in pair)
            assert (first == second) == (parts(**pair[0]) == parts(**pair[1]))


# --- what was measured of it -----------------------------------------------------------------------------------------


def lines_of(explorer: BagExplorer) -> list[tuple[float, float]]:
    """The errors drawn, line by line: measured and published."""
    _, _, _, left, right = explorer.figure.axes
    dots, rings = left.collections[2].get_offsets(), right.collections[1].get_offsets()
    assert dots[:, 1].tolist() == rings[:, 1].tolist() == list(range(len(dots)))
    return list(zip(np.ma.filled(dots[:, 0], np.nan), np.ma.filled(rings[:, 0], np.nan), strict=True))


@settings(max_examples=15, deadline=None)
@given(choices=st.sampled_from([c for c in ALL if makes_sense(c)]))
def test_the_lines_are_the_nearest_by_brute_force(explorer: BagExplorer, choices: dict) -> None:
    explorer._update(**choices)  # moves the artists, without drawing them
    mine = parts(**choices)
    errors = measured_table(MEASURED)["error"].to_dict()
    rows = [
        (sum(mine[key] != theirs for key, theirs in parts(**PLAIN | NAMED[name]).items()), errors.get(name, np.inf),
         PUBLISHED.get(name, np.inf))
        for name in {*MEASURED, *PUBLISHED} - {"crt"}
    ]  # fmt: skip
    rows.sort()
    if rows[0][0]:
        rows.insert(0, (0, np.inf, np.inf))  # the recipe itself, in no table
    expected = [[np.nan if np.isinf(error) else error for error in row[1:]] for row in rows[: 1 + NEIGHBOURS]]
    np.testing.assert_array_equal(np.array(lines_of(explorer)), np.array(expected))
    colours = [to_hex(colour) for colour in explorer.figure.axes[3].collections[2].get_facecolor()]
    for distance, colour in zip([row[0] for row in rows[1 : 1 + NEIGHBOURS]], colours[1:], strict=True):
        assert colour != colours[0] and (colour == to_hex("0.6")) == (distance > 1)


def test_summary_of_a_measured_and_published_recipe(explorer: BagExplorer) -> None:
    choose(explorer, NAMED["bag_of_tricks"])
    error, control = measured_table(MEASURED)["error"][["bag_of_tricks", "ce_long_finetune"]]
    assert explorer.summary == (
        "bag_of_tricks on shapes-lt, 48 + 12 + 3 epochs: loss CE; sampler class-balanced, deferred; "
        "foreground CAM, deferred; mix input; finetune yes. "
        f"Measured: {error:.1f} ± 0.5 % (3 seeds); published, cifar10, imbalance 100 (them): 20.24 %, ce 30.00 %; "
        f"plain training of equal length (ce_long_finetune): {control:.1f} ± 0.5 %."
    )
    assert lines_of(explorer)[0] == (error, 20.24)
    assert explorer.recipe is RECIPES["bag_of_tricks"]


def test_summary_of_a_recipe_in_no_table(explorer: BagExplorer) -> None:
    choose(explorer, {"mix": "Remix", "loss": "focal"})
    assert explorer.summary.startswith("my_bag on shapes-lt, 60 epochs: loss focal; ")
    assert "Not measured; the nearest recipe measured, remix" in explorer.summary
    assert explorer.recipe.name == "my_bag"


def test_a_recipe_that_is_only_published_names_its_nearest_measured(explorer: BagExplorer) -> None:
    """With mix Remix alone, the lowest of many at distance 1 is the last in the table: the errors fall."""
    choose(explorer, {"mix": "Remix"})
    assert "Not measured; the nearest recipe measured, remix_drs_class_balanced, differs in sampler" in explorer.summary
    assert "; published, cifar10, imbalance 100 (them): 29.50 %, ce 30.00 %; " in explorer.summary


def test_one_seed_has_no_spread(explorer: BagExplorer) -> None:
    name = MEASURED[1]
    choose(explorer, NAMED[name])
    assert "Measured: 39.8 % (1 seed); plain training of equal length (ce): 40.0 ± 0.5 %." in explorer.summary


@pytest.mark.parametrize("name", ["ce", "ce_long", "bag_of_tricks"])
def test_every_row_has_the_line_of_plain_training_that_is_as_long(explorer: BagExplorer, name: str) -> None:
    choose(explorer, NAMED[name])
    errors = measured_table(MEASURED)["error"]
    names = {error: name for found in (errors, PUBLISHED) for name, error in found.items()}
    rows = [names[published if np.isnan(error) else error] for error, published in lines_of(explorer)]
    epochs = [RECIPES[row].resolve(SHAPES).epochs for row in rows]
    controls = errors[[{30: "ce", 60: "ce_long", 63: "ce_long_finetune"}[n] for n in epochs]]
    measured, published = (ax.collections[0].get_segments() for ax in explorer.figure.axes[3:])
    assert [line.tolist() for line in measured] == [[[x, y - 0.5], [x, y + 0.5]] for y, x in enumerate(controls)]
    assert {line[0, 0] for line in published} == {PUBLISHED["ce"]}  # the only control that is published


def test_without_a_control_of_that_length_the_longest_shorter_one_is_named() -> None:
    explorer = bag_explorer(measured_table(["ce", "bag_of_tricks", "ce_long"]), published_table({}))
    choose(explorer, NAMED["bag_of_tricks"])
    assert explorer.summary.endswith("; plain training of 60 epochs (ce_long): 39.5 ± 0.5 %.")


def test_a_reason_leaves_the_picture(explorer: BagExplorer) -> None:
    choose(explorer, NAMED["cam_drs"])
    before = np.asarray(explorer.picture())
    explorer.controls["when"].value = OPTIONS["when"][0]
    assert explorer.summary == (
        "no recipe: a foreground needs the model of a stage before its own; choose 'deferred (last fifth)'. "
        "The figure still shows cam_drs."
    )
    assert np.array_equal(np.asarray(explorer.picture()), before)
    with pytest.raises(ValueError, match="a foreground needs the model"):
        explorer.recipe  # noqa: B018
    explorer.controls["when"].value = DEFERRED
    assert explorer.summary.startswith("cam_drs on ")


def test_only_the_moving_artists_are_drawn_again(explorer: BagExplorer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full drawing costs several times a frame: the axes never move, though recipes differ in length."""
    draws = []
    monkeypatch.setattr(explorer.figure.canvas, "draw", lambda: draws.append(1))
    for name in ("ce", "drw_ldam", "bag_of_tricks", "input_mixup"):
        choose(explorer, NAMED[name])
    assert not draws


# --- what can be read ------------------------------------------------------------------------------------------------


@cache
def extent(path: Path) -> np.ndarray:
    return path.get_extents().extents


def boxes(explorer: BagExplorer) -> np.ndarray:
    """Of all texts that are shown and move: left, bottom, right and top in pixels, (4, N)."""
    above, _, lines, _, _ = explorer.figure.axes
    found = [text.get_window_extent().extents for text in above.texts if text.get_visible() and text.get_text()]
    (words,) = lines.collections
    origins = np.tile(lines.transData.transform(words.get_offsets()), 2)
    shapes = explorer.figure.dpi / 72 * np.array([extent(path) for path in words.get_paths()])
    return np.vstack([found, origins + shapes]).T


def test_no_text_leaves_the_figure_or_meets_another(explorer: BagExplorer) -> None:
    width, height = explorer.figure.bbox.size
    panels = np.array([ax.bbox.extents for ax in explorer.figure.axes[3:]])
    long_names = [PLAIN | NAMED[name] for name in ("bag_of_tricks_without_mixup", "cam_drs_fill", "drw_ldam")]
    for choices in [*filter(makes_sense, SAMPLE[:60]), *long_names]:
        explorer._update(**choices)
        left, bottom, right, top = boxes(explorer)
        assert left.min() >= 0 and right.max() <= width and bottom.min() >= 0 and top.max() <= height
        meet = (left[:, None] < right) & (left < right[:, None]) & (bottom[:, None] < top) & (bottom < top[:, None])
        assert np.array_equal(meet, np.eye(len(left), dtype=bool)), choices  # each meets itself alone
        for x0, y0, x1, y1 in panels:
            assert not ((left < x1) & (x0 < right) & (bottom < y1) & (y0 < top)).any(), choices
    explorer._redraw()


# --- tables ----------------------------------------------------------------------------------------------------------


def test_nothing_published() -> None:
    explorer = bag_explorer(measured_table(["cs_ce", "cb_ce"]), published_table({}))
    left, right = explorer.figure.axes[3:]
    assert not right.get_visible() and left.get_visible()
    assert explorer.summary.endswith("the nearest recipe measured, cb_ce, differs in loss: 39.8 % (1 seed).")
    assert "nothing published" in [text.get_text() for text in explorer.figure.axes[2].texts]


def test_the_source_with_most_of_the_recipes_is_shown() -> None:
    many, few = {"ce": 30.0, "cs_ce": 31.0}, {"ce": 28.0, "crt": 25.0, "lws": 24.0}  # crt and lws are no bags
    published = pd.concat([published_table(few, "few"), published_table(many, "many")], ignore_index=True)
    assert "(many): 30.00 %." in bag_explorer(measured_table(["ce"]), published).summary
    assert "(few): 28.00 %." in bag_explorer(measured_table(["ce"]), published.query("source == 'few'")).summary


def test_recipes_of_ones_own() -> None:
    mine = Recipe(Stage(share=0.8), Stage(share=0.2, loss=RECIPES["cs_ce"].stages[0].loss), name="mine")
    explorer = bag_explorer(measured_table(["mine"]), published_table({}), recipes=[mine])
    choose(explorer, {"loss": "CS_CE", "when": DEFERRED})
    assert explorer.recipe is mine and explorer.summary.endswith("Measured: 40.0 ± 0.5 % (3 seeds).")


def test_another_settings() -> None:
    explorer = bag_explorer(measured_table(["ce"]), published_table({}), settings=CIFAR)
    choose(explorer, NAMED["bag_of_tricks"])
    assert explorer.summary.startswith("bag_of_tricks on CIFAR-LT, 320 + 80 + 20 epochs: ")
    assert explorer.figure.axes[0].get_xlim() == (0, 420)


TWO_DATA_SETS = pd.concat([published_table({"ce": 30.0}), published_table({"ce": 23.0}).assign(imbalance=50)])


@pytest.mark.parametrize(
    ("measured", "published", "message"),
    [
        (measured_table(["ce"]).drop(columns="seeds"), published_table({}), "measured lacks the columns seeds"),
        (measured_table(["ce"]), published_table({}).drop(columns=["recipe", "source"]), "columns recipe, source"),
        (measured_table(["ce", "ce"]), published_table({}), "measured has 'ce' twice"),
        (measured_table(["crt"]), published_table({}), "measured has none of ce, "),
        (measured_table(["ce"]), TWO_DATA_SETS, "mixes data sets or imbalances"),
    ],
)  # fmt: skip
def test_tables_that_do_not_fit_are_refused(measured: pd.DataFrame, published: pd.DataFrame, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bag_explorer(measured, published)
