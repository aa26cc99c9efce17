"""Metrics against loops over the images, and their limit cases."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ltlab.metrics import (
    balanced_error,
    class_groups,
    confusion_matrix,
    error_under,
    expected_calibration_error,
    group_accuracy,
    per_class_accuracy,
    top1_error,
)

CIFAR10_LT_100 = [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
CIFAR100_LT_100 = [int(500 * 0.01 ** (j / 99)) for j in range(100)]

METRICS = {
    "top1_error": top1_error,
    "balanced_error": balanced_error,
    "per_class_accuracy": per_class_accuracy,
    "confusion_matrix": confusion_matrix,
    "ece": expected_calibration_error,
    "error_under": lambda logits, labels: error_under(logits, labels, [1, 0, 0]),
    "group_accuracy": lambda logits, labels: group_accuracy(logits, labels, [200, 50, 5]),
}
every_metric = pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)


@st.composite
def predictions(draw):
    """Logits (N, C) and labels (N,) of a classifier that is right more often than not."""
    n, c, seed = draw(st.integers(1, 60)), draw(st.integers(1, 7)), draw(st.integers(0, 2**32 - 1))
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(c, (n,), generator=generator)
    logits = torch.randn(n, c, generator=generator, dtype=torch.float64)
    return logits + 1.5 * torch.nn.functional.one_hot(labels, c), labels


def loop_confusion(logits, labels):
    """Counts of (true, predicted) by a loop over the images."""
    matrix = [[0] * logits.shape[1] for _ in range(logits.shape[1])]
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        matrix[label][row.index(max(row))] += 1
    return matrix


# --- right or wrong --------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(predictions())
def test_confusion_matrix_is_the_count_of_a_loop(sample):
    logits, labels = sample
    matrix = confusion_matrix(logits, labels)
    assert matrix.tolist() == loop_confusion(logits, labels)
    assert matrix.dtype == torch.int64


@settings(deadline=None)
@given(predictions())
def test_error_and_accuracy_follow_from_the_confusion_matrix(sample):
    logits, labels = sample
    matrix = confusion_matrix(logits, labels)
    assert matrix.sum() == len(labels)
    assert torch.equal(matrix.sum(dim=1), torch.bincount(labels, minlength=logits.shape[1]))
    assert torch.equal(matrix.sum(dim=0), torch.bincount(logits.argmax(dim=1), minlength=logits.shape[1]))
    assert top1_error(logits, labels) == (len(labels) - matrix.trace().item()) / len(labels)
    accuracy = per_class_accuracy(logits, labels)
    expected = matrix.diagonal().double() / matrix.sum(dim=1)
    assert accuracy.dtype == torch.float64
    assert torch.equal(accuracy.isnan(), expected.isnan())
    assert torch.equal(accuracy.nan_to_num(2), expected.nan_to_num(2))
    assert balanced_error(logits, labels) == pytest.approx(1 - expected[~expected.isnan()].mean().item(), abs=1e-11)


def test_the_balanced_error_counts_classes_not_images():
    always_first = torch.tensor([[1.0, 0.0, 0.0]]).expand(10, 3)
    labels = [0] * 8 + [1] * 2  # no image of class 2
    assert top1_error(always_first, labels) == 0.2 and balanced_error(always_first, labels) == 0.5


@settings(deadline=None)
@given(predictions())
def test_the_error_under_a_prior_is_the_mean_over_classes_drawn_by_it(sample):
    logits, labels = sample
    matrix, n = loop_confusion(logits, labels), len(labels)
    images = [sum(row) for row in matrix]
    seen = [count > 0 for count in images]
    uniform, empirical = [one / sum(seen) for one in seen], [count / n for count in images]
    assert error_under(logits, labels, uniform) == pytest.approx(balanced_error(logits, labels), abs=1e-12)
    assert error_under(logits, labels, empirical) == pytest.approx(top1_error(logits, labels), abs=1e-12)
    reversed_prior = [p * one for p, one in zip(empirical[::-1], seen, strict=True)]
    if total := sum(reversed_prior):
        loop = sum(p / total * (1 - matrix[c][c] / images[c]) for c, p in enumerate(reversed_prior) if p)
        assert error_under(logits, labels, [p / total for p in reversed_prior]) == pytest.approx(loop, abs=1e-11)


@pytest.mark.parametrize(
    "prior, words", [([0.5, 0.4, 0.2], "prior.*sum 1.1"), ([0.5, 0.5], "prior must be 3"), ([0, 0.5, 0.5], "class 2")]
)
def test_priors_that_cannot_be_measured(prior, words):
    with pytest.raises(ValueError, match=words):
        error_under(torch.eye(3)[[0, 1]], [0, 1], prior)


def test_the_balanced_error_has_the_digits_of_the_top1_error():
    """Both are 805 of 2,000; the mean over classes comes out as 0.4025000000000001, which prints as 40.3 %."""
    labels = torch.arange(10).repeat_interleave(200)
    wrong = torch.tensor([0, 10, 2, 5, 12, 14, 170, 192, 200, 200])
    answers = torch.where(torch.arange(2000) % 200 < wrong.repeat_interleave(200), (labels + 1) % 10, labels)
    logits = torch.nn.functional.one_hot(answers, 10).double()
    assert balanced_error(logits, labels) == top1_error(logits, labels) == 0.4025


def test_ties_go_to_the_first_class():
    assert confusion_matrix(torch.zeros(2, 3), [0, 2]).tolist() == [[1, 0, 0], [0, 0, 0], [1, 0, 0]]


def test_accuracy_of_an_absent_class_is_nan():
    accuracy = per_class_accuracy(torch.eye(3)[[0, 2, 1]], [0, 2, 2])
    assert accuracy[[0, 2]].tolist() == [1.0, 0.5]
    assert accuracy[1].isnan()


def test_num_classes_adds_absent_classes():
    logits, labels = torch.eye(2), [0, 0]
    accuracy = per_class_accuracy(logits, labels, num_classes=4)
    assert accuracy[0] == 0.5
    assert accuracy[1:].isnan().tolist() == [True] * 3
    assert confusion_matrix(logits, labels, num_classes=3).tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert torch.equal(confusion_matrix(logits, labels, num_classes=2), confusion_matrix(logits, labels))


@every_metric
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_logits_of_any_float_type_with_gradient_and_labels_of_any_kind(metric, dtype):
    logits = torch.tensor([[2.0, 0, 1], [0, 1, 0], [0, 4, 1]], dtype=dtype)
    frozen = np.array([0, 1, 2])
    frozen.flags.writeable = False
    expected = str(metric(logits, torch.tensor([0, 1, 2])))
    assert str(metric(logits.clone().requires_grad_(), [0, 1, 2])) == expected
    assert str(metric(logits, frozen)) == expected
    assert str(metric(logits, torch.tensor([0, 1, 2], dtype=torch.uint8))) == expected


def test_labels_of_a_narrow_type_do_not_overflow():
    labels = torch.arange(20, dtype=torch.uint8)
    assert torch.equal(confusion_matrix(torch.eye(20), labels), torch.eye(20, dtype=torch.int64))


@every_metric
def test_a_class_ruled_out_by_minus_infinity_is_allowed(metric):
    labels = [0, 1]
    masked = torch.tensor([[1.0, 0, -math.inf], [0, 2, -math.inf]])
    assert str(metric(masked, labels)) == str(metric(masked.clamp(min=-1e4), labels))


# --- for whom --------------------------------------------------------------------------------------------------------


def test_groups_at_their_bounds():
    groups = class_groups([101, 100, 20, 19, 0])
    assert groups["many"].tolist() == [True, False, False, False, False]
    assert groups["medium"].tolist() == [False, True, True, False, False]
    assert groups["few"].tolist() == [False, False, False, True, True]
    assert list(groups) == ["many", "medium", "few"]


def test_groups_of_cifar_lt():
    assert {name: int(group.sum()) for name, group in class_groups(CIFAR100_LT_100).items()} == {
        "many": 35, "medium": 35, "few": 30,
    }  # fmt: skip
    assert [int(group.sum()) for group in class_groups(CIFAR10_LT_100).values()] == [8, 2, 0]


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 300), min_size=1, max_size=30),
    st.tuples(st.integers(0, 200), st.integers(0, 200)).map(sorted),
)
def test_every_class_is_in_exactly_one_group(counts, bounds):
    few, many = bounds
    for convert in (list, np.array, torch.tensor):
        groups = class_groups(convert(counts), many=many, few=few)
        assert torch.stack(list(groups.values())).sum(dim=0).tolist() == [1] * len(counts)


def test_few_shot_accuracy_of_cifar10_lt_is_nan():
    labels = torch.arange(10).repeat(3)
    accuracy = group_accuracy(torch.eye(10)[labels], labels, CIFAR10_LT_100)
    assert accuracy["many"] == accuracy["medium"] == 1.0
    assert math.isnan(accuracy["few"])
    assert all(isinstance(value, float) for value in accuracy.values())


def test_group_accuracy_is_a_mean_over_classes_not_images():
    labels = torch.tensor([0] * 9 + [1] + [2])
    predicted = torch.tensor([0] * 9 + [2] + [2])  # class 0 all right, class 1 all wrong, class 2 all right
    accuracy = group_accuracy(torch.eye(3)[predicted], labels, [500, 400, 30])
    assert accuracy["many"] == 0.5
    assert accuracy["medium"] == 1.0


def test_classes_without_test_images_are_left_out_of_their_group():
    accuracy = group_accuracy(torch.eye(3)[[0, 0]], [0, 0], [500, 400, 30])
    assert accuracy["many"] == 1.0
    assert math.isnan(accuracy["medium"])
    assert math.isnan(accuracy["few"])


# --- bad input -------------------------------------------------------------------------------------------------------


@every_metric
@pytest.mark.parametrize(
    "logits, labels, message",
    [
        (torch.zeros(0, 3), [], r"logits must be \(N, C\)"),
        (torch.zeros(3), [0, 1, 2], r"logits must be \(N, C\)"),
        (torch.zeros(2, 3), [0], "labels must be 2, .* got 1"),
        (torch.zeros(2, 3), [[0], [1]], r"labels must .* shape \(2, 1\)"),
        (torch.zeros(2, 3), [0, 3], "labels must be in 0 .. 2.* got 3"),
        (torch.zeros(2, 3), [-1, 1], "labels must .* got -1"),
        (torch.tensor([[0.0, 0, 0], [0, math.nan, 1]]), [0, 1], "got nan in row 1"),
        (torch.tensor([[0.0, math.inf, 0], [0, 0, 1]]), [0, 1], "got inf in row 0"),
        (torch.full((2, 3), -math.inf), [0, 1], "got -inf in row 0"),
    ],
)
def test_bad_logits_and_labels(metric, logits, labels, message):
    with pytest.raises(ValueError, match=message):
        metric(logits, labels)


@every_metric
def test_logits_must_be_a_tensor(metric):
    with pytest.raises(TypeError, match="logits must be a tensor"):
        metric([[0.0, 1.0, 2.0]], [0])


@every_metric
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_probabilities_are_not_logits(metric, dtype):
    logits = 3 * torch.randn(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.arange(50) % 3
    for n in (2, 50):
        probabilities = logits[:n].softmax(1).to(dtype)
        with pytest.raises(ValueError, match=r"probabilities.*log"):
            metric(probabilities, labels[:n])
        metric(probabilities.log(), labels[:n])
    metric(logits[:1].softmax(1).to(dtype), labels[:1])  # one row sums to one by chance


@every_metric
@pytest.mark.parametrize(
    "logits",
    [
        torch.eye(3), torch.zeros(3, 3), 2 * torch.eye(3) / 2, torch.full((3, 3), 0.35), torch.tensor([[1, 0, 0]] * 3),
        torch.tensor([[0.2, 0.3, 0.5], [0.2, 0.3, 0.5], [0.2, 0.3, 0.6]]),
        torch.tensor([[0.2, 0.3, 0.5], [0.6, 0.5, -0.1], [0.2, 0.3, 0.5]]),
    ],
    ids=str,
)  # fmt: skip
def test_rows_that_are_not_all_probabilities_are_logits(metric, logits):
    metric(logits, [0, 1, 2])


@pytest.mark.parametrize("metric", [per_class_accuracy, confusion_matrix])
@pytest.mark.parametrize("num_classes", [2, 3.5])
def test_bad_num_classes(metric, num_classes):
    with pytest.raises(ValueError, match=r"num_classes=.* at least 3"):
        metric(torch.eye(3), [0, 1, 2], num_classes=num_classes)


def test_class_counts_of_another_data_set():
    with pytest.raises(ValueError, match="class_counts must hold one count per column of logits, 3, got 10"):
        group_accuracy(torch.eye(3), [0, 1, 2], CIFAR10_LT_100)


@pytest.mark.parametrize("many, few", [(20, 100), (math.nan, 20)])
def test_bounds_the_wrong_way_round(many, few):
    with pytest.raises(ValueError, match="few must be at most many"):
        class_groups([1, 2, 3], many=many, few=few)
