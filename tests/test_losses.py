"""Every loss against a loop in plain Python, PyTorch's own losses, its limit cases and its error messages."""

import copy
import math
import pickle
from decimal import Decimal, getcontext
from math import exp, log

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torchvision.ops import sigmoid_focal_loss

from ltlab import losses as L

COUNTS = [500, 120, 33, 8, 2]
N, C = 12, len(COUNTS)
N_MAX, N_MIN, N_ALL = max(COUNTS), min(COUNTS), sum(COUNTS)
DRAWS = torch.rand(N, C, generator=torch.Generator().manual_seed(7))  # what EqualizationLoss draws in `make`


# The oracle: the cost of one sample (a list of C logits) if its label were c, written from the definitions.


def nll(z, c):
    return log(sum(exp(z_k) for z_k in z)) - z[c]


def sigmoid(u):
    return 1 / (1 + exp(-u))


def focal_sigmoid(z, c, gamma, alpha=None):
    total = 0.0
    for k in range(C):
        q = sigmoid(z[k]) if k == c else 1 - sigmoid(z[k])
        a = 1.0 if alpha is None else alpha[k] if k == c else 1 - alpha[k]
        total += -a * (1 - q) ** gamma * log(q)
    return total


def focal_softmax(z, c, gamma, alpha=None):
    return (1 if alpha is None else alpha[c]) * (1 - exp(-nll(z, c))) ** gamma * nll(z, c)


def smoothed(z, c, s):
    return (1 - s) * nll(z, c) + s * sum(nll(z, k) for k in range(C)) / C


def label_aware(z, c):
    return smoothed(z, c, 0.1 + (0.4 - 0.1) * math.sin((COUNTS[c] - N_MIN) * math.pi / (2 * (N_MAX - N_MIN))))


def ldam(z, c):
    margin = 0.5 * COUNTS[c] ** -0.25 / N_MIN**-0.25
    return nll([30 * (z_k - margin * (k == c)) for k, z_k in enumerate(z)], c)


def equalized(z, c, row):
    kept = [k for k in range(C) if k == c or not (COUNTS[k] / N_ALL < 0.02 and DRAWS[row, k] < 0.7)]
    return log(sum(exp(z[k]) for k in kept)) - z[c]


def class_balanced(beta):
    weights = [(1 - beta) / (1 - beta**n) for n in COUNTS]
    return [w / sum(weights) * C for w in weights]


def smoothed_others(z, c, s):
    return (1 - s) * nll(z, c) + s * sum(nll(z, k) for k in range(C) if k != c) / (C - 1)


GRW = [n**-1.2 * C / sum(k**-1.2 for k in COUNTS) for n in COUNTS]
ALPHAS = [0.2, 0.3, 0.4, 0.5, 0.9]
ONES = [1.0] * C
CB = class_balanced(0.99)

# name: (the loss, the oracle's cost(z, c, row), the oracle's weights)
CASES = {
    "cross_entropy": (L.CrossEntropyLoss, lambda z, c, row: nll(z, c), ONES),
    "cost_sensitive": (
        lambda **r: L.CostSensitiveLoss(COUNTS, 0.7, **r),
        lambda z, c, row: nll(z, c), [(N_MIN / n) ** 0.7 for n in COUNTS],
    ),
    "generalized_reweight": (
        lambda **r: L.GeneralizedReweightLoss(COUNTS, 1.2, **r), lambda z, c, row: nll(z, c), GRW,
    ),
    "class_balanced": (lambda **r: L.ClassBalancedLoss(COUNTS, 0.99, **r), lambda z, c, row: nll(z, c), CB),
    "focal_sigmoid": (lambda **r: L.FocalLoss(1.5, **r), lambda z, c, row: focal_sigmoid(z, c, 1.5), ONES),
    "focal_sigmoid_alpha": (
        lambda **r: L.FocalLoss(2, 0.25, **r), lambda z, c, row: focal_sigmoid(z, c, 2, [0.25] * C), ONES,
    ),
    "focal_sigmoid_alphas": (
        lambda **r: L.FocalLoss(0.5, ALPHAS, **r), lambda z, c, row: focal_sigmoid(z, c, 0.5, ALPHAS), ONES,
    ),
    "focal_softmax": (
        lambda **r: L.FocalLoss(1.5, form="softmax", **r), lambda z, c, row: focal_softmax(z, c, 1.5), ONES,
    ),
    "focal_softmax_alpha": (
        lambda **r: L.FocalLoss(0.5, 3.0, "softmax", **r), lambda z, c, row: focal_softmax(z, c, 0.5, [3.0] * C), ONES,
    ),
    "focal_softmax_alphas": (
        lambda **r: L.FocalLoss(2, ALPHAS, "softmax", **r), lambda z, c, row: focal_softmax(z, c, 2, ALPHAS), ONES,
    ),
    "class_balanced_focal": (
        lambda **r: L.ClassBalancedFocalLoss(COUNTS, 0.99, 1.0, **r), lambda z, c, row: focal_sigmoid(z, c, 1.0), CB,
    ),
    "class_balanced_focal_softmax": (
        lambda **r: L.ClassBalancedFocalLoss(COUNTS, 0.99, 2.0, "softmax", **r),
        lambda z, c, row: focal_softmax(z, c, 2.0), CB,
    ),
    "balanced_softmax": (
        lambda **r: L.BalancedSoftmaxLoss(COUNTS, **r),
        lambda z, c, row: nll([z_k + log(n) for z_k, n in zip(z, COUNTS, strict=True)], c), ONES,
    ),
    "logit_adjusted": (
        lambda **r: L.LogitAdjustedLoss(COUNTS, 1.3, **r),
        lambda z, c, row: nll([z_k + 1.3 * log(n / N_ALL) for z_k, n in zip(z, COUNTS, strict=True)], c), ONES,
    ),
    "ldam": (lambda **r: L.LDAMLoss(COUNTS, **r), lambda z, c, row: ldam(z, c), ONES),
    "ldam_reweighted": (lambda **r: L.LDAMLoss(COUNTS, beta=0.99, **r), lambda z, c, row: ldam(z, c), CB),
    "label_smoothing": (L.LabelSmoothingLoss, lambda z, c, row: smoothed(z, c, 0.1), ONES),
    "label_aware_smoothing": (
        lambda **r: L.LabelAwareSmoothingLoss(COUNTS, **r), lambda z, c, row: label_aware(z, c), ONES,
    ),
    "label_aware_smoothing_of_others": (
        lambda **r: L.LabelAwareSmoothingLoss(COUNTS, 0.3, 0.0, "linear", "others", **r),
        lambda z, c, row: smoothed_others(z, c, 0.3 * (COUNTS[c] - N_MIN) / (N_MAX - N_MIN)), ONES,
    ),
    "cdt": (
        lambda **r: L.CDTLoss(COUNTS, 0.3, **r),
        lambda z, c, row: nll([z_k / (N_MAX / n) ** 0.3 for z_k, n in zip(z, COUNTS, strict=True)], c), ONES,
    ),
    "equalization": (
        lambda **r: L.EqualizationLoss(COUNTS, 0.7, 0.02, generator=torch.Generator().manual_seed(7), **r),
        equalized, ONES,
    ),
}  # fmt: skip
FOCAL = {name for name in CASES if "focal" in name}
all_losses = pytest.mark.parametrize("name", CASES)


def make(name: str, **reduction) -> L.Loss:
    return CASES[name][0](**reduction)


def batch(dtype: torch.dtype = torch.float64, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Cosine-like logits in [-1.5, 1.5], indices of every class, and probabilities with zeros among them."""
    generator = torch.Generator().manual_seed(seed)
    logits = (3 * torch.rand(N, C, generator=generator, dtype=torch.float64) - 1.5).to(dtype)
    indices = torch.arange(N) % C
    probabilities = torch.rand(N, C, generator=generator, dtype=torch.float64)
    probabilities[:, 1] *= torch.arange(N) % 2
    return logits, indices, (probabilities / probabilities.sum(1, keepdim=True)).to(dtype)


def oracle(name: str, logits: Tensor, probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted losses (N,) and weights (N,) by loops in Python floats."""
    _, cost, weight = CASES[name]
    costs, weights = [], []
    for row, (z, t) in enumerate(zip(logits.tolist(), probabilities.tolist(), strict=True)):
        costs.append(sum(t[c] * weight[c] * cost(z, c, row) for c in range(C)))
        weights.append(sum(t[c] * weight[c] for c in range(C)))
    return torch.tensor(costs, dtype=torch.float64), torch.tensor(weights, dtype=torch.float64)


def one_hot(indices: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
    return F.one_hot(indices, C).to(dtype)


def value_and_gradient(name: str, logits: Tensor, targets: Tensor, **reduction) -> tuple[Tensor, Tensor]:
    logits = logits.clone().requires_grad_()
    value = make(name, **reduction)(logits, targets)
    return value.detach(), torch.autograd.grad(value.sum(), logits)[0]


# Values and gradients


@all_losses
@pytest.mark.parametrize("kind", ["indices", "probabilities"])
def test_value_is_that_of_the_definition(name, kind):
    logits, indices, probabilities = batch()
    targets = indices if kind == "indices" else probabilities
    expected, weights = oracle(name, logits, one_hot(indices) if kind == "indices" else probabilities)
    close = {"rtol": 1e-6, "atol": 0}
    torch.testing.assert_close(make(name, reduction="none")(logits, targets), expected, **close)
    torch.testing.assert_close(make(name, reduction="mean")(logits, targets), expected.mean(), **close)
    weighted = make(name, reduction="weighted_mean")(logits, targets)
    torch.testing.assert_close(weighted, expected.sum() / weights.sum(), **close)


@all_losses
def test_float32_is_within_1e_5_of_the_definition(name):
    logits, indices, _ = batch(torch.float32)
    expected, _ = oracle(name, logits, one_hot(indices))
    actual = make(name, reduction="none")(logits, indices)
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual.double(), expected, rtol=1e-5, atol=0)


@all_losses
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("reduction", ["weighted_mean", "mean", "none"])
def test_one_hot_probabilities_cost_what_indices_cost(name, dtype, reduction):
    logits, indices, _ = batch(dtype)
    by_index = value_and_gradient(name, logits, indices, reduction=reduction)
    by_one_hot = value_and_gradient(name, logits, one_hot(indices, dtype), reduction=reduction)
    tolerance = 20 * torch.finfo(dtype).eps
    torch.testing.assert_close(by_one_hot, by_index, rtol=tolerance, atol=2 * tolerance)


@all_losses
@settings(max_examples=10, deadline=None)
@given(lam=st.floats(0, 1), seed=st.integers(0, 1000))
def test_a_mixed_target_costs_the_mixture_of_the_costs(name, lam, seed):
    logits, a, _ = batch(seed=seed)
    b = a.roll(1)
    cost_a, cost_b = (make(name, reduction="none")(logits, label) for label in (a, b))
    mixed = make(name, reduction="none")(logits, lam * one_hot(a) + (1 - lam) * one_hot(b))
    torch.testing.assert_close(mixed, lam * cost_a + (1 - lam) * cost_b, rtol=1e-12, atol=1e-12)


@all_losses
@pytest.mark.parametrize("kind", ["indices", "probabilities"])
def test_gradient_by_finite_differences(name, kind):
    logits, indices, probabilities = batch()
    targets = indices if kind == "indices" else probabilities
    # a new loss for every call, so that the equalisation loss draws the same mask each time
    assert torch.autograd.gradcheck(lambda z: make(name)(z, targets), logits.requires_grad_())


@all_losses
def test_default_reduction(name):
    logits, indices, _ = batch()
    expected = "mean" if name in FOCAL else "weighted_mean"
    assert torch.equal(make(name)(logits, indices), make(name, reduction=expected)(logits, indices))


# PyTorch's losses, and the reductions of the papers' code


def test_label_smoothing_is_torch_s():
    logits, indices, probabilities = batch()
    for targets in (indices, probabilities):
        expected = F.cross_entropy(logits, targets, label_smoothing=0.3)
        torch.testing.assert_close(L.LabelSmoothingLoss(0.3)(logits, targets), expected)


@pytest.mark.parametrize("gamma, alpha", [(2.0, None), (0.0, 0.5), (1.0, 0.25)])
def test_sigmoid_focal_is_torchvision_s(gamma, alpha):
    logits, indices, _ = batch()
    expected = sigmoid_focal_loss(logits, one_hot(indices), -1 if alpha is None else alpha, gamma, "sum") / N
    torch.testing.assert_close(L.FocalLoss(gamma, alpha)(logits, indices), expected)


# Limit cases

PLAIN = L.CrossEntropyLoss(reduction="none")


@pytest.mark.parametrize(
    "limit, baseline",
    [
        (L.CostSensitiveLoss(COUNTS, 0.0, reduction="none"), PLAIN),
        (L.CostSensitiveLoss([7] * C, 3.0, reduction="none"), PLAIN),
        (L.ClassBalancedLoss(COUNTS, 0.0, reduction="none"), PLAIN),
        (L.ClassBalancedLoss(COUNTS, 1 - 1e-12), L.CostSensitiveLoss(COUNTS)),
        (L.FocalLoss(0.0, form="softmax", reduction="none"), PLAIN),
        (L.ClassBalancedFocalLoss(COUNTS, 0.0, 1.5, reduction="none"), L.FocalLoss(1.5, reduction="none")),
        (L.BalancedSoftmaxLoss([3] * C, reduction="none"), PLAIN),
        (L.LogitAdjustedLoss(COUNTS, 0.0, reduction="none"), PLAIN),
        (L.LogitAdjustedLoss(COUNTS, 1.0, reduction="none"), L.BalancedSoftmaxLoss(COUNTS, reduction="none")),
        (L.LDAMLoss(COUNTS, 0.0, 1.0, reduction="none"), PLAIN),
        (L.LabelSmoothingLoss(0.0, reduction="none"), PLAIN),
        (L.LabelAwareSmoothingLoss(COUNTS, 0.0, 0.0, reduction="none"), PLAIN),
        (L.LabelAwareSmoothingLoss(COUNTS, 0.2, 0.2, reduction="none"), L.LabelSmoothingLoss(0.2, reduction="none")),
        (L.LabelAwareSmoothingLoss([9] * C, 0.3, 0.1, reduction="none"), L.LabelSmoothingLoss(0.3, reduction="none")),
        (L.GeneralizedReweightLoss(COUNTS, 0.0, reduction="none"), PLAIN),
        (L.GeneralizedReweightLoss(COUNTS, 1.0), L.CostSensitiveLoss(COUNTS)),
        (L.CDTLoss(COUNTS, 0.0, reduction="none"), PLAIN),
        (L.EqualizationLoss(COUNTS, 0.9, 0.0, reduction="none"), PLAIN),
        (L.EqualizationLoss(COUNTS, 0.0, 0.9, reduction="none"), PLAIN),
    ],
    ids=lambda loss: repr(loss),
)
@pytest.mark.parametrize("kind", ["indices", "probabilities"])
def test_limit(limit, baseline, kind):
    logits, indices, probabilities = batch()
    targets = indices if kind == "indices" else probabilities
    torch.testing.assert_close(limit(logits, targets), baseline(logits, targets), rtol=1e-6, atol=0)


def test_focal_sigmoid_without_focus_is_binary_cross_entropy():
    logits, _, probabilities = batch()
    expected = F.binary_cross_entropy_with_logits(logits, probabilities, reduction="none").sum(1).mean()
    torch.testing.assert_close(L.FocalLoss(0.0)(logits, probabilities), expected)


# Weights


@given(st.lists(st.integers(1, 10**7), min_size=1, max_size=20), st.floats(0, 1, exclude_max=True))
def test_class_balanced_weights_sum_to_c_and_favour_the_rare(counts, beta):
    weights = L.class_balanced_weights(counts, beta)
    assert weights.dtype == torch.float64
    assert weights.sum().item() == pytest.approx(len(counts), rel=1e-12)
    order = torch.tensor(counts).argsort()
    assert (weights[order].diff() <= 1e-15 * weights.max()).all()


@pytest.mark.parametrize("beta", [0.0, 1e-300, 0.5, 0.9, 0.9999, 1 - 1e-7, 1 - 1e-12, 1 - 2**-53])
def test_effective_numbers_are_exact(beta):
    counts = [1, 2, 3, 50, 5000, 10**7]
    getcontext().prec = 60
    exact = [float((1 - Decimal(beta) ** n) / (1 - Decimal(beta))) for n in counts]
    torch.testing.assert_close(L.effective_numbers(counts, beta).tolist(), exact, rtol=1e-14, atol=0)


def test_published_ratio_of_class_balanced_weights():
    counts = [int(500 * (1 / 100) ** (j / 99)) for j in range(100)]  # CIFAR-100-LT, imbalance 100
    for beta, ratio in ((0.9, 2.44), (0.9999, 97.6)):
        weights = L.class_balanced_weights(counts, beta)
        assert (weights.max() / weights.min()).item() == pytest.approx(ratio, rel=2e-3)


def test_ldam_margins_and_label_aware_smoothing_run_between_their_ends():
    assert L.ldam_margins([16, 1], 0.5).tolist() == [0.25, 0.5]
    smoothing = L.label_aware_smoothing([1000, 500, 100, 2], 0.4, 0.1)
    assert smoothing[0].item() == pytest.approx(0.4) and smoothing[-1].item() == pytest.approx(0.1)
    slopes = smoothing.diff() / torch.tensor([1000.0, 500, 100, 2]).diff()
    assert (slopes > 0).all() and (slopes.diff() > 0).all()  # concave: steepest at the tail


# Log-odds, and the path of the accelerators


@pytest.mark.parametrize("spread", [1.0, 30.0, 300.0])
def test_log_odds(spread):
    logits = spread * batch()[0]
    expected = torch.empty_like(logits)
    for c in range(C):
        others = [k for k in range(C) if k != c]
        expected[:, c] = logits[:, c] - logits[:, others].logsumexp(1)
    torch.testing.assert_close(L.log_odds(logits), expected, rtol=1e-12, atol=1e-12)
    indices = batch()[1]
    picked = expected.gather(1, indices[:, None])[:, 0]
    torch.testing.assert_close(L.log_odds(logits, indices), picked, rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradcheck(L.log_odds, batch()[0].requires_grad_())


class Elsewhere(Tensor):
    """A CPU tensor that says it is not on the CPU, to walk the path of the accelerators."""

    is_cpu = property(lambda self: False)


@all_losses
def test_accelerators_get_the_same_values_and_no_value_checks(name):
    for targets in batch()[1:]:
        logits = batch()[0]
        elsewhere = make(name)(logits.as_subclass(Elsewhere), targets.as_subclass(Elsewhere))
        torch.testing.assert_close(elsewhere.as_subclass(Tensor), make(name)(logits, targets), rtol=1e-12, atol=0)
    broken = torch.full((N, C), math.nan).as_subclass(Elsewhere)
    assert make(name)(broken, batch()[1].as_subclass(Elsewhere)).isnan()


# Numerical safety

WIDE = torch.cat([torch.tensor([10**7, 1]), torch.logspace(6, 0, 8140).round().long()])  # 8,142 classes
EXTREME = {
    "cross_entropy": L.CrossEntropyLoss(),
    "cost_sensitive": L.CostSensitiveLoss(WIDE),
    "generalized_reweight": L.GeneralizedReweightLoss(WIDE, 1.5),
    "class_balanced": L.ClassBalancedLoss(WIDE, 1 - 1e-12),
    "focal_sigmoid": L.FocalLoss(0.3),
    "focal_softmax": L.FocalLoss(0.3, form="softmax"),
    "class_balanced_focal": L.ClassBalancedFocalLoss(WIDE, 1 - 1e-12, 0.3),
    "balanced_softmax": L.BalancedSoftmaxLoss(WIDE),
    "logit_adjusted": L.LogitAdjustedLoss(WIDE, 2.0),
    "ldam": L.LDAMLoss(WIDE),
    "label_smoothing": L.LabelSmoothingLoss(),
    "label_aware_smoothing": L.LabelAwareSmoothingLoss(WIDE),
    "cdt": L.CDTLoss(WIDE, 2.0),
    "equalization": L.EqualizationLoss(WIDE, 1.0, 0.9, generator=torch.Generator().manual_seed(0)),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", EXTREME)
def test_extreme_logits_and_counts_have_finite_losses_and_gradients(name, dtype):
    logits = torch.zeros(4, len(WIDE))
    logits[0, 0], logits[1, 0], logits[2, 1] = 1e4, -1e4, 1e4  # sure and right, sure and wrong, sure and right
    logits[3] = torch.linspace(-1e4, 1e4, len(WIDE))
    indices = torch.tensor([0, 0, 1, 5])
    probabilities = (0.5 * F.one_hot(indices, len(WIDE)) + 0.5 * F.one_hot(indices.flip(0), len(WIDE))).to(dtype)
    for targets in (indices, probabilities):
        for rows in (slice(None), slice(0, 1)):  # the whole batch, and a batch of one
            z = logits[rows].to(dtype).requires_grad_()
            loss = EXTREME[name](z, targets[rows])
            loss.backward()
            assert loss.dtype == torch.float32 and loss.shape == ()
            assert loss.isfinite() and z.grad.isfinite().all()


@pytest.mark.parametrize("gamma", [0.0, 0.1, 0.5, 2.0])
def test_binary_focal_has_finite_slopes_where_a_power_has_not(gamma):
    from ltlab.losses.focal import binary_focal

    u = torch.tensor([-1e4, -100.0, -20.0, 0.0, 20.0, 100.0, 1e4], requires_grad=True)
    binary_focal(u, gamma).sum().backward()
    assert u.grad.isfinite().all()
    exact = [sigmoid(-v) ** gamma * math.log1p(exp(-v)) for v in (-20.0, -3.0, 3.0, 20.0)]
    actual = binary_focal(torch.tensor([-20.0, -3.0, 3.0, 20.0]), gamma)
    torch.testing.assert_close(actual.tolist(), exact, rtol=1e-5, atol=0)


def test_margins_stay_exact_where_the_label_is_almost_certain():
    # p_y rounds to 1 in float32, and the margin of 100 * 0.5 nats makes the loss large all the same.
    logits = torch.tensor([[1.0, 0.5, 0.1, 0.0, -0.2]])
    loss = L.LDAMLoss([1] * C, 0.5, 100.0)
    exact = loss(logits.double(), torch.tensor([0]))
    for targets in (torch.tensor([0]), one_hot(torch.tensor([0]), torch.float32)):
        torch.testing.assert_close(loss(logits, targets).double(), exact, rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", EXTREME)
def test_autocast_changes_nothing(name):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, len(WIDE), generator=generator)
    targets = torch.rand(2, len(WIDE), generator=generator).softmax(1)
    plain, mixed = copy.deepcopy(EXTREME[name]), copy.deepcopy(EXTREME[name])
    with torch.autocast("cpu", torch.bfloat16):
        actual = mixed(logits, targets)
    torch.testing.assert_close(actual, plain(logits, targets))


# Equalisation: the random mask


def test_equalization_spares_rare_classes_with_probability_gamma_and_never_the_label():
    rare = torch.tensor([False, False, True, True, True])  # fractions below 0.1
    logits = torch.zeros(20_000, C, dtype=torch.float64)
    label = torch.full((len(logits),), 4)
    loss = L.EqualizationLoss(COUNTS, 0.9, 0.1, generator=torch.Generator().manual_seed(0), reduction="none")
    assert loss.rare.tolist() == rare.tolist()
    kept = loss(logits, label).exp().round().long()  # with equal logits the loss is the log of their number
    assert kept.min() == 3 and kept.max() == 5  # the two frequent classes and the label always stay
    assert (5 - kept).double().mean().item() == pytest.approx(2 * 0.9, abs=0.02)


def test_equalization_s_threshold_itself_is_not_rare():
    assert L.EqualizationLoss([1, 3], 0.9, threshold=0.25).rare.tolist() == [False, False]
    assert L.EqualizationLoss([1, 3], 0.9, threshold=0.26).rare.tolist() == [True, False]


def test_equalization_draws_from_its_generator_alone():
    logits, indices, _ = batch()
    before = torch.get_rng_state()
    first, second = make("equalization", reduction="none"), make("equalization", reduction="none")
    value = first(logits, indices)
    assert torch.equal(value, second(logits, indices))
    assert not torch.equal(value, first(logits, indices))
    assert torch.equal(torch.get_rng_state(), before)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        assert torch.equal(L.EqualizationLoss(COUNTS, 0.7, 0.02, reduction="none")(logits, indices), value)


def test_equalization_of_a_row_without_any_kept_class_costs_nothing():
    logits, _, probabilities = batch()
    logits.requires_grad_()
    losses = L.equalized_cross_entropy(logits, probabilities, torch.ones(N, C, dtype=torch.bool))
    losses.sum().backward()
    assert torch.equal(losses, torch.zeros(N, dtype=torch.float64)) and not logits.grad.any()


# After training


def test_adjust_logits():
    logits, indices, _ = batch()
    prior = torch.tensor(COUNTS, dtype=torch.float64) / N_ALL
    torch.testing.assert_close(L.adjust_logits(logits, COUNTS, 1.5), logits - 1.5 * prior.log())
    assert torch.equal(L.adjust_logits(logits, COUNTS, 0.0), logits)
    # trained with the shift, predicted without: what is learnt is what adjusting afterwards gives
    adjusted = L.adjust_logits(logits, COUNTS)
    torch.testing.assert_close(
        L.BalancedSoftmaxLoss(COUNTS)(adjusted, indices), F.cross_entropy(logits, indices), rtol=1e-6, atol=0
    )
    assert L.adjust_logits(logits.half(), COUNTS).dtype == torch.float32
    assert L.adjust_logits(torch.zeros(2, 3, C), COUNTS).shape == (2, 3, C)


# What a module owes its user


@pytest.mark.parametrize(
    "loss, text",
    [
        (L.CrossEntropyLoss(reduction="mean"), "CrossEntropyLoss(reduction='mean')"),
        (L.CostSensitiveLoss(COUNTS), "CostSensitiveLoss(gamma=1.0)"),
        (L.ClassBalancedLoss(COUNTS), "ClassBalancedLoss(beta=0.9999)"),
        (L.FocalLoss(1, 0.25), "FocalLoss(gamma=1.0, alpha=0.25, form='sigmoid')"),
        (L.FocalLoss(alpha=ALPHAS), "FocalLoss(gamma=2.0, alpha=per class, form='sigmoid')"),
        (L.ClassBalancedFocalLoss(COUNTS), "ClassBalancedFocalLoss(beta=0.9999, gamma=1.0, form='sigmoid')"),
        (L.BalancedSoftmaxLoss(COUNTS), "BalancedSoftmaxLoss()"),
        (L.LogitAdjustedLoss(COUNTS), "LogitAdjustedLoss(tau=1.0)"),
        (L.LDAMLoss(COUNTS), "LDAMLoss(max_margin=0.5, scale=30.0, beta=0.0)"),
        (L.LabelSmoothingLoss(), "LabelSmoothingLoss(smoothing=0.1)"),
        (
            L.LabelAwareSmoothingLoss(COUNTS),
            "LabelAwareSmoothingLoss(head=0.4, tail=0.1, shape='concave', spread='all')",
        ),
        (L.GeneralizedReweightLoss(COUNTS), "GeneralizedReweightLoss(rho=1.2)"),
        (L.CDTLoss(COUNTS), "CDTLoss(gamma=0.2)"),
        (L.EqualizationLoss(COUNTS), "EqualizationLoss(gamma=0.9, threshold=0.005)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_printed_form_and_defaults(loss, text):
    assert repr(loss) == text


@all_losses
def test_settings_move_with_the_module_and_stay_out_of_checkpoints(name):
    loss = make(name)
    assert loss.state_dict() == {} and list(loss.parameters()) == []
    assert all(buffer.device.type == "meta" for buffer in copy.deepcopy(loss).to("meta").buffers())
    if CASES[name][2] is not ONES:
        assert loss.weight.dtype == torch.float32 and len(list(loss.buffers())) >= 1
    logits, indices, _ = batch()
    assert torch.equal(pickle.loads(pickle.dumps(loss))(logits, indices), copy.deepcopy(loss)(logits, indices))
    torch.testing.assert_close(make(name).double()(logits, indices), make(name)(logits, indices))


@all_losses
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_settings_stay_in_float32_where_the_model_goes_to_half_precision(name, dtype):
    logits, indices, probabilities = batch(dtype)
    for targets in (indices, probabilities):
        layer, loss = nn.Sequential(nn.Linear(2, 2), make(name)).to(dtype)
        assert layer.weight.dtype == dtype
        assert torch.equal(loss(logits, targets), make(name)(logits, targets))
        for ours, plain in zip(loss.buffers(), make(name).buffers(), strict=True):
            assert torch.equal(ours, plain) and ours.dtype == plain.dtype


def test_weights_that_float16_does_not_hold():
    logits, heads = torch.randn(6, 2, generator=torch.Generator().manual_seed(0)).half(), torch.zeros(6).long()
    loss = L.CostSensitiveLoss([10**7, 1], gamma=1.2).half()
    assert 0 < loss.weight[0] < torch.finfo(torch.float16).smallest_normal * torch.finfo(torch.float16).eps / 2
    torch.testing.assert_close(loss(logits, heads), F.cross_entropy(logits.float(), heads))


# Bad input


@pytest.mark.parametrize(
    "attempt, words",
    [
        (lambda: L.ClassBalancedLoss(COUNTS, 1.0), r"beta must be in \[0, 1\), got 1.0"),
        (lambda: L.ClassBalancedFocalLoss(COUNTS, math.nan), "beta must be"),
        (lambda: L.LDAMLoss(COUNTS, beta=1.5), "beta must be"),
        (lambda: L.ClassBalancedFocalLoss(COUNTS, gamma=-1), "gamma must be"),
        (lambda: L.CostSensitiveLoss([10**7, 1], 10), "gamma nearer to 0"),
        (lambda: L.CDTLoss(COUNTS, math.inf), "gamma must be"),
        (lambda: L.CDTLoss([10**7, 1], 10), "temperatures overflows"),
        (lambda: L.FocalLoss(-0.5), "gamma must be"),
        (lambda: L.FocalLoss(alpha=1.5), "alpha must be .* got 1.5"),
        (lambda: L.FocalLoss(alpha=[0.5, -1], form="softmax"), "alpha must be"),
        (lambda: L.FocalLoss(form="tanh"), "form must be .* got 'tanh'"),
        (lambda: L.ClassBalancedFocalLoss(COUNTS, form="tanh"), "form must be"),
        (lambda: L.LogitAdjustedLoss(COUNTS, -1), "tau must be"),
        (lambda: L.adjust_logits(torch.zeros(1, C), COUNTS, math.nan), "tau must be"),
        (lambda: L.adjust_logits(torch.zeros(1, C + 1), COUNTS), "class_counts must .* got 5"),
        (lambda: L.adjust_logits(torch.zeros(1, C).long(), COUNTS), "floating point"),
        (lambda: L.adjust_logits(LOGITS.softmax(1), COUNTS), "probabilities"),
        (lambda: L.adjust_logits(LOGITS.bfloat16().softmax(1).reshape(3, 4, C), COUNTS), "probabilities"),
        (lambda: L.LDAMLoss(COUNTS, -0.1), "max_margin must be"),
        (lambda: L.LDAMLoss(COUNTS, scale=0.0), "scale must be above 0"),
        (lambda: L.LDAMLoss(COUNTS, scale=math.inf), "scale must be"),
        (lambda: L.LabelSmoothingLoss(1.0), "smoothing must be"),
        (lambda: L.LabelAwareSmoothingLoss(COUNTS, head=1.0), "head must be"),
        (lambda: L.LabelAwareSmoothingLoss(COUNTS, tail=-0.1), "tail must be"),
        (lambda: L.LabelAwareSmoothingLoss(COUNTS, 0.1, 0.4), "tail must be at most head"),
        (lambda: L.LabelAwareSmoothingLoss(COUNTS, shape="cubic"), "shape.*concave"),
        (lambda: L.LabelAwareSmoothingLoss(COUNTS, shape=0), "shape must be"),
        (lambda: L.LabelAwareSmoothingLoss(COUNTS, shape=math.nan), "shape must be"),
        (lambda: L.LabelAwareSmoothingLoss(COUNTS, spread="rest"), "spread.*others"),
        (lambda: L.GeneralizedReweightLoss(COUNTS, -0.1), "rho must be"),
        (lambda: L.GeneralizedReweightLoss([10**7, 1], 10), "rho nearer to 0"),
        (lambda: L.adjust_logits(LOGITS, COUNTS, target=COUNTS), "target.*sum"),
        (lambda: L.adjust_logits(LOGITS, COUNTS, target=[0.5, 0.5]), "target must be 5"),
        (lambda: L.EqualizationLoss(COUNTS, gamma=1.1), "gamma must be"),
        (lambda: L.EqualizationLoss(COUNTS, threshold=math.nan), "threshold must be"),
        (lambda: L.CrossEntropyLoss(reduction="sum"), "reduction must be"),
    ],
)
def test_bad_settings(attempt, words):
    with pytest.raises(ValueError, match=words):
        attempt()


def replaced(tensor: Tensor, value: float, at: tuple[int, ...]) -> Tensor:
    tensor = tensor.clone()
    tensor[at] = value
    return tensor


LOGITS, INDICES, PROBABILITIES = batch(torch.float32)


@all_losses
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_logits_that_are_not_finite(name, value):
    for targets in (INDICES, PROBABILITIES):
        with pytest.raises(FloatingPointError, match=r"logits must be finite.*row 3"):
            make(name)(replaced(LOGITS, value, (3, 2)), targets)


def test_log_probabilities_and_rows_that_sum_to_one_by_chance_are_logits():
    centred = LOGITS - LOGITS.mean(1, keepdim=True) + 1 / C
    for logits in (LOGITS.log_softmax(1), centred, torch.eye(C), LOGITS[:1].softmax(1)):
        assert L.CrossEntropyLoss()(logits, INDICES[: len(logits)]).isfinite()


@pytest.mark.parametrize("name", ["cross_entropy", "class_balanced_focal", "ldam"])
@pytest.mark.parametrize(
    "logits, targets, words",
    [
        (LOGITS.long(), INDICES, "logits must be floating point"),
        (LOGITS[0], INDICES, "logits must be"),
        (LOGITS[:0], INDICES[:0], "logits must be"),
        (LOGITS[:, :1], torch.zeros(N).long(), "C >= 2"),
        (LOGITS.softmax(1), INDICES, "logits hold probabilities"),
        (LOGITS.softmax(1).half(), PROBABILITIES, "logits hold probabilities"),
        (3 * LOGITS.bfloat16().softmax(1) / 3, INDICES, "logits hold probabilities"),
        (LOGITS, replaced(INDICES, C, (1,)), r"targets must be in \[0, 4\], got 5"),
        (LOGITS, replaced(INDICES, -100, (1,)), "got -100"),
        (LOGITS, INDICES.int(), r"targets must be int64.*got torch\.int32"),
        (LOGITS, one_hot(INDICES, torch.int64), "targets must be int64"),
        (LOGITS, PROBABILITIES[:, :-1], "probability targets must be"),
        (LOGITS, replaced(PROBABILITIES, -0.1, (0, 0)), r"must be non-negative.*-0\.1"),
        (LOGITS, replaced(PROBABILITIES, math.inf, (2, 0)), "sum to one.*inf in row 2"),
    ],
)
def test_bad_batch(name, logits, targets, words):
    with pytest.raises(ValueError, match=words):
        make(name)(logits, targets)


@all_losses
def test_what_is_not_a_tensor_is_named(name):
    with pytest.raises(TypeError, match=r"logits must be a tensor, got list; use torch.as_tensor\(logits\)"):
        make(name)(LOGITS.tolist(), INDICES)
    with pytest.raises(TypeError, match="targets must be a tensor, got ndarray"):
        make(name)(LOGITS, INDICES.numpy())


def test_class_counts_of_a_graph_are_numbers_alone():
    loss = L.ClassBalancedLoss(torch.tensor([5.0, 3.0, 2.0], requires_grad=True))
    logits = torch.zeros(1, 3, requires_grad=True)
    for _ in range(2):
        loss(logits, torch.tensor([0])).backward()
    assert not loss.weight.requires_grad and not copy.deepcopy(loss).weight.requires_grad


UNAWARE = {
    "cross_entropy", "label_smoothing", "focal_sigmoid", "focal_sigmoid_alpha", "focal_softmax", "focal_softmax_alpha",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(CASES.keys() - UNAWARE))
def test_a_model_with_another_number_of_classes(name):
    with pytest.raises(ValueError, match="logits have 6 classes"):
        make(name)(torch.zeros(2, C + 1), torch.tensor([0, C]))
