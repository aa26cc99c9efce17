"""Mixup against torchvision's, against loops and against the Beta distribution; and what the slot refuses."""

import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torchvision.transforms import v2

from ltlab import mixup
from ltlab.classifiers import CosineClassifier
from ltlab.losses import CostSensitiveLoss, CrossEntropyLoss, FocalLoss
from ltlab.mixup import InputMixup, ManifoldMixup, Remix, draw_lambda, draw_partner, forward_mixed, mix, remix_lambda
from ltlab.models import MODELS, Net, small_net

N, C = 6, 4
COUNTS = torch.tensor([90, 40, 30, 10])
LAYERS = ["input", "normalise", "stem", "layer1", "layer1.0", "layer2.1", "layer3", "pool", "classifier"]
KINDS = [InputMixup(1.0), ManifoldMixup(1.0, "pool"), ManifoldMixup(1.0, "layer2"), Remix(1.0)]
UNMIXED = 1e-6  # alpha so small that lam is exactly 0 or 1


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draws(alpha: float, n: int = N, seed: int = 0) -> tuple[Tensor, Tensor]:
    """lam and partner as a mix slot draws them."""
    generator = seeded(seed)
    return draw_lambda(alpha, generator), draw_partner(n, generator)


@pytest.fixture(scope="module")
def model() -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return small_net(C).eval()  # without the batch's statistics a logit depends on its own image alone


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(N, 3, 32, 32, generator=seeded(1))


@pytest.fixture(scope="module")
def targets() -> Tensor:
    return torch.tensor([0, 3, 1, 0, 2, 3])


# --- lam -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.05, 0.2, 0.5, 1.0, 2.0, 8.0, 1000.0])
def test_lambda_has_the_beta_distribution(alpha: float) -> None:
    """Mean, variance, and the Kolmogorov-Smirnov distance to the distribution function, by numerical integration."""
    lam = draw_lambda(alpha, seeded(), (40_000,)).double()
    variance = 1 / (4 * (2 * alpha + 1))
    assert lam.mean().item() == pytest.approx(0.5, abs=4 * math.sqrt(variance / len(lam)))
    assert lam.var().item() == pytest.approx(variance, rel=0.03)
    assert kolmogorov_smirnov(lam, alpha) < 1.63 / math.sqrt(len(lam))  # 1 % level


def kolmogorov_smirnov(samples: Tensor, alpha: float) -> float:
    """Largest distance between the samples' and Beta(alpha, alpha)'s distribution functions, on a grid.

    On [0, 1/2], with x = g^k / 2, the density x^(alpha-1) (1-x)^(alpha-1) dx is proportional to
    g^(k alpha - 1) (1-x)^(alpha-1) dg, which k = 1 / alpha frees of its pole at 0. The rest follows by symmetry.
    Nearer to 0 and 1 than 1e-6 the samples' own rounding would be measured.
    """
    grid, k = torch.linspace(0, 1, 20_001, dtype=torch.float64), max(1, 1 / alpha)
    middle = (grid[1:] + grid[:-1]) / 2
    mass = middle ** (k * alpha - 1) * (1 - middle**k / 2) ** (alpha - 1)
    lower = torch.cat([torch.zeros(1), mass.cumsum(0) / (2 * mass.sum())])
    x = grid**k / 2
    known, at = torch.cat([lower, 1 - lower.flip(0)]), torch.cat([x, 1 - x.flip(0)])
    found = torch.searchsorted(samples.sort().values, at, right=True) / len(samples)
    return (known - found)[(at > 1e-6) & (at < 1 - 1e-6)].abs().max().item()


def test_the_distance_would_see_a_wrong_alpha() -> None:
    assert kolmogorov_smirnov(draw_lambda(1.1, seeded(), (40_000,)).double(), 1.0) > 1.63 / 200


@settings(deadline=None, max_examples=60)
@given(st.floats(1e-300, 1e300), st.integers(0, 2**32))
def test_lambda_is_a_fraction_for_every_alpha(alpha: float, seed: int) -> None:
    lam = draw_lambda(alpha, seeded(seed), (100,))
    assert lam.dtype == torch.float32
    assert ((lam >= 0) & (lam <= 1)).all()


def test_limits_of_alpha() -> None:
    unmixed = draw_lambda(UNMIXED, seeded(), (1000,))
    assert set(unmixed.tolist()) == {0.0, 1.0}
    assert unmixed.mean().item() == pytest.approx(0.5, abs=0.05)
    torch.testing.assert_close(draw_lambda(1e12, seeded(), (1000,)), torch.full((1000,), 0.5), atol=1e-5, rtol=0)


def test_a_uniform_number_of_zero_is_not_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "rand", lambda *size, **kwargs: torch.tensor([[0.0] * 4, [0.0, 0.25, 0.5, 0.75]]))
    assert draw_lambda(1.0, size=(4,)).tolist() == [1, 0, 0, 1]  # cos(pi/2) is just below 0 in float32


def test_the_same_generator_draws_the_same_and_the_global_one_is_left_alone() -> None:
    state = torch.get_rng_state()
    assert draw_lambda(1.0, seeded(3)) == draw_lambda(1.0, seeded(3)) != draw_lambda(1.0, seeded(4))
    assert torch.equal(draw_partner(50, seeded(3)), draw_partner(50, seeded(3)))
    assert torch.equal(torch.get_rng_state(), state)
    assert draw_partner(50, seeded(3)).sort().values.tolist() == list(range(50))


# --- mixing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lam", [0.0, 0.3, 0.5, 0.85, 1.0])
def test_mixing_is_torchvision_s(images: Tensor, targets: Tensor, lam: float) -> None:
    """Its lam is forced; its partner of an image is the one before it in the batch."""
    oracle = v2.MixUp(alpha=1.0, num_classes=C)
    oracle._dist = torch.distributions.Beta(1.0, 1.0)
    oracle._dist.sample = lambda shape=(): torch.tensor([lam])
    expected_images, expected_targets = oracle(images, targets)
    partner = torch.arange(N).roll(1)
    torch.testing.assert_close(mix(images, partner, lam), expected_images, atol=1e-6, rtol=0)
    torch.testing.assert_close(mixup.mix_targets(targets, partner, lam, C), expected_targets, atol=1e-6, rtol=0)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 7), st.floats(0, 1), st.integers(0, 2**32), st.booleans())
def test_mixing_by_loops(n: int, lam: float, seed: int, per_sample: bool) -> None:
    generator = seeded(seed)
    x = torch.randn(n, 2, 3, generator=generator, dtype=torch.float64)
    y = torch.randint(C, (n,), generator=generator)
    partner = draw_partner(n, generator)
    lams = torch.rand(n, generator=generator, dtype=torch.float64) if per_sample else torch.tensor(lam).double()
    mixed, soft = mix(x, partner, lams), mixup.mix_targets(y, partner, lams, C)
    for i, j in enumerate(partner.tolist()):
        part = lams[i] if per_sample else lams
        torch.testing.assert_close(mixed[i], part * x[i] + (1 - part) * x[j], atol=1e-12, rtol=0)
        row = torch.zeros(C, dtype=torch.float64)
        row[y[i]] += part
        row[y[j]] += 1 - part
        torch.testing.assert_close(soft[i].double(), row, atol=1e-6, rtol=0)
    assert soft.dtype == torch.float32
    torch.testing.assert_close(soft.sum(1), torch.ones(n))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_the_ends_are_exact(dtype: torch.dtype) -> None:
    x, partner = (1e3 * torch.randn(9, 50, generator=seeded())).to(dtype), draw_partner(9, seeded())
    assert torch.equal(mix(x, partner, 1.0), x)
    assert torch.equal(mix(x, partner, 0.0), x[partner])
    assert torch.equal(mix(x, partner, torch.ones(9)), x)


def test_half_precision_is_rounded_once() -> None:
    """lam = 0.3 itself is no bfloat16 number; a lam rounded to bfloat16 would give other results."""
    x, partner = torch.randn(9, 50, generator=seeded()).bfloat16(), draw_partner(9, seeded())
    expected = (0.3 * x.double() + 0.7 * x[partner].double()).bfloat16()
    agree = mix(x, partner, 0.3) == expected
    assert agree.float().mean() > 0.99
    rounded = torch.tensor(0.3).bfloat16() * x + torch.tensor(0.7).bfloat16() * x[partner]
    assert (rounded == expected).float().mean() < 0.9


def test_memory_format_stays(images: Tensor) -> None:
    mixed = mix(images.to(memory_format=torch.channels_last), draw_partner(N, seeded()), 0.3)
    assert mixed.is_contiguous(memory_format=torch.channels_last)


def test_probabilities_are_mixed_as_labels_are(targets: Tensor) -> None:
    partner, one_hot = draw_partner(N, seeded()), nn.functional.one_hot(targets, C).double()
    expected = mixup.mix_targets(targets, partner, 0.3, C)
    assert torch.equal(mixup.mix_targets(one_hot, partner, 0.3, C), expected)


# --- the slot --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_input_mixup_by_loops(model: Net, images: Tensor, targets: Tensor, seed: int) -> None:
    logits, soft = InputMixup(0.7)(model, images, targets, class_counts=COUNTS, generator=seeded(seed))
    lam, partner = draws(0.7, seed=seed)
    for i, j in enumerate(partner.tolist()):
        alone = model((lam * images[i] + (1 - lam) * images[j])[None])
        torch.testing.assert_close(logits[i : i + 1], alone, atol=1e-5, rtol=1e-4)
        row = torch.zeros(C)
        row[targets[i]] += lam
        row[targets[j]] += 1 - lam
        torch.testing.assert_close(soft[i], row)


def by_hand(model: Net, images: Tensor, partner: Tensor, lam: Tensor, layer: str) -> Tensor:
    """The forward pass written out, mixed after the layer of that name."""
    parts = ["normalise", *model.feature_layers, "pool"]
    x = images
    for name in parts:
        x = model.get_submodule(name)(x)
        if name == layer:
            x = lam * x + (1 - lam) * x[partner]
    if layer == "classifier":
        x = lam * x + (1 - lam) * x[partner]
    return model.classifier(x)


@pytest.mark.parametrize("layer", ["normalise", "stem", "layer1", "layer2", "layer3", "pool", "classifier"])
@pytest.mark.parametrize("train", [False, True])
def test_manifold_mixup_by_hand(images: Tensor, targets: Tensor, layer: str, train: bool) -> None:
    model = small_net(C).train(train)
    logits, soft = ManifoldMixup(1.0, layer)(model, images, targets, generator=seeded())
    lam, partner = draws(1.0)
    torch.testing.assert_close(logits, by_hand(model, images, partner, lam, layer), atol=1e-5, rtol=1e-4)
    assert torch.equal(soft, InputMixup(1.0)(model, images, targets, generator=seeded())[1])


def test_gradients_of_manifold_mixup_are_those_by_hand(images: Tensor, targets: Tensor) -> None:
    model = small_net(C).double().train()
    loss, (lam, partner) = CrossEntropyLoss(), draws(1.0)
    logits, soft = ManifoldMixup(1.0, "layer2")(model, images.double(), targets, generator=seeded())
    gradients = torch.autograd.grad(loss(logits, soft), list(model.parameters()))
    expected = by_hand(model, images.double(), partner, lam.double(), "layer2")
    by_definition = torch.autograd.grad(loss(expected, soft), list(model.parameters()))
    for mine, theirs in zip(gradients, by_definition, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_manifold_mixup_at_the_input_is_input_mixup(images: Tensor, targets: Tensor) -> None:
    model = small_net(C).train()
    expected = InputMixup(0.4)(model, images, targets, generator=seeded())
    result = ManifoldMixup(0.4, "input")(model, images, targets, generator=seeded())
    assert all(torch.equal(a, b) for a, b in zip(result, expected, strict=True))


@pytest.mark.parametrize("loss", [CrossEntropyLoss(), FocalLoss(), CostSensitiveLoss(COUNTS)], ids=repr)
@pytest.mark.parametrize("kind", KINDS, ids=repr)
@pytest.mark.parametrize("layer", LAYERS)
def test_without_mixing_the_loss_is_the_unmixed_one(kind, loss, images, targets, layer) -> None:
    """Bit for bit, in training mode; where lam = 0 with partners in the place of the images."""
    kind = type(kind)(UNMIXED, layer) if isinstance(kind, ManifoldMixup) else type(kind)(UNMIXED)
    model, seen = small_net(C).train(), set()
    for seed in range(4):
        lam, partner = draws(UNMIXED, seed=seed)
        logits, soft = kind(model, images, targets, class_counts=COUNTS, generator=seeded(seed))
        own = torch.arange(N) if lam == 1 else partner
        inside = layer != "input" and isinstance(kind, ManifoldMixup)
        plain = model(images)[own] if inside else model(images[own])
        torch.testing.assert_close(soft, nn.functional.one_hot(targets[own], C).float(), atol=0, rtol=0)
        torch.testing.assert_close(loss(logits, soft), loss(plain, targets[own]), atol=0, rtol=0)
        seen.add(lam.item())
    assert seen == {0.0, 1.0}


@pytest.mark.parametrize("kind", [*KINDS, ManifoldMixup(1.0, "layer1.0")], ids=repr)
def test_autocast_and_channels_last(kind, images: Tensor, targets: Tensor) -> None:
    model = small_net(C).train()
    expected, expected_soft = kind(model, images, targets, class_counts=COUNTS, generator=seeded())
    channels_last = images.to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        logits, soft = kind(model, channels_last, targets, class_counts=COUNTS, generator=seeded())
    assert (logits.dtype, soft.dtype) == (torch.bfloat16, torch.float32)
    torch.testing.assert_close(logits.float(), expected, atol=0.05, rtol=0.05)
    assert torch.equal(soft, expected_soft)


@pytest.mark.parametrize("name", MODELS)
def test_pool_is_what_a_classifier_receives(name: str, images: Tensor, targets: Tensor) -> None:
    """Also with the cosine classifier, whose logits are not those of mixed features when its outputs are mixed."""
    for cosine in (False, True):
        model = MODELS[name](C)
        if cosine:
            model.classifier = CosineClassifier(model.classifier.in_features, C)
        pool, _ = ManifoldMixup(1.0, "pool")(model, images, targets, generator=seeded())
        classifier, _ = ManifoldMixup(1.0, "classifier")(model, images, targets, generator=seeded())
        assert torch.equal(pool, classifier)


def test_a_model_of_another_kind(images: Tensor, targets: Tensor) -> None:
    """Layers by number, a classifier that takes maps."""
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(4500, C))
    logits, _ = ManifoldMixup(1.0, "2")(model, images, targets, generator=seeded())
    lam, partner = draws(1.0)
    features = model[:3](images)
    torch.testing.assert_close(logits, model[3](lam * features + (1 - lam) * features[partner]))


# --- a layer that cannot be mixed ------------------------------------------------------------------------------------


class Odd(nn.Module):
    """A layer that runs twice, one that never runs, one without a tensor, one whose batch is not first."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.never, self.pair, self.turned = (nn.Identity() for _ in range(4))
        self.pair.forward = lambda x: (x, x)
        self.turned.forward = lambda x: x.transpose(0, 1)
        self.classifier = nn.Linear(3, C)

    def forward(self, images: Tensor) -> Tensor:
        x = self.twice(self.twice(images.mean((2, 3))))
        return self.classifier(self.turned(self.pair(x)[0]).transpose(0, 1))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("twice", "layer='twice'.* ran 2 times"),
        ("never", "layer='never'.* ran 0 times"),
        ("pair", "layer='pair': .* one floating-point tensor .* got tuple"),
        ("turned", rf"layer='turned': .* batch of {N} first, got torch.float32 \(3, {N}\)"),
        ("layer4", "layer='layer4' is not"),
        ("pair.0", "layer='pair.0' is not"),
    ],
)
def test_a_layer_that_cannot_be_mixed(images: Tensor, targets: Tensor, layer: str, message: str) -> None:
    names = "input, twice, never, pair, turned, classifier"
    with pytest.raises(ValueError, match=message) as error:
        ManifoldMixup(1.0, layer)(Odd(), images, targets)
    assert names in str(error.value)


def test_a_classifier_that_gets_no_tensor(images: Tensor) -> None:
    model = Odd()
    model.forward = lambda images: model.classifier(input=images.mean((2, 3)))
    with pytest.raises(ValueError, match=r"layer='classifier': .*got NoneType"):
        forward_mixed(model, images, torch.arange(N), 0.5, "classifier")


@pytest.mark.parametrize("layer", ["layer1", "classifier"])
def test_the_model_is_left_unchanged(images: Tensor, targets: Tensor, layer: str) -> None:
    """After a pass, and after one that failed before, within and behind the layer."""
    model = small_net(C).eval()
    before = model(images)
    ManifoldMixup(1.0, layer)(model, images, targets, generator=seeded())
    with pytest.raises(RuntimeError):
        forward_mixed(model, images[:, :2], torch.arange(N), 0.5, layer)
    with pytest.raises(ValueError, match="lam must be in"):
        forward_mixed(model, images, torch.arange(N), 1.5, layer)
    broken = nn.Sequential(model, nn.Linear(C + 1, C))
    with pytest.raises(RuntimeError):
        forward_mixed(broken, images, torch.arange(N), 0.5, f"0.{layer}")
    for module in (*model.modules(), broken):
        assert not module._forward_hooks and not module._forward_pre_hooks
    assert torch.equal(model(images), before)


# --- why soft targets ------------------------------------------------------------------------------------------------


def judge(logits: Tensor, targets: Tensor, others: Tensor, lam: Tensor) -> float:
    """Weighted losses of all pairs, mixed one by one, over the sum of their mixed weights."""
    weight = (COUNTS.min() / COUNTS).tolist()
    losses, weights = 0.0, 0.0
    for z, i, j, part in zip((-logits.log_softmax(1)).tolist(), targets, others, lam.tolist(), strict=True):
        losses += part * weight[i] * z[i] + (1 - part) * weight[j] * z[j]
        weights += part * weight[i] + (1 - part) * weight[j]
    return losses / weights


@pytest.fixture(scope="module")
def logits() -> Tensor:
    return 2 * torch.randn(N, C, generator=seeded(2))


def test_a_weighted_mean_may_only_for_one_lam_and_a_permutation(logits: Tensor, targets: Tensor) -> None:
    """Only there do both terms divide by the same sum of weights. Soft targets are right everywhere."""
    loss, costs = CostSensitiveLoss(COUNTS), CostSensitiveLoss(COUNTS, reduction="none")
    one, own = torch.full((N,), 0.3), torch.tensor([0.9, 0.3, 0.0, 1.0, 0.2, 0.4])
    permutation, head = torch.tensor([3, 0, 4, 5, 1, 2]), torch.zeros(N, dtype=torch.int64)
    agree = []
    for lam, partner in ((one, permutation), (one, head), (own, permutation)):
        expected = judge(logits, targets, targets[partner], lam)
        assert loss(logits, mixup.mix_targets(targets, partner, lam, C)).item() == pytest.approx(expected, rel=1e-5)
        two = sum((part * costs(logits, labels)).sum() / (COUNTS.min() / COUNTS)[labels].sum()
                  for part, labels in ((lam, targets), (1 - lam, targets[partner])))  # fmt: skip
        agree.append(math.isclose(two, expected, rel_tol=0.01))
    assert agree == [True, False, False]


# --- Remix -----------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=200)
@given(st.floats(0, 1), st.integers(1, 50), st.integers(1, 50), st.floats(1, 20), st.floats(0, 1))
def test_remix_lambda_is_the_rule(lam: float, n_i: int, n_j: int, kappa: float, tau: float) -> None:
    if n_i >= kappa * n_j and lam < tau:
        expected = 0.0
    elif n_j >= kappa * n_i and 1 - lam < tau:
        expected = 1.0
    else:
        expected = lam
    counts = torch.tensor(n_i, dtype=torch.float64), torch.tensor(n_j, dtype=torch.float64)
    assert remix_lambda(lam, *counts, kappa, tau).item() == expected


def test_remix_lambda_at_its_borders() -> None:
    head, tail = torch.tensor(30), torch.tensor(10)
    assert remix_lambda(0.49, head, tail).item() == 0  # n_i / n_j = kappa counts, lam = tau does not
    assert remix_lambda(0.5, head, tail).item() == 0.5
    assert remix_lambda(0.51, tail, head).item() == 1
    assert remix_lambda(0.49, head - 1, tail).item() == 0.49
    assert remix_lambda(0.8, head, head, kappa=1, tau=1).item() == 0  # both hold: the first wins
    lams = torch.linspace(0, 1, 11)
    assert torch.equal(remix_lambda(lams, head, tail, tau=0), lams)
    assert torch.equal(remix_lambda(lams, head, tail, kappa=math.inf), lams)


def test_remix_by_loops(model: Net, images: Tensor, targets: Tensor) -> None:
    changed = 0
    for seed in range(4):
        lam, partner = draws(1.0, seed=seed)
        logits, soft = Remix(1.0)(model, images, targets, class_counts=COUNTS, generator=seeded(seed))
        assert torch.equal(logits, InputMixup(1.0)(model, images, targets, generator=seeded(seed))[0])
        for i, j in enumerate(partner.tolist()):
            ratio = COUNTS[targets[i]].item() / COUNTS[targets[j]].item()
            part = 0.0 if ratio >= 3 and lam < 0.5 else 1.0 if ratio <= 1 / 3 and 1 - lam < 0.5 else lam.item()
            row = torch.zeros(C)
            row[targets[i]] += part
            row[targets[j]] += 1 - part
            torch.testing.assert_close(soft[i], row)
            changed += part != lam.item()
    assert changed


@pytest.mark.parametrize("remix", [Remix(1.0, tau=0.0), Remix(1.0, kappa=math.inf)], ids=repr)
def test_remix_s_limits_are_mixup(remix: Remix, model: Net, images: Tensor, targets: Tensor) -> None:
    for seed in range(3):
        expected = InputMixup(1.0)(model, images, targets, generator=seeded(seed))
        result = remix(model, images, targets, class_counts=COUNTS, generator=seeded(seed))
        assert all(torch.equal(a, b) for a, b in zip(result, expected, strict=True))


# --- settings --------------------------------------------------------------------------------------------------------


def test_the_printed_form_is_what_was_written() -> None:
    assert repr(InputMixup(1.0)) == "InputMixup(alpha=1.0)"
    assert repr(ManifoldMixup(alpha=1.0, layer="pool")) == "ManifoldMixup(alpha=1.0, layer='pool')"
    assert repr(Remix(alpha=0.2)) == "Remix(alpha=0.2, kappa=3.0, tau=0.5)"
    assert InputMixup(1.0) == InputMixup(alpha=1.0) != InputMixup(0.5)
    assert {Remix(1.0), Remix(1.0, 3.0, 0.5)} == {Remix(1.0)}


@pytest.mark.parametrize("alpha", [0, math.nan])
@pytest.mark.parametrize("make", [InputMixup, lambda a: ManifoldMixup(a, "pool"), Remix, draw_lambda])
def test_alpha_is_above_zero(make, alpha: float) -> None:
    with pytest.raises(ValueError, match=f"alpha={alpha!r}"):
        make(alpha)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"kappa": 0.9}, "kappa=0.9"), ({"kappa": math.nan}, "kappa=nan"), ({"tau": 1.5}, "tau=1.5")],
)
def test_remix_s_settings(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Remix(1.0, **settings)
    with pytest.raises(ValueError, match=message):
        remix_lambda(0.5, COUNTS, COUNTS, **settings)


@pytest.mark.parametrize("layer", ["", None, 3])
def test_a_layer_is_a_name(layer) -> None:
    with pytest.raises(ValueError, match=f"layer={layer!r}"):
        ManifoldMixup(1.0, layer)


@pytest.mark.parametrize("lam", [-0.1, math.nan, torch.tensor([0.5] * 5 + [2.0])])
def test_lam_is_a_fraction(images: Tensor, lam) -> None:
    with pytest.raises(ValueError, match=r"lam must be in \[0, 1\]"):
        mix(images, torch.arange(N), lam)
    with pytest.raises(ValueError, match=r"lam must be in \[0, 1\]"):
        remix_lambda(lam, torch.tensor(3), torch.tensor(1))


def test_shapes_that_do_not_fit(images: Tensor) -> None:
    with pytest.raises(ValueError, match=r"partner must be \(6,\)"):
        mix(images, torch.arange(5), 0.5)
    with pytest.raises(ValueError, match=r"lam must be one number or \(6,\)"):
        mix(images, torch.arange(N), torch.full((5,), 0.5))
    with pytest.raises(ValueError, match=r"values must be floating point, got torch.uint8"):
        mix(images.byte(), torch.arange(N), 0.5)


@pytest.mark.parametrize("kind", KINDS, ids=repr)
def test_a_batch_that_does_not_fit(kind, model: Net, images: Tensor, targets: Tensor) -> None:
    def refused(message: str, images: Tensor = images, targets: Tensor = targets) -> None:
        with pytest.raises(ValueError, match=re.escape(message)):
            kind(model, images, targets, class_counts=COUNTS, generator=seeded())

    refused("got 6 images and 5 targets", targets=targets[:5])
    refused("images must be floating point, got torch.uint8", images=images.byte())
    refused("targets must be int64", targets=targets.int())
    refused("targets must be in [0, 3], the classes of the logits, got values from -1", targets=targets - 1)
    if not isinstance(kind, Remix):
        refused("with C = 4, got torch.float32 of shape (6, 3)", targets=torch.full((N, 3), 1 / 3))
        refused("with C = 4, got torch.float32 of shape (6,)", targets=targets.float())


@pytest.mark.parametrize(
    ("counts", "message"),
    [(None, "Remix needs class_counts="), ([3, 2, 1], r"class_counts must be \(4,\)"),
     ([3, 2, 0, 1], "class_counts must be .*above zero.* got 0 for class 2")],
)  # fmt: skip
def test_remix_needs_the_counts(model: Net, images: Tensor, targets: Tensor, counts, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Remix(1.0)(model, images, targets, class_counts=counts)


def test_remix_needs_labels(model: Net, images: Tensor) -> None:
    with pytest.raises(ValueError, match=r"targets must be .* int64"):
        Remix(1.0)(model, images, torch.full((N, C), 1 / C), class_counts=COUNTS)
