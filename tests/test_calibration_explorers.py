"""Explorers and figures of calibration: drawn is what the library computes, and bad input is named."""

import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from ltlab import calibration, losses, metrics, plots
from ltlab.widgets import Explorer, noise_floor_explorer, reliability_explorer, smoothing_explorer
from ltlab.widgets.explore_smoothing import SHAPES

COUNTS = [40, 500, 5]  # not in order; one class in each group
LABELS = torch.arange(3).repeat(60)


def logits(seed: int = 0, scale: float = 2.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.eye(3)[LABELS] + torch.randn(180, 3, generator=generator)


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def move(explorer: Explorer, **values: object) -> None:
    for name, value in values.items():
        explorer.controls[name].value = value


def tops(collection) -> list[tuple[float, float]]:
    """Lower and upper end of every box of a collection."""
    return [(path.vertices[:, 1].min(), path.vertices[:, 1].max()) for path in collection.get_paths()]


# --- the diagram -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("equal", ["width", "mass"])
@pytest.mark.parametrize("sharper", [0.3, 4.0])
def test_a_diagram_draws_every_bin_by_the_sign_of_its_gap(sharper, equal) -> None:
    bins = calibration.reliability(sharper * logits(), LABELS, 7, equal)
    ax = plots.reliability_diagram(bins)
    accuracy, over, under = (tops(ax.collections[k]) for k in range(3))
    parts = zip(bins.counts.tolist(), bins.accuracy.tolist(), bins.confidence.tolist(), strict=True)
    filled = [(a, p) for n, a, p in parts if n]
    assert accuracy == [pytest.approx((0, a)) for a, _ in filled]
    assert over == [pytest.approx((a, p)) for a, p in filled if p > a]
    assert under == [pytest.approx((p, a)) for a, p in filled if p < a]
    assert over if sharper > 1 else under


def test_the_noise_of_a_diagram_is_the_binomial_one_and_holds_what_it_says() -> None:
    """Of a perfectly calibrated predictor's bins, 95 % end within their line."""
    inside = []
    generator = torch.Generator().manual_seed(0)
    for _ in range(40):
        p = 0.5 + 0.5 * torch.rand(2000, generator=generator, dtype=torch.float64)
        labels = (torch.rand(2000, generator=generator, dtype=torch.float64) >= p).long()
        bins = calibration.reliability(torch.stack([p, 1 - p], 1).log(), labels, 10)
        segments = plots.reliability_diagram(bins).collections[3].get_segments()
        for (_, low), (_, high) in segments:
            assert 0 <= low <= high <= 1
        accuracy = bins.accuracy[bins.counts > 0].tolist()
        inside += [low <= a <= high for ((_, low), (_, high)), a in zip(segments, accuracy, strict=True)]
        plt.close("all")
    assert 0.9 < np.mean(inside) < 0.985


def test_an_empty_bin_has_no_bar_and_a_perfect_one_no_gap() -> None:
    sure = calibration.reliability(torch.tensor([[900.0, 0], [900, 0]]), torch.tensor([0, 0]), 5)
    ax = plots.reliability_diagram(sure)
    assert [len(ax.collections[k].get_paths()) for k in range(3)] == [1, 0, 0]


# --- reliability -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("group", ["all", "many", "medium", "few"])
@pytest.mark.parametrize(("temperature", "bins", "equal"), [(1.0, 15, "width"), (2.5, 5, "mass"), (0.25, 1, "width")])
def test_reliability_reads_the_metrics_of_the_chosen_images(group, temperature, bins, equal) -> None:
    nets = {"CE": logits(0), "mixup": logits(1, 1.0)}
    explorer = reliability_explorer(nets, LABELS, COUNTS)
    move(explorer, temperature=temperature, bins=bins, equal=equal, group=group)
    chosen = torch.ones(180, dtype=torch.bool) if group == "all" else metrics.class_groups(COUNTS)[group][LABELS]
    for name, net in nets.items():
        z, y = net[chosen].double() / temperature, LABELS[chosen]
        confidence, predicted = z.softmax(1).max(1)
        gap = 100 * (confidence - (predicted == y).double()).mean()
        error = 100 * calibration.expected_calibration_error(z, y, bins, equal)
        nll = torch.nn.functional.cross_entropy(z, y)
        assert f"{name}: ECE {error:.1f} %" in explorer.summary
        assert f"confidence minus accuracy {gap:+.1f}, NLL {nll:.2f}" in explorer.summary
    assert f"{group} classes ({int(chosen.sum())})" in explorer.summary


def test_a_temperature_multiplies_out_and_a_group_without_images_is_not_offered() -> None:
    plain = reliability_explorer({"net": logits()}, LABELS, [500, 400, 300])
    assert [key for _, key in plain.controls["group"].options] == ["all", "many"]
    hotter = reliability_explorer({"net": 2 * logits()}, LABELS, [500, 400, 300], temperature=2.0)
    assert plain.summary.split(". ", 1)[1] == hotter.summary.split(". ", 1)[1]


@pytest.mark.parametrize(
    ("nets", "labels", "options", "match"),
    [
        ({}, LABELS, {}, "logits"),
        (dict.fromkeys("abc", logits()), LABELS, {}, "logits"),
        ({"a": logits().softmax(1)}, LABELS, {}, "probabilities"),
        ({"a": logits(), "b": logits()[:, :2]}, LABELS % 2, {}, "logits"),
        ({"a": logits()}, LABELS[1:], {}, "labels"),
        ({"a": logits()}, LABELS, {"temperature": 0.0}, "temperature"),
        ({"a": logits()}, LABELS, {"temperature": -1.0}, "temperature"),
        ({"a": logits()}, LABELS, {"bins": 0}, "bins"),
    ],
)
def test_reliability_refuses(nets, labels, options, match) -> None:
    with pytest.raises(ValueError, match=match):
        reliability_explorer(nets, labels, COUNTS, **options)


def test_reliability_refuses_counts_of_other_classes() -> None:
    with pytest.raises(ValueError, match="class_counts"):
        reliability_explorer({"a": logits()}, LABELS, [5, 4])


# --- smoothing -------------------------------------------------------------------------------------------------------


def heights(explorer: Explorer, panel: int) -> list[float]:
    return [bar.get_height() for bar in explorer.figure.axes[panel].patches]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("spread", ["all", "others"])
@pytest.mark.parametrize(("head", "tail"), [(0.4, 0.1), (0.3, 0.3), (0.05, 0.0)])
def test_at_the_drawn_gap_the_loss_is_least(shape, spread, head, tail) -> None:
    """The gradient is 0 there, by autograd; without smoothing the gap is infinite and drawn as the axis's end."""
    explorer = smoothing_explorer(COUNTS, names=["a", "b", "c"])
    move(explorer, head=head, tail=tail, shape=shape, spread=spread)
    loss = losses.LabelAwareSmoothingLoss(COUNTS, head, tail, shape, spread, reduction="none").double()
    for place, c in enumerate([1, 0, 2]):
        gap, infinite = heights(explorer, 1)[place], tail == 0 and c == 2
        z = torch.zeros(1, 3, dtype=torch.float64)
        z[0, c] = gap
        loss(z.requires_grad_(), torch.tensor([c])).sum().backward()
        assert infinite or torch.allclose(z.grad, torch.zeros_like(z), atol=1e-6)
        assert not infinite or gap == 10


def test_a_target_sums_to_one_and_follows_the_class() -> None:
    explorer = smoothing_explorer(COUNTS, names=["a", "b", "c"])
    for rank, name in enumerate("bac"):
        move(explorer, rank=rank)
        target = heights(explorer, 2)
        assert sum(target) == pytest.approx(1) and max(target) == target[rank] and f": {name} (" in explorer.summary


def test_a_tail_above_the_head_is_drawn_as_equal_and_said() -> None:
    explorer = smoothing_explorer(COUNTS)
    move(explorer, head=0.2, tail=0.6)
    equal = smoothing_explorer(COUNTS, head=0.2, tail=0.2)
    assert heights(explorer, 1) == heights(equal, 1) and "not above the head" in explorer.summary


def test_equal_counts_get_the_head_s_smoothing() -> None:
    gaps = heights(smoothing_explorer([7, 7, 7], head=0.4, tail=0.1), 1)
    assert gaps == pytest.approx([math.log((3 * 0.6 + 0.4) / 0.4)] * 3)


@pytest.mark.parametrize(
    ("counts", "options", "match"),
    [
        ([5], {}, "class_counts"),
        ([5, 0], {}, "count"),
        (COUNTS, {"head": 1.0}, "head"),
        (COUNTS, {"tail": -0.1}, "tail"),
        (COUNTS, {"names": ["a"]}, "names"),
        ([1] * 201, {}, "201"),
    ],
)
def test_smoothing_refuses(counts, options, match) -> None:
    with pytest.raises(ValueError, match=match):
        smoothing_explorer(counts, **options)


# --- noise floor -----------------------------------------------------------------------------------------------------


def test_the_noise_is_that_of_the_library_and_the_drawn_test_sets_belong_to_it() -> None:
    explorer = noise_floor_explorer(num_images=500, bins=10)
    drawn = []
    for test_set in range(1, 31):
        move(explorer, test_set=test_set)
        drawn.append(explorer.figure.axes[2].lines[1].get_xdata()[0])
    known = 100 * calibration.noise_draws(500, 10, draws=200).numpy()
    assert explorer.figure.axes[2].lines[0].get_xdata()[0] == pytest.approx(known.mean())
    assert np.mean(drawn) == pytest.approx(known.mean(), abs=3 * known.std() / math.sqrt(30))
    assert sum(bar.get_height() for bar in explorer.figure.axes[2].patches) == 200


def test_one_bin_and_few_images_are_drawn() -> None:
    explorer = noise_floor_explorer(num_images=50, bins=1)
    assert explorer.summary.startswith("50 images, 1 bins")


@pytest.mark.parametrize(("options", "match"), [({"num_images": 0}, "num_images"), ({"bins": 0}, "bins")])
def test_noise_floor_refuses(options, match) -> None:
    with pytest.raises(ValueError, match=match):
        noise_floor_explorer(**options)
