"""The explorers of alignment and of test priors, against the functions and rows that they show."""

import math

import pandas as pd
import pytest
import torch

from ltlab import calibration, metrics, results
from ltlab.classifiers import AlignedClassifier
from ltlab.losses import GeneralizedReweightLoss, adjust_logits
from ltlab.widgets import Explorer, alignment_explorer, prior_explorer

COUNTS = torch.tensor([30, 500, 5])
LABELS = torch.arange(150) % 3
LOGITS = 2 * torch.randn(150, 3, generator=torch.Generator().manual_seed(0)) + torch.tensor([0.0, 2.0, -1.0])
GATE = torch.rand(150, 1, generator=torch.Generator().manual_seed(1))


def moved(explorer: Explorer, **values: object) -> Explorer:
    for name, value in values.items():
        explorer.controls[name].value = value
    return explorer


def heights(explorer: Explorer, panel: int) -> list[float]:
    """Of the bars; the second half of the patches are outlines."""
    patches = explorer.figure.axes[panel].patches
    return [bar.get_height() for bar in patches[: len(patches) // 2]]


@pytest.mark.parametrize("gate", [0.0, 0.3, 1.0, "learnt"])
@pytest.mark.parametrize(("tau", "tilt"), [(0.0, 0.0), (1.0, 0.0), (0.0, 0.3), (1.4, -0.2)])
def test_what_alignment_shows_is_an_aligned_classifier(gate, tau, tilt):
    explorer = moved(alignment_explorer(LOGITS, LABELS, COUNTS, GATE), gate=gate, tau=tau, tilt=tilt)
    base = torch.nn.Linear(3, 3)
    base.weight.data, base.bias.data = torch.eye(3), torch.zeros(3)
    classifier = AlignedClassifier(base, "ungated").requires_grad_(False)
    geometric = math.exp(sum(math.log(n) for n in COUNTS.tolist()) / 3)
    classifier.magnitude.copy_((COUNTS / geometric) ** -tilt)
    classifier.margin.copy_(-tau * (COUNTS / COUNTS.sum()).log())
    s = GATE if gate == "learnt" else gate
    z = s * classifier(LOGITS) + (1 - s) * LOGITS
    accuracy = metrics.group_accuracy(z, LABELS, COUNTS)
    expected = [metrics.top1_error(z, LABELS), *(1 - accuracy[name] for name in ("many", "medium", "few"))]
    assert heights(explorer, 0) == pytest.approx([100 * error for error in expected])
    groups = {"all": torch.ones(3, dtype=torch.bool)} | metrics.class_groups(COUNTS)
    gaps = calibration.signed_gap(z, LABELS, groups)
    assert heights(explorer, 1) == pytest.approx([100 * gap for gap in gaps.values()], abs=1e-3)
    assert f"error of all {100 * expected[0]:.1f} %" in explorer.summary


def test_the_margin_alone_is_logit_adjustment_and_a_closed_gate_is_the_model_as_trained():
    explorer = moved(alignment_explorer(LOGITS, LABELS, COUNTS), tau=1.0)
    adjusted = metrics.top1_error(adjust_logits(LOGITS, COUNTS), LABELS)
    assert heights(explorer, 0)[0] == pytest.approx(100 * adjusted)
    moved(explorer, gate=0.0, tilt=0.4)
    assert heights(explorer, 0)[0] == pytest.approx(100 * metrics.top1_error(LOGITS, LABELS))


@pytest.mark.parametrize("rho", [0.0, 0.7, 1.5])
def test_the_loss_of_calibrated_logits_is_least_at_rho(rho):
    """Labels that are drawn from the softmax of the logits, in the training prior."""
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(60_000, 3, generator=generator) + torch.tensor([1.5, 0.0, -1.5])
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    explorer = moved(alignment_explorer(logits, labels, torch.bincount(labels)), rho=rho)
    assert explorer.summary.endswith(f"least at tau {rho:.1f}")


def test_the_loss_is_that_of_the_package_where_the_images_have_the_training_prior():
    counts = torch.bincount(LABELS) * torch.tensor([1, 2, 1])
    labels = torch.arange(3).repeat_interleave(counts)
    logits = 3 * torch.randn(len(labels), 3, generator=torch.Generator().manual_seed(3))
    explorer = alignment_explorer(logits, labels, counts)
    curve = torch.tensor(explorer.figure.axes[2].lines[0].get_ydata())
    loss = GeneralizedReweightLoss(counts, 1.2)
    taus = [k / 10 for k in range(21)]
    ours = torch.stack([loss(adjust_logits(logits, counts, tau), labels) for tau in taus])
    torch.testing.assert_close(curve, ours / ours.min(), rtol=1e-4, atol=1e-5)


def test_alignment_refuses():
    for gate in (GATE[1:], 2 * GATE, GATE - 1):
        with pytest.raises(ValueError, match="gate must be 150"):
            alignment_explorer(LOGITS, LABELS, COUNTS, gate)
    with pytest.raises(ValueError, match="class 2 has no image"):
        alignment_explorer(LOGITS, LABELS % 2, COUNTS)
    with pytest.raises(ValueError, match="class_counts"):
        alignment_explorer(LOGITS, LABELS, [3, 0, 1])


def rows(**accuracies: list[str]) -> pd.DataFrame:
    lines = [(name, seed, text) for name, texts in accuracies.items() for seed, text in enumerate(texts)]
    return pd.DataFrame(lines, columns=["recipe", "seed", "per_class_accuracy"])


MEASURED = rows(ce=["0.7 0.9 0.1", "0.5 1 0"], lws=["0.6 0.8 0.6", "0.8 0.6 0.7"])


@pytest.mark.parametrize("t", [0.0, 0.25, 0.5, 1.0])
def test_prior_explorer_shows_the_table_and_names_the_best(t):
    explorer = moved(prior_explorer(MEASURED, COUNTS, names=["b", "a", "c"]), t=t)
    prior = results.prior_path(COUNTS, t)
    bars = [bar.get_height() for bar in explorer.figure.axes[0].patches]
    assert bars == pytest.approx((100 * prior[[1, 0, 2]]).tolist())
    table = results.errors_by_prior(MEASURED, COUNTS, [t])[t]
    assert f"least error {table.idxmin()} {table.min():.1f} %" in explorer.summary
    assert f"{table.max():.1f} %" in explorer.summary


def test_prior_explorer_adds_what_adapts():
    explorer = prior_explorer(MEASURED, COUNTS, adapted={"oracle": lambda prior: 0.05 * float(prior.max())})
    moved(explorer, t=0.0)
    assert f"least error oracle {5 * 500 / 535:.1f} %" in explorer.summary


def test_prior_explorer_refuses():
    many = rows(**{f"r{k}": ["1 1 1"] for k in range(11)})
    for given, message in (
        (MEASURED.iloc[:0], "1 to 10 recipes"),
        (many, "1 to 10 recipes"),
        (MEASURED.assign(per_class_accuracy=""), "per_class_accuracy"),
    ):
        with pytest.raises(ValueError, match=message):
            prior_explorer(given, COUNTS)
    with pytest.raises(ValueError, match="class_counts"):
        prior_explorer(MEASURED, [3, 0, 1])
