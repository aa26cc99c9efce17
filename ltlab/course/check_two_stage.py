"""The exercises of notebook 05."""

import copy
from collections import OrderedDict
from typing import Any

import torch
from torch import nn

from ..classifiers import tau_normalised_weight
from ..losses import CostSensitiveLoss, CrossEntropyLoss
from ..recipes import CIFAR, Recipe
from .answers import NotYet, check_callable, check_given, check_kind, difference, raise_hint


def from_the_middle(answer: Any) -> str:
    """Deferred re-weighting whose weights start after half of the epochs."""
    check_kind(answer, Recipe, "a Recipe")
    resolved = answer.resolve(CIFAR)
    losses = [getattr(stage.loss, "func", stage.loss) for stage in resolved.stages]
    if len(losses) != 2 or not isinstance(losses[0], CrossEntropyLoss) or losses[1] is not CostSensitiveLoss:
        raise NotYet(
            "stages", "expected two stages, the first plain, the second with loss=losses.CostSensitiveLoss, the class"
        )
    first, second = (stage.epochs for stage in resolved.stages)
    if first + second != CIFAR.epochs:
        raise NotYet("length", f"{first} + {second} epochs on CIFAR are not {CIFAR.epochs}: shares must add up to 1")
    if not resolved.continues(1):
        raise NotYet("schedule", "stage 2 starts its own schedule; deferred, only the loss changes")
    if first != second:
        raise NotYet("start", f"of {CIFAR.epochs} epochs on CIFAR the weights start with epoch {first + 1}, not 101")
    if answer.name in ("drw_cs_ce", "my_drw"):
        raise NotYet("name", "right, but give it another name: finished runs are stored by name")
    return "on CIFAR the weights start with epoch 101 of 200, on shapes-lt with epoch 16 of 30; the schedule continues"


def _model() -> Any:
    """Features with batch norm, and a linear classifier."""
    torch.manual_seed(0)
    features = nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.BatchNorm1d(6), nn.ReLU())
    return nn.Sequential(OrderedDict(features=features, classifier=nn.Linear(6, 3)))


TAU_MISTAKES = {
    "tau_0": ("That is tau = 0", 0.0),
    "tau_1": ("That is tau = 1", 1.0),
    "rows": ("Divide each row, the weight of one class, by |w| ** 0.5", None),
}


def halfway(answer: Any) -> str:
    """The classifier with weights normalised at tau = 0.5 and its bias unchanged."""
    check_callable(answer)
    with torch.random.fork_rng(devices=[]):
        model = _model()
        before = copy.deepcopy(model.classifier)
        images, labels = torch.zeros(6, 3, 2, 2, dtype=torch.uint8), torch.arange(6) % 3
        new = check_given(answer(model, images, labels, torch.tensor([100, 10, 1])))
    check_kind(new, nn.Linear, "a torch.nn.Linear back")
    if not torch.equal(model.classifier.weight, before.weight):
        raise NotYet("in_place", "the model's own classifier has changed: put the new weights into a new layer")
    if new.bias is None:
        raise NotYet("no_bias", "the bias is missing; keep it")
    if found := difference(new.weight, tau_normalised_weight(before.weight, 0.5)):
        raise_hint(f"weight: {found}", TAU_MISTAKES, lambda tau: tau is None or not difference(
            new.weight, tau_normalised_weight(before.weight, tau)))  # fmt: skip
    if found := difference(new.bias, before.bias):
        raise NotYet("bias", f"bias: {found}. Leave it unchanged; only the weights are normalised")
    return "norms evened out halfway, the bias kept, and the model's own classifier unchanged"


def classifier_alone(answer: Any) -> str:
    """Training that moves the classifier and nothing else."""
    check_callable(answer)
    with torch.random.fork_rng(devices=[]):
        model = _model()
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        generator = torch.Generator().manual_seed(1)
        batches = [(torch.randn(8, 3, 2, 2, generator=generator), torch.arange(8) % 3) for _ in range(3)]
        answer(model, batches)
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    parameters = sorted(name for name, _ in model.named_parameters() if name in moved and "classifier" not in name)
    buffers = sorted(name for name, _ in model.named_buffers() if name in moved)
    if parameters:
        text = f"{parameters[0]} has changed, with any gradient: what else does an optimiser do in a step?"
        raise NotYet("parameter", text)
    if buffers:
        text = f"no parameter of the features has changed, but the buffer {buffers[0]} has: it needs no gradient"
        raise NotYet("buffer", text)
    if not any("classifier" in name for name in moved):
        raise NotYet("nothing", "nothing has changed, not even the classifier: it is the part that must learn")
    return "the classifier has learnt, and every parameter and buffer of the features is the same to the bit"


EXERCISES = {"tweak": from_the_middle, "implement": halfway, "bug": classifier_alone}
