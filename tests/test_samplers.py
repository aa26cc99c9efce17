"""Samplers against brute-force counts, chi-square tests over many seeds, and their limit cases."""

import math
from collections import Counter
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ltlab.samplers import (
    BilateralSampler,
    ClassSampler,
    EpochSampler,
    EqualSampler,
    PowerSampler,
    ProgressivelyBalancedSampler,
    RandomOverSampler,
    RandomUnderSampler,
    RepeatFactorSampler,
    ReversedSampler,
    ShuffledSampler,
    bilateral_probabilities,
    class_probabilities,
    generator_seed,
    progressive_probabilities,
    repeat_factors,
    reversed_probabilities,
)

CIFAR10_LT_100 = [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
COUNTS = [40, 17, 8, 3, 1]
CHI2_DF4, CHI2_DF9 = 23.51, 33.72  # exceeded by chance once in 10,000 with 4 and 9 degrees of freedom

SAMPLERS = {
    "shuffled": ShuffledSampler,
    "power 1": partial(PowerSampler, q=1),
    "power 0": partial(PowerSampler, q=0),
    "reversed": ReversedSampler,
    "bilateral": BilateralSampler,
    "progressive": partial(ProgressivelyBalancedSampler, epochs=10),
    "over": RandomOverSampler,
    "under": RandomUnderSampler,
    "repeat factor": partial(RepeatFactorSampler, threshold=0.4),
}
every_sampler = pytest.mark.parametrize("make", SAMPLERS.values(), ids=SAMPLERS)


def labels_of(counts, seed=0):
    """Labels with these class counts, in mixed order."""
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    return labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]


def chi_square(observed, probabilities):
    expected = observed.sum() * probabilities
    return ((observed - expected) ** 2 / expected).sum().item()


def epochs_of(sampler, epochs):
    """The (epochs, len) indices of several epochs."""
    rows = []
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        rows.append(sampler.epoch_indices())
    return torch.stack(rows)


# --- class probabilities ---------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    counts=st.lists(st.integers(1, 10**9), min_size=1, max_size=20),
    q=st.floats(0, 3),
)
def test_class_probabilities_are_the_formula(counts, q):
    powers = [float(n) ** q for n in counts]
    expected = torch.tensor([power / math.fsum(powers) for power in powers], dtype=torch.float64)
    torch.testing.assert_close(class_probabilities(counts, q), expected, rtol=1e-12, atol=0)


def test_class_probabilities_limit_cases():
    counts = torch.tensor(CIFAR10_LT_100, dtype=torch.float64)
    torch.testing.assert_close(class_probabilities(CIFAR10_LT_100, 1), counts / 12406, rtol=1e-15, atol=0)
    assert class_probabilities(CIFAR10_LT_100, 0).tolist() == [0.1] * 10
    assert class_probabilities([7], 2).tolist() == [1.0]
    torch.testing.assert_close(reversed_probabilities([4, 2, 1]), torch.tensor([1, 2, 4]).double() / 7)
    torch.testing.assert_close(bilateral_probabilities([4, 2, 1]), torch.tensor([5, 4, 5]).double() / 14)
    torch.testing.assert_close(class_probabilities([9, 4, 1], 0.5), torch.tensor([3, 2, 1]).double() / 6)


@pytest.mark.parametrize("q, expected", [(1e3, [1.0, 0.0, 0.0]), (1e308, [1.0, 0.0, 0.0])])
def test_class_probabilities_do_not_overflow(q, expected):
    assert class_probabilities([5000, 500, 50], q).tolist() == expected


@settings(deadline=None)
@given(counts=st.lists(st.integers(1, 10**6), min_size=1, max_size=20), progress=st.floats(0, 1))
def test_progressive_probabilities_lie_on_the_line(counts, progress):
    probabilities = progressive_probabilities(counts, progress)
    for p, n in zip(probabilities.tolist(), counts, strict=True):
        assert p == pytest.approx((1 - progress) * n / sum(counts) + progress / len(counts), rel=1e-12)


# --- how often each class and each image is drawn --------------------------------------------------------------------


@pytest.mark.parametrize("q", [0, 0.25, 0.5, 1, 2])
def test_power_sampler_draws_classes_by_the_formula(q):
    labels, probabilities, df = labels_of(COUNTS), class_probabilities(COUNTS, q), 4
    histograms = torch.stack(
        [
            torch.bincount(labels[PowerSampler(labels, q, num_samples=2000, seed=seed).epoch_indices()], minlength=5)
            for seed in range(200)
        ]
    )
    assert chi_square(histograms.sum(0), probabilities) < CHI2_DF4
    # Independent draws also vary as much as they should: the statistic's mean is df, its variance 2 df.
    mean = sum(chi_square(histogram, probabilities) for histogram in histograms) / 200
    assert abs(mean - df) < 4 * math.sqrt(2 * df / 200)
    if q < 2:
        assert chi_square(histograms.sum(0), class_probabilities(COUNTS, q + 0.02)) > CHI2_DF4


INVERSE = 1 / torch.tensor(COUNTS, dtype=torch.float64)


@pytest.mark.parametrize(
    ("sampler", "expected"),
    [
        (ReversedSampler, INVERSE / INVERSE.sum()),
        (BilateralSampler, (1 / INVERSE / sum(COUNTS) + INVERSE / INVERSE.sum()) / 2),
    ],
)
def test_samplers_by_the_inverse_count(sampler, expected):
    labels = labels_of(COUNTS)
    histogram = torch.bincount(labels[epochs_of(sampler(labels, num_samples=2000), 100).flatten()])
    assert chi_square(histogram, expected) < CHI2_DF4


@pytest.mark.parametrize("q", [0, 1])
def test_images_within_a_class_are_drawn_uniformly(q):
    labels = labels_of([10, 1])
    images = epochs_of(PowerSampler(labels, q, num_samples=1000), 100).flatten()
    histogram = torch.bincount(images, minlength=11)[labels == 0]
    assert chi_square(histogram, torch.full((10,), 0.1, dtype=torch.float64)) < CHI2_DF9


def test_successive_draws_are_independent():
    labels = labels_of([3, 2, 1])
    classes = labels[PowerSampler(labels, 0, num_samples=90_001).epoch_indices()]
    pairs = torch.bincount(3 * classes[:-1] + classes[1:], minlength=9)
    assert chi_square(pairs, torch.full((9,), 1 / 9, dtype=torch.float64)) < CHI2_DF9


def test_progressive_sampler_moves_from_instance_to_class_balanced():
    labels = labels_of(COUNTS)
    sampler = ProgressivelyBalancedSampler(labels, epochs=5, num_samples=100_000)
    for epoch in range(5):
        sampler.set_epoch(epoch)
        assert torch.equal(sampler.probabilities(), progressive_probabilities(COUNTS, epoch / 4))
        assert chi_square(torch.bincount(labels[sampler.epoch_indices()]), sampler.probabilities()) < CHI2_DF4
    assert torch.equal(sampler.probabilities(), class_probabilities(COUNTS, 0))
    sampler.set_epoch(0)
    assert torch.equal(sampler.probabilities(), class_probabilities(COUNTS, 1))
    alone = ProgressivelyBalancedSampler(labels, epochs=1).probabilities()
    assert torch.equal(alone, class_probabilities(COUNTS, 1))


def test_shuffled_sampler_visits_every_image_once_in_any_order():
    sampler = ShuffledSampler(labels_of([5, 3, 2]))
    rows = epochs_of(sampler, 2000)
    assert torch.equal(rows.sort(dim=1).values, torch.arange(10).expand(2000, 10))
    for place in (0, 9):
        assert chi_square(torch.bincount(rows[:, place]), torch.full((10,), 0.1, dtype=torch.float64)) < CHI2_DF9


# --- over- and under-sampling ----------------------------------------------------------------------------------------


@settings(deadline=None)
@given(counts=st.lists(st.integers(1, 30), min_size=1, max_size=8), seed=st.integers(0, 2**32 - 1))
def test_over_sampling_repeats_images_up_to_the_largest_class(counts, seed):
    labels = labels_of(counts, seed=1)
    times = Counter(RandomOverSampler(labels, seed=seed))
    for c, n in enumerate(counts):
        per_image = [times[i] for i in range(len(labels)) if labels[i] == c]
        floor, remainder = divmod(max(counts), n)
        assert sorted(per_image) == [floor] * (n - remainder) + [floor + 1] * remainder


@settings(deadline=None)
@given(counts=st.lists(st.integers(1, 30), min_size=1, max_size=8), seed=st.integers(0, 2**32 - 1))
def test_under_sampling_keeps_as_many_images_as_the_smallest_class(counts, seed):
    labels = labels_of(counts, seed=1)
    images = RandomUnderSampler(labels, seed=seed).epoch_indices()
    assert torch.bincount(labels[images]).tolist() == [min(counts)] * len(counts)
    assert len(set(images.tolist())) == len(images)


def test_over_sampling_draws_its_remainder_uniformly():
    labels = labels_of([14, 10])  # 4 of the 10 images of class 1 appear a second time
    rows = epochs_of(RandomOverSampler(labels), 1000)
    second = torch.bincount(rows.flatten())[labels == 1] - 1000
    # Subsets of 4 of 10 vary by (1 - 4/10) * 10/9 of what independent draws vary.
    assert second.sum() == 4000
    assert chi_square(second, torch.full((10,), 0.1, dtype=torch.float64)) / (0.6 * 10 / 9) < CHI2_DF9


def test_under_sampling_draws_a_new_uniform_subset_every_epoch():
    labels = labels_of([10, 4])
    rows = epochs_of(RandomUnderSampler(labels), 1000)
    times = torch.bincount(rows.flatten())[labels == 0]
    assert (times > 0).all()
    assert chi_square(times, torch.full((10,), 0.1, dtype=torch.float64)) / (0.6 * 10 / 9) < CHI2_DF9


@pytest.mark.parametrize("make", [RandomOverSampler, RandomUnderSampler])
def test_equal_classes_are_mixed_through_the_epoch(make):
    labels = labels_of([4, 4, 4])
    first = labels[epochs_of(make(labels), 1500)[:, 0]]
    assert chi_square(torch.bincount(first), torch.full((3,), 1 / 3, dtype=torch.float64)) < CHI2_DF4


# --- epochs, seeds, processes ----------------------------------------------------------------------------------------


SETS = [[0], [0, 0, 1], [], [0, 2], [1], [0], [0], [0, 1, 0], [0], [0]]


@pytest.mark.parametrize("form", [list, torch.tensor, set, tuple])
def test_repeat_factors_are_the_formula_over_the_classes_of_an_image(form):
    of_image, of_class = repeat_factors([form(classes) for classes in SETS], 0.5)
    expected = [max(1.0, math.sqrt(0.5 / f)) for f in (0.8, 0.3, 0.1)]
    assert of_class.tolist() == pytest.approx(expected)
    assert of_image.tolist() == pytest.approx([max([expected[c] for c in classes], default=1.0) for classes in SETS])


def test_repeat_factor_limits():
    y = labels_of(COUNTS)
    of_image, of_class = repeat_factors(y, 0.3)
    assert of_image.equal(of_class[y])  # with one class per image
    assert of_class.tolist() == pytest.approx([max(1, math.sqrt(0.3 * 69 / n)) for n in COUNTS])
    for threshold in (0, 1 / 69):
        sampler = RepeatFactorSampler(y, threshold)
        assert sorted(sampler) == list(range(69))


def test_repeat_factor_epochs_round_each_image_down_or_up_and_average_to_its_factor():
    sampler = RepeatFactorSampler(SETS, 0.5)
    times = torch.stack([torch.bincount(row, minlength=10) for row in epochs_of(sampler, 3000)]).double()
    factors = repeat_factors(SETS, 0.5)[0]
    assert len(sampler) == math.ceil(factors.sum()) and (times.sum(1) == len(sampler)).all()
    scaled = factors * len(sampler) / factors.sum()
    assert (times >= scaled.floor()).all() and (times <= scaled.ceil()).all()
    torch.testing.assert_close(times.mean(0), scaled, atol=0.04, rtol=0)


@pytest.mark.parametrize(
    ("labels", "threshold", "message"),
    [([[0], [1]], 1.5, "threshold=1.5"), ([[0], [1]], math.nan, "threshold=nan"), ([0, 1], "0.1", "threshold='0.1'"),
     ([[], []], 0.1, "no class at all"), ([[0], [-1]], 0.1, r"labels\[1\]"), ([[0], [0.5]], 0.1, r"labels\[1\]")],
)  # fmt: skip
def test_bad_repeat_factors(labels, threshold, message):
    with pytest.raises(ValueError, match=message):
        RepeatFactorSampler(labels, threshold)


@every_sampler
def test_sequence_is_a_function_of_seed_and_epoch(make):
    labels = labels_of(CIFAR10_LT_100[4:])

    def sequence(seed, epoch):
        sampler = make(labels, seed=seed)
        sampler.set_epoch(epoch)
        return sampler.epoch_indices().tolist()

    walked = make(labels, seed=3)
    rows = epochs_of(walked, 8).tolist()
    assert rows[7] == sequence(3, 7)
    assert list(walked) == list(walked) == rows[7]
    assert len({tuple(row) for row in rows}) == 8
    assert sequence(0, 1) != sequence(1, 0)
    assert sequence(0, 0) == list(make(labels))


def test_every_seed_and_epoch_has_its_own_generator():
    seeds = torch.arange(1000)[:, None]
    mixed = ((seeds + 1) * 2654435769 + torch.arange(1000)) % 2**32
    assert mixed[7, 11] == generator_seed(7, 11)
    assert len(mixed.unique()) == 1_000_000
    assert generator_seed(0, 1) != generator_seed(1, 0)
    # No multiple below 1,000 comes within a million of 0, so epochs below a million cannot make two seeds meet.
    gaps = torch.arange(1, 1000) * 2654435769 % 2**32
    assert torch.minimum(gaps, 2**32 - gaps).min() > 1_000_000


@every_sampler
@pytest.mark.parametrize("num_replicas", [1, 2, 3, 5])
def test_ranks_are_disjoint_and_together_the_single_sequence(make, num_replicas):
    labels = labels_of([24, 12, 6, 3, 2])  # 47 images: the last draws are left out for 2, 3 and 5 processes

    def part_of(num_replicas, rank):
        sampler = make(labels, seed=9, num_replicas=num_replicas, rank=rank)
        sampler.set_epoch(4)
        return sampler.epoch_indices()

    whole = part_of(1, 0)
    parts = torch.stack([part_of(num_replicas, rank) for rank in range(num_replicas)], dim=1)
    kept = len(whole) // num_replicas * num_replicas
    assert torch.equal(parts.flatten(), whole[:kept])


def test_num_samples_sets_the_length_over_all_processes():
    assert len(PowerSampler(labels_of(COUNTS), 0.5)) == 69
    assert len(PowerSampler(labels_of(COUNTS), 0.5, num_samples=1000)) == 1000
    assert len(PowerSampler(labels_of(COUNTS), 0.5, num_samples=1000, num_replicas=3, rank=2)) == 333


def test_a_single_class_and_a_single_image():
    for make in SAMPLERS.values():
        assert list(make([0])) == [0]


def test_repr_shows_the_knobs():
    labels = labels_of(COUNTS)
    assert repr(PowerSampler(labels, q=0.5)) == "PowerSampler(q=0.5)"
    assert repr(ShuffledSampler(labels)) == "ShuffledSampler()"
    assert repr(ReversedSampler(labels)) == "ReversedSampler()"
    assert repr(RandomOverSampler(labels)) == "RandomOverSampler()"
    assert repr(ProgressivelyBalancedSampler(labels, 200)) == "ProgressivelyBalancedSampler(epochs=200)"


def test_a_custom_sampler_defines_one_method():
    class Backwards(EpochSampler):
        def draw(self, generator):
            return torch.arange(self.num_samples).flip(0)

    assert list(Backwards(5, num_replicas=2, rank=1)) == [3, 1]
    with pytest.raises(NotImplementedError, match=r"draw\(generator\)"):
        EpochSampler(5).epoch_indices()
    with pytest.raises(NotImplementedError, match=r"probabilities\(\)"):
        ClassSampler([0, 1]).epoch_indices()
    with pytest.raises(NotImplementedError, match=r"images_per_class\(counts\)"):
        EqualSampler([0, 1])


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("q", [-1, math.nan, math.inf])
def test_bad_exponent(q):
    for read in (lambda: class_probabilities(COUNTS, q), lambda: PowerSampler([0, 1], q)):
        with pytest.raises(ValueError, match=r"q must be.*ReversedSampler"):
            read()


@pytest.mark.parametrize("progress", [-1e-9, 1.001, math.nan])
def test_bad_progress(progress):
    with pytest.raises(ValueError, match="progress"):
        progressive_probabilities(COUNTS, progress)


@pytest.mark.parametrize(
    "labels, message",
    [
        ([], r"shape \(0,\)"),
        ([0, -1], "got -1"),
        ([1, 2], "no image of class 0"),
        ([0, 1, 10**15], "no image of class 2"),
    ],
)
@every_sampler
def test_bad_labels(make, labels, message):
    with pytest.raises(ValueError, match=rf"labels.*{message}"):
        make(labels)


@every_sampler
@pytest.mark.parametrize(
    "name, knobs",
    [
        ("seed", {"seed": 2**32}),
        ("num_replicas", {"num_replicas": 0}),
        ("num_replicas", {"num_replicas": 10_000}),
        ("rank", {"rank": 2, "num_replicas": 2}),
    ],
)
def test_bad_seed_and_processes(make, name, knobs):
    with pytest.raises(ValueError, match=f"{name}=.* must be"):
        make(labels_of(COUNTS), **knobs)


@every_sampler
@pytest.mark.parametrize("epoch", [-1, 1.5])
def test_bad_epoch(make, epoch):
    sampler = make(labels_of(COUNTS))
    with pytest.raises(ValueError, match=r"epoch=.* must be"):
        sampler.set_epoch(epoch)
    assert sampler.epoch == 0


@pytest.mark.parametrize("num_samples", [0, -5, 2.5])
def test_bad_num_samples(num_samples):
    for make in (partial(PowerSampler, q=1), ReversedSampler, partial(ProgressivelyBalancedSampler, epochs=2)):
        with pytest.raises(ValueError, match="num_samples"):
            make([0, 1], num_samples=num_samples)


def test_progressive_sampler_ends_with_its_last_epoch():
    for epochs in (0, 2.5):
        with pytest.raises(ValueError, match=f"epochs={epochs}"):
            ProgressivelyBalancedSampler([0, 1], epochs)
    sampler = ProgressivelyBalancedSampler([0, 1], epochs=5)
    sampler.set_epoch(4)
    with pytest.raises(ValueError, match=r"epoch=5 .* 0 to 4"):
        sampler.set_epoch(5)
