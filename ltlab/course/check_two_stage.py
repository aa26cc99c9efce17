"""The exercises of notebook 05."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from ..classifiers import tau_normalised_weight
from ..losses import CostSensitiveLoss, CrossEntropyLoss
from ..recipes import CIFAR, Recipe
from .answers import NotYet, Unsolved, difference, kind, wants_function


def from_the_middle(answer: Any) -> str:
    """Deferred re-weighting whose weights start after half of the epochs."""
    if not isinstance(answer, Recipe):
        raise NotYet(f"this wants a Recipe, it got {kind(answer)}")
    resolved = answer.resolve(CIFAR)
    losses = [getattr(stage.loss, "func", stage.loss) for stage in resolved.stages]
    if len(losses) != 2 or not isinstance(losses[0], CrossEntropyLoss) or losses[1] is not CostSensitiveLoss:
        raise NotYet(
            "this wants two stages, the first plain and the second with loss=losses.CostSensitiveLoss, the class itself"
        )
    first, second = (stage.epochs for stage in resolved.stages)
    if first + second != CIFAR.epochs:
        raise NotYet(f"{first} + {second} epochs on CIFAR are not {CIFAR.epochs}: the two shares are to add up to 1")
    if not resolved.continues(1):
        raise NotYet("stage 2 begins a schedule of its own; deferred, only the loss changes")
    if first != second:
        raise NotYet(f"of {CIFAR.epochs} epochs on CIFAR the weights start with epoch {first + 1}, not with 101")
    if answer.name in ("drw_cs_ce", "my_drw"):
        raise NotYet("right, but give it a name of its own: finished runs are kept by name")
    return "on CIFAR the weights start with epoch 101 of 200, on shapes-lt with epoch 16 of 30; the schedule goes on"


class _Model(nn.Module):
    """Features with batch norm, and a linear classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.BatchNorm1d(6), nn.ReLU())
        self.classifier = nn.Linear(6, 3)
        generator = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            nn.init.normal_(parameter, generator=generator)
        self.classifier.weight.data *= torch.tensor([[2.0], [1.0], [0.25]])

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images))


def halfway(answer: Any) -> str:
    """The classifier with weights normalised at tau = 0.5 and its bias as it was."""
    wants_function(answer)
    with torch.random.fork_rng(devices=[]):  # layers draw their first weights from the global generator
        model = _Model()
        before = copy.deepcopy(model.classifier)
        images, labels = torch.zeros(6, 3, 2, 2, dtype=torch.uint8), torch.arange(6) % 3
        new = answer(model, images, labels, torch.tensor([100, 10, 1]))
    if new is None or new is ...:
        raise Unsolved
    if not isinstance(new, nn.Linear):
        raise NotYet(f"this wants a torch.nn.Linear back, it got {kind(new)}")
    if not torch.equal(model.classifier.weight, before.weight):
        raise NotYet("the model's own classifier has changed: put the new weights into a new layer")
    if new.bias is None:
        raise NotYet("the bias is gone; this one is to keep it")
    if found := difference(new.weight, tau_normalised_weight(before.weight, 0.5)):
        taus = [tau for tau in (0.0, 1.0) if not difference(new.weight, tau_normalised_weight(before.weight, tau))]
        hint = f"That is tau = {taus[0]:g}" if taus else "Divide each row, the weight of one class, by |w| ** 0.5"
        raise NotYet(f"weight: {found}. {hint}")
    if found := difference(new.bias, before.bias):
        raise NotYet(f"bias: {found}. Keep it as it was; only the weights are normalised")
    return "norms evened out halfway, the bias kept, and the model's own classifier left as it was"


def classifier_alone(answer: Any) -> str:
    """Training that moves the classifier and nothing else."""
    wants_function(answer)
    with torch.random.fork_rng(devices=[]):
        model = _Model()
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        generator = torch.Generator().manual_seed(1)
        batches = [(torch.randn(8, 3, 2, 2, generator=generator), torch.arange(8) % 3) for _ in range(3)]
        answer(model, batches)
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    parameters = sorted(name for name, _ in model.named_parameters() if name in moved and "classifier" not in name)
    buffers = sorted(name for name, _ in model.named_buffers() if name in moved)
    if parameters:
        raise NotYet(
            f"{parameters[0]} has moved, whatever was done to its gradient: what else does an optimiser do in a step?"
        )
    if buffers:
        raise NotYet(
            f"no parameter of the features has moved, but the buffer {buffers[0]} has: it needs no gradient for that"
        )
    if not any("classifier" in name for name in moved):
        raise NotYet("nothing has moved, and neither has the classifier: it is the part that is to learn")
    return "the classifier has learnt, and every parameter and buffer of the features is the same to the bit"


EXERCISES = {"tweak": from_the_middle, "implement": halfway, "bug": classifier_alone}
