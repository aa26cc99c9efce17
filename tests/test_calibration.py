"""Calibration against loops in Python floats, scikit-learn, and predictors whose probabilities are true."""

import csv
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ltlab import calibration as K
from ltlab import metrics
from ltlab.counts import as_prior
from ltlab.data.places import tables_folder

COUNTS = [400, 120, 60, 15, 5]
C = len(COUNTS)
PRIOR = torch.tensor(COUNTS, dtype=torch.float64) / sum(COUNTS)
GROUPS = metrics.class_groups(COUNTS)
EVERYONE = {"all": torch.ones(C, dtype=torch.bool)}
OF_EACH = EVERYONE | {str(c): torch.arange(C) == c for c in range(C)}


UNIFORM = [1 / C] * C


def drawn(n: int, seed: int = 0, *, prior=UNIFORM, trained=UNIFORM, distance: float = 2.0):
    """Images of `prior`, Gaussian around their classes' centres: the true logits (n, C) for `trained`, and labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.multinomial(torch.as_tensor(prior), n, replacement=True, generator=generator)
    centres = distance * torch.eye(C, dtype=torch.float64)
    x = centres[labels] + torch.randn(n, C, generator=generator, dtype=torch.float64)
    return -(x[:, None] - centres).square().sum(2) / 2 + torch.as_tensor(trained, dtype=torch.float64).log(), labels


LOGITS, LABELS = drawn(300)
TAIL = drawn(2000, trained=PRIOR)  # a balanced test set, and what is true of a long-tailed training set
samples = st.builds(drawn, st.integers(1, 60), st.integers(0, 1000), distance=st.floats(0, 3))
both = pytest.mark.parametrize("equal", ["width", "mass"])


def softmax(row):
    powers = [math.exp(z - max(row)) for z in row]
    return [power / math.fsum(powers) for power in powers]


def loop_bins(confidence, right, bins, equal):
    """Edges, and the (count, accuracy, confidence) of each bin, by a loop over the images."""
    edges = [m / bins for m in range(bins + 1)]
    if equal == "mass":
        edges = [0.0, *(sorted(confidence)[math.ceil(m * len(confidence) / bins) - 1] for m in range(1, bins)), 1.0]
    rows = []
    for m in range(bins):
        members = [(p, r) for p, r in zip(confidence, right, strict=True) if sum(edge < p for edge in edges[1:-1]) == m]
        n = len(members)
        means = [math.fsum(values) / n if n else math.nan for values in zip(*members, strict=True)] or [math.nan] * 2
        rows.append((n, means[1], means[0]))
    return edges, rows


def loop_error(rows):
    return sum(n * abs(accuracy - confidence) for n, accuracy, confidence in rows if n) / sum(row[0] for row in rows)


def top1(logits, labels):
    p = [softmax(row) for row in logits.tolist()]
    return [max(row) for row in p], [row.index(max(row)) == y for row, y in zip(p, labels.tolist(), strict=True)]


# --- bins ------------------------------------------------------------------------------------------------------------


@both
@settings(deadline=None)
@given(sample=samples, bins=st.integers(1, 20))
def test_bins_are_those_of_a_loop(sample, bins, equal):
    confidence, predicted = sample[0].softmax(1).max(1)  # an edge of "mass" is a confidence, so to the bit
    right = (predicted == sample[1]).tolist()
    edges, rows = loop_bins(confidence.tolist(), right, bins, equal)
    found = K.reliability(*sample, bins, equal)
    assert found.edges.tolist() == edges
    table = torch.stack([found.counts, found.accuracy, found.confidence], 1)
    torch.testing.assert_close(table, torch.tensor(rows, dtype=torch.float64), equal_nan=True, rtol=1e-12, atol=0)
    error = K.expected_calibration_error(*sample, bins, equal)
    assert error == pytest.approx(loop_error(rows), abs=1e-12)
    worst = max(abs(accuracy - confidence) for n, accuracy, confidence in rows if n)
    assert K.maximum_calibration_error(*sample, bins, equal) == pytest.approx(worst, abs=1e-12)


@both
@settings(deadline=None, max_examples=30)
@given(sample=samples, bins=st.integers(1, 10))
def test_the_classwise_error_is_the_mean_over_one_against_all(sample, bins, equal):
    p = sample[0].softmax(1).tolist()
    errors = [
        loop_error(loop_bins([row[c] for row in p], [y == c for y in sample[1].tolist()], bins, equal)[1])
        for c in range(C)
    ]
    assert K.classwise_calibration_error(*sample, bins, equal) == pytest.approx(sum(errors) / C, abs=1e-12)


def test_the_classwise_error_of_two_classes_by_hand():
    logits = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.3, 0.7]], dtype=torch.float64).log()
    gaps = (2 / 3) * 0.4 + (1 / 3) * 0.3  # one of two right at 0.9, and 0.3 for what never is, for each class
    assert K.classwise_calibration_error(logits, [0, 1, 1]) == pytest.approx(gaps)


def test_metrics_have_the_same_error():
    assert metrics.expected_calibration_error is K.expected_calibration_error


@both
def test_limits_of_the_error(equal):
    sure = 1000 * torch.eye(C)
    assert K.expected_calibration_error(sure, range(C), equal=equal) == 0.0
    assert K.maximum_calibration_error(sure, [1, 2, 3, 4, 0], equal=equal) == 1.0
    accuracy, confidence = 1 - metrics.top1_error(LOGITS, LABELS), LOGITS.softmax(1).amax(1).mean().item()
    assert K.expected_calibration_error(LOGITS, LABELS, 1, equal) == pytest.approx(abs(accuracy - confidence))
    assert K.expected_calibration_error(3 * LOGITS, LABELS, 15, equal) > 0.1  # over-confident


def test_confidences_that_hold_are_calibrated_and_gaps_of_opposite_sign_cancel_within_a_bin_only():
    p = torch.tensor([0.75] * 4 + [0.6] * 5, dtype=torch.float64)
    logits, labels = torch.stack([p, 1 - p], 1).log(), [0, 0, 0, 1, 0, 0, 0, 1, 1]
    assert K.expected_calibration_error(logits, labels) == pytest.approx(0, abs=1e-12)
    logits = torch.tensor([[0.1, 0.9], [0.7, 0.3]]).log()  # gaps -0.9 and +0.3
    assert K.expected_calibration_error(logits, [0, 0]) == pytest.approx((0.9 + 0.3) / 2)
    assert K.expected_calibration_error(logits, [0, 0], bins=1) == pytest.approx((0.9 - 0.3) / 2)


@pytest.mark.parametrize("other, shares_the_bin", [(0.499, True), (0.501, False)])
def test_a_confidence_on_an_edge_belongs_to_the_bin_below(other, shares_the_bin):
    probabilities = torch.tensor([[0.5, 0.5, 0.0], [other, 0.3, 0.7 - other]], dtype=torch.float64)
    right, wrong = 1 - 0.5, other  # the gaps of the right first and the wrong second image, of opposite sign
    expected = abs(right - wrong) / 2 if shares_the_bin else (right + wrong) / 2
    error = K.expected_calibration_error(probabilities.log(), [0, 1], bins=4)
    assert error == pytest.approx(expected, abs=1e-12)


def test_errors_are_computed_in_float64():
    logits = LOGITS.float()
    assert K.expected_calibration_error(logits, LABELS) == K.expected_calibration_error(logits.double(), LABELS)


def test_equal_mass_holds_equal_numbers_of_images():
    assert K.reliability(LOGITS, LABELS, 7, "mass").counts.tolist() == [43, 43, 43, 43, 43, 43, 42]
    tied = K.reliability(torch.zeros(10, C), [0] * 10, 3, "mass")
    assert tied.counts.tolist() == [10, 0, 0] and tied.accuracy.isnan().tolist() == [False, True, True]


ERRORS = (
    K.expected_calibration_error, K.maximum_calibration_error, K.classwise_calibration_error,
    K.negative_log_likelihood, K.brier_score, K.fit_temperature,
)  # fmt: skip


@pytest.mark.parametrize("error", ERRORS)
def test_the_order_of_images_and_classes_does_not_matter(error):
    images, classes = torch.randperm(300), torch.randperm(C)
    renamed = classes.argsort()[LABELS]
    assert error(LOGITS[images], LABELS[images]) == pytest.approx(error(LOGITS, LABELS), rel=1e-9)
    assert error(LOGITS[:, classes], renamed) == pytest.approx(error(LOGITS, LABELS), rel=1e-9)


# --- noise -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "bins", "floor"), [(100, 15, 0.121), (1000, 15, 0.040), (2000, 15, 0.027)])
def test_the_noise_floor_is_that_of_predictors_whose_probabilities_are_true(n, bins, floor):
    assert K.noise_floor(n, bins) == pytest.approx(floor, rel=0.1)
    logits = [drawn(n, seed) for seed in range(40)]
    confidence = torch.cat([z.softmax(1).amax(1) for z, _ in logits])
    measured = sum(K.expected_calibration_error(*one, bins) for one in logits) / 40
    assert K.noise_floor(n, bins, confidence=confidence) == pytest.approx(measured, rel=0.15)


def test_the_noise_floor_falls_with_images_and_rises_with_bins():
    assert K.noise_floor(400) == pytest.approx(2 * K.noise_floor(1600), rel=0.1)
    assert K.noise_floor(1000, 60) > 1.5 * K.noise_floor(1000, 15)
    assert K.noise_floor(50, confidence=torch.ones(3)) == 0
    draws = K.noise_draws(200, draws=30, seed=1)
    assert draws.shape == (30,) and torch.equal(draws, K.noise_draws(200, draws=30, seed=1))
    assert not torch.equal(draws, K.noise_draws(200, draws=30, seed=2))


# --- scores ----------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(samples)
def test_scores_and_gaps_are_those_of_a_loop(sample):
    logits, labels = sample
    p, y = [softmax(row) for row in logits.tolist()], labels.tolist()
    nll = sum(-math.log(row[c]) for row, c in zip(p, y, strict=True)) / len(y)
    brier = sum((row[k] - (k == c)) ** 2 for row, c in zip(p, y, strict=True) for k in range(C)) / len(y)
    assert K.negative_log_likelihood(logits, labels) == pytest.approx(nll, rel=1e-12)
    assert K.brier_score(logits, labels) == pytest.approx(brier, rel=1e-12)
    gaps = K.signed_gap(logits, labels, GROUPS)
    for name, group in GROUPS.items():
        members = [(a, b) for a, b, c in zip(*top1(logits, labels), y, strict=True) if group[c]]
        mean = sum(a - b for a, b in members) / len(members) if members else math.nan
        assert gaps[name] == pytest.approx(mean, abs=1e-12, nan_ok=True)


def test_scores_are_scikit_learn_s():
    sk = pytest.importorskip("sklearn.metrics")
    p, y = LOGITS.softmax(1).numpy(), LABELS.numpy()
    assert K.negative_log_likelihood(LOGITS, LABELS) == pytest.approx(sk.log_loss(y, p), rel=1e-12)
    assert K.brier_score(LOGITS, LABELS) == pytest.approx(sk.brier_score_loss(y, p, labels=range(C)), rel=1e-12)


def test_limits_of_the_scores():
    sure = 1000 * torch.eye(3)
    assert K.brier_score(sure, [0, 1, 2]) == K.negative_log_likelihood(sure, [0, 1, 2]) == 0
    assert K.brier_score(sure, [1, 2, 0]) == 2 and K.negative_log_likelihood(sure.log(), [1, 2, 0]) == math.inf
    assert K.brier_score(torch.zeros(2, 4), [0, 1]) == 0.75
    assert K.negative_log_likelihood(torch.zeros(2, 4), [0, 1]) == pytest.approx(math.log(4))
    for score in (K.brier_score, K.negative_log_likelihood):  # proper: the true probabilities have the least
        assert score(LOGITS, LABELS) < min(score(LOGITS * k, LABELS) for k in (0.5, 2))


def test_the_mean_gap_is_at_most_the_error_and_hides_those_of_the_groups():
    gaps = K.signed_gap(*TAIL, GROUPS | EVERYONE)
    assert abs(gaps["all"]) <= K.expected_calibration_error(*TAIL)
    assert gaps["few"] > gaps["all"] + 0.1 and abs(gaps["many"]) < 0.05


# --- fitted ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [None, [1 / n for n in COUNTS], [0, 0, 1, 1, 1]])
def test_the_temperature_has_the_least_likelihood_and_scales_with_the_logits(weight):
    logits = 2.5 * LOGITS
    t = K.fit_temperature(logits, LABELS, weight)

    def loss(t):
        w = torch.ones(C, dtype=torch.float64) if weight is None else torch.tensor(weight, dtype=torch.float64)
        return torch.nn.functional.cross_entropy(logits / t, LABELS, w).item()

    assert loss(t) < min(loss(t * k) for k in (0.5, 0.999, 1.001, 2)) and loss(t) <= loss(1.0)
    assert K.fit_temperature(3 * logits, LABELS, weight) == pytest.approx(3 * t, rel=1e-9)
    assert K.fit_temperature(logits / t, LABELS, weight) == pytest.approx(1, rel=1e-9)


def test_the_temperature_of_true_probabilities_is_one():
    logits, labels = drawn(20_000)
    t = K.fit_temperature(logits, labels)
    assert t == pytest.approx(1, abs=0.03)
    assert K.fit_temperature(logits.float(), labels.numpy()) == pytest.approx(t, rel=1e-5)
    assert K.fit_temperature(*TAIL, [1 / n for n in COUNTS]) > K.fit_temperature(*TAIL)


@pytest.mark.parametrize("weight", [None, [1 / n for n in COUNTS]])
def test_vector_scaling_is_the_most_likely_and_scales_with_the_logits(weight):
    scale, bias = K.fit_vector_scaling(LOGITS, LABELS, weight)
    t = K.fit_temperature(LOGITS, LABELS, weight)
    w = torch.ones(C, dtype=torch.float64) if weight is None else torch.tensor(weight, dtype=torch.float64)
    unit = torch.eye(C, dtype=torch.float64)

    def loss(scale, bias):
        likely = len(LABELS) * torch.nn.functional.cross_entropy(scale * LOGITS + bias, LABELS, w)
        return (likely + ((t * scale - 1) ** 2 + bias**2).sum() / 200).item()

    for step in (*(0.01 * unit), *(-0.01 * unit)):
        assert loss(scale, bias) < min(loss(scale + step, bias), loss(scale, bias + step))
    assert bias.sum().item() == pytest.approx(0, abs=1e-6)
    again = K.fit_vector_scaling(3 * LOGITS, LABELS, weight)
    torch.testing.assert_close((3 * again[0], again[1]), (scale, bias), rtol=0, atol=1e-5)


def test_vector_scaling_is_finite_where_a_class_is_separated():
    scale, bias = K.fit_vector_scaling(torch.cat([EYE, EYE]), [0, 1, 2, 0, 2, 2])  # class 0
    assert scale.isfinite().all() and scale.abs().max() < 20 and bias.abs().max() < 20


@pytest.mark.parametrize("prior", [UNIFORM, PRIOR, PRIOR.flip(0), [0.5, 0, 0, 0.25, 0.25]])
def test_a_known_prior_is_found(prior):
    logits, _ = drawn(20_000, prior=prior, trained=PRIOR)
    found = K.estimate_prior(logits, PRIOR.tolist())
    assert found.sum().item() == pytest.approx(1)
    assert (found - torch.as_tensor(prior)).abs().max() < 0.02

    def likelihood(q):
        return (logits.sub(PRIOR.log()).softmax(1) @ q).log().mean()

    assert likelihood(found) >= max(likelihood(0.99 * found + 0.01 * other) for other in torch.eye(C).double())


# --- sets ------------------------------------------------------------------------------------------------------------


def loop_threshold(scores, coverage):
    k = math.ceil((len(scores) + 1) * coverage)
    return sorted(scores, reverse=True)[k - 1] if k <= len(scores) else 0


@pytest.mark.parametrize("kind", ["marginal", "classwise", "prevalence"])
@pytest.mark.parametrize("n", [9, 100, 300])
def test_thresholds_are_those_of_a_loop(kind, n):
    logits, labels = LOGITS[:n], LABELS[:n].tolist()
    p, prior = [softmax(row) for row in logits.tolist()], PRIOR.tolist()
    own = [row[c] for row, c in zip(p, labels, strict=True)]
    expected = {
        "marginal": [loop_threshold(own, 0.9)] * C,
        "classwise": [loop_threshold([v for v, y in zip(own, labels, strict=True) if y == c], 0.9) for c in range(C)],
        "prevalence": [
            q * loop_threshold([v / prior[y] for v, y in zip(own, labels, strict=True)], 0.9) for q in prior
        ],
    }
    found = K.set_thresholds(logits, labels, 0.9, kind, prior=PRIOR)
    assert found.tolist() == pytest.approx(expected[kind], rel=1e-12)
    others, others_labels = drawn(200, seed=1)
    sets, rows = K.prediction_sets(others, found), map(softmax, others.tolist())
    assert sets.tolist() == [[v >= t for v, t in zip(row, found.tolist(), strict=True)] for row in rows]
    covered = K.set_coverage(sets, others_labels, GROUPS)
    members = {name: [i for i, y in enumerate(others_labels.tolist()) if group[y]] for name, group in GROUPS.items()}
    for name, images in members.items():
        assert covered[name] == pytest.approx(sum(sets[i, others_labels[i]].item() for i in images) / len(images))


@pytest.mark.parametrize("kind", ["marginal", "classwise", "prevalence"])
@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_sets_hold_the_label_as_often_as_asked_for(kind, coverage):
    covered = []
    for seed in range(40):
        logits, labels = drawn(1000, seed, prior=PRIOR, trained=PRIOR)
        thresholds = K.set_thresholds(logits[:500], labels[:500], coverage, kind, prior=PRIOR)
        covered.append(
            list(K.set_coverage(K.prediction_sets(logits[500:], thresholds), labels[500:], OF_EACH).values())
        )
    each = torch.tensor(covered).nanmean(0)  # of all images, then of each class
    if kind == "classwise":
        assert (each[1:] > coverage - 0.03).all()
    else:
        assert each[0].item() == pytest.approx(coverage, abs=0.01)
        assert each[5] < coverage - 0.1 if kind == "marginal" else (each[1:].mean() > each[0] - 0.03)


def test_equal_priors_give_marginal_sets_and_classes_without_images_are_in_all_sets():
    marginal = K.set_thresholds(LOGITS, LABELS)
    torch.testing.assert_close(K.set_thresholds(LOGITS, LABELS, kind="prevalence", prior=UNIFORM), marginal)
    known = LABELS != 2
    assert K.set_thresholds(LOGITS[known], LABELS[known], kind="classwise")[2] == 0


# --- bad input -------------------------------------------------------------------------------------------------------

EYE, PERFECT = torch.eye(3), torch.tensor([0, 1, 2])


@pytest.mark.parametrize(
    "attempt, words",
    [
        (lambda: K.reliability(EYE, PERFECT, bins=0), "bins=0"),
        (lambda: K.expected_calibration_error(EYE, PERFECT, bins=1.5), "bins=1.5"),
        (lambda: K.classwise_calibration_error(EYE, PERFECT, equal="size"), "equal.*width.*mass"),
        (lambda: K.signed_gap(EYE, PERFECT, {"few": torch.ones(2, dtype=torch.bool)}), r"groups\['few'\].*\(3,\) bool"),
        (lambda: K.signed_gap(EYE, PERFECT, {"few": torch.tensor([0, 2])}), "int64"),
        (lambda: K.noise_floor(0), "num_images=0"),
        (lambda: K.noise_floor(9, draws=0), "draws=0"),
        (lambda: K.noise_floor(9, confidence=torch.tensor([0.5, 1.5])), "confidence"),
        (lambda: K.fit_temperature(EYE[:1], [0]), "two images"),
        (lambda: K.fit_temperature(EYE.log(), PERFECT), "logits must be finite"),
        (lambda: K.fit_temperature(EYE, PERFECT), "separate"),
        (lambda: K.fit_temperature(EYE, [1, 2, 0]), "larger for the label"),
        (lambda: K.fit_temperature(torch.zeros(3, 3), PERFECT), "separate"),
        (lambda: K.fit_temperature(LOGITS, LABELS, [1, 1]), "weight must be 5"),
        (lambda: K.fit_temperature(LOGITS, LABELS, [-1, 1, 1, 1, 1]), "weight must be"),
        (lambda: K.fit_temperature(EYE, [1, 1, 1], [1, 0, 1]), "weight is 0"),
        (lambda: K.fit_vector_scaling(EYE[:2], [0, 1]), "class 2"),
        (lambda: K.fit_vector_scaling(EYE, [0, 1, 2], [1, 0, 1]), "class 1"),
        (lambda: K.fit_vector_scaling(EYE, PERFECT), "separate"),
        (lambda: K.fit_vector_scaling(EYE.log(), PERFECT), "logits must be finite"),
        (lambda: K.estimate_prior(EYE, [0.5, 0.5, 0.0]), "train_prior must be above 0.*class 2"),
        (lambda: K.estimate_prior(EYE, [5, 3, 2]), "train_prior.*sum 10; divide"),
        (lambda: K.estimate_prior(EYE, [0.5, 0.5]), "train_prior must be 3"),
        (lambda: K.set_thresholds(EYE, PERFECT, 0.9), "3 held-out images.*takes 9"),
        (lambda: K.set_thresholds(LOGITS, LABELS, 1.0), "coverage must be"),
        (lambda: K.set_thresholds(LOGITS, LABELS, kind="each"), "kind"),
        (lambda: K.set_thresholds(LOGITS, LABELS, kind="prevalence"), "prior must be given"),
        (lambda: K.set_thresholds(LOGITS, LABELS, kind="prevalence", prior=[0, 0, 0, 0.5, 0.5]), "prior.*class 0"),
        (lambda: K.prediction_sets(EYE, torch.zeros(2)), "thresholds must be"),
        (lambda: as_prior("prior", [0.5, math.nan, 0.5], 3), "prior"),
        (lambda: as_prior("prior", [1.5, -0.5], 2), "prior"),
        (lambda: as_prior("prior", "abc", 3), "prior must hold"),
    ],
)
def test_bad_input(attempt, words):
    with pytest.raises(ValueError, match=words):
        attempt()


TAKE_LOGITS = {
    **{error.__name__: error for error in ERRORS},
    "signed_gap": lambda z, y: K.signed_gap(z, y, EVERYONE),
    "estimate_prior": lambda z, y: K.estimate_prior(z, UNIFORM),
    "set_thresholds": K.set_thresholds,
    "prediction_sets": lambda z, y: K.prediction_sets(z, torch.zeros(C)),
}


@pytest.mark.parametrize("name", TAKE_LOGITS)
def test_probabilities_and_what_is_no_tensor_are_refused_everywhere(name):
    with pytest.raises(ValueError, match="probabilities"):
        TAKE_LOGITS[name](LOGITS.softmax(1), LABELS)
    with pytest.raises(ValueError, match="finite"):
        TAKE_LOGITS[name](LOGITS * math.nan, LABELS)
    with pytest.raises(TypeError, match="logits must be a tensor"):
        TAKE_LOGITS[name](LOGITS.tolist(), LABELS)


def test_published_calibration_is_a_table_of_percent_whose_sources_are_explained():
    folder = tables_folder("published")
    readme = (folder / "README.md").read_text(encoding="utf-8")
    with (folder / "published_calibration.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({tuple(row.values())[:5] for row in rows}) == len(rows)
    for row in rows:
        assert f"`{row['source']}`" in readme and row["top1_accuracy_percent"]
        assert all(0 < float(value) < 100 for name, value in row.items() if name.endswith("_percent") and value)
