"""Figures hold the numbers they were given, in the order, colours and units they promise."""

import subprocess
import sys

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from matplotlib.colors import to_hex

from ltlab import plots, results

matplotlib.use("agg")

COUNTS = [20, 1000, 101, 19, 100]  # both limits of the medium group, and their neighbours outside
NAMES = ["a", "b", "c", "d", "e"]
HISTORY = pd.DataFrame(
    {
        "epoch": [1, 2, 3, 4],
        "stage": [1, 1, 2, 2],
        "lr": 0.1,
        "train_loss": [2.0, 1.0, 0.5, 0.25],
        "test_error": [np.nan, 0.5, np.nan, 0.25],
    }
)


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def images(n: int, height: int = 6, width: int = 4) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, height, width, 3), dtype=np.uint8)


def heights(ax: plt.Axes) -> list[float]:
    return [bar.get_height() for bar in ax.patches]


def tick_names(axis: matplotlib.axis.Axis) -> list[str]:
    return [label.get_text() for label in axis.get_ticklabels()]


@pytest.mark.parametrize("as_type", [list, np.array, torch.tensor])
def test_class_counts_are_sorted_named_and_coloured_by_group(as_type) -> None:
    ax = plots.class_counts(as_type(COUNTS), names=NAMES)
    assert heights(ax) == [1000, 101, 100, 20, 19]
    assert tick_names(ax.xaxis) == ["b", "c", "e", "a", "d"]
    assert [text.get_text() for text in ax.texts] == ["1000", "101", "100", "20", "19"]
    groups = ["many", "many", "medium", "medium", "few"]
    assert [to_hex(bar.get_facecolor()) for bar in ax.patches] == [plots.GROUP_COLOURS[group] for group in groups]


def test_equal_counts_keep_their_order() -> None:
    assert tick_names(plots.class_counts([5, 7, 5, 7], names="wxyz").xaxis) == ["x", "z", "w", "y"]


def test_a_class_without_images_is_last_also_among_unsigned_counts() -> None:
    assert heights(plots.class_counts(np.array([0, 7, 5], np.uint8))) == [7, 5, 0]


@pytest.mark.parametrize("log", [False, True])
def test_count_axis_holds_every_bar(log: bool) -> None:
    ax = plots.class_counts([1000, 1], log=log)
    low, high = ax.get_ylim()
    assert ax.get_yscale() == ("log" if log else "linear")
    assert low < 1 and high > 1000


def test_many_classes_are_one_filled_line_per_group() -> None:
    counts = np.random.default_rng(0).integers(1, 300, plots.BARS_UP_TO + 1)
    steps = plots.class_counts(counts).patches
    assert len(steps) == 3
    drawn = np.concatenate([step.get_data().values for step in steps])
    assert np.array_equal(drawn, np.sort(counts)[::-1])
    for step, inside in zip(steps, (counts > 100, (counts >= 20) & (counts <= 100), counts < 20), strict=True):
        assert np.array_equal(step.get_data().values, np.sort(counts[inside])[::-1])


def test_per_class_error_is_in_percent_by_descending_count() -> None:
    ax = plots.per_class_error([0.5, 0.1, 0.2, 0.9, np.nan], COUNTS, names=NAMES)
    assert heights(ax) == pytest.approx([10, 20, np.nan, 50, 90], nan_ok=True)
    assert tick_names(ax.xaxis) == ["b", "c", "e", "a", "d"]
    assert ax.lines[0].get_ydata() == pytest.approx([42.5, 42.5])  # the class without test images has no part
    assert "mean 42.5 %" in [text.get_text() for text in ax.get_legend().get_texts()]


def test_error_of_many_classes_has_its_local_mean() -> None:
    classes = 300
    error, counts = np.random.default_rng(0).random(classes), np.arange(classes, 0, -1)
    ax = plots.per_class_error(error, counts)
    local = ax.lines[1].get_ydata()  # over 3 neighbours
    assert local[1:-1] == pytest.approx([100 * error[i - 1 : i + 2].mean() for i in range(1, classes - 1)])


def test_confusion_matrix_in_percent_of_the_true_class() -> None:
    ax = plots.confusion_matrix([[8, 2, 0], [0, 0, 0], [1, 1, 2]], ["a", "b", "c"])
    drawn = np.ma.filled(ax.collections[0].get_array(), np.nan).reshape(3, 3)
    assert drawn == pytest.approx(np.array([[80, 20, 0], [np.nan] * 3, [25, 25, 50]]), nan_ok=True)
    assert [text.get_text() for text in ax.texts] == ["80", "20", "0", "25", "25", "50"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted class", "true class")
    assert tick_names(ax.xaxis) == tick_names(ax.yaxis) == ["a", "b", "c"]


def test_confusion_matrix_in_images() -> None:
    ax = plots.confusion_matrix([[8, 2], [0, 0]], normalise=False)
    assert ax.collections[0].get_array().ravel().tolist() == [8, 2, 0, 0]
    assert tick_names(ax.xaxis) == ["0", "1"]


def test_training_curves_skip_what_was_not_evaluated_and_mark_stages() -> None:
    loss, error = plots.training_curves(HISTORY)
    assert loss.lines[0].get_xydata().tolist() == [[1, 2], [2, 1], [3, 0.5], [4, 0.25]]
    assert error.lines[0].get_xydata().tolist() == [[2, 50], [4, 25]]
    for ax in (loss, error):
        assert [line.get_xdata()[0] for line in ax.lines[1:]] == [0.5, 2.5]
        assert [text.get_text() for text in ax.texts] == ["stage 1", "stage 2"]
        assert ax.get_xlim() == (0.5, 4.5)


def test_training_curves_draw_on_given_axes() -> None:
    _, axes = plt.subplots(1, 2)
    assert list(plots.training_curves(HISTORY, axes=axes)) == list(axes)


@pytest.mark.parametrize("titles", [None, list("abcde")])
def test_image_grid_shows_every_image_at_its_cell(titles: list[str] | None) -> None:
    pictures = images(5)
    ax = plots.image_grid(pictures, titles, columns=3)
    mosaic = ax.images[0].get_array()
    row_height, column_width = mosaic.shape[0] // 2, mosaic.shape[1] // 3
    for k, picture in enumerate(pictures):
        bottom, left = (k // 3 + 1) * row_height, (k % 3) * column_width
        assert np.array_equal(mosaic[bottom - 6 : bottom, left : left + 4], picture)
    assert (mosaic[:, -1] == 255).all()
    assert [text.get_text() for text in ax.texts] == (titles or [])
    assert ax.images[0].get_extent() == [0, 3, 2, 0]


@settings(max_examples=50, deadline=None)
@given(arrays(bool, (2, 5, 4)))
def test_mask_outline_runs_between_true_and_false(masks: np.ndarray) -> None:
    edges = set()
    for k, y, x in np.argwhere(masks).tolist():
        for dy, dx, edge in ((0, -1, (0, 0, 0, 1)), (0, 1, (1, 0, 1, 1)), (-1, 0, (0, 0, 1, 0)), (1, 0, (0, 1, 1, 1))):
            inside = 0 <= y + dy < 5 and 0 <= x + dx < 4 and masks[k, y + dy, x + dx]
            if not inside:  # 5 pixels per cell, and 1 above each image
                edges.add((5 * k + x + edge[0], 1 + y + edge[1], 5 * k + x + edge[2], 1 + y + edge[3]))
    ax = plots.image_grid(images(2, 5, 4), masks=masks)
    drawn = [np.array(segment) * (5, 6) for segment in ax.collections[0].get_segments()]
    plt.close(ax.figure)
    assert sorted(tuple(segment.round(6).ravel()) for segment in drawn) == sorted(edges)


def test_equal_errors_of_groups_do_not_hide_each_other_in_a_comparison() -> None:
    errors = {f"{part}error": [5.0, 7.0] for part in ("", "many_", "medium_", "few_")}
    ax = plots.comparison(pd.DataFrame(errors | {"error_std": 0.5, "published": np.nan}, index=["a", "b"]))
    height = {scatter.get_label(): scatter.get_offsets()[:, 1] for scatter in ax.collections if scatter.get_label()}
    many, medium, few = (height[f"{group}-shot classes"] for group in ("many", "medium", "few"))
    assert (medium - many >= 0.15).all() and (few - medium >= 0.15).all() and (abs(few - [0, 1]) < 0.5).all()


def test_a_trade_off_begins_at_zero_and_its_names_cover_no_point_and_no_other_name() -> None:
    x, y = (grid.ravel() for grid in np.meshgrid(np.linspace(1, 9, 7), np.linspace(20, 90, 5)))
    table = pd.DataFrame({"x": x, "y": y, "family": "mixup"}, index=[f"recipe_{n}" for n in range(len(x))])
    named = ["recipe_0", "recipe_1", "recipe_17", "recipe_34"]
    ax = plots.trade_off(table, "x", "y", xlabel="many", ylabel="few", named=named)
    assert ax.get_xlim()[0] == ax.get_ylim()[0] == 0 and [text.get_text() for text in ax.texts] == named
    ax.figure.canvas.draw()
    boxes = [matplotlib.text.Text.get_window_extent(text) for text in ax.texts]
    points = ax.transData.transform(table[["x", "y"]].to_numpy())
    for box in boxes:
        assert not any(box.contains(*point) for point in points)
        assert sum(box.overlaps(other) for other in boxes) == 1  # itself


def test_a_bar_leads_from_every_error_to_its_own_control() -> None:
    recipes = ["ce", "ce_long", "ce_long_finetune", "short", "bag"]
    ours = pd.DataFrame(
        {"error": [40.0, 21, 20, 30, 25], "error_std": 1.0, "epochs": [30, 60, 63, 34, 63]}, index=recipes
    )
    theirs = pd.DataFrame({"error": [10.0, 11], "error_std": np.nan}, index=["ce", "bag"])  # without longer controls
    left, right = plots.beside(results.with_controls({"here": ours, "there": theirs}))
    bars = [{}, {}]
    for ax, found in zip((left, right), bars, strict=True):
        for bar in ax.collections:
            if str(bar.get_label()).endswith("control"):
                found |= {tuple(line[:, 0]): bar.get_label() for line in bar.get_segments()}
    assert bars[0] == {(30, 40): "better than its control", (25, 20): "worse than its control"}
    assert bars[1] == {(11, 10): "worse than its control"}
    assert left.get_xlabel() == "top-1 error (%), 15 to 45" and left.get_xlim() == (15, 45)


def test_a_figure_higher_than_a_screen_has_its_axis_above_as_well() -> None:
    for rows in (14, 15):
        table = pd.DataFrame({"gain": 1.0, "gain_std": 0.5, "family": "cam"}, index=[f"r{n}" for n in range(rows)])
        ax = plots.gains(table)
        ax.figure.canvas.draw()
        above = [tick.label2.get_window_extent() for tick in ax.xaxis.get_major_ticks() if tick.label2.get_visible()]
        assert (rows == 15) == bool(above)
        legend = ax.get_legend().get_window_extent()
        assert not any(legend.overlaps(number) for number in above)


FIGURES = {
    "class_counts": lambda ax: plots.class_counts(COUNTS, ax=ax),
    "per_class_error": lambda ax: plots.per_class_error([0.5] * 5, COUNTS, ax=ax),
    "confusion_matrix": lambda ax: plots.confusion_matrix(np.eye(5), NAMES, ax=ax),
    "image_grid": lambda ax: plots.image_grid(images(5), NAMES, ax=ax),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figure_is_drawn_on_the_given_axes_in_large_letters(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plt, "show", lambda: pytest.fail("plt.show was called"))
    _, ax = plt.subplots()
    assert FIGURES[name](ax) is ax
    ax.figure.canvas.draw()
    written = [text for text in ax.figure.findobj(plt.Text) if text.get_text() and text.get_visible()]
    assert min((text.get_fontsize() for text in written), default=11) >= 11


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.class_counts([[1, 2]]), "counts must"),
        (lambda: plots.class_counts([1, -1]), "at least 0"),
        (lambda: plots.per_class_error([50.0, 20.0], [1, 2]), "not percent"),
        (lambda: plots.per_class_error([np.nan, np.nan], [1, 2]), "only NaN"),
        (lambda: plots.per_class_error([0.5], [1, 2]), "one error per class"),
        (lambda: plots.confusion_matrix([[1, 2]]), "must be square"),
        (lambda: plots.training_curves(HISTORY.drop(columns="stage")), "stage"),
        (lambda: plots.image_grid(images(2) / 255), "uint8"),
        (lambda: plots.image_grid(images(2), masks=np.zeros((2, 4, 6), bool)), "masks of shape"),
        (lambda: plots.image_grid(images(2), columns=0), "columns=0"),
    ],
)
def test_bad_input_is_refused(draw, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw()


def test_arrays_only() -> None:
    """The room needs no torch and nothing else of ltlab."""
    script = (
        "import sys, ltlab.plots; assert 'torch' not in sys.modules; "
        "assert {name.split('.')[1] for name in sys.modules if name.startswith('ltlab.')} == {'plots'}"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_words_of_a_training_step_keep_off_the_edges_of_their_boxes() -> None:
    ax = plots.training_step()
    ax.figure.canvas.draw()
    inside = [text for text in ax.texts if text.get_position()[1] == 0 and text.get_text()]
    boxes = ax.patches[:9]
    for text, box in zip(inside, boxes, strict=True):
        word, edge = text.get_window_extent(), box.get_window_extent()
        assert min(word.x0 - edge.x0, edge.x1 - word.x1) > 0.5 * text.get_fontsize() * ax.figure.dpi / 72


@pytest.mark.parametrize(("lit", "filled"), [(None, 4), ("loss", 1), ("labels", 1)])
def test_training_step_lights_its_slots_or_the_labels(lit, filled) -> None:
    boxes = plots.training_step(lit).patches
    assert sum(to_hex(box.get_facecolor()) == plots.GROUP_COLOURS["many"] for box in boxes[:9]) == filled
    with pytest.raises(ValueError, match="is not a slot"):
        plots.training_step("model")


def test_counts_of_a_series_are_drawn_by_class() -> None:
    counts = pd.Series([2] * 100 + [0] * 50 + [1] * 10).value_counts()  # 100 of class 2 come first
    assert tick_names(plots.class_counts(counts, names="abc").xaxis) == ["c", "a", "b"]
    errors = plots.per_class_error([0.1, 0.2, 0.3], counts)
    assert heights(errors) == pytest.approx([30, 10, 20])
    assert plots.group_colours(counts, many=60, few=20) == [plots.GROUP_COLOURS[g] for g in ("medium", "few", "many")]
