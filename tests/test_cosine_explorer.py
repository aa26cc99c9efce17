"""The explorer of cosine heads shows what the package computes."""

import pytest
import torch

from ltlab import calibration, metrics
from ltlab.classifiers import CosineClassifier, class_means
from ltlab.losses import adjust_logits
from ltlab.widgets import cosine_explorer

COUNTS = torch.tensor([150, 40, 5])
GENERATOR = torch.Generator().manual_seed(0)
CENTRES = 2 * torch.randn(3, 6, generator=GENERATOR)
SEEN_LABELS = torch.repeat_interleave(torch.arange(3), COUNTS)
SEEN = CENTRES[SEEN_LABELS] + 2 * torch.randn(len(SEEN_LABELS), 6, generator=GENERATOR)
LABELS = torch.arange(90) % 3
SHOWN = CENTRES[LABELS] + 2 * torch.randn(90, 6, generator=GENERATOR)
LEARNT = torch.randn(3, 6, generator=GENERATOR)


def made(**values):
    explorer = cosine_explorer((SEEN, SEEN_LABELS), (SHOWN, LABELS), COUNTS, LEARNT)
    for name, value in values.items():
        explorer.controls[name].value = value
    return explorer


def heights(explorer, panel: int) -> list[float]:
    patches = explorer.figure.axes[panel].patches
    return [bar.get_height() for bar in patches[: len(patches) // 2]]


@pytest.mark.parametrize("weights", ["class means", "learnt weights"])
@pytest.mark.parametrize(("scale", "tau", "images"), [(30, 0.0, 0), (5, 1.0, 10), (100, 0.4, 1000)])
def test_bars_are_those_of_a_cosine_classifier(weights, scale, tau, images):
    explorer = made(weights=weights, scale=scale, tau=tau, images=images)
    head = CosineClassifier(6, 3, float(scale))
    means = class_means(SEEN, SEEN_LABELS, 3)
    shrunk = torch.stack([(n * m + images * means.mean(0)) / (n + images) for n, m in zip(COUNTS, means, strict=True)])
    head.weight.data = LEARNT if weights == "learnt weights" else shrunk
    z = adjust_logits(head(SHOWN).detach(), COUNTS, tau)
    accuracy = metrics.group_accuracy(z, LABELS, COUNTS)
    expected = [metrics.top1_error(z, LABELS), *(1 - accuracy[name] for name in ("many", "medium", "few"))]
    assert heights(explorer, 0) == pytest.approx([100 * error for error in expected], abs=1e-4)
    groups = {"all": torch.ones(3, dtype=torch.bool)} | metrics.class_groups(COUNTS)
    gaps = calibration.signed_gap(z, LABELS, groups)
    assert heights(explorer, 1) == pytest.approx([100 * gap for gap in gaps.values()], abs=1e-3)
    assert f"error of all {100 * expected[0]:.1f} %" in explorer.summary


def test_the_scale_alone_moves_no_error_and_the_curve_ends_at_its_least():
    one, other = made(scale=1), made(scale=100)
    assert heights(one, 0) == heights(other, 0) and heights(one, 1) != heights(other, 1)
    curve = other.figure.axes[2].lines[0].get_ydata()
    head = CosineClassifier(6, 3, 100.0)
    head.weight.data = class_means(SEEN, SEEN_LABELS, 3)
    expected = [
        100 * metrics.balanced_error(adjust_logits(head(SHOWN).detach(), COUNTS, k / 10), LABELS) for k in range(21)
    ]
    assert list(curve) == pytest.approx(expected)
    assert other.summary.endswith(f"least at tau {torch.tensor(expected).argmin() / 10:.1f}")


def test_refusals():
    with pytest.raises(ValueError, match="class 2 has no image"):
        cosine_explorer((SEEN, SEEN_LABELS), (SHOWN, LABELS % 2), COUNTS)
    with pytest.raises(ValueError, match="learnt must be"):
        cosine_explorer((SEEN, SEEN_LABELS), (SHOWN, LABELS), COUNTS, LEARNT.T)
