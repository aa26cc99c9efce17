"""Explorers: every frame is the whole truth about its controls, and an error is never hidden."""

import io
import math
from base64 import b64decode
from collections.abc import Callable
from types import SimpleNamespace

import ipywidgets
import matplotlib
import numpy as np
import pandas as pd
import PIL.Image
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

from ltlab import cam, plots
from ltlab.classifiers import tau_normalised
from ltlab.course import quiz
from ltlab.data import LongTailedData, load
from ltlab.losses import BalancedSoftmaxLoss, CostSensitiveLoss, CrossEntropyLoss
from ltlab.mixup import draw_lambda, forward_mixed
from ltlab.models import small_net
from ltlab.recipes import CIFAR, RECIPES, SHAPES, Recipe, Stage, get
from ltlab.samplers import PowerSampler
from ltlab.widgets import (
    Explorer,
    beta_explorer,
    blank_figure,
    choice,
    effective_number_explorer,
    focal_explorer,
    foreground_explorer,
    gradient_explorer,
    imbalance_explorer,
    long_tail_explorer,
    manifold_explorer,
    mixup_explorer,
    post_hoc_explorer,
    pulls,
    real_distributions_explorer,
    remix_explorer,
    sampling_explorer,
    timeline_explorer,
)
from ltlab.widgets.explore_foreground import TRUE_COLOUR
from ltlab.widgets.explore_reweighting import PULLING
from ltlab.widgets.explore_timeline import OFF_COLOUR, ON_COLOUR, learning_rates, with_second_stage_at
from ltlab.widgets.panels import Bars, ByFrequency
from ltlab.widgets.pixels import show_pixels
from ltlab.widgets.prediction import Prediction
from ltlab.widgets.sliders import slider, stops

WIDTH, HEIGHT = 160, 120


def line_explorer(*, moving: bool, fail_at: int | None = None) -> Explorer:
    """A line that turns with `slope`, clear of the frame, on an axis that `wide` doubles."""
    figure = blank_figure(WIDTH, HEIGHT)
    ax = figure.add_axes((0.2, 0.2, 0.7, 0.7), xlim=(0, 1), ylim=(-5, 5))
    (line,) = ax.plot([0.2, 0.8], [0, 0])

    def update(slope: int, wide: bool) -> str:
        if slope == fail_at:
            raise ValueError(f"slope={slope} is <too> steep\nand more")
        line.set_data([0.2, 0.8], [0, slope])
        if wide != (ax.get_xlim()[1] == 2):
            ax.set_xlim(0, 2 if wide else 1)
        return f"slope {slope}"

    controls = {
        "slope": ipywidgets.IntSlider(value=1, min=-4, max=4, description="slope"),
        "wide": ipywidgets.Checkbox(description="wide"),
    }
    return Explorer(controls, figure, update, moving=[line] if moving else [], label="A line")


def shown(explorer: Explorer) -> np.ndarray:
    """The picture that the browser gets, decoded."""
    (image,) = [child for child in explorer.children if isinstance(child, ipywidgets.Image)]
    return np.asarray(PIL.Image.open(io.BytesIO(image.value)))


def set_controls(explorer: Explorer, values: dict) -> None:
    for name, value in values.items():
        explorer.controls[name].value = value


@settings(max_examples=8, deadline=None)
@given(st.lists(st.fixed_dictionaries({"slope": st.integers(-4, 4), "wide": st.booleans()}), min_size=1, max_size=5))
def test_a_frame_does_not_depend_on_how_it_is_drawn_nor_on_what_was_shown_before(sequence: list[dict]) -> None:
    """Moving artists over a saved picture, or everything again; after any detour, or at once."""
    blitted, redrawn, direct = line_explorer(moving=True), line_explorer(moving=False), line_explorer(moving=True)
    for values in sequence:
        set_controls(blitted, values)
        set_controls(redrawn, values)
        assert np.array_equal(shown(blitted), shown(redrawn))
    set_controls(direct, sequence[-1])
    assert np.array_equal(shown(blitted), shown(direct))
    assert blitted.values == sequence[-1]
    assert blitted.summary == f"slope {sequence[-1]['slope']}"


def test_only_what_moves_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    explorer, draws = line_explorer(moving=True), []
    draw = explorer.figure.canvas.draw
    monkeypatch.setattr(explorer.figure.canvas, "draw", lambda: (draws.append(1), draw()))
    explorer.controls["slope"].value = 2
    assert not draws
    explorer.controls["wide"].value = True
    assert len(draws) == 1


def test_an_error_is_shown_and_goes_on() -> None:
    explorer = line_explorer(moving=True, fail_at=3)
    before = shown(explorer)
    with pytest.raises(ValueError, match="slope=3"):
        explorer.controls["slope"].value = 3
    assert explorer.summary == "ValueError: slope=3 is <too> steep"
    text = explorer.children[-1].value
    assert "color" in text and "&lt;too&gt;" in text
    assert np.array_equal(shown(explorer), before)
    explorer.controls["slope"].value = 2
    assert explorer.summary == "slope 2"
    assert "color" not in explorer.children[-1].value


def test_a_saved_notebook_keeps_picture_and_summary() -> None:
    explorer = line_explorer(moving=True)
    data, metadata = explorer._repr_mimebundle_()
    picture = PIL.Image.open(io.BytesIO(b64decode(data["image/png"])))
    assert np.abs(np.asarray(picture.convert("RGB")).astype(int) - shown(explorer)).mean() < 1
    assert metadata["image/png"] == {"width": WIDTH, "height": HEIGHT, "alt": data["text/plain"]}
    assert data["text/plain"].startswith("slope 1. ") and "Run All Cells" in data["text/plain"]
    assert "application/vnd.jupyter.widget-view+json" in data


def test_where_a_control_s_comm_last_spoke_is_forgotten_when_it_is_shown() -> None:
    """Else ipykernel 7.4 keeps the first key waiting for the cells that still run."""
    explorer, asked, guess = line_explorer(moving=True), quiz("02"), Prediction("Which?", ["this", "that"])
    controls = {explorer: explorer.controls["slope"], asked: asked.buttons[0][1], guess: guess.voting}
    for widget, control in controls.items():
        spoken = vars(control.comm)
        spoken["_reply_subshell_id"] = None
        widget._repr_mimebundle_()
        assert "_reply_subshell_id" not in spoken


def test_summary_and_picture_have_names_for_screen_readers() -> None:
    *_, picture, text = line_explorer(moving=True).children
    assert picture.tooltip == "A line"
    assert 'role="status"' in text.value


def test_choice_has_the_first_option_and_labels_are_not_keys() -> None:
    assert choice("kind", ["exp", "step"]).value == "exp"
    kinds = choice("kind", [("exponential", "exp"), "step"])
    assert kinds.value == "exp" and kinds.label == "exponential"
    assert kinds.options == (("exponential", "exp"), ("step", "step"))


def test_bars_move_under_their_first_outlines() -> None:
    bars = Bars(blank_figure(WIDTH, HEIGHT).add_axes((0, 0, 1, 1)), torch.tensor([1.0, 2.0]), outlined=True)
    bars.show(torch.tensor([math.nan, 3.0]))
    assert [bar.get_height() for bar in bars.artists] == [0, 3, 1, 2]


# --- long-tailed data ------------------------------------------------------------------------------------------------


def pool(counts: list[int]) -> SimpleNamespace:
    """Random 8 x 8 images with these counts, as `ltlab.data` hands them out."""
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    images = torch.randint(0, 256, (len(labels), 3, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    names = tuple(f"class {c}" for c in range(len(counts)))
    return SimpleNamespace(train=SimpleNamespace(images=images, labels=labels), class_names=names)


@pytest.fixture(scope="module")
def long_tail() -> Explorer:
    return long_tail_explorer(pool([12] * 10))


@pytest.mark.parametrize("imbalance", [1, 10, 100, 256])
def test_long_tail_summary(long_tail: Explorer, imbalance: int) -> None:
    set_controls(long_tail, {"imbalance": imbalance, "kind": "exp", "log": False})
    counts = [int(1000 * (1 / imbalance) ** (j / 9)) for j in range(10)]
    many, few = sum(n > 100 for n in counts), sum(n < 20 for n in counts)
    assert long_tail.summary == (
        f"imbalance {imbalance}, exp: {sum(counts):,} training images; largest class 1,000, smallest {counts[-1]:,}; "
        f"many/medium/few: {many}/{10 - many - few}/{few} classes; "
        f"the 3 least frequent classes hold {100 * sum(counts[-3:]) / sum(counts):.1f}% of the images"
    )


def test_step_profile_has_two_sizes(long_tail: Explorer) -> None:
    set_controls(long_tail, {"imbalance": 100, "kind": "step", "log": False})
    assert "5,050 training images" in long_tail.summary
    assert [bar.get_height() for bar in long_tail.figure.axes[0].patches] == [1000] * 5 + [10] * 5


def test_bars_rows_and_shares_agree_with_the_counts(long_tail: Explorer) -> None:
    set_controls(long_tail, {"imbalance": 100, "kind": "exp", "log": True})
    counts = np.array([1000, 599, 359, 215, 129, 77, 46, 27, 16, 10])
    left, below, right = long_tail.figure.axes
    assert [bar.get_height() for bar in left.patches] == counts.tolist()
    assert [text.get_text() for text in left.texts] == [str(n) for n in counts]
    assert left.get_yscale() == "log"
    assert [veil.get_x() / 12 for veil in right.patches] == pytest.approx(counts / 1000)
    shares = [bar.get_width() for bar in below.patches]  # of classes and images: many, medium, few
    assert shares[0::2] == pytest.approx([0.5, 0.3, 0.2])
    assert shares[1::2] == pytest.approx([counts[:5].sum() / 2478, counts[5:8].sum() / 2478, counts[8:].sum() / 2478])


def test_many_classes_show_ten_rows() -> None:
    explorer = long_tail_explorer(pool([12] * 100), max_count=500)
    assert "many/medium/few: 35/35/30 classes" in explorer.summary  # CIFAR-100-LT
    rows = [text.get_text() for text in explorer.figure.axes[2].texts]
    assert len(rows) == 10 and rows[0] == "class 0" and rows[-1] == "class 99"


def test_real_distributions_are_the_published_ones() -> None:
    explorer = real_distributions_explorer()
    summaries = {}
    for name, _ in explorer.controls["data_set"].options:
        explorer.controls["data_set"].value = name
        summaries[name] = explorer.summary
    assert summaries["ImageNet-LT"] == (
        "ImageNet-LT: 1,000 classes, 115,846 training images; largest class 1,280, smallest 5; "
        "many/medium/few: 385/479/136 classes; imbalance 256; 13.6% of the classes are few-shot"
    )
    assert "8,142 classes, 437,513 training images; largest class 1,000, smallest 2" in summaries["iNaturalist 2018"]
    assert "many/medium/few: 842/4,076/3,224" in summaries["iNaturalist 2018"]
    assert "many/medium/few: 35/35/30" in summaries["CIFAR-100-LT"]
    explorer.controls["log"].value = True
    assert explorer.summary.endswith("on a log scale") and explorer.figure.axes[-1].get_yscale() == "log"


def test_imbalance_explorer_shows_mean_and_spread_of_every_class() -> None:
    """Classes in the order of their images at the largest imbalance, in whatever order the rows are."""
    rows = pd.DataFrame(
        [(10, 0, "b", 2, 0.2), (10, 0, "a", 20, 0.9), (1, 0, "a", 20, 1.0), (1, 0, "b", 20, 0.8),
         (10, 1, "b", 2, 0.4), (10, 1, "a", 20, 0.7)],
        columns=["imbalance", "seed", "class", "images", "accuracy"],
    )  # fmt: skip
    explorer = imbalance_explorer(rows)
    above, below = explorer.figure.axes
    assert "imbalance 1, 40 training images: accuracy 90.0 % (seeds: 1)" in explorer.summary
    explorer.controls["imbalance"].value = 10
    assert [bar.get_height() for bar in above.patches] == [20, 2]
    assert [text.get_text() for text in above.texts] == ["20", "2"]
    assert [bar.get_height() for bar in below.patches] == pytest.approx([80, 30])
    assert [label.get_text() for label in below.get_xticklabels()] == ["a", "b"]
    spread = 100 * np.std([0.9, 0.7], ddof=1)
    assert below.collections[0].get_segments()[0][:, 1] == pytest.approx([80 - spread, 80 + spread])
    assert explorer.summary == (
        "imbalance 10, 22 training images: accuracy 55.0 ± 0.0 % (seeds: 2); a (training images: 20) 80 %, "
        "b (training images: 2) 30 %"
    )
    for bad, message in ((rows.drop(columns="seed"), "seed"), (rows[:0], "rows")):
        with pytest.raises(ValueError, match=message):
            imbalance_explorer(bad)


def test_measured_accuracy_of_the_rarest_class_falls_with_the_imbalance() -> None:
    explorer = imbalance_explorer()
    rarest = []
    for _, value in explorer.controls["imbalance"].options:
        explorer.controls["imbalance"].value = value
        rarest.append(explorer.figure.axes[1].patches[-1].get_height())
    assert rarest[0] > 95 and rarest[-1] < 20


# --- re-weighting ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def effective_number() -> Explorer:
    return effective_number_explorer()


@pytest.mark.parametrize(("beta", "ratio"), [("0", "1"), ("0.9", "2.44"), ("0.9999", "97.6"), ("0.999999", "100")])
def test_beta_on_cifar_100_lt(effective_number: Explorer, beta: str, ratio: str) -> None:
    effective_number.controls["data_set"].value = "CIFAR-100-LT"
    effective_number.controls["beta"].label = beta
    assert f"largest/smallest weight {ratio} (uniform 1, inverse frequency 100)" in effective_number.summary


def test_effective_number_curves_are_the_formula() -> None:
    explorer = effective_number_explorer({"mine": [10, 1000, 100]}, beta=0.99)
    left, right = explorer.figure.axes
    numbers = [(1 - 0.99**n) / (1 - 0.99) for n in (1000, 100, 10)]
    weights = np.array([1 / number for number in numbers])
    _, inverse, balanced = left.lines
    assert balanced.get_ydata() == pytest.approx(weights / weights.mean())
    assert inverse.get_ydata() == pytest.approx(np.array([0.001, 0.01, 0.1]) / 0.037)
    dots = right.lines[-1]
    assert (list(dots.get_xdata()), list(dots.get_ydata())) == ([1000, 100, 10], pytest.approx(numbers))


def test_a_data_set_shows_the_same_after_a_detour() -> None:
    explorer = effective_number_explorer({"a": [100, 10], "b": [5000, 50, 5]})
    first = shown(explorer)
    explorer.controls["data_set"].value = "b"
    assert (shown(explorer) != first).any()
    explorer.controls["data_set"].value = "a"
    assert np.array_equal(shown(explorer), first)


@pytest.fixture(scope="module")
def focal() -> Explorer:
    return focal_explorer()


@pytest.mark.parametrize("form", ["sigmoid", "softmax"])
@pytest.mark.parametrize("alpha", ["none", 0.25])
@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_focal_curves_are_the_formula(focal: Explorer, form: str, alpha: str | float, gamma: float) -> None:
    set_controls(focal, {"gamma": gamma, "alpha": alpha, "form": form})
    factor = 1 if alpha == "none" else alpha
    loss, slope = (ax.lines for ax in focal.figure.axes)
    p = loss[1].get_xdata()
    expected = (1 - p) ** gamma * -np.log(p)
    expected_slope = (1 - p) ** gamma * ((1 - p) - gamma * p * np.log(p))
    assert loss[1].get_ydata() == pytest.approx(factor * expected, rel=1e-6)
    assert slope[1].get_ydata() == pytest.approx(factor * expected_slope, rel=1e-6)
    two_curves = form == "sigmoid" and alpha != "none"
    entry = focal.figure.axes[0].get_legend().get_texts()[2]
    assert loss[2].get_visible() == slope[2].get_visible() == entry.get_visible() == two_curves
    if two_curves:
        assert loss[2].get_ydata() == pytest.approx((1 - factor) * expected, rel=1e-6)
        assert slope[2].get_ydata() == pytest.approx((1 - factor) * expected_slope, rel=1e-6)


def test_focal_summary() -> None:
    explorer = focal_explorer(gamma=2.0)
    assert explorer.summary == (
        "gamma 2.0, alpha none, sigmoid: of its cross-entropy an answer costs 0.01 at p_t = 0.9 and 0.81 at "
        "p_t = 0.1 (81 times the fraction)"
    )
    explorer.controls["gamma"].value = 5
    assert "costs 0.00001 at p_t = 0.9 and 0.59 at p_t = 0.1 (59,000 times the fraction)" in explorer.summary


COUNTS = torch.tensor([100, 20, 5])
LOGITS = torch.tensor([[2.0, 1.0, 0.0], [1.0, 0.5, 0.0], [2.0, 1.0, 1.0]])


def test_pulls_by_hand() -> None:
    """Cross-entropy pulls by label - p; weights share the batch; balanced softmax takes p from z + log n."""
    targets, label = torch.arange(3), torch.eye(3)
    weights = torch.tensor([0.05, 0.25, 1.0])
    by_hand = {
        CrossEntropyLoss(): label - LOGITS.softmax(1),
        CostSensitiveLoss(COUNTS): 3 * weights[:, None] / weights.sum() * (label - LOGITS.softmax(1)),
        BalancedSoftmaxLoss(COUNTS): label - (LOGITS + COUNTS.log()).softmax(1),
    }
    for loss, expected in by_hand.items():
        torch.testing.assert_close(pulls(loss, LOGITS, targets), expected.double(), rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def gradients() -> Explorer:
    return gradient_explorer(LOGITS, torch.arange(3), COUNTS, names=["cat", "dog", "owl"])


@pytest.mark.parametrize("name", PULLING)
def test_every_loss_pulls_the_label_up(gradients: Explorer, name: str) -> None:
    explorer, (label, make) = gradients, PULLING[name]
    explorer.controls["loss"].value = name
    heights = torch.tensor([[bar.get_height() for bar in ax.patches[:3]] for ax in explorer.figure.axes])
    assert (heights.diagonal() > 0).all()
    assert (heights[~torch.eye(3, dtype=torch.bool)] < 0).all()
    torch.testing.assert_close(heights, pulls(make(COUNTS), LOGITS, torch.arange(3)).float())
    assert explorer.summary.startswith(f"{label}: pull of each image on its own class's logit: cat +")


def test_the_axes_of_pulls_fit_the_loss(gradients: Explorer) -> None:
    """CS_CE pulls up to three times as hard as cross-entropy; on its axis balanced softmax would be flat."""
    reach = {}
    for name in PULLING:
        gradients.controls["loss"].value = name
        highest = max(abs(bar.get_height()) for ax in gradients.figure.axes for bar in ax.patches)  # and outlines
        (reach[name],) = {ax.get_ylim()[1] for ax in gradients.figure.axes}
        assert highest < reach[name] < 2 * highest
    assert reach["ce"] == reach["balanced_softmax"] < reach["cs_ce"] / 2


def test_gradient_bars_stand_in_the_order_of_counts() -> None:
    explorer = gradient_explorer(LOGITS[:1], torch.tensor([0]), [5, 100, 20])
    heights = [bar.get_height() for bar in explorer.figure.axes[0].patches[:3]]
    assert heights == pytest.approx((torch.eye(3) - LOGITS.softmax(1)[:1])[0, [1, 2, 0]].tolist(), rel=1e-5)
    assert "0 +0.33 (CE +0.33)" in explorer.summary


# --- re-sampling -----------------------------------------------------------------------------------------------------


def tailed(counts: list[int]) -> SimpleNamespace:
    data = pool(counts)
    data.class_counts = torch.tensor(counts)
    return data


@pytest.fixture(scope="module")
def sampling() -> Explorer:
    return sampling_explorer(tailed([80, 15, 5]), epochs=5)


def heights(explorer: Explorer) -> tuple[list[float], list[float]]:
    """Probabilities, and how often an image comes: the end of its bar, which begins at 1."""
    above, below, _ = explorer.figure.axes
    return [bar.get_height() for bar in above.patches], [bar.get_y() + bar.get_height() for bar in below.patches]


@pytest.mark.parametrize(
    ("controls", "p"),
    [
        ({"sampler": "power", "q": 1.0, "epoch": 0}, [0.8, 0.15, 0.05]),
        ({"sampler": "power", "q": 0.0, "epoch": 3}, [1 / 3] * 3),
        ({"sampler": "progressive", "q": 0.0, "epoch": 0}, [0.8, 0.15, 0.05]),
        ({"sampler": "progressive", "q": 1.0, "epoch": 2}, [0.4 + 1 / 6, 0.075 + 1 / 6, 0.025 + 1 / 6]),
        ({"sampler": "progressive", "q": 1.0, "epoch": 4}, [1 / 3] * 3),
        ({"sampler": "reversed", "q": 0.0, "epoch": 0}, [3 / 67, 16 / 67, 48 / 67]),
    ],
)
def test_probabilities_and_repeats(sampling: Explorer, controls: dict, p: list[float]) -> None:
    set_controls(sampling, controls)
    times = [100 * share / n for share, n in zip(p, (80, 15, 5), strict=True)]
    assert heights(sampling) == (pytest.approx(p), pytest.approx(times))
    assert sampling.controls["q"].disabled == (controls["sampler"] != "power")


def test_the_batch_is_the_sampler_s_own() -> None:
    data = tailed([80, 15, 5])
    explorer = sampling_explorer(data, q=0.0, epochs=5, seed=3)
    explorer.controls["epoch"].value = 2
    sampler = PowerSampler(data.train.labels, 0.0, seed=3)
    sampler.set_epoch(2)
    first = list(sampler)[:48]
    labels = data.train.labels[first].sort().values
    mosaic = np.asarray(explorer.figure.axes[2].images[0].get_array()).reshape(6, 12, 8, 12, 3).swapaxes(1, 2)
    cells = mosaic.reshape(48, 12, 12, 3)
    drawn = {data.train.images[i].permute(1, 2, 0).numpy().tobytes() for i in first}
    assert {cell[2:-2, 2:-2].tobytes() for cell in cells} == drawn
    colours = [tuple(int(c) for c in cell[1, 1]) for cell in cells]
    frames = [tuple(round(255 * c) for c in to_rgb(plots.GROUP_COLOURS[g])) for g in ("medium", "few", "few")]
    assert colours == [frames[label] for label in labels]
    assert f"{(labels >= 0).sum()} of the 48 images" in explorer.summary


def test_a_set_smaller_than_the_picture() -> None:
    explorer = sampling_explorer(tailed([4, 2, 1]), epochs=2)
    assert "of the 7 images shown" in explorer.summary


# --- mixup -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def three_images() -> SimpleNamespace:
    """A red, a green and a grey test image of 8 x 8 pixels, classes in another order."""
    images = torch.zeros(3, 3, 8, 8, dtype=torch.uint8)
    images[0] = 100
    images[1, 0], images[2, 1] = 255, 255
    test = SimpleNamespace(images=images, labels=torch.tensor([2, 0, 1]))
    return SimpleNamespace(test=test, class_names=("red", "green", "grey"))


@pytest.fixture(scope="module")
def net() -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return small_net(3)


def test_mixed_picture_and_label(three_images: SimpleNamespace) -> None:
    explorer = mixup_explorer(three_images, a=0, b=1, lam=0.2)
    one, other, middle, bar = explorer.figure.axes
    pixels = [np.asarray(ax.images[0].get_array())[0, 0].tolist() for ax in (one, other, middle)]
    assert pixels == [[255, 0, 0], [0, 255, 0], [51, 204, 0]]
    assert [patch.get_width() for patch in bar.patches] == pytest.approx([0.2, 0.8])
    assert explorer.summary == "lambda 0.20: the label is 20% red, 80% green"
    set_controls(explorer, {"a": 2, "b": 2})
    assert explorer.summary == "lambda 0.20: A and B are one image; the label is grey"
    assert np.asarray(middle.images[0].get_array())[0, 0].tolist() == [100, 100, 100]


def test_the_path_is_the_model_s(three_images: SimpleNamespace, net: torch.nn.Module) -> None:
    net.train()
    state = {name: value.clone() for name, value in net.state_dict().items()}
    explorer = mixup_explorer(three_images, {"one": net, "two": small_net(3)}, a=2, b=0, lam=0.4)
    assert net.training and all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    images = three_images.test.images.float() / 255  # grey, red, green
    net.eval()
    (others,), (_, _, b, a, _, _) = explorer.figure.axes[4].collections, explorer.figure.axes[4].lines
    for step in (0, 13, 20, 50):
        p = net((step / 50 * images[0] + (1 - step / 50) * images[1])[None]).softmax(1)[0]
        assert a.get_ydata()[step] == pytest.approx(p[2].item(), abs=1e-5)
        assert b.get_ydata()[step] == pytest.approx(p[0].item(), abs=1e-5)
        assert others.get_segments()[0][step] == pytest.approx([step / 50, p[1].item()], abs=1e-5)
    p = net((0.4 * images[0] + 0.6 * images[1])[None]).softmax(1)[0]
    said = f"one says grey {p[2]:.0%}, red {p[0]:.0%}, and of all others most green {p[1]:.0%}; two says grey"
    assert said in explorer.summary


def test_a_path_is_computed_once(three_images: SimpleNamespace, net: torch.nn.Module) -> None:
    passes = []
    hook = net.register_forward_hook(lambda *_: passes.append(1))
    explorer = mixup_explorer(three_images, net)
    for values in ({"lam": 0.1}, {"lam": 0.9}, {"a": 1}, {"a": 0}):
        set_controls(explorer, values)
    hook.remove()
    assert len(passes) == 2


def test_classes_without_a_test_image_are_not_on_the_sliders(net: torch.nn.Module) -> None:
    images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    images[0, 0] = 255  # red, of class 0; class 1 has none; black, of class 2
    data = SimpleNamespace(
        test=SimpleNamespace(images=images, labels=torch.tensor([0, 2])), class_names=("red", "none", "black")
    )
    explorer = mixup_explorer(data, net, lam=0.4)
    assert [name for name, _ in explorer.controls["a"].options] == ["red", "black"]
    one, other, *_ = explorer.figure.axes
    pixels = [np.asarray(ax.images[0].get_array())[0, 0].tolist() for ax in (one, other)]
    assert pixels == [[255, 0, 0], [0, 0, 0]]
    p = net.eval()((0.4 * images[:1] + 0.6 * images[1:]) / 255).softmax(1)[0]
    words = "the model says red {:.0%}, black {:.0%}, and of all others most none {:.0%}"
    assert words.format(p[0], p[2], p[1]) in explorer.summary
    explorer = manifold_explorer(data, net, layers=["input"])
    assert "the model says red" in explorer.summary and "black" in explorer.summary
    with pytest.raises(ValueError, match="the test set has no image"):
        mixup_explorer(SimpleNamespace(test=SimpleNamespace(images=images[:0], labels=torch.tensor([]).long()),
                                       class_names=("red",)))  # fmt: skip


@pytest.mark.parametrize("alpha", [0.05, 0.2, 1.0, 8.0, 50.0])
def test_beta_histogram_and_density(alpha: float) -> None:
    explorer = beta_explorer(alpha=alpha, seed=1)
    left, right = explorer.figure.axes
    lams = draw_lambda(alpha, torch.Generator().manual_seed(1), (4000,)).numpy()
    heights = [patch.get_height() for patch in left.patches[2:]]
    assert heights == pytest.approx(np.histogram(lams, 40, (0, 1), density=True)[0], rel=1e-5)
    x, y = left.lines[0].get_data()
    constant = math.exp(math.lgamma(2 * alpha) - 2 * math.lgamma(alpha))
    assert y == pytest.approx(constant * (x * (1 - x)) ** (alpha - 1), rel=1e-6)
    inside = max(*heights[1:-1], *y[20:-20]) < left.get_ylim()[1]  # what is cut at the two ends has its height on it
    assert inside and [text.get_text() != "" for text in left.texts] == [height > 9 for height in heights[::39]]
    near = ((lams < 0.1) | (lams > 0.9)).mean()
    assert explorer.summary.startswith(f"alpha {alpha:g}: {near:.0%} of 4,000 lambdas lie within 0.1 of 0 or 1")
    assert [patch.get_width() for patch in right.patches[:16]] == pytest.approx(lams[:16].tolist())


@pytest.mark.parametrize("layer", ["input", "stem", "layer2", "pool"])
def test_feature_maps_are_the_layer_s(three_images: SimpleNamespace, net: torch.nn.Module, layer: str) -> None:
    """Rows A, B, their mixture, and the maps of the mixed image; grey from 0 to A's and B's largest value."""
    explorer = manifold_explorer(three_images, net, layers=("normalise", layer), a=0, b=1)
    set_controls(explorer, {"layer": layer, "lam": 0.25})
    images = three_images.test.images[[1, 2]].float() / 255  # red, green
    x = torch.cat([images, (0.25 * images[0] + 0.75 * images[1])[None]])
    if layer != "input":
        for name in ("normalise", *net.feature_layers, "pool"):
            x = net.eval().get_submodule(name)(x)
            if name == layer:
                break
    maps = x.detach().reshape(*x.shape[:2], -1)
    (text,) = [text.get_text() for text in explorer.figure.texts if text.get_text().startswith("channels")]
    channel = int(text.split()[1].rstrip(","))
    values = maps[:, channel]
    low, high = min(0, values[:2].min()), values[:2].max()
    shown_axes = [ax for ax in explorer.figure.axes if ax.images[0].get_array().ndim == 2]
    rows = [np.asarray(ax.images[0].get_array()).ravel() for ax in shown_axes[::8]]
    for row, expected in zip(rows, (values[0], values[1], 0.25 * values[0] + 0.75 * values[1], values[2]), strict=True):
        assert row == pytest.approx(((expected - low) / (high - low)).numpy(), abs=1e-4)
    p = forward_mixed(net, images, torch.tensor([1, 0]), 0.25, layer).softmax(1)[0]
    assert f"mixed at this layer, the model says red {p[0]:.0%}, green {p[1]:.0%}" in explorer.summary


def test_at_the_input_both_ways_of_mixing_are_one(three_images: SimpleNamespace, net: torch.nn.Module) -> None:
    explorer = manifold_explorer(three_images, net, layers=("input", "layer3"))
    assert "differ by 0%" in explorer.summary
    explorer.controls["layer"].value = "layer3"
    assert "differ by 0%" not in explorer.summary


def test_remix_rule_and_pairs() -> None:
    explorer = remix_explorer([10, 90, 30], names=["owl", "cat", "dog"])
    left, right = explorer.figure.axes
    x, y = left.lines[1].get_data()
    assert np.allclose(y, np.where(np.asarray(x) < 0.5, 0, x))
    assert np.asarray(right.images[0].get_array()).tolist() == [[0, -1, -1], [1, 0, -1], [1, 1, 0]]
    assert explorer.summary.startswith("cat has 9 times as many images as owl; kappa 3, tau 0.50: i can lose its label")
    # a pair with a more frequent class leaves it 3/8 of the label on average, and mixup 1/2: owl gains its 1/8 from all
    owl = 10 / 130 + 2 * 10 / 130 * 120 / 130 / 8
    assert f"owl, the least frequent class, gets {owl:.2%} of the labels, {10 / 130:.2%} with" in explorer.summary
    set_controls(explorer, {"a": 2, "b": 0, "kappa": 4.0, "tau": 0.3})
    x, y = left.lines[1].get_data()
    assert np.allclose(y, np.where(1 - np.asarray(x) < 0.3, 1, x))
    assert np.asarray(right.images[0].get_array()).tolist() == [[0, 0, -1], [0, 0, 0], [1, 0, 0]]
    set_controls(explorer, {"tau": 0.0})
    assert np.allclose(left.lines[1].get_ydata(), x)


def test_remix_of_one_class_keeps_its_label() -> None:
    explorer = remix_explorer([30, 30, 10], kappa=1.0)
    set_controls(explorer, {"a": 1, "b": 1})
    left, right = explorer.figure.axes
    assert ": one class: the label stays. " in explorer.summary
    assert not any(patch.get_visible() for patch in left.patches) and np.array_equal(*left.lines[1].get_data())
    assert np.asarray(right.images[0].get_array()).tolist() == [[0, -1, -1], [-1, 0, -1], [1, 1, 0]]
    explorer.controls["b"].value = 0
    assert "both can lose their label, i first" in explorer.summary


# --- CAM-based sampling ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shapes() -> LongTailedData:
    return load("shapes-lt", max_count=30, imbalance=10, test_count=1)


@pytest.fixture(scope="module")
def looker(shapes: LongTailedData) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return small_net(10)


def panel(explorer: Explorer, index: int) -> np.ndarray:
    return np.asarray(explorer.figure.axes[index].images[0].get_array())


def test_foreground_panels_are_the_rooms(shapes: LongTailedData, looker: torch.nn.Module) -> None:
    explorer = foreground_explorer(shapes, looker, label=4, number=3)
    values = {"threshold": 1.3, "angle": 25.0, "scale": 0.8, "right": 3, "down": -2, "flip": True, "of": 7}
    set_controls(explorer, values)
    index = (shapes.train.labels == 4).nonzero()[2]
    image, true = shapes.train.images[index], shapes.train.masks[index]
    maps = cam.maps_of(looker, image, torch.tensor([7]))
    mask = cam.foreground_masks(maps, 1.3)
    assert 0 < mask.sum() < mask.numel()
    moves = {"flip": [True], "translate": [[3, -2]], "rotate": [25.0], "scale": [0.8]}
    for fill in (False, True):
        explorer.controls["fill"].value = fill
        result = cam.transform_foreground(image, mask, **moves, fill=fill)
        assert np.array_equal(panel(explorer, 4), result[0].permute(1, 2, 0).numpy())
    assert panel(explorer, 1) == pytest.approx(maps[0].numpy(), abs=1e-5)
    for k in (0, 2):
        assert np.array_equal(panel(explorer, k), image[0].permute(1, 2, 0).numpy())
    alone = panel(explorer, 3)
    kept = (alone != 225).any(2)
    assert np.array_equal(alone[kept], result[0].permute(1, 2, 0).numpy()[kept])
    iou = cam.intersection_over_union(mask, true).item()
    for words in (
        "heart, training image 3 of", "the map of moon at 1.3 times its mean", f"IoU {iou:.2f} with the true mask",
        f"foreground {mask.float().mean():.0%} of the image", "is hole, filled",
        "flipped, scaled by 0.80, turned by 25 degrees, shifted by 3 right and 2 up, as far as the frame allows;",
    ):  # fmt: skip
        assert words in explorer.summary


def test_outlines_run_between_foreground_and_background(shapes: LongTailedData, looker: torch.nn.Module) -> None:
    explorer = foreground_explorer(shapes, looker)
    index = (shapes.train.labels == 0).nonzero()[0]
    mask = cam.foreground_masks(cam.maps_of(looker, shapes.train.images[index], torch.tensor([0])))
    lines, true = explorer.figure.axes[2].lines, shapes.train.masks[index][0]
    assert [line.get_color() for line in lines] == ["black", "white", "black", TRUE_COLOUR]
    for line, outlined in zip(lines, (mask[0], mask[0], true, true), strict=True):
        x, y = line.get_data()
        padded = torch.nn.functional.pad(outlined.int(), (1, 1, 1, 1))
        edges = padded.diff(dim=0).abs().sum() + padded.diff(dim=1).abs().sum()
        assert len(x) == 3 * edges and np.isnan(x[2::3]).all()
        for x0, x1, y0 in zip(x[::3], x[1::3], y[::3], strict=True):
            column, row = int(x0), int(y0)
            before = padded[row + 1, column] if x0 == x1 else padded[row, column + 1]  # left of the edge, or above it
            assert before != padded[row + 1, column + 1]


def test_no_control_runs_the_network(shapes: LongTailedData, looker: torch.nn.Module) -> None:
    passes = []
    hook = looker.layer3.register_forward_hook(lambda *_: passes.append(1))
    looker.train()
    explorer = foreground_explorer(shapes, {"early": looker, "late": looker})
    at_first = len(passes)
    for values in ({"threshold": 0.5}, {"label": 9}, {"number": 2}, {"of": 2}, {"model": "late"}, {"angle": 90.0}):
        before = explorer.summary
        set_controls(explorer, values)
        assert explorer.summary != before
    hook.remove()
    assert len(passes) == at_first and looker.training
    assert "(late)" in explorer.summary


def test_the_slider_ends_at_the_class_s_images(shapes: LongTailedData, looker: torch.nn.Module) -> None:
    explorer = foreground_explorer(shapes, looker, label=9, number=3)
    number, third = explorer.controls["number"], panel(explorer, 0)
    assert (number.min, number.max) == (1, 3) and "training image 3 of 3" in explorer.summary
    set_controls(explorer, {"label": 0, "number": 20})
    assert "training image 20 of 20" in explorer.summary
    explorer.controls["label"].value = 9  # of 3 images
    assert number.value == 3 and np.array_equal(panel(explorer, 0), third) and "image 3 of 3" in explorer.summary


def test_foreground_explorer_refuses(shapes: LongTailedData, looker: torch.nn.Module) -> None:
    with pytest.raises(ValueError, match="models is empty"):
        foreground_explorer(shapes, {})
    for setting in ({"label": 10}, {"number": 0}, {"number": 21}, {"label": 9, "number": 4}, {"threshold": 3}):
        with pytest.raises(ValueError, match="{}={}".format(*[*setting.items()][-1])):
            foreground_explorer(shapes, looker, **setting)


# --- two-stage training ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def timeline() -> Explorer:
    return timeline_explorer()


def blocks(explorer: Explorer) -> list[tuple[str, float, float, str]]:
    """Row, begin, epochs and colour of every bar that is shown."""
    above = explorer.figure.axes[0]
    rows = [label.get_text() for label in above.get_yticklabels()]
    colours = {to_rgb(ON_COLOUR): "on", to_rgb(OFF_COLOUR): "plain"}
    return [
        (rows[round(bar.get_y() + 0.4)], bar.get_x(), bar.get_width(), colours[bar.get_facecolor()[:3]])
        for bar in above.patches
        if bar.get_visible()
    ]


@pytest.mark.parametrize(
    ("name", "second", "epochs", "tricks"),
    [
        ("drw_cs_ce", 160, 200, {("loss", 160)}),
        ("drs_class_balanced", 160, 200, {("sampler", 160)}),
        ("crt", 200, 230, {("sampler", 200), ("trains", 200)}),
        ("cam_drs", 160, 200, {("sampler", 160), ("foreground", 160)}),
        ("input_mixup_finetune", 400, 420, {("mix", 0)}),
    ],
)
def test_timeline_bars(timeline: Explorer, name: str, second: int, epochs: int, tricks: set) -> None:
    timeline.controls["recipe"].value = name
    shown_blocks = blocks(timeline)
    for row in ("sampler", "foreground", "mix", "loss", "trains"):
        assert [block[1:3] for block in shown_blocks if block[0] == row] == [(0, second), (second, epochs - second)]
    assert {(row, begin) for row, begin, _, colour in shown_blocks if colour == "on"} == tricks
    assert timeline.figure.axes[0].get_xlim() == (0, epochs)
    assert f"{epochs} epochs: stage 1, epochs 1 to {second}: " in timeline.summary
    assert f"; stage 2, epochs {second + 1} to {epochs}: " in timeline.summary
    assert ("the schedule continues" in timeline.summary) == name.startswith("dr")


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        ("drw_cs_ce", {2: 0.06, 5: 0.1, 159: 0.1, 160: 1e-3, 179: 1e-3, 180: 1e-5, 199: 1e-5}),
        ("crt", {159: 0.1, 160: 1e-3, 199: 1e-5, 200: 0.1, 210: 0.01, 220: 1e-3}),
        ("input_mixup_finetune", {319: 0.1, 320: 1e-3, 360: 1e-5, 400: 1e-3, 408: 1e-4, 416: 1e-5}),
    ],
)
def test_timeline_learning_rates_are_the_paper_s(timeline: Explorer, name: str, rates: dict) -> None:
    timeline.controls["recipe"].value = name
    times, drawn = timeline.figure.axes[1].lines[0].get_data()
    for epoch, rate in rates.items():
        assert drawn[np.flatnonzero(times == epoch)] == pytest.approx([rate])


@given(st.integers(1, 198), st.booleans())
def test_moving_stage_2_keeps_epochs_and_schedules(epoch: int, three: bool) -> None:
    stages = [Stage(share=0.7), Stage(share=0.2, loss=CostSensitiveLoss), Stage(share=0.1, loss=BalancedSoftmaxLoss)]
    recipe = Recipe(*stages[: 2 + three], settings=CIFAR).resolve(CIFAR)
    moved = with_second_stage_at(recipe, min(epoch, recipe.epochs - 2))
    assert moved.epochs == recipe.epochs and moved.stages[0].epochs == min(epoch, recipe.epochs - 2)
    assert np.array_equal(learning_rates(moved)[1], learning_rates(recipe)[1])  # one schedule over all stages
    if three:
        assert abs(moved.stages[1].epochs - 2 * moved.stages[2].epochs) <= 2  # 2 : 1, rounded
    assert with_second_stage_at(recipe, recipe.stages[0].epochs).identity() == recipe.identity()


def test_moving_stage_2_refuses() -> None:
    recipe = get("crt").resolve(SHAPES)
    for epoch in (0, recipe.epochs):
        with pytest.raises(ValueError, match="starts after epoch 1 to 33"):
            with_second_stage_at(recipe, epoch)


def test_the_slider_takes_a_recipe_s_own_start(timeline: Explorer) -> None:
    """400 of 420 epochs lie between two steps of the slider; the step that is nearest shows them."""
    timeline.controls["recipe"].value = "input_mixup_finetune"
    own = timeline.summary
    assert timeline.controls["start"].value == 0.95 and "epochs 401 to 420" in own
    timeline.controls["start"].value = 0.94
    assert "epochs 396 to 420" in timeline.summary
    timeline.controls["start"].value = 0.95
    assert timeline.summary == own
    timeline.controls["recipe"].value = "ce"
    assert timeline.controls["start"].disabled and "stage 2" not in timeline.summary
    timeline.controls["recipe"].value = "drw_cs_ce"
    assert not timeline.controls["start"].disabled and timeline.controls["start"].value == 0.8


@pytest.mark.parametrize("name", ["crt", "cam_drs", "drw_cs_ce", "input_mixup_finetune"])
def test_a_short_stage_has_no_text_across_its_border(timeline: Explorer, name: str) -> None:
    timeline.controls["recipe"].value = name
    timeline.controls["start"].value = timeline.controls["start"].min
    above = timeline.figure.axes[0]
    border = above.transData.transform((above.lines[1].get_xdata()[0], 0))[0]
    texts = [text for text in above.texts if text.get_visible() and text.get_text()]
    assert {"1", "all layers", "CrossEntropyLoss()"} & {text.get_text() for text in texts}
    for extent in (text.get_window_extent() for text in texts):
        assert extent.x1 <= border or border <= extent.x0
        assert sum(extent.overlaps(other.get_window_extent()) for other in texts) == 1  # itself


def test_recipes_have_a_timeline_and_no_text_leaves_it() -> None:
    """Every fourth recipe, and the longest texts, some with a short first stage."""
    names = dict.fromkeys(["crt", "cam_drs", "lws", "bag_of_tricks", "drw_ldam", *list(RECIPES)[::4]])
    explorer = timeline_explorer(SHAPES, names)
    box = explorer.figure.bbox
    for name in names:
        start = 0.05 if name in ("crt", "cam_drs", "lws") else 0.8
        assert explorer._update(recipe=name, start=start).startswith(f"{name} on ")
        for text in explorer.figure.axes[0].texts:
            if text.get_visible() and text.get_text():
                extent = text.get_window_extent()
                assert box.x0 <= extent.x0 and extent.x1 <= box.x1, text.get_text()


def test_a_stage_of_no_epochs_is_a_line() -> None:
    explorer = timeline_explorer(SHAPES, ["logit_adjusted_post_hoc"])
    assert explorer.controls["start"].disabled
    assert explorer.summary.endswith("; stage 2, 0 epochs: trains logit_adjusted(tau=1.0)")
    assert {block[1:3] for block in blocks(explorer)} == {(0, 30)}
    assert explorer.figure.axes[0].lines[1].get_xdata() == [30, 30]


@pytest.fixture(scope="module")
def trained() -> dict:
    """A classifier of 4 features that prefers frequent classes; the counts are not in order."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(3).repeat(50)
    linear = torch.nn.Linear(4, 3)
    linear.weight.data = torch.tensor([[1.0, 0, 0, 0.1], [0, 3, 0, 0.1], [0, 0, 0.5, 0.1]])
    linear.bias.data = torch.tensor([0.2, 1.0, -0.3])
    features = torch.eye(3, 4)[labels] + 0.8 * torch.randn(150, 4, generator=generator)
    return {
        "features": features,
        "labels": labels,
        "linear": linear,
        "logits": linear(features),
        "counts": [40, 500, 5],
    }


def post_hoc(trained: dict, **settings: object) -> Explorer:
    parts = {name: getattr(trained["linear"], name) for name in ("weight", "bias")}
    return post_hoc_explorer(
        trained["logits"], trained["labels"], trained["counts"], trained["features"], **parts, **settings
    )


def bars_of(explorer: Explorer) -> tuple[list[float], list[float]]:
    """Of all and the groups, and of the classes, most frequent first; the second half of the patches are outlines."""
    return tuple([bar.get_height() for bar in ax.patches[: len(ax.patches) // 2]] for ax in explorer.figure.axes)


@pytest.mark.parametrize("tau", [0.0, 0.5, 2.0])
@pytest.mark.parametrize(("weight_tau", "keep"), [(0.0, True), (0.6, True), (1.0, False)])
def test_post_hoc_errors_by_brute_force(trained: dict, tau: float, weight_tau: float, keep: bool) -> None:
    explorer = post_hoc(trained)
    set_controls(explorer, {"tau": tau, "weight_tau": weight_tau, "keep": keep})
    w, b = trained["linear"].weight.tolist(), trained["linear"].bias.tolist()
    wrong = [0, 0, 0]
    for x, y in zip(trained["features"].tolist(), trained["labels"].tolist(), strict=True):
        z = []
        for c in range(3):
            norm = math.sqrt(sum(v * v for v in w[c]))
            score = sum(v * u for v, u in zip(w[c], x, strict=True)) / norm**weight_tau + keep * b[c]
            z.append(score - tau * math.log(trained["counts"][c] / 545))
        wrong[y] += z.index(max(z)) != y
    of_groups, of_classes = bars_of(explorer)
    assert of_classes == pytest.approx([2 * wrong[c] for c in (1, 0, 2)])
    assert of_groups == pytest.approx([sum(wrong) / 1.5, 2 * wrong[1], 2 * wrong[0], 2 * wrong[2]])
    assert f"error of all {sum(wrong) / 1.5:.1f} %" in explorer.summary


def test_post_hoc_begins_as_trained_and_meets_the_recipe_s_classifier(trained: dict) -> None:
    explorer = post_hoc(trained)
    for ax in explorer.figure.axes:
        heights = [bar.get_height() for bar in ax.patches]
        assert heights[: len(heights) // 2] == heights[len(heights) // 2 :]
    set_controls(explorer, {"weight_tau": 1.0, "keep": False})
    classifier = tau_normalised(SimpleNamespace(classifier=trained["linear"]), None, None, None, tau=1.0)
    wrong = classifier(trained["features"]).argmax(1) != trained["labels"]
    assert bars_of(explorer)[0][0] == pytest.approx(100 * wrong.float().mean().item())


def test_post_hoc_of_logits_alone(trained: dict) -> None:
    """Without features only the logits are adjusted; a group without classes has no bar."""
    explorer = post_hoc_explorer(trained["logits"], trained["labels"], [500, 400, 300])
    assert list(explorer.controls) == ["tau"]
    assert [label.get_text() for label in explorer.figure.axes[0].get_xticklabels()] == ["all", "many"]
    before = explorer.summary
    explorer.controls["tau"].value = 2.0
    assert explorer.summary != before and "weight normalisation" not in before


def test_post_hoc_refuses(trained: dict) -> None:
    logits, labels, features = trained["logits"], trained["labels"], trained["features"]
    weight, bias = trained["linear"].weight, trained["linear"].bias
    for arguments, message in [
        ((trained["counts"], features), "features and weight"),
        ((trained["counts"], features[1:], weight, bias), "do not give logits"),
        ((trained["counts"], features, weight), "give other logits"),
        (([500, 5],), "one count per logit"),
        (([0, 5, 5],), "count"),
        ((range(1, 202),), "at most 200"),
    ]:
        with pytest.raises(ValueError, match=message):
            post_hoc_explorer(logits, labels, *arguments)
    with pytest.raises(ValueError, match="2 names for 3"):
        post_hoc_explorer(logits, labels, trained["counts"], names=["cat", "dog"])


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Explorer({"q": ipywidgets.FloatSlider()}, blank_figure(9, 9), lambda q: "", label="a"), "'q' has no"),
        (lambda: stops("alpha", 0.7, (0.5, 1)), r"alpha=0\.7"),
        (lambda: slider("gamma", 6, 0, 5, 0.1), "gamma=6"),
        (lambda: ByFrequency([5, 2], ["a"]), "1 names for 2"),
        (lambda: long_tail_explorer(pool([12] * 9 + [11])), "11 training images of class 'class 9'"),
        (lambda: long_tail_explorer(pool([12] * (plots.BARS_UP_TO + 1))), "201 classes"),
        (lambda: sampling_explorer(tailed([1] * 201)), "201 classes"),
        (lambda: remix_explorer([1] * 201), "201 classes"),
        (lambda: real_distributions_explorer({}), "counts_by_name"),
        (lambda: gradient_explorer(LOGITS, torch.tensor([0, 1]), COUNTS), "2 targets"),
        (lambda: gradient_explorer(LOGITS[:, :2], torch.tensor([0, 1, 1]), COUNTS), r"shape \(3, 2\)"),
        (lambda: gradient_explorer(torch.zeros(5, 3), torch.zeros(5).long(), COUNTS), "5 targets"),
        (lambda: sampling_explorer(tailed([2, 1]), epochs=1), "epochs=1"),
        (lambda: mixup_explorer(model=dict.fromkeys("abcd", torch.nn.Identity())), "4 models"),
        (lambda: remix_explorer([5]), "class_counts"),
        (lambda: remix_explorer([5, 0]), "class_counts"),
        (lambda: timeline_explorer(recipes=[]), "recipes="),
        (lambda: timeline_explorer(recipes=["ce", "ce"]), "recipes="),
    ],
)
def test_explorers_refuse(make: Callable[[], Explorer], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


# --- pixels ----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(matplotlib.__version_info__ < (3, 11), reason="matplotlib 3.10 rounds an image's edges otherwise")
@pytest.mark.parametrize("extent", [None, (0, 12, 9, 0), (0, 1, 0, 1)])
@pytest.mark.parametrize(
    ("shape", "settings"),
    [((8, 8, 3), {}), ((5, 7), {"cmap": "cividis", "vmin": 0, "vmax": 0.8}), ((4, 4), {"cmap": "gray", "alpha": 0.5})],
)
def test_pixels_are_drawn_as_by_matplotlib(shape: tuple[int, ...], settings: dict, extent: tuple | None) -> None:
    values = np.random.default_rng(0).random(shape)
    image = values if len(shape) == 2 else (255 * values).astype(np.uint8)
    box = (0.113, 0.137, 0.771, 0.709)  # no image pixel ends in the middle of a drawn one, where rounding decides
    drawn = []
    for show in (show_pixels, Axes.imshow):
        figure = blank_figure(WIDTH, HEIGHT)
        show(figure.add_axes(box), image, extent=extent, interpolation="nearest", **settings)
        figure.canvas.draw()
        drawn.append(np.asarray(figure.canvas.buffer_rgba()).copy())
    np.testing.assert_array_equal(*drawn)
