"""The exercises of notebook 09."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..calibration import estimate_prior
from ..classifiers import aligned
from ..losses import GeneralizedReweightLoss
from ..metrics import error_under
from ..recipes import Recipe, get
from .answers import Matches, NotYet, check_kind

SLOW_GATE = {"classifier.gate": 0.1}


def slow_gate(answer: Any) -> str:
    """DisAlign whose gate learns at a tenth of the rate."""
    check_kind(answer, Recipe, "a Recipe")
    expected = get("disalign").stages[1]
    if len(answer.stages) != 2 or getattr(answer.stages[1].classifier, "func", answer.stages[1].classifier) != aligned:
        raise NotYet("stages", "expected the two stages of disalign: plain training, then classifiers.aligned")
    loss, rates = answer.stages[1].loss, dict(answer.stages[1].rates or {})
    made = loss if isinstance(loss, GeneralizedReweightLoss) else partial(loss)([3, 1])
    if not isinstance(made, GeneralizedReweightLoss) or made.rho != 1.2:
        raise NotYet("loss", f"the loss of stage 2 is {made}; leave it unchanged, as only the gate's rate changes")
    if not rates:
        raise NotYet("rates", 'no part has a rate of its own yet: rates={"classifier.gate": ...} in stage 2')
    if rates.keys() - {"classifier.gate", "classifier.gate.weight", "classifier.gate.bias"}:
        raise NotYet("part", f"rates={rates}: only the gate is slower, scale and shift keep the full rate")
    factors = [rates.get(f"classifier.gate.{name}", rates.get("classifier.gate", 1.0)) for name in ("weight", "bias")]
    if factors != [0.1, 0.1]:
        raise NotYet("factor", f"rates={rates}: a tenth of the rate is the factor 0.1, of the gate's weight and bias")
    if (answer.stages[1].trains, answer.stages[1].batch_norm) != (expected.trains, expected.batch_norm):
        raise NotYet("trains", "stage 2 trains the classifier alone, with batch norm in evaluation mode")
    if answer.name == "disalign":
        raise NotYet("name", "right, but give it another name: finished runs are stored by name")
    return "scale and shift learn at the full rate, the gate at a tenth"


# --- the prior of unlabelled images ----------------------------------------------------------------------------------


def _estimate(
    *, divided: bool = True, normalised: bool = True, again: bool = True
) -> Callable[[Tensor, Tensor], Tensor]:
    """Expectation-maximisation; every argument leaves something out."""

    def estimate(logits: Tensor, train_prior: Tensor) -> Tensor:
        p, pi = logits.double().softmax(1), train_prior.double()
        q = pi
        for _ in range(500 if again else 1):
            posterior = p * q / pi if divided else p * q
            posterior = posterior / posterior.sum(1, keepdim=True) if normalised else posterior
            q = posterior.mean(0)
            q = q if normalised else q / q.sum()
        return q

    return estimate


_GENERATOR = torch.Generator().manual_seed(0)
_TOY = torch.tensor([[0.95, 0.05], [0.8, 0.2], [0.4, 0.6], [0.3, 0.7]]).log()
_PRIOR = torch.tensor([0.6, 0.3, 0.1])
_THREE = 2 * torch.randn(200, 3, generator=_GENERATOR, dtype=torch.float64)

my_estimate_prior = Matches(
    oracle=estimate_prior,
    cases={
        "four images of two classes": (_TOY, torch.tensor([0.6, 0.4])),
        "200 images of three classes": (_THREE + _PRIOR.log(), _PRIOR),
    },
    mistakes={
        "not_divided": ("The network's probabilities hold the training prior: divide it out", _estimate(divided=False)),
        "not_normalised": ("Each image's posterior must sum to one before the mean is taken",
                           _estimate(normalised=False)),
        "once": ("That is one step, the mean of probabilities that hold the training prior; repeat until nothing moves",
                 _estimate(again=False)),
    },
    right="a posterior for each image, its mean as the next prior, until nothing moves: calibration.estimate_prior",
)  # fmt: skip

# --- the error under a prior -----------------------------------------------------------------------------------------


def _error(*, predicted: bool = False, frequency: bool = True) -> Callable[[Tensor, Tensor, Tensor], float]:
    """The error under a prior; every argument makes one thing wrong."""

    def error(logits: Tensor, labels: Tensor, prior: Tensor) -> float:
        wrong = (logits.argmax(1) != labels).double()
        of = logits.argmax(1) if predicted else labels
        images = torch.bincount(labels, minlength=len(prior)).clamp(min=1)
        weight = prior.double()[of] / (images[of] if frequency else 1)
        return ((weight * wrong).sum() / weight.sum()).item()

    return error


fixed_error = Matches(
    oracle=error_under,
    cases={
        "four images, three of class 0": (
            torch.tensor([[2.0, 0], [0, 1], [0, 1], [1, 0]]), torch.tensor([0, 0, 0, 1]),
            torch.tensor([0.2, 0.8], dtype=torch.float64)),
        "200 images, most of class 0": (
            _THREE, torch.randint(3, (200,), generator=_GENERATOR) * (torch.arange(200) % 2),
            torch.tensor([0.1, 0.2, 0.7], dtype=torch.float64)),
    },
    mistakes={
        "predicted": ("An image has the prior of its label, not of what it is taken for", _error(predicted=True)),
        "frequency": ("A class with many images in the set counts too much: divide by their number",
                      _error(frequency=False)),
        "both": ("An image weighs by its label, and by how many images its class has in the set",
                 _error(predicted=True, frequency=False)),
    },
    right="every class counts as the prior says, however many images of it there are, as in metrics.error_under",
)  # fmt: skip

EXERCISES = {"tweak": slow_gate, "implement": my_estimate_prior, "bug": fixed_error}
