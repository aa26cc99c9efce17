"""What a check says of an answer, and how a result is held against the one that it should be."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

RTOL, ATOL = 1e-4, 1e-6  # float32 work passes, a wrong formula does not


class NotYet(Exception):
    """An answer that is not right yet; the message is the hint."""


class Unsolved(NotYet):
    """There is no answer yet."""

    def __init__(self) -> None:
        super().__init__("not solved yet: write your lines where the ... stands, then run the cell again")


@dataclass(frozen=True)
class Verdict:
    """Whether an answer is right, and one line that says so or gives a hint.

    It is true where the answer is right, and shows as its line: as the last value of a cell it needs no print.
    """

    name: str
    right: bool
    text: str

    def __bool__(self) -> bool:
        return self.right

    def __repr__(self) -> str:
        return f"{'✓' if self.right else '✗'} {self.name}: {self.text}"


@dataclass(frozen=True)
class Matches:
    """The check of a function: on every case it has to give what the oracle gives.

    Where it does not, the hint names the first such case, the difference there and, if one of the known mistakes gives
    just the same result, that mistake. Arguments are copied for every call, so that an answer may change them.

    Args:
        oracle: the function as it should be.
        cases: in words -> arguments; the first ones small enough for a look.
        mistakes: hint -> function that makes the mistake.
        right: what is said of a right answer.
    """

    oracle: Callable
    cases: Mapping[str, tuple]
    mistakes: Mapping[str, Callable]
    right: str

    def __call__(self, answer: Any) -> str:
        """`right`, or `NotYet`."""
        wants_function(answer)
        for case, arguments in self.cases.items():
            expected = self.oracle(*copy.deepcopy(arguments))
            given = answer(*copy.deepcopy(arguments))
            if found := difference(given, expected):
                hints = [
                    hint
                    for hint, mistake in self.mistakes.items()
                    if not difference(given, mistake(*copy.deepcopy(arguments)))
                ]
                raise NotYet(f"{case}: {found}" + "".join(f". {hint}" for hint in hints[:1]))
        return self.right


def wants_function(answer: Any) -> None:
    """`NotYet` for what cannot be called."""
    if not callable(answer):
        raise NotYet(f"this wants the function itself, without brackets behind its name; it got {kind(answer)}")


def difference(given: Any, expected: Any) -> str:
    """How a result differs from the expected one, in a few words; empty if it does not.

    Compared are numbers, tensors (any floating-point precision; NaN equals NaN) and dictionaries of them.

    Raises:
        Unsolved: nothing is given, so there is nothing to compare.
    """
    if given is None or given is ...:
        raise Unsolved
    return _difference(given, expected)


def _difference(given: Any, expected: Any) -> str:
    """`difference`, also of the values of a dictionary: there None is a wrong value, not a missing answer."""
    if given is None or expected is None:
        return "" if given is expected else f"expected {kind(expected)}, got {kind(given)}"
    if isinstance(expected, Mapping):
        if not isinstance(given, Mapping) or set(given) != set(expected):
            got = f"a dictionary of {sorted(map(str, given))}" if isinstance(given, Mapping) else kind(given)
            return f"expected a dictionary of {sorted(expected)}, got {got}"
        found = {name: _difference(given[name], value) for name, value in expected.items()}
        return next((f"{name}: {text}" for name, text in found.items() if text), "")
    expected = torch.as_tensor(expected).detach().double()
    try:
        values = torch.as_tensor(given).detach().double()
    except (TypeError, ValueError, RuntimeError):
        return f"expected {kind(expected)}, got {kind(given)}"
    if values.shape != expected.shape:
        return f"expected {kind(expected)}, got {kind(values)}"
    wrong = (~torch.isclose(values, expected, rtol=RTOL, atol=ATOL, equal_nan=True)).nonzero()
    if not len(wrong):
        return ""
    place = tuple(wrong[0].tolist())
    where = f" at {list(place)}" if place else ""
    return f"expected {expected[place].item():.4g}, got {values[place].item():.4g}{where}"


def kind(value: Any) -> str:
    """What kind of thing a value is, in words."""
    if isinstance(value, Tensor):
        return "one number" if value.ndim == 0 else f"a tensor of shape {tuple(value.shape)}"
    if value is None:
        return "None"
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"
