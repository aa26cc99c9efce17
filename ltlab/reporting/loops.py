"""A recommended recipe as plain PyTorch, for a custom training loop: class counts, loss, sampler, and what follows."""

import math
import textwrap
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from ..classifiers import AUTHORS_WIDTH, SCALE
from ..losses import (
    BalancedSoftmaxLoss,
    CDTLoss,
    ClassBalancedLoss,
    CostSensitiveLoss,
    CrossEntropyLoss,
    FocalLoss,
    LDAMLoss,
    LogitAdjustedLoss,
)
from ..recipes import Plan, PlannedStage

WIDTH = 100


def _effective(beta: float) -> str:
    """Code for 1 / (1 - beta^n), exact where beta is near 1."""
    return f"1 / -torch.expm1({math.log(beta)!r} * class_counts)  # 1 / (1 - {beta!r} ** n)"


# the body of loss(logits, targets); "weights" stands for a line before it
LOSSES: dict[type, Callable[[Any], tuple[str, str]]] = {
    CrossEntropyLoss: lambda loss: ("", "return F.cross_entropy(logits, targets)"),
    CostSensitiveLoss: lambda loss: (
        f"(class_counts.min() / class_counts) ** {loss.gamma:g}", "return F.cross_entropy(logits, targets, {weights})"
    ),
    ClassBalancedLoss: lambda loss: (
        _effective(loss.beta), "return F.cross_entropy(logits, targets, {weights})"
    ),
    BalancedSoftmaxLoss: lambda loss: ("", "return F.cross_entropy(logits + class_counts.log(), targets)"),
    LogitAdjustedLoss: lambda loss: (
        "", f"return F.cross_entropy(logits + {loss.tau:g} * (class_counts / class_counts.sum()).log(), targets)"
    ),
    CDTLoss: lambda loss: (
        "", f"return F.cross_entropy(logits / (class_counts.max() / class_counts) ** {loss.gamma:g}, targets)"
    ),
    FocalLoss: lambda loss: (
        "", "cross_entropy = F.cross_entropy(logits, targets, reduction='none')\n"
        f"return ((1 - (-cross_entropy).exp()) ** {loss.gamma:g} * cross_entropy).mean()"
    ),
    LDAMLoss: lambda loss: (
        _effective(loss.beta) if loss.beta else "",
        f"margins = {loss.max_margin:g} * (class_counts.min() / class_counts) ** 0.25  # of cosines\n"
        f"logits = logits - {loss.scale:g} * F.one_hot(targets, len(class_counts)) * margins\n"
        f"return F.cross_entropy(logits, targets{', {weights}' if loss.beta else ''})",
    ),
}  # fmt: skip

COSINE = f'''
class CosineClassifier(torch.nn.Module):
    """Takes the place of the last Linear(features, classes)."""

    def __init__(self, features, classes):
        super().__init__()
        bound = 1 if features <= {AUTHORS_WIDTH} else (3 / features) ** 0.5  # norm 1 where there are many
        self.weight = torch.nn.Parameter(bound * (2 * torch.rand(classes, features) - 1))

    def forward(self, x):
        return {SCALE:g} * F.linear(F.normalize(x), F.normalize(self.weight))
'''

MIXED = """\
lam = torch.distributions.Beta({alpha:g}, {alpha:g}).sample()
        partner = torch.randperm(len(x))
        logits = model(lam * x + (1 - lam) * x[partner])
        cost = lam * loss(logits, targets) + (1 - lam) * loss(logits, targets[partner])"""


def loop_code(
    plan: Plan, class_counts: Sequence[int], class_names: Sequence[str], *, tau: float | None = None,
    target: Sequence[float] | None = None, temperature: float | None = None,
) -> str:  # fmt: skip
    """Python code of a plan in plain PyTorch: it defines class_counts, loss, samplers, a loop and corrected(logits).

    The loss and the probabilities of the sampler are those of ltlab. The code expects model, dataset and labels, (N,)
    int64, of yours where its last lines use them.

    Args:
        plan: of a candidate of the report.
        class_counts, class_names: (C,) each.
        tau, target: of `losses.adjust_logits` after training; None for no correction.
        temperature: what the corrected logits are divided by, for probabilities; None for none.

    Raises:
        ValueError: a loss, sampler or classifier that this function has no plain code for.
    """
    trained = [stage for stage in plan.stages if stage.epochs > 0]
    losses = [_loss(stage, class_counts, _suffix(number, trained)) for number, stage in enumerate(trained, start=1)]
    samplers = [_sampler(stage, _suffix(number, trained)) for number, stage in enumerate(trained, start=1)]
    parts = [
        "import torch\nimport torch.nn.functional as F\nfrom torch.utils.data import DataLoader, WeightedRandomSampler",
        _counts(class_counts, class_names),
        *([COSINE.strip("\n")] if plan.classifier == "cosine" else []),
        *losses,
        "\n".join(samplers),
        _loop(plan, trained),
        *_after(plan, tau, target, temperature),
    ]
    return "\n\n\n".join(parts) + "\n"


def _suffix(number: int, stages: Sequence[PlannedStage]) -> str:
    return f"_{number}" if len(stages) > 1 else ""


def _counts(class_counts: Sequence[int], class_names: Sequence[str]) -> str:
    wrapped = partial(textwrap.fill, width=WIDTH, initial_indent="    ", subsequent_indent="    ")
    names = "".join(f"    {name!r},\n" for name in class_names)
    counts = wrapped(", ".join(f"{int(n)}" for n in class_counts))
    return f"class_names = [\n{names}]\nclass_counts = torch.tensor([\n{counts}\n], dtype=torch.float32)"


def _loss(stage: PlannedStage, class_counts: Sequence[int], suffix: str) -> str:
    made = stage.loss if isinstance(stage.loss, nn.Module) else stage.loss(torch.tensor(class_counts))
    if type(made) not in LOSSES or (isinstance(made, FocalLoss) and (made.form != "softmax" or made.alpha is not None)):
        raise ValueError(f"loss={made!r} has no plain code")
    weights, body = LOSSES[type(made)](made)
    before = f"weights{suffix} = {weights}\n\n\n" if weights else ""
    body = textwrap.indent(body.replace("{weights}", f"weights{suffix}"), "    ")
    return f"{before}def loss{suffix}(logits, targets):\n{body}"


def _sampler(stage: PlannedStage, suffix: str) -> str:
    if stage.sampler is None:
        return f"sampler{suffix} = None  # every image once per epoch"
    q = getattr(stage.sampler, "keywords", {}).get("q")
    if q is None:
        raise ValueError(f"sampler={stage.sampler!r} has no plain code")
    return (
        f"# a class with probability proportional to its count ** {q:g}, then one of its images\n"
        f"sampler{suffix} = WeightedRandomSampler((class_counts ** {q - 1:g})[labels], num_samples=len(labels))"
    )


def _loop(plan: Plan, trained: Sequence[PlannedStage]) -> str:
    """The loop, with the stages by epoch; the learning rate is left to the optimiser of the user."""
    begins, lines, start = [], [], 0
    for number, stage in enumerate(trained, start=1):
        suffix = _suffix(number, trained)
        begins.append(f"    ({start / plan.epochs:.2g}, loss{suffix}, sampler{suffix}),\n")
        start += stage.epochs
    mixes = {stage.mix for stage in trained}
    if len(mixes) > 1 or not all(mix is None or hasattr(mix, "alpha") for mix in mixes):
        raise ValueError("mix has no plain code")
    mix = mixes.pop()
    step = MIXED.format(alpha=mix.alpha) if mix else "cost = loss(model(x), targets)"
    settings = plan.settings
    rate = settings.schedules["base"]
    lines = [
        f"# measured with SGD: {rate}, momentum {settings.momentum:g}, weight decay {settings.weight_decay:g}",
        f"stages = [  # from this fraction of the epochs on\n{''.join(begins)}]\n\n",
        f"def train(model, dataset, optimizer, epochs, batch_size={plan.settings.batch_size}):",
        "    for epoch in range(epochs):",
        "        _, loss, sampler = [stage for stage in stages if epoch >= stage[0] * epochs][-1]",
        "        loader = DataLoader(dataset, batch_size, sampler=sampler, shuffle=sampler is None)",
        "        for x, targets in loader:",
        textwrap.indent(textwrap.dedent("        " + step), "            "),
        "            optimizer.zero_grad()",
        "            cost.backward()",
        "            optimizer.step()",
    ]
    return "\n".join(lines)


TAU_NORM = """
def normalise(classifier):
    \"\"\"Call this once, after training, on the last Linear of the model.\"\"\"
    with torch.no_grad():
        classifier.weight /= classifier.weight.norm(dim=1, keepdim=True)
        classifier.bias.zero_()
"""
NEAREST = """
def class_means(features, labels):
    \"\"\"After training: the weight of a CosineClassifier, from the features that go into the last Linear.\"\"\"
    return torch.stack([features[labels == c].mean(0) for c in range(len(class_counts))])
"""


def _after(plan: Plan, tau: float | None, target: Sequence[float] | None, temperature: float | None) -> list[str]:
    """What is done once, after training, and with the logits of every image from then on."""
    parts, changes = [], {stage.classifier for stage in plan.stages if stage.epochs == 0}
    for change in changes:
        name = getattr(getattr(change, "func", change), "__name__", "")
        if name == "tau_normalised" and getattr(change, "keywords", {}) == {"tau": 1.0}:
            parts.append(TAU_NORM.strip("\n"))
        elif name == "nearest_class_mean":
            parts += [COSINE.strip("\n"), NEAREST.strip("\n")]
        else:
            raise ValueError(f"classifier={change!r} has no plain code")
    lines = []
    if tau is not None:
        prior = "class_counts / class_counts.sum()"
        if target is not None:
            parts.append(
                f"target = torch.tensor({[round(float(p), 8) for p in target]})  # how frequent classes will be"
            )
            prior += " / target"
        lines.append(f"logits = logits - {tau:g} * ({prior}).log()")
    if temperature is not None:
        lines.append(f"logits = logits / {temperature:.4g}  # for probabilities; predictions stay")
    if lines:
        body = "".join(f"    {line}\n" for line in lines)
        parts.append(
            f"def corrected(logits):\n    # of the trained model in eval mode, before softmax\n{body}    return logits"
        )
    return parts
