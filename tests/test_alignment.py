"""Label-aware smoothing, alignment and test priors: limit cases, and what each learns from a known posterior."""

import copy
import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ltlab import losses as L
from ltlab import metrics, models
from ltlab.classifiers import (
    FORMS,
    TAUS,
    AlignedClassifier,
    CosineClassifier,
    LearntCosineClassifier,
    ScaledLinear,
    WeightScaling,
    aligned,
    choose_tau,
    classifier_inputs,
    logit_adjusted,
    scaled_linear,
    take_scale,
)
from ltlab.data import load
from ltlab.recipes import Recipe, Stage
from ltlab.testing import check_classifier, check_loss
from ltlab.train import fit, load_model, predict

COUNTS = [500, 120, 33, 8, 2]
C, K, N = len(COUNTS), 16, 64
PRIOR = torch.tensor(COUNTS, dtype=torch.float64) / sum(COUNTS)
both_forms = pytest.mark.parametrize("form", ["interpolate", "affine"])  # that have a gate


def linear() -> nn.Linear:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Linear(K, C)


def features(n: int = N) -> torch.Tensor:
    return torch.randn(n, K, generator=torch.Generator().manual_seed(1)).relu()


def shaken(classifier: nn.Module) -> nn.Module:
    """With other values for all that is learnt."""
    generator = torch.Generator().manual_seed(2)
    for parameter in classifier.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return classifier


# --- label-aware smoothing -------------------------------------------------------------------------------------------


def test_shapes_run_from_tail_to_head_and_lie_in_their_order():
    shapes = {shape: L.label_aware_smoothing(COUNTS, 0.4, 0.1, shape) for shape in ("concave", "linear", "convex", 3.0)}
    for s in shapes.values():
        assert s[0].item() == pytest.approx(0.4) and s[-1].item() == pytest.approx(0.1)
    assert (shapes["concave"] >= shapes["linear"]).all() and (shapes["linear"] >= shapes["convex"]).all()
    assert (shapes["convex"] >= shapes[3.0]).all()
    torch.testing.assert_close(L.label_aware_smoothing(COUNTS, 0.4, 0.1, 1), shapes["linear"], rtol=0, atol=0)
    u = [(n - COUNTS[-1]) / (COUNTS[0] - COUNTS[-1]) for n in COUNTS]
    convex = [0.4 + 0.3 * math.sin(3 * math.pi / 2 + math.pi * v / 2) for v in u]
    assert shapes["convex"].tolist() == pytest.approx(convex)
    assert L.label_aware_smoothing([7, 7], 0.4, 0.1, "convex").tolist() == [0.4, 0.4]


@pytest.mark.parametrize("spread", ["all", "others"])
@pytest.mark.parametrize("label", range(C))
def test_the_loss_is_least_at_its_logit_gap(spread, label):
    loss = L.LabelAwareSmoothingLoss(COUNTS, 0.4, 0.1, spread=spread)
    s = L.label_aware_smoothing(COUNTS, 0.4, 0.1)[label].item()
    odds = (C - 1) * (1 - s) if spread == "others" else C * (1 - s) + s
    logits = (math.log(odds / s) * F.one_hot(torch.tensor([label]), C)).double().requires_grad_()
    (slope,) = torch.autograd.grad(loss(logits, torch.tensor([label])), logits)
    assert slope.abs().max() < 1e-7


# --- generalised re-weighting and priors -----------------------------------------------------------------------------


def test_grw_is_scale_free_and_its_mean_weighs_as_the_paper_does():
    logits, labels = torch.randn(9, C, generator=torch.Generator().manual_seed(0)), torch.arange(9) % C
    for loss in (L.GeneralizedReweightLoss(COUNTS, 1.2), L.GeneralizedReweightLoss([10 * n for n in COUNTS], 1.2)):
        torch.testing.assert_close(loss(logits, labels), L.CostSensitiveLoss(COUNTS, 1.2)(logits, labels))
    w = PRIOR**-1.2 / (PRIOR**-1.2).sum()
    paper = (w[labels] * F.cross_entropy(logits, labels, reduction="none")).mean().float()
    torch.testing.assert_close(L.GeneralizedReweightLoss(COUNTS, 1.2, reduction="mean")(logits, labels), C * paper)


@pytest.mark.parametrize("rho", [0.0, 0.8, 1.2])
def test_the_margin_that_grw_learns_is_the_adjustment_of_the_logits(rho):
    prior = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
    x = torch.randn(20_000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    posterior = x + prior.log()  # the truth, so that the loss is an expectation: no labels are drawn
    targets, loss = posterior.softmax(1), L.GeneralizedReweightLoss(prior.mul(1e6).tolist(), rho)
    margin = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([margin], max_iter=50, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        value = loss(posterior + margin, targets)
        value.backward()
        return value

    optimizer.step(closure)
    expected = -rho * prior.log()
    torch.testing.assert_close(margin.detach() - margin.detach()[0], expected - expected[0], rtol=0, atol=1e-4)


def test_adjustment_to_a_target_prior():
    logits = torch.randn(6, C, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    target = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.0], dtype=torch.float64)
    for tau in (1.0, 0.5):
        expected = logits - tau * (PRIOR.log() - target.log())
        torch.testing.assert_close(L.adjust_logits(logits, COUNTS, tau, target=target), expected)
    assert torch.equal(L.adjust_logits(logits, COUNTS, 0.0, target=target), logits)
    torch.testing.assert_close(L.adjust_logits(logits, COUNTS, 0.7, target=PRIOR), logits)
    uniform = L.adjust_logits(logits, COUNTS, target=[1 / C] * C)
    torch.testing.assert_close(uniform.softmax(1), L.adjust_logits(logits, COUNTS).softmax(1))


@pytest.mark.parametrize("target", [None, PRIOR, PRIOR.flip(0)])
def test_tau_is_chosen_by_the_error_under_the_prior(target):
    generator = torch.Generator().manual_seed(0)
    labels = torch.multinomial(PRIOR, 3000, replacement=True, generator=generator)
    x = 1.5 * F.one_hot(labels, C) + torch.randn(3000, C, generator=generator)
    logits = 1.5 * x + PRIOR.log().float()
    prior = [1 / C] * C if target is None else target.tolist()
    errors = [metrics.error_under(L.adjust_logits(logits, COUNTS, tau, target), labels, prior) for tau in TAUS]
    tau = choose_tau(logits, labels, COUNTS, prior=target)
    assert tau == TAUS[errors.index(min(errors))]
    assert target is not None or 0.5 <= tau <= 1.5  # 1 is best of all, up to what 12 images of the last class tell
    assert choose_tau(logits, labels, COUNTS, taus=[0.3]) == 0.3


def test_a_tau_that_cannot_be_chosen():
    with pytest.raises(ValueError, match="taus must hold"):
        choose_tau(torch.eye(2), [0, 1], [2, 1], taus=[])
    with pytest.raises(ValueError, match="class 1, which has no image"):
        choose_tau(torch.eye(2), [0, 0], [2, 1])


# --- a scale on top --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
def test_a_scaled_linear_is_the_linear_one_to_the_bit_and_trains_all_of_it(bias):
    base = linear()
    base.bias = base.bias if bias else None
    made, x = ScaledLinear(base), features()
    assert torch.equal(made(x), base(x))
    assert [name for name, _ in made.named_parameters()] == ["weight", *(["bias"] if bias else []), "scale"]
    before = copy.deepcopy(base.state_dict())
    shaken(made)
    assert all(torch.equal(before[name], value) for name, value in base.state_dict().items())
    expected = made.scale * (x @ made.weight.T + (made.bias if bias else 0))
    torch.testing.assert_close(made(x), expected)


def test_steps_on_the_scale_alone_are_those_of_weight_scaling():
    x, y = features(), torch.arange(N) % C
    lws, ours = WeightScaling(linear()), ScaledLinear(linear())
    lws_sgd = torch.optim.SGD(lws.parameters(), 0.1, momentum=0.9)
    groups = [{"params": [ours.scale]}, {"params": [ours.weight, ours.bias], "lr": 0.0}]
    our_sgd = torch.optim.SGD(groups, 0.1, momentum=0.9)
    for _ in range(3):
        for made, sgd in ((lws, lws_sgd), (ours, our_sgd)):
            sgd.zero_grad()
            F.cross_entropy(made(x), y).backward()
            sgd.step()
        assert torch.equal(ours.scale, lws.factors) and torch.equal(ours(x), lws(x))


# --- alignment -------------------------------------------------------------------------------------------------------


def gated(made: AlignedClassifier, value: float) -> AlignedClassifier:
    made.gate.weight.data.zero_()
    made.gate.bias.data.fill_(value)
    return made


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("base", [linear(), ScaledLinear(linear()), CosineClassifier(K, C, 30.0)])
def test_alignment_starts_as_its_base_and_trains_its_parts(base, form):
    base = shaken(copy.deepcopy(base))
    made, x = AlignedClassifier(base, form), features()
    assert torch.equal(made(x), base(x)) and torch.equal(made.weight, base.weight)
    gate = {"gate.weight", "gate.bias"} if form in ("interpolate", "affine") else set()
    assert {name for name, _ in made.named_parameters()} == {"magnitude", "margin"} | gate
    assert all(p.requires_grad for p in base.parameters())  # it was copied


@both_forms
def test_alignment_is_the_equation_of_its_form(form):
    made, x = shaken(AlignedClassifier(linear(), form)).double(), features().double()
    z, s = linear().double()(x), torch.sigmoid(x @ made.gate.weight[0] + made.gate.bias)[:, None]
    a, b = made.magnitude, made.margin
    expected = s * (a * z + b) + (1 - s) * z if form == "interpolate" else (1 + s * a) * z + s * b
    torch.testing.assert_close(made(x), expected)


@both_forms
def test_a_closed_gate_leaves_the_base_and_an_open_one_scales_and_shifts(form):
    made, x = shaken(AlignedClassifier(linear(), form)), features()
    z, a, b = linear()(x), made.magnitude, made.margin
    torch.testing.assert_close(gated(made, -math.inf)(x), z, rtol=0, atol=0)
    torch.testing.assert_close(gated(made, math.inf)(x), a * z + b if form == "interpolate" else (1 + a) * z + b)


def test_the_forms_are_one_with_the_magnitude_moved_by_one():
    five, six, x = shaken(AlignedClassifier(linear())), AlignedClassifier(linear(), "affine"), features()
    state = five.state_dict() | {"offset": torch.tensor(0.0)}
    six.load_state_dict(state)
    six.magnitude.data -= 1
    torch.testing.assert_close(six(x), five(x))


@pytest.mark.parametrize("form", ["open", "ungated", "marc"])
def test_ungated_magnitude_is_weight_scaling_and_ungated_margin_is_logit_adjustment(form):
    base, x = linear(), features()

    def ungated():
        return gated(AlignedClassifier(base), math.inf) if form == "open" else AlignedClassifier(base, form)

    made, lws = ungated(), WeightScaling(base)
    made.magnitude.data = lws.factors.data = torch.rand(C) + 0.5
    torch.testing.assert_close(made(x), lws(x))
    made = ungated()
    made.margin.data = -0.7 * PRIOR.log().float() / (base.weight.norm(dim=1) if form == "marc" else 1)
    torch.testing.assert_close(made(x), L.adjust_logits(base(x), COUNTS, 0.7))


# --- a cosine classifier owns its scale ------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [L.LDAMLoss(COUNTS), L.LDAMLoss(COUNTS, 0.3, 17.3, beta=0.99)])
def test_ldam_learns_the_same_bits_from_a_cosine_classifier_that_owns_the_scale(loss):
    bare, x, y = CosineClassifier(K, C), features(), torch.arange(N) % C
    owner, owned = copy.deepcopy(bare), copy.deepcopy(loss)
    take_scale(owner, owned)
    for targets in (y, F.one_hot(y, C).float() * 0.7 + 0.3 / C):
        values = [made(classifier(x), targets) for made, classifier in ((loss, bare), (owned, owner))]
        for value in values:
            value.backward()
        assert torch.equal(*values) and torch.equal(bare.weight.grad, owner.weight.grad)
    assert torch.equal(owner(x), loss.scale * bare(x))
    assert owner.state_dict()["scale"] == pytest.approx(loss.scale)


@pytest.mark.parametrize("kind", ["cosine", "cosine_learnt"])
def test_cross_entropy_trains_on_scaled_cosines_and_a_checkpoint_keeps_the_scale(kind, tmp_path):
    data = load("shapes-lt", imbalance=10, max_count=20, test_count=5)
    again = tmp_path / "run.pt"
    recipe = Recipe(Stage(epochs=2), Stage(epochs=1, classifier=aligned, trains="classifier"), classifier=kind)
    result = fit(recipe, data, progress=False, checkpoint=again)
    scale = result.model.classifier.base.scale
    assert scale == 30 if kind == "cosine" else scale != 30
    loaded = load_model(again, data)
    assert torch.equal(loaded.classifier.base.scale, scale)
    torch.testing.assert_close(predict(loaded, data.test.images), result.logits)
    assert 1 < result.logits.abs().max() <= scale + 1 and isinstance(LearntCosineClassifier(2, 2).scale, nn.Parameter)


def test_an_unknown_form():
    with pytest.raises(ValueError, match=r"form.*interpolate, affine"):
        AlignedClassifier(linear(), "equation 5")


@pytest.mark.parametrize(
    "change", [scaled_linear, aligned, partial(aligned, form="affine"), partial(aligned, form="marc")]
)
def test_changes_and_losses_conform(change):
    check_classifier(change)
    check_loss(L.GeneralizedReweightLoss)
    check_loss(partial(L.LabelAwareSmoothingLoss, shape=2.0, spread="others"))


@pytest.mark.parametrize("form", FORMS)
def test_checkpoints_tell_the_base_and_the_form(form):
    for base in (linear(), ScaledLinear(linear()), CosineClassifier(K, C, 17.0)):
        made = shaken(AlignedClassifier(base, form))
        model = nn.Module()
        models.put_classifier(model, "AlignedClassifier", made.state_dict())
        model.classifier.load_state_dict(made.state_dict())
        assert type(model.classifier.base) is type(base) and torch.equal(model.classifier(features()), made(features()))


ALIGNED = Recipe(
    Stage(epochs=1),
    Stage(epochs=1, classifier=scaled_linear, trains="classifier", batch_norm="eval"),
    Stage(
        epochs=2, schedule="retrain", classifier=partial(aligned, form="affine"), trains="classifier",
        batch_norm="eval", loss=L.GeneralizedReweightLoss,
    ),
)  # fmt: skip


def test_a_stage_trains_the_alignment_alone_and_its_checkpoint_is_loaded(tmp_path):
    data = load("shapes-lt", imbalance=10, max_count=20, test_count=2)
    before = fit(ALIGNED.first(2), data, progress=False, device="cpu").model.state_dict()
    run = fit(ALIGNED, data, progress=False, device="cpu", checkpoint=tmp_path / "run.pt")
    after = run.model.state_dict()
    for name, value in before.items():
        assert torch.equal(after[name.replace("classifier.", "classifier.base.")], value), name
    assert not torch.equal(after["classifier.magnitude"], torch.zeros(10))
    loaded = load_model(tmp_path / "run.pt", data)
    assert all(torch.equal(value, after[name].cpu()) for name, value in loaded.state_dict().items())
    again = fit(ALIGNED, data, progress=False, device="cpu", checkpoint=tmp_path / "run.pt", resume=True)
    assert torch.equal(again.logits, run.logits)


@pytest.mark.slow
@pytest.mark.parametrize("rho", [0.0, 0.8, 1.2, 1.5])
def test_the_gate_neither_closes_nor_stays_the_same_for_all(plain, rho):
    """On features of shapes-lt, at the rate of the paper: where it closes, the network falls back to stage 1."""
    data, run = plain
    x, y = classifier_inputs(run.model, data.train.images), data.train.labels
    unseen = classifier_inputs(run.model, data.test.images)
    made, loss = AlignedClassifier(run.model.classifier), L.GeneralizedReweightLoss(data.class_counts, rho)
    sgd = torch.optim.SGD(made.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        for batch in torch.randperm(len(x), generator=generator).split(32):
            sgd.zero_grad()
            loss(made(x[batch]), y[batch]).backward()
            sgd.step()
    with torch.no_grad():
        gate = made.gate(unseen).sigmoid()
        error = metrics.top1_error(made(unseen), data.test.labels)
    assert gate.mean() > 0.3 and gate.std() > 1e-3
    assert error < run.metrics["top1_error"] - 0.03


def test_an_adjusted_network_is_the_aligned_one():
    model, images = models.small_net(3), torch.zeros(3, 3, 8, 8, dtype=torch.uint8)
    labels, counts, x = torch.arange(3), torch.tensor([9, 3, 1]), torch.rand(5, 64)
    made = gated(aligned(model, images, labels, counts), math.inf)
    made.margin.data = -(counts / counts.sum()).log()
    torch.testing.assert_close(made(x), logit_adjusted(model, images, labels, counts)(x))
