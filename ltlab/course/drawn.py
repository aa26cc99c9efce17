"""Exercises checked again with arguments that a seed draws: what is right cannot be read off such a test.

An assignment has one seed in sight and another in its hidden tests (see `assignments`).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from ..classifiers import tau_normalised_weight
from ..losses import effective_numbers
from ..names import look_up
from .answers import Matches
from .check_bag_of_tricks import choose
from .exercises import CHECKS

DRAWS = 5  # cases of a seed
Draw = Callable[[Generator], tuple]  # the arguments of one case


@dataclass(frozen=True)
class Drawn:
    """How an exercise is checked with drawn arguments.

    Args:
        draw: makes the arguments of a case.
        call: (answer, *arguments) -> what is compared; by default the answer is a function of the arguments.
        oracle: arguments -> what it should be; by default that of the exercise's own check.
    """

    draw: Draw
    call: Callable[..., Any] = lambda answer, *arguments: answer(*arguments)
    oracle: Callable[..., Any] | None = None


def check_drawn(name: str, answer: Any, seed: int) -> None:
    """Check an answer in five cases that the seed draws.

    Args:
        name: of the exercise, a key of `DRAWN`.
        answer: as for `check`.
        seed: draws the cases.

    Raises:
        NotYet: the answer is wrong in one of them, with a hint; or there is none.
        ValueError: the exercise has no drawn cases.
    """
    how, known = look_up("exercise", name, DRAWN), CHECKS[name]
    generator = torch.Generator().manual_seed(seed)
    cases = {f"case {number} of seed {seed}": how.draw(generator) for number in range(DRAWS)}
    if isinstance(known, Matches) and how.oracle is None:
        replace(known, cases=cases)(answer)
    else:
        Matches(how.oracle, cases, {}, "")(lambda *arguments: how.call(answer, *arguments))  # type: ignore[arg-type]


# --- drawing ---------------------------------------------------------------------------------------------------------


def _integer(g: Generator, low: int, high: int) -> int:
    return int(torch.randint(low, high + 1, (), generator=g))


def _number(g: Generator, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand((), generator=g))


def _counts(g: Generator, classes: int, largest: int = 300) -> Tensor:
    return torch.randint(1, largest, (classes,), generator=g)


def _classified(g: Generator, classes: int | None = None) -> tuple[Tensor, Tensor]:
    """Logits (N, C) and labels (N,) that hold every class; a third of the images is right."""
    c, n = classes or _integer(g, 3, 8), _integer(g, 30, 60)
    labels = torch.cat([torch.arange(c), torch.randint(c, (n - c,), generator=g)])
    logits = (
        torch.randn(n, c, generator=g, dtype=torch.float64)
        + 2 * F.one_hot(labels, c) * (torch.arange(n) % 3 == 0)[:, None]
    )
    return logits, labels


def _prior(g: Generator, classes: int) -> Tensor:
    p = torch.rand(classes, generator=g, dtype=torch.float64) + 0.05
    return p / p.sum()


def _history(g: Generator) -> tuple:
    epochs = _integer(g, 5, 12)
    error = torch.rand(epochs, generator=g).double()
    return (pd.DataFrame({"epoch": range(1, epochs + 1), "train_loss": 1 - error, "test_error": error}),)


def _errors(g: Generator) -> tuple:
    """A table of errors, the epochs of its columns, and the controls."""
    epochs = {"ce": 30, "ce_long": 60, "short": _integer(g, 30, 59), "equal": 60, "long": _integer(g, 61, 99)}
    errors = pd.DataFrame({name: (50 * torch.rand(5, generator=g).double()).tolist() for name in epochs})
    errors.loc[_integer(g, 0, 4), "equal"] = float("nan")
    return errors, epochs, ["ce", "ce_long"]


def _search(g: Generator) -> tuple:
    """Runs of four recipes with four seeds, one of them missing."""
    runs = [(f"recipe {r}", seed, _number(g, 20, 60), _number(g, 20, 60)) for r in range(4) for seed in range(4)]
    runs.pop(_integer(g, 0, 15))
    return (pd.DataFrame(runs, columns=["recipe", "seed", "held_out_error", "test_error"]),)


def _foreground(g: Generator) -> tuple[Tensor, Tensor]:
    """An image (3, 20, 20) with black pixels, and a foreground of two boxes, like an L."""
    image = torch.randint(256, (3, 20, 20), generator=g, dtype=torch.uint8)
    image[:, torch.rand(20, 20, generator=g) < 0.2] = 0
    top, left, mask = _integer(g, 1, 8), _integer(g, 3, 8), torch.zeros(20, 20, dtype=torch.bool)
    mask[top : top + 8, left : left + 3] = True
    mask[top + 5 : top + 8, left : left + _integer(g, 5, 9)] = True
    return image, mask


def _linear(g: Generator) -> tuple:
    """A model whose classifier has weights of uneven norms, images and counts."""
    classes, width = _integer(g, 3, 7), _integer(g, 4, 9)
    model, classifier = nn.Sequential(), nn.Linear(width, classes)
    model.add_module("features", nn.Flatten())
    model.add_module("classifier", classifier)
    scale = 3 * torch.rand(classes, 1, generator=g) + 0.2
    classifier.weight.data = scale * torch.randn(classes, width, generator=g)
    classifier.bias.data = torch.randn(classes, generator=g)
    return model, torch.zeros(classes, 1, 1, width), torch.arange(classes), _counts(g, classes)


def _trained(g: Generator) -> tuple:
    """A model with batch norm and batches; nothing but its classifier may change."""
    features = nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.BatchNorm1d(6), nn.ReLU())
    model = nn.Sequential()
    model.add_module("features", features)
    model.add_module("classifier", nn.Linear(6, 3))
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=g)
    return model, [(torch.randn(8, 3, 2, 2, generator=g), torch.arange(8) % 3) for _ in range(_integer(g, 2, 4))]


# --- answers that are no plain functions -----------------------------------------------------------------------------


def _halfway(answer: Callable, model: Any, *arguments: Any) -> dict[str, Tensor]:
    new = answer(model, *arguments)
    return {"weight": new.weight, "bias": new.bias}


def _what_trained(answer: Callable, model: nn.Module, batches: list) -> dict[str, Tensor]:
    """The features after training, and whether the classifier has changed."""
    classifier = model.get_submodule("classifier").get_parameter("weight")
    before = classifier.detach().clone()
    answer(model, batches)
    state = {name: value.clone() for name, value in model.state_dict().items() if name.startswith("features")}
    return state | {"learnt": torch.tensor(not torch.equal(classifier, before))}


def _state(model: nn.Module, _batches: list) -> dict[str, Tensor]:
    state = {name: value.clone() for name, value in model.state_dict().items() if name.startswith("features")}
    return state | {"learnt": torch.tensor(True)}


def _mixed(answer: Callable, images: int, seed: int) -> dict[str, Tensor]:
    """What a mix makes of images of one white pixel: a model that returns them shows their fractions."""
    eye, labels = torch.eye(images).reshape(images, 1, 1, images), torch.arange(images)
    generator = torch.Generator().manual_seed(seed)
    logits, targets = answer()(nn.Flatten(), eye, labels, class_counts=None, generator=generator)
    own = logits.diagonal()
    return {
        "pictures minus labels": logits - targets,
        "brightness": logits.sum(1),
        "several lambdas": torch.tensor(len(own[own < 1].round(decimals=4).unique()) > images // 3),
    }


def _as_mixed(images: int, _seed: int) -> dict[str, Tensor]:
    return {"pictures minus labels": torch.zeros(images, images), "brightness": torch.ones(images),
            "several lambdas": torch.tensor(True)}  # fmt: skip


def _balance(answer: Callable, labels: Tensor, seed: int) -> Tensor:
    """Whether N draws have about equally many of each class."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        drawn = labels[torch.tensor(list(answer(labels)))]
    part = torch.bincount(drawn, minlength=int(labels.max()) + 1) / len(labels)
    return torch.tensor(bool((part - 1 / len(part)).abs().max() < 0.05) and len(drawn) == len(labels))


def _labels(g: Generator) -> Tensor:
    """Labels of three to five classes, shuffled."""
    counts = torch.tensor([2000, 700, 300, 200, 100][: _integer(g, 3, 5)])
    labels = torch.arange(len(counts)).repeat_interleave(counts)
    return labels[torch.randperm(len(labels), generator=g)]


def _batch(g: Generator) -> tuple[Tensor, Tensor, Tensor]:
    logits, labels = _classified(g)
    return logits, labels, _counts(g, logits.shape[1]).double()


def _accuracies(g: Generator) -> tuple[Tensor, Tensor]:
    classes = _integer(g, 5, 12)
    return torch.rand(classes, generator=g, dtype=torch.float64), _counts(g, classes)


def _pairs(g: Generator) -> tuple:
    n = _integer(g, 4, 9)
    return torch.rand(n, 3, 4, 4, generator=g), torch.randperm(n, generator=g), _number(g, 0.2, 0.8)


def _groups(g: Generator) -> tuple:
    logits, labels = _classified(g)
    first = torch.arange(logits.shape[1]) < 2
    return logits, labels, {"first": first, "rest": ~first, "none": torch.zeros_like(first)}


def _chosen(answer: Callable, *arguments: int) -> dict[str, Tensor]:
    """The chosen indices, and whether everybody else's random numbers stay the same."""
    with torch.random.fork_rng(devices=[]):
        before = torch.get_rng_state()
        return {"subset": answer(*arguments), "others": torch.tensor(torch.equal(torch.get_rng_state(), before))}


def _randomly(n: int, keep: int, seed: int) -> dict[str, Tensor]:
    subset = torch.randperm(n, generator=torch.Generator().manual_seed(seed))[:keep]
    return {"subset": subset, "others": torch.tensor(True)}


def _number_in(recipe: str) -> int:
    return int(recipe.removeprefix("recipe "))


def _effective(labels: Tensor) -> Tensor:
    effective = effective_numbers(torch.bincount(labels), 0.99)
    return effective / effective.sum()


def _unlabelled(g: Generator) -> tuple[Tensor, Tensor]:
    prior = _prior(g, 3)
    return 2 * torch.randn(200, 3, generator=g, dtype=torch.float64) + prior.log(), prior


def _under(g: Generator) -> tuple:
    logits, labels = _classified(g)
    return logits, labels, _prior(g, logits.shape[1])


DRAWN = {
    "00.implement": Drawn(_classified),
    "00.bug": Drawn(_history),
    "01.implement": Drawn(_accuracies),
    "01.bug": Drawn(
        lambda g: (_integer(g, 50, 200), _integer(g, 5, 40), _integer(g, 0, 999)), call=_chosen, oracle=_randomly
    ),
    "02.implement": Drawn(_batch),
    "02.bug": Drawn(lambda g: (*_classified(g, 8), torch.rand(8, generator=g).double() + 0.1, _number(g, 0.5, 3))),
    "03.implement": Drawn(
        lambda g: (_labels(g),), call=lambda answer, labels: answer(labels).probabilities(), oracle=_effective
    ),
    "03.bug": Drawn(
        lambda g: (_labels(g), _integer(g, 0, 999)), call=_balance, oracle=lambda *_: torch.tensor(True)
    ),
    "04.implement": Drawn(lambda g: (_integer(g, 8, 20), _integer(g, 0, 999)), call=_mixed, oracle=_as_mixed),
    "04.bug": Drawn(_pairs),
    "05.implement": Drawn(
        _linear, call=_halfway, oracle=lambda model, *_: {
            "weight": tau_normalised_weight(model.classifier.weight.detach(), 0.5), "bias": model.classifier.bias}
    ),
    "05.bug": Drawn(_trained, call=_what_trained, oracle=_state),
    "06.implement": Drawn(_foreground),
    "06.bug": Drawn(_foreground),
    "07.implement": Drawn(_errors),
    "07.bug": Drawn(
        _search, call=lambda answer, runs: _number_in(answer(runs)), oracle=lambda runs: _number_in(choose(runs))
    ),
    "08.implement": Drawn(_groups),
    "08.bug": Drawn(lambda g: (*_classified(g), _integer(g, 4, 12))),
    "09.implement": Drawn(_unlabelled),
    "09.bug": Drawn(_under),
}  # fmt: skip
